"""Example inputs of a module: as users give them, or derived for simple models."""

from __future__ import annotations

import inspect
import itertools
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from parity.errors import ParityError, UnsupportedError
from parity.frameworks.torch.modes import evaluating

_BATCH, _TIMES, _SIDE = 3, (11, 67, 1031), 32
_MOST_TRIALS = 256


@dataclass(frozen=True)
class Example:
    """Arguments of a call of a module, with tensors in them."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def tensors(self) -> list[Tensor]:
        """Every tensor, in the order of the arguments."""
        return [leaf for leaf in pytree.tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Tensor)]

    def replaced(self, tensors: list[Tensor]) -> Example:
        """The same arguments with other tensors."""
        following = iter(tensors)
        args, kwargs = pytree.tree_map(
            lambda leaf: next(following) if isinstance(leaf, Tensor) else leaf, (self.args, self.kwargs)
        )
        return Example(args, kwargs)

    def named(self, module: nn.Module) -> dict[str, Any]:
        """The arguments by the names of `forward`."""
        bound = inspect.signature(module.forward).bind(*self.args, **self.kwargs)
        return dict(bound.arguments)


def example_of(module: nn.Module, inputs: Any) -> Example:
    """Arguments to trace a module with, whose axes are longer than one wherever the module takes that.

    Args:
        module: any.
        inputs: an array or tensor, a tuple or list of them in the order of `forward`, or a dict by its names (values may be nested);
            None to derive one input.

    Raises:
        ParityError: nothing was given and nothing simple works, or the module does not run on what was given.
    """
    if inputs is None:
        return _derived(module)
    values = (
        dict(inputs)
        if isinstance(inputs, Mapping)
        else tuple(inputs)
        if isinstance(inputs, (tuple, list))
        else (inputs,)
    )
    values = pytree.tree_map(lambda leaf: tensor_for(module, leaf), values)
    example = Example((), _in_order(module, values)) if isinstance(values, dict) else Example(values, {})
    try:
        example.named(module)
    except TypeError as error:
        raise ParityError(
            "the example inputs are not the arguments of the module",
            type(module).__name__,
            f"forward{inspect.signature(module.forward)}",
            str(error),
            "give inputs in its order, or as a dict by its names",
        ) from error
    failure = failed(module, example)
    if not failure:
        _check_repeats(module, example)
    else:
        raise ParityError(
            "the module does not run on the example inputs",
            type(module).__name__,
            f"inputs that forward{inspect.signature(module.forward)} takes",
            failure,
        )
    return _without_ones(module, example)


def _in_order(module: nn.Module, values: dict[str, Any]) -> dict[str, Any]:
    """Arguments in the order of `forward`, in which a trace has them."""
    names = list(inspect.signature(module.forward).parameters)
    return dict(sorted(values.items(), key=lambda one: names.index(one[0]) if one[0] in names else len(names)))


def tensor_for(module: nn.Module, value: Any) -> Any:
    """An array as the module takes it: on its device, floats of its type; anything but arrays as it is."""
    if not isinstance(value, (np.ndarray, np.generic, Tensor)):
        return value
    tensor = value.detach() if isinstance(value, Tensor) else torch.from_numpy(np.array(value, order="C"))
    weight = next(itertools.chain(module.parameters(), module.buffers()), None)
    device = "cpu" if weight is None else weight.device
    if tensor.is_floating_point():
        return tensor.to(device, float_type(module))
    return tensor.to(device, torch.bool if tensor.dtype == torch.bool else torch.int64)


def float_type(module: nn.Module) -> torch.dtype:
    """The type of the module's numbers."""
    floats = (one.dtype for one in itertools.chain(module.parameters(), module.buffers()) if one.is_floating_point())
    return next(floats, torch.float32)


def failed(module: nn.Module, example: Example) -> str:
    """What the module says where it does not run on an example; "" where it does."""
    try:
        with torch.no_grad(), evaluating(module), _states_checked(module), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module(*example.args, **example.kwargs)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).strip()[:300]}"
    return ""


