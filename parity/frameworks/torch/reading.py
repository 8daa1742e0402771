"""PyTorch: live modules -> Network."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from parity.cell import Cell, plain_cell
from parity.errors import Problem, UnsupportedError
from parity.frameworks.torch.building import FUNCTION_OF_RNN, SUFFIXES
from parity.frameworks.torch.cells import CELLS, GENERAL_CELLS, GeneralCell, layout_of
from parity.frameworks.torch.chain import Chain
from parity.frameworks.torch.layers import (
    NATIVE,
    Bidirectional,
    Loop,
    MaskedEmbedding,
    Masking,
    RecurrentLayer,
)
from parity.functions import Function
from parity.layouts import LAYOUTS, Kind, Layout
from parity.network import Bidirectional as BidirectionalNode
from parity.network import Dense, Dropout, Embedding, Layer, Network, Recurrent
from parity.network import Masking as MaskingNode
from parity.network.activations import ACTIVATIONS
from parity.recurrent import DIRECTIONS, Array, Direction, RecurrentSpec, Weights, unpack

OWN = (RecurrentLayer, Bidirectional, Loop, *GENERAL_CELLS.values())
RECURRENT = (*NATIVE.values(), *CELLS.values(), *OWN)

_KINDS: dict[type, Kind] = {module: kind for table in (NATIVE, CELLS, GENERAL_CELLS) for kind, module in table.items()}
_ACTIVATIONS: dict[type[nn.Module], str] = {getattr(nn, row.torch): name for name, row in ACTIVATIONS.items()}
_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_FIRST_LAYER = re.compile(r"_l[0-9]+\Z")


def read(source: nn.Module) -> Network:
    """Describe a live module; see `parity.frameworks.torch.read`."""
    problems = list(_weight_problems(source))
    if problems:
        raise UnsupportedError(problems)
    details = {"torch": str(torch.__version__)}
    stored = {str(tensor.dtype).removeprefix("torch.") for tensor in source.parameters()} - {"float32"}
    if stored:
        details["stored as"] = stored.pop()
    if isinstance(source, Chain):
        return Network(source._title, tuple(_read_chain(source)), source._outputs, "torch", details)
    # Not named_children(): that names a module which is used twice only once.
    children = list(source._modules.items()) if type(source) is nn.Sequential else [("", source)]
    named = [(name, module) for name, module in children if module is not None]
    layers: list[Layer] = []
    for position, (name, module) in enumerate(named):
        problems += _altered(name, module)
        before = layers[-1] if layers else None
        handing = _handing_problem(name, module, position == len(named) - 1)
        if type(module) in _ACTIVATIONS and isinstance(before, Dense) and before.activation == "linear":
            layers[-1] = replace(before, activation=_ACTIVATIONS[type(module)])
        elif handing is not None:
            problems.append(handing)
        else:
            layers += _read_module(name, module, problems)
    if problems:
        raise UnsupportedError(problems)
    return Network(_FIRST_LAYER.sub("", layers[-1].name), tuple(_sized(layers)), (), "torch", details)


def why_it_does_not_run(source: nn.Module) -> list[Problem]:
    """What keeps a module from running on any inputs: no forward(), its weights, or a module of a row that hands on what no other takes.

    Args:
        source: one that did not run; to one that does, nothing of this matters.

    Example:
        >>> [problem.what for problem in why_it_does_not_run(nn.Sequential(nn.GRU(3, 5), nn.Linear(5, 2)))]
        ["'0' hands its tuple (output, state) to the next module"]
    """
    if isinstance(source, (*OWN, Chain)):
        try:
            read(source)
        except UnsupportedError as error:
            return list(error.problems)
    children = list(source._modules.items()) if type(source) is nn.Sequential else []
    handing = (
        _handing_problem(name, module, number == len(children)) for number, (name, module) in enumerate(children, 1)
    )
    if type(source).forward is nn.Module.forward:
        where, remedy = f"the module ({type(source).__name__})", "give the module whose forward() calls it"
        return [Problem("the module has no forward()", where, "a module that runs", "nothing to run", remedy)]
    return [*_weight_problems(source), *(problem for problem in handing if problem is not None)]


def _handing_problem(name: str, module: nn.Module | None, last: bool) -> Problem | None:
    """What a module of a row gives that the next one does not take."""
    if module is None:
        return None
    if isinstance(module, RECURRENT) and not last:
        what = f"'{name}' hands its tuple (output, state) to the next module"
        return _refused(what, module, "make it the last module")
    if isinstance(module, (Masking, MaskedEmbedding)):
        remedy = "convert the whole model that this module was taken from: it carries the mask along"
        return _refused(f"nothing hands the mask of '{name}' on", module, remedy)
    return None


def _weight_problems(source: nn.Module) -> Iterator[Problem]:
    """Weights that are not there, or of types that no one computation has."""
    where = f"the module ({type(source).__name__})"
    tensors = dict(source.named_parameters())
    meta = [key for key, tensor in (tensors | dict(source.named_buffers())).items() if tensor.is_meta]
    if meta:
        remedy = "load the weights first: module.to_empty(device='cpu'), then load_state_dict"
        yield Problem("weights that are not there (meta device)", where, "numbers", ", ".join(meta), remedy)
    doubtful = [f"{key}: {tensor.dtype}" for key, tensor in tensors.items() if tensor.dtype not in _DTYPES]
    if doubtful:
        expected = ", ".join(str(dtype).removeprefix("torch.") for dtype in _DTYPES)
        yield Problem("weights of a type that is not converted", where, expected, ", ".join(doubtful), "module.float()")
    elif len({tensor.dtype for tensor in tensors.values()}) > 1:
        got = ", ".join(f"{key}: {tensor.dtype}" for key, tensor in tensors.items())
        yield Problem("weights of several types", where, "one", got, "convert them first: module.float()")


def _read_chain(chain: Chain) -> list[Layer]:
    layers: list[Layer] = []
    for name, module_names in chain._names.items():
        modules = [chain.get_submodule(module_name) for module_name in module_names]
        problems = [problem for module in modules for problem in _altered(name, module)]
        found = _read_module(name, modules[0], problems)
        if problems or len(found) != 1:
            raise UnsupportedError(
                problems or [_refused(f"'{name}' was replaced", modules[0], "convert the model again")]
            )
        layer = found[0]
        if isinstance(layer, Recurrent) and type(modules[0]) in NATIVE.values():
            use = chain._uses[name]
            layer = replace(layer, return_sequences=use.return_sequences, fill=use.fill)
        elif isinstance(layer, Dense) and len(modules) > 1:
            layer = replace(layer, activation=_ACTIVATIONS[type(modules[1])])
        layers.append(layer)
    return _sized(layers)


def _sized(layers: Sequence[Layer]) -> list[Layer]:
    """Dropout and Masking take what is there: the features of the layer before, or, for the first layers, of the one behind."""
    sized: list[Layer] = []
    for position, layer in enumerate(layers):
        if isinstance(layer, (Dropout, MaskingNode)):
            behind = (one for one in layers[position:] if not isinstance(one, (Dropout, MaskingNode)))
            features = sized[-1].output_size if sized else next((one.input_size for one in behind), 0)
            layer = replace(layer, features=features)  # noqa: PLW2901  the same layer, with its size
        sized.append(layer)
    return sized


def _read_module(name: str, module: nn.Module, problems: list[Problem]) -> list[Layer]:
    """One module as layers; what cannot be kept goes to `problems`."""
    if type(module) in NATIVE.values():
        return list(_read_native(name, module))
    if type(module) in CELLS.values() or type(module) in GENERAL_CELLS.values():
        return [_read_cell(name, module, single_step=True)]
    if type(module) is RecurrentLayer:
        return _read_layer(name, module, problems)
    if type(module) is Bidirectional:
        return _read_bidirectional(name, module, problems)
    if type(module) is nn.Linear:
        bias = _array(module.bias) if isinstance(module.bias, torch.Tensor) else None
        return [Dense(name or "linear", _array(module.weight).T.copy(), bias)]
    if isinstance(module, nn.Embedding) and type(module) in (nn.Embedding, MaskedEmbedding):
        if module.padding_idx is not None or module.max_norm is not None:
            remedy = "set both to None: they matter in training only"
            problems.append(_refused("padding_idx and max_norm are not converted", module, remedy))
        return [Embedding(name or "embedding", _array(module.weight), type(module) is MaskedEmbedding)]
    if type(module) is nn.Dropout:
        return [Dropout(name or "dropout", 0, module.p)]
    if type(module) is Masking:
        return [MaskingNode(name or "masking", 0, module.mask_value)]
    where = f"module '{name}'" if name else "the module"
    remedy = "give the nn.LSTM, nn.GRU or nn.RNN inside it; an own forward() is not read"
    problems.append(_refused(f"{where} is a {type(module).__qualname__}", module, remedy))
    return []


def _altered(name: str, module: nn.Module) -> Iterator[Problem]:
    """What makes a module, or one inside it, compute something else than its class says: hooks (weight_norm and pruning are hooks
    too), an own forward, a Softmax along another axis than the last."""
    for inner in module.modules():
        where = f"module '{name}' ({type(inner).__name__})" if name else type(inner).__name__
        if inner._forward_hooks or inner._forward_pre_hooks or "forward" in vars(inner):
            remedy = (
                "remove the hooks (torch.nn.utils.remove_weight_norm, prune.remove, handle.remove()) before converting"
            )
            yield Problem("hooks or a forward of its own change what the module computes", where, "none", remedy=remedy)
    if isinstance(module, nn.Softmax) and module.dim not in (-1, 2):
        where = f"module '{name}' (Softmax)"
        yield Problem("this Softmax is not along the features", where, "dim=-1", f"dim={module.dim}", "set dim=-1")


def _refused(what: str, module: nn.Module, remedy: str) -> Problem:
    expected = "nn.LSTM, nn.GRU, nn.RNN, or nn.Sequential of Embedding, Linear and Dropout that ends in one"
    return Problem(what, type(module).__qualname__, expected, str(module).split("\n")[0], remedy)


def _read_native(name: str, module: Any) -> Iterator[Recurrent | Dropout]:
    """The layers of an `nn.LSTM`, `nn.GRU` or `nn.RNN`, and the dropout between them."""
    kind = _KINDS[type(module)]
    name = name or kind
    directions: tuple[Direction, ...] = DIRECTIONS if module.bidirectional else DIRECTIONS[:1]
    cells = (_cell_of(module),) * len(directions)
    size = module.input_size
    for depth in range(module.num_layers):
        spec = RecurrentSpec(kind, size, module.hidden_size, directions, module.proj_size or None)
        layout = LAYOUTS["torch", kind]
        weights = [_weights(module, layout, spec, f"_l{depth}{SUFFIXES[way]}") for way in directions]
        own = f"{name}_l{depth}" if module.num_layers > 1 else name
        yield Recurrent(own, spec, tuple(weights), cells=cells)
        size = spec.output_size
        if module.dropout and depth < module.num_layers - 1:
            yield Dropout(f"{own}_dropout", size, module.dropout)


def _read_cell(name: str, module: Any, single_step: bool) -> Recurrent:
    """A cell of torch or of parity."""
    kind = _KINDS[type(module)]
    general = isinstance(module, GeneralCell)
    projection = (module.proj_size or None) if general else None
    spec = RecurrentSpec(kind, module.input_size, module.hidden_size, projection_size=projection)
    weights = _weights(module, layout_of(kind) if general else LAYOUTS["torch", kind], spec)
    return Recurrent(name or kind, spec, (weights,), cells=(_cell_of(module),), single_step=single_step)


def _cell_of(module: Any) -> Cell:
    if isinstance(module, GeneralCell):
        return module.options
    plain = plain_cell(_KINDS[type(module)])
    if not isinstance(module, (nn.RNN, nn.RNNCell)):
        return plain
    own = {word: Function(function) for function, word in FUNCTION_OF_RNN.items()}
    return replace(plain, functions=(own[module.nonlinearity],))


def _weights(module: nn.Module, layout: Layout, spec: RecurrentSpec, suffix: str = "") -> Weights:
    """The canonical weights of one direction of one layer."""
    names = [tensor.name for tensor in layout.tensors]
    parameters = dict(module.named_parameters())
    arrays = {name: _array(parameters[name + suffix]) for name in names if name + suffix in parameters}
    (weights,) = unpack(layout, replace(spec, directions=DIRECTIONS[:1]), arrays)
    return weights


def _read_layer(name: str, module: RecurrentLayer, problems: list[Problem]) -> list[Layer]:
    """A layer that is put together from one module for each direction."""
    parts: list[Recurrent] = []
    for inner in module.layers:
        if type(inner) is Loop:
            parts.append(_read_cell(name, inner.cell, single_step=False))
        elif type(inner) in NATIVE.values():
            parts += [layer for layer in _read_native(name, inner) if isinstance(layer, Recurrent)]
    alike = {part.spec for part in parts} if len(parts) == len(module.directions) else set()
    if len(alike) != 1 or alike.pop().kind != module.kind:
        problems.append(_refused(f"the parts of '{name}' were replaced", module, "convert the model again"))
        return []
    return [
        Recurrent(
            name or module.kind,
            replace(parts[0].spec, directions=module.directions),
            tuple(weights for part in parts for weights in part.weights),
            return_sequences=module.return_sequences,
            cells=tuple(cell for part in parts for cell in part.cells),
            merge_mode=module.merge_mode,
            reverse=module.reverse,
            fill=module.fill,
        )
    ]


def _read_bidirectional(name: str, module: Bidirectional, problems: list[Problem]) -> list[Layer]:
    stacks: list[tuple[Recurrent, ...]] = []
    for stack in module.stacks:
        layers = [layer for own, inner in stack for layer in _read_layer(own, inner, problems)]
        stacks.append(tuple(layer for layer in layers if isinstance(layer, Recurrent)))
    forward, backward = stacks
    return [BidirectionalNode(name or "bidirectional", forward, backward, module.merge_mode)]


def _array(tensor: torch.Tensor) -> Array:
    """A tensor's numbers; NumPy has no bfloat16, and what float16 and bfloat16 hold float32 holds exactly."""
    tensor = tensor.detach().cpu()
    array: Array = (tensor if tensor.dtype == torch.float64 else tensor.float()).numpy()
    return array
