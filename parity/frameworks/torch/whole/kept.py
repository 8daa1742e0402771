"""Operators that keep recurrent layers and packed sequences whole while `torch.export` traces a module.

torch's own `lstm`, `gru` and `rnn` are traced step by step, which freezes the number of steps, and so does its `max_pool1d`;
packing asks for numbers that a trace does not have. While `Keeping` is on, calls of them become operators of parity that have a
shape and nothing else: a trace stays as short as the module, and its number of steps may differ from call to call.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_LIBRARY: Any = torch.library.Library("parity", "DEF")  # type: ignore[no-untyped-call]

_LIBRARY.define(
    "recurrent(str kind, Tensor input, Tensor? sizes, Tensor[] hx, Tensor[] weights, bool has_biases, int layers, float dropout, "
    "bool train, bool bidirectional, bool batch_first) -> Tensor[]"
)
_LIBRARY.define("pack(Tensor input, Tensor lengths, bool batch_first) -> (Tensor, Tensor)")
_LIBRARY.define(
    "unpack(Tensor input, Tensor sizes, bool batch_first, float value, SymInt total, SymInt batch, bool cut) -> (Tensor, Tensor)"
)
_LIBRARY.define("max_pool1d(Tensor input, int kernel_size, int stride, int padding, int dilation) -> Tensor")


def _recurrent(
    kind: str,
    x: Tensor,
    sizes: Tensor | None,
    hx: list[Tensor],
    weights: list[Tensor],
    has_biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> list[Tensor]:
    features = hx[0].shape[-1] * (2 if bidirectional else 1)
    return [x.new_empty((*x.shape[:-1], features)), *(torch.empty_like(state) for state in hx)]


def _pack(x: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
    batch, time = x.shape[:2] if batch_first else (x.shape[1], x.shape[0])
    return x.new_empty((batch * time, *x.shape[2:])), lengths.new_empty((time,))


def _unpack(
    x: Tensor, sizes: Tensor, batch_first: bool, value: float, total: int, batch: int, cut: bool
) -> tuple[Tensor, Tensor]:
    steps = (batch, total) if batch_first else (total, batch)
    return x.new_empty((*steps, *x.shape[1:])), sizes.new_empty((batch,))


def _max_pool1d(x: Tensor, size: int, stride: int, padding: int, dilation: int) -> Tensor:
    return x.new_empty((*x.shape[:-1], (x.shape[-1] + 2 * padding - dilation * (size - 1) - 1) // stride + 1))


_LIBRARY.impl("max_pool1d", _max_pool1d, "Meta")
_LIBRARY.impl("recurrent", _recurrent, "Meta")
_LIBRARY.impl("pack", _pack, "Meta")
_LIBRARY.impl("unpack", _unpack, "Meta")

_FUNCTIONS: Any = torch._C._VariableFunctions
_KINDS = ("lstm", "gru", "rnn_tanh", "rnn_relu")
_RECURRENT: dict[Any, str] = {
    **{getattr(_FUNCTIONS, name): name for name in _KINDS},
    # What an exported program calls; these take what the functions do.
    **{getattr(torch.ops.aten, name).input: name for name in _KINDS},
}


class _Steps(int):
    """A number of steps that is told from an equal one by its identity."""


class Keeping(TorchFunctionMode):
    """While it is on, recurrent layers and packed sequences become operators of parity; good for tracing only."""

    def __init__(self) -> None:
        super().__init__()
        self._batches: dict[int, tuple[Tensor, Any]] = {}
        self._steps: dict[int, Any] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _RECURRENT:
            return self._called(_RECURRENT[func], args)
        if func is _FUNCTIONS._pack_padded_sequence:
            x, lengths, batch_first = args
            if lengths.shape[0] != x.shape[0 if batch_first else 1]:
                raise ValueError("pack_padded_sequence takes one length for every sample")
            data, sizes = torch.ops.parity.pack(x, lengths, batch_first)
            self._batches[id(sizes)] = sizes, x.shape[0 if batch_first else 1]
            return data, sizes
        if func in (functional.max_pool1d, _FUNCTIONS.max_pool1d):
            return self._pooled(*args, **(kwargs or {}))
        if func is _FUNCTIONS._pad_packed_sequence:
            data, sizes, batch_first, value, total = args
            cut = total is self._steps.get(id(sizes))
            total = int(total) if isinstance(total, _Steps) else total
            return torch.ops.parity.unpack(data, sizes, batch_first, value, total, self._batches[id(sizes)][1], cut)
        # Without a total length, pad_packed_sequence hands on how many batch sizes there are: that very number.
        if func is Tensor.size and id(args[0]) in self._batches and args[1:] == (0,):
            steps = func(*args)
            return self._steps.setdefault(id(args[0]), _Steps(steps) if isinstance(steps, int) else steps)
        # The first of the batch sizes is the batch: nn.LSTM makes its zero states with it.
        if func is Tensor.__getitem__ and id(args[0]) in self._batches and args[1] == 0:
            return self._batches[id(args[0])][1]
        return func(*args, **(kwargs or {}))

    @staticmethod
    def _pooled(
        input: Tensor,  # noqa: A002  torch calls it so
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        """torch's own freezes the length of the axis."""
        options: tuple[Any, ...] = (kernel_size, stride or kernel_size, padding, dilation)
        if ceil_mode or return_indices:
            return functional.max_pool1d(input, *options, ceil_mode, return_indices)  # type: ignore[call-overload]
        numbers = [one[0] if isinstance(one, (tuple, list)) else one for one in options]
        pooled: Tensor = torch.ops.parity.max_pool1d(input, *numbers)
        return pooled

    def _called(self, kind: str, args: Any) -> tuple[Tensor, ...]:
        """The operator of parity for `lstm(input, hx, weights, ...)` or `lstm(data, batch_sizes, hx, weights, ...)`."""
        packed = isinstance(args[3], (list, tuple))
        x, sizes, hx, weights, *options = args if packed else (args[0], None, *args[1:])
        if x.shape[-1] != weights[0].shape[1]:  # tells the trace that the features are no free length, too
            raise ValueError(f"{kind} takes {weights[0].shape[1]} features, not {x.shape[-1]}")
        states = list(hx) if isinstance(hx, (list, tuple)) else [hx]
        batch_first = False if packed else options.pop()
        return tuple(torch.ops.parity.recurrent(kind, x, sizes, states, list(weights), *options, batch_first))


@contextmanager
def unchecked() -> Iterator[None]:
    """Recurrent layers do not check their states: they take the batch of a packed sequence for an integer, and a trace freezes it.

    The example was run before, so that the check has nothing to say.
    """
    owners: tuple[Any, ...] = (nn.RNNBase, nn.LSTM)
    kept = [(owner, owner.check_forward_args) for owner in owners]
    for owner, own in kept:
        owner.check_forward_args = _when_padded(own)
    try:
        yield
    finally:
        for owner, own in kept:
            owner.check_forward_args = own


def _when_padded(check: Any) -> Any:
    def checked(module: Any, x: Any, hidden: Any, batch_sizes: Any) -> None:
        if batch_sizes is None:
            check(module, x, hidden, batch_sizes)

    return checked


__all__ = ["Keeping", "unchecked"]
