"""Live modules called by the names of their graph's inputs, and what is inside them."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from parity.conventions import torch_returns
from parity.errors import ShapeError
from parity.frameworks.torch.layers import NATIVE
from parity.frameworks.torch.modes import evaluating, products, quiet
from parity.frameworks.torch.whole.examples import Example, tensor_for
from parity.frameworks.torch.whole.fast_path import plain_attention
from parity.graph import Graph
from parity.recurrent import Array


def call(
    module: nn.Module,
    graph: Graph,
    inputs: Mapping[str, Array],
    device: str = "cpu",
    dtype: str = "float32",
    tf32: bool = False,
) -> dict[str, Array]:
    """Run a live module in evaluation mode, without gradients; attention as its formula, which torch's fast path is not at padded places.

    Args:
        module: the one that the graph was read from, or one that is called alike.
        graph: what `graph_of` made of it.
        inputs: by the graph's names.
        device: "cpu" or "cuda"; the module itself stays where it is.
        dtype: of the numbers, "float32" or "float64"; a module in float64 stays so.
        tf32: whether CUDA may take TF32 for float32 products.

    Returns:
        The outputs by the graph's names.

    Raises:
        ShapeError: inputs are missing, or the module gives another number of outputs.

    Example:
        >>> import numpy as np
        >>> from parity.frameworks.torch.whole import graph_of
        >>> module = nn.Sequential(nn.Linear(4, 2), nn.Tanh())
        >>> call(module, graph_of(module), {"input": np.ones((3, 5, 4), np.float32)})["output"].shape
        (3, 5, 2)
    """
    own = _placed(module, device, dtype)
    with _computing(own, device, tf32):
        returned = own(*(example := arguments(own, graph, inputs)).args, **example.kwargs)
    found = [_array(leaf) for leaf in pytree.tree_leaves(returned) if isinstance(leaf, Tensor)]
    if "outputs" in graph.details:  # of a module that was not read
        return {f"output_{number}": array for number, array in enumerate(found)}
    if len(found) != len(graph.outputs):
        names = ", ".join(graph.outputs)
        raise ShapeError("another number of outputs than the module was read with", graph.name, names, str(len(found)))
    return dict(zip(graph.outputs, found, strict=True))


def intermediate(
    module: nn.Module,
    graph: Graph,
    inputs: Mapping[str, Array],
    device: str = "cpu",
    dtype: str = "float32",
    tf32: bool = False,
) -> dict[str, Array]:
    """What the modules inside give, by the `Node.source` of the graph: "encoder.proj", "encoder.proj@1" at a second call.

    Args:
        module, graph, inputs, device, dtype, tf32: as for `call`.

    Returns:
        One array for every source of the graph.
    """
    own = _placed(module, device, dtype)
    with _computing(own, device, tf32):
        values = module_values(own, arguments(own, graph, inputs))
    sources = [node.source for node in graph.nodes if node.source]
    return {name: _array(values[name]) for name in sources if isinstance(values.get(name), Tensor)}


def arguments(module: nn.Module, graph: Graph, inputs: Mapping[str, Array]) -> Example:
    """The arguments of a call, out of inputs by name: in the form that the graph's details say.

    Raises:
        ShapeError: inputs are missing.
    """
    missing = [one.name for one in graph.inputs if one.name not in inputs]
    if missing:
        raise ShapeError(
            "inputs are missing", graph.name, ", ".join(one.name for one in graph.inputs), f"no {missing[0]}"
        )
    if "call" not in graph.details:  # names from elsewhere need not be Python's
        return Example(tuple(tensor_for(module, inputs[one.name]) for one in graph.inputs), {})
    tree = ast.parse(f"call({graph.details['call']})", mode="eval").body
    assert isinstance(tree, ast.Call)
    names = {one.name: inputs[one.name] for one in graph.inputs}
    return Example(
        tuple(_argument(module, one, names) for one in tree.args),
        {str(one.arg): _argument(module, one.value, names) for one in tree.keywords},
    )


def _argument(module: nn.Module, tree: ast.expr, inputs: Mapping[str, Array]) -> Any:
    if isinstance(tree, ast.Name):
        return tensor_for(module, inputs[tree.id])
    if isinstance(tree, (ast.Tuple, ast.List)):
        parts = [_argument(module, one, inputs) for one in tree.elts]
        return tuple(parts) if isinstance(tree, ast.Tuple) else parts
    if isinstance(tree, ast.Dict):
        return {
            ast.literal_eval(key): _argument(module, value, inputs)
            for key, value in zip(tree.keys, tree.values, strict=True)
            if key is not None
        }
    return ast.literal_eval(tree)


def module_values(module: nn.Module, example: Example) -> dict[str, Any]:
    """What every module inside returns, call by call; a recurrent one by the names of what it returns.

    Args:
        module: in any mode; it is put into evaluation and back.
        example: the arguments of the call.
    """
    found: dict[str, Any] = {}
    counts: dict[str, int] = {}

    def keep(path: str, own: nn.Module, returned: Any) -> None:
        number = counts[path] = counts.get(path, -1) + 1
        name = f"{path}@{number}" if number else path
        if type(own) in NATIVE.values():
            kind = next(kind for kind, known in NATIVE.items() if type(own) is known)
            for value, tensor in zip(torch_returns(kind), _flat(returned), strict=True):
                if isinstance(tensor, Tensor):
                    found[name if value.quantity == "sequence" else f"{name}.{value.name}"] = tensor.clone()
        else:
            found[name] = returned.clone() if isinstance(returned, Tensor) else returned

    hooks = [
        inner.register_forward_hook(lambda own, _, returned, path=path: keep(path, own, returned))
        for path, inner in module.named_modules()
        if path
    ]
    try:
        with torch.no_grad(), evaluating(module):
            module(*example.args, **example.kwargs)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _flat(returned: Any) -> list[Any]:
    if isinstance(returned, (Tensor, PackedSequence)):
        return [returned]
    return [leaf for one in returned for leaf in _flat(one)]


def _placed(module: nn.Module, device: str, dtype: str) -> nn.Module:
    """The module on a device and of a type: itself where it is so already."""
    wanted = getattr(torch, dtype)
    weights = [one for one in (*module.parameters(), *module.buffers()) if one.is_floating_point()]
    if any(one.dtype == torch.float64 for one in weights):
        wanted = torch.float64
    if all(one.dtype == wanted and one.device.type == device for one in weights):
        return module
    return copy.deepcopy(module).to(device, wanted)


@contextmanager
def _computing(module: nn.Module, device: str, tf32: bool) -> Iterator[None]:
    """In evaluation, without gradients, float32 products in float32."""
    plain = torch.autocast(device, enabled=False)
    with torch.no_grad(), plain, plain_attention(), products(tf32), evaluating(module), quiet():
        yield


def _array(tensor: Tensor) -> Array:
    array: Array = tensor.detach().cpu().numpy().copy()
    return array


__all__: Sequence[str] = ["arguments", "call", "intermediate", "module_values"]
