"""PyTorch: the inputs that torch's own layers take, for modules of parity's own: a batch, one sample alone, a `PackedSequence`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from parity.errors import ShapeError

Forward = Callable[[Tensor, Any, "Tensor | None"], tuple[Any, Any]]
"""What a module makes of a batch, its initial states and a mask: the output, batch first, and states (layer*direction, batch, features)."""


def called(
    module: nn.Module,
    forward: Forward,
    x: Tensor | PackedSequence,
    hx: Any,
    mask: Tensor | None,
    tokens: bool = False,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Call a module on any input that a batch-first `nn.GRU` takes.

    Args:
        module: named in messages.
        forward: its own way to run a batch.
        x: (batch, time, features); (time, features), one sample without a batch axis; or packed. Without features where these are tokens.
        hx: initial states, tensors (layer*direction, batch, features) in any nesting; without the batch axis for one sample.
        mask: (batch, time), or (time,) for one sample; None with a packed sequence.
        tokens: whether the input is integers without a feature axis.
        reverse: whether the output's steps stand in the opposite order of the input's.

    Returns:
        Output and states as they went in: without a batch axis for one sample; every sequence packed in the same order for a packed one.

    Raises:
        ShapeError: any other number of axes; a packed sequence with a mask, or for a module that reverses the steps.
    """
    if isinstance(x, PackedSequence):
        return _packed(module, forward, x, hx, mask, reverse)
    axes = _axes(tokens)
    if x.dim() not in (len(axes) - 1, len(axes)):
        expected = f"({', '.join(axes)}), ({', '.join(axes[1:])}{',' * tokens}) for one sample, or a PackedSequence"
        _refuse_shape(module, x, expected)
    batched = x.dim() == len(axes)
    _check_states(module, hx, batched)
    if batched:
        return forward(x, hx, mask)
    alone = each(hx, lambda state: state.unsqueeze(1))
    output, states = forward(x[None], alone, None if mask is None else mask[None])
    return each(output, lambda value: value.squeeze(0)), each(states, lambda state: state.squeeze(1))


def check_batch(module: nn.Module, x: Any, tokens: bool) -> None:
    """Refuse what is no batch of padded samples.

    Raises:
        ShapeError: it is packed, or has another number of axes.
    """
    expected = f"({', '.join(_axes(tokens))})"
    if isinstance(x, PackedSequence):
        raise ShapeError(
            "a converted model takes no packed sequence",
            type(module).__name__,
            expected,
            "a PackedSequence",
            "pad it with pad_packed_sequence(x, batch_first=True) and give mask=(batch, time), True where a step is valid",
        )
    if x.dim() != len(_axes(tokens)):
        _refuse_shape(module, x, expected)


def each(values: Any, change: Callable[[Tensor], Any]) -> Any:
    """A change to every tensor in nested tuples and lists.

    Example:
        >>> each((torch.ones(2), [torch.ones(3)]), len)
        (2, [3])
    """
    if values is None:
        return None
    if isinstance(values, Tensor):
        return change(values)
    return type(values)(each(value, change) for value in values)


def _axes(tokens: bool) -> tuple[str, ...]:
    return ("batch", "time") if tokens else ("batch", "time", "features")


def _refuse_shape(module: nn.Module, x: Tensor, expected: str) -> None:
    raise ShapeError(
        "the input has another number of axes",
        type(module).__name__,
        expected,
        f"{x.dim()} axes: {tuple(x.shape)}",
        "x[None] is a batch of one sample; batch_first=True is the order here",
    )


def _check_states(module: nn.Module, hx: Any, batched: bool) -> None:
    wrong: list[Tensor] = []
    each(hx, lambda state: wrong.append(state) if state.dim() != 2 + batched else None)
    if wrong:
        expected = (
            "(direction, batch, features)" if batched else "(direction, features), as the input has no batch axis"
        )
        got = f"{wrong[0].dim()} axes: {tuple(wrong[0].shape)}"
        remedy = "give states a batch axis where the input has one, and only there"
        raise ShapeError("an initial state has another number of axes", type(module).__name__, expected, got, remedy)


def _packed(
    module: nn.Module, forward: Forward, x: PackedSequence, hx: Any, mask: Tensor | None, reverse: bool
) -> tuple[Any, Any]:
    if mask is not None or reverse:
        got = "a mask as well" if mask is not None else "an output in the opposite order of the input (reverse=True)"
        remedy = "pad it with pad_packed_sequence(x, batch_first=True) and give a mask of its valid steps"
        where, expected = type(module).__name__, "the packed sequence alone, steps in order"
        raise ShapeError("a packed sequence cannot be taken here", where, expected, got, remedy)
    _check_states(module, hx, batched=True)
    padded, lengths = pad_packed_sequence(x, batch_first=True)
    valid = (torch.arange(padded.shape[1]) < lengths[:, None]).to(padded.device)
    output, states = forward(padded, hx, valid)

    def repacked(value: Tensor) -> Any:
        if value.dim() != 3:  # the last step alone
            return value
        rows, sizes = value, lengths
        if x.sorted_indices is not None:
            rows, sizes = value[x.sorted_indices], lengths[x.sorted_indices.cpu()]
        data, batch_sizes, *_ = pack_padded_sequence(rows, sizes, batch_first=True)
        return PackedSequence(data, batch_sizes, x.sorted_indices, x.unsorted_indices)

    return each(output, repacked), states