@contextmanager
def _states_checked(module: nn.Module) -> Iterator[None]:
    """Refuse initial states of another number of layers: beside a packed sequence torch reads past their end, and the process dies."""

    def check(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        assert isinstance(layer, nn.RNNBase)
        given = args[1] if len(args) > 1 else kwargs.get("hx")
        expected = layer.num_layers * (2 if layer.bidirectional else 1)
        for state in given if isinstance(given, tuple) else (given,):
            if isinstance(state, Tensor) and state.ndim == _STATE_AXES and len(state) != expected:
                raise RuntimeError(f"expected {expected} layers and directions in the initial state, got {len(state)}")

    layers = [one for one in module.modules() if isinstance(one, nn.RNNBase)]
    hooks = [layer.register_forward_pre_hook(check, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


_STATE_AXES = 3


def _check_repeats(module: nn.Module, example: Example) -> None:
    """Raises `UnsupportedError` where a second call gives something else than the first."""
    first, second = (_returned(module, example) for _ in range(2))
    if all(torch.equal(one, two) or bool(one.isnan().any()) for one, two in zip(first, second, strict=True)):
        return
    raise UnsupportedError(
        "the module gives something else at its second call",
        type(module).__name__,
        "outputs that depend on the inputs alone",
        "a state that it keeps",
        "give the state as an input and return it",
    )


def _returned(module: nn.Module, example: Example) -> list[Tensor]:
    """All tensors that a call gives; random numbers are the same at each: reading refuses them, and says where they are."""
    with torch.no_grad(), evaluating(module), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        returned = module(*example.args, **example.kwargs)
    return [leaf.clone() for leaf in pytree.tree_leaves(returned) if isinstance(leaf, Tensor)]


def _without_ones(module: nn.Module, example: Example) -> Example:
    """The example with as many of its axes of length one as possible at another length: a trace takes a length of one for a fact."""
    tensors = example.tensors
    ones = [(place, axis) for place, one in enumerate(tensors) for axis in range(one.ndim) if one.shape[axis] == 1]
    if not ones:
        return example
    known = [one.shape[axis] for one in tensors for axis in (0, 1) if one.ndim > axis and one.shape[axis] > 1]
    for batch in dict.fromkeys((_BATCH, *known)):
        for trial in itertools.islice(_choices(ones), _MOST_TRIALS):
            chosen = example.replaced(
                [_lengthened(one, [a for p, a in trial if p == place], batch) for place, one in enumerate(tensors)]
            )
            if not failed(module, chosen):
                return chosen
    return example


def _choices(ones: list[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], ...]]:
    """Axes to lengthen: the first axes of all inputs (the batch, mostly), then any, many before few."""
    first = tuple(one for one in ones if one[1] == 0)
    if first:
        yield first
    for count in range(len(ones), 0, -1):
        yield from itertools.combinations(ones, count)


def _lengthened(tensor: Tensor, axes: list[int], length: int) -> Tensor:
    for axis in axes:
        tensor = tensor.repeat_interleave(length, dim=axis)
    return tensor


def _derived(module: nn.Module) -> Example:
    """One input for the first layer that says what it takes and makes the module run."""
    for time in _TIMES:
        for shape, vocabulary in _shapes(module, time):
            generator = torch.Generator().manual_seed(0)
            value: Any = (
                torch.randint(0, vocabulary, shape, generator=generator)
                if vocabulary
                else torch.randn(shape, generator=generator)
            )
            example = Example((tensor_for(module, value),), {})
            if not failed(module, example):
                return example
    names = list(inspect.signature(module.forward).parameters)
    raise ParityError(
        "the inputs of this module cannot be derived",
        type(module).__name__,
        f"example inputs for forward({', '.join(names)})",
        "none",
        f"give them: inputs={{{', '.join(f'{name!r}: array' for name in names)}}}, with a batch and a time of more than one",
    )


def _shapes(module: nn.Module, time: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Shapes that the layers of a module take, with the size of the vocabulary for integers, else 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Embedding):
            yield (_BATCH, time), layer.num_embeddings
        elif isinstance(layer, nn.RNNBase):
            lengths = (_BATCH, time) if layer.batch_first else (time, _BATCH)
            yield (*lengths, layer.input_size), 0
        elif isinstance(layer, nn.RNNCellBase):
            yield (_BATCH, layer.input_size), 0
        elif isinstance(layer, nn.Linear):
            yield (_BATCH, time, layer.in_features), 0
            yield (_BATCH, layer.in_features), 0
        elif isinstance(layer, nn.Conv1d):
            yield (_BATCH, layer.in_channels, time), 0
        elif isinstance(layer, nn.Conv2d):
            yield (_BATCH, layer.in_channels, _SIDE, time), 0
        elif isinstance(layer, nn.LayerNorm):
            yield (_BATCH, time, *layer.normalized_shape), 0
        elif isinstance(layer, nn.BatchNorm1d):
            yield (_BATCH, layer.num_features, time), 0


__all__ = ["Example", "example_of", "failed", "float_type", "tensor_for"]
