"""Which axes of the inputs are really free: a trace believes less, and sometimes more, than the module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from parity.frameworks.torch.whole.examples import Example, failed
from parity.frameworks.torch.whole.naming import axis_words
from parity.frameworks.torch.whole.tracing import Axes, Traced, trace, user_inputs

_TIMES = (2, 3)


def freely_traced(module: nn.Module, example: Example) -> Traced:
    """A trace whose free axes are free in the module, too.

    A trace keeps, for instance, the height of an image free although a reshape makes features of it that only one height has.
    """
    traced = trace(module, example)
    words = axis_words(traced)
    fixed = set(_before_batch(traced, words))
    tied: list[Axes] = []
    for word in dict.fromkeys(words.values()):
        axes = axes_of_word(traced, word)
        if not _runs_longer(module, example, axes):
            fixed.update(axes)
        elif list(words.values()).count(word) > 1:
            tied.append(frozenset(axes))
    return trace(module, example, frozenset(fixed), tied) if fixed or tied else traced


def _before_batch(traced: Traced, words: dict[Any, str]) -> Iterator[tuple[int, int]]:
    """Free axes that stand before the batch and are no time: they count states or layers, and the module takes them one by one."""
    for place, shape in enumerate(traced.axes):
        named = [words.get(length) for length in shape]
        before = named[: named.index("batch")] if "batch" in named else []
        yield from ((place, axis) for axis, word in enumerate(before) if word not in (None, "time"))


def axes_of_word(traced: Traced, word: str) -> list[tuple[int, int]]:
    """The axes that one word stands for: the place of an input, and the axis."""
    words = axis_words(traced)
    return [
        (place, axis)
        for place, shape in enumerate(traced.axes)
        for axis, length in enumerate(shape)
        if not isinstance(length, int) and words[length] == word
    ]


def frozen_axes(module: nn.Module, traced: Traced) -> list[str]:
    """Axes whose length the trace insists on although the module itself runs with another, and why; axes before the batch aside."""
    return list(_frozen(module, traced))


def _frozen(module: nn.Module, traced: Traced) -> Iterator[str]:
    nodes = user_inputs(traced.program)
    fixed = [
        (place, axis, length)
        for place, shape in enumerate(traced.axes)
        for axis, length in enumerate(shape)
        if isinstance(length, int) and length > 1
    ]
    words = axis_words(traced)
    for place, axis, length in fixed:
        if "batch" in [words.get(one) for one in traced.axes[place][axis:]]:
            continue
        alike = [(other, where) for other, where, same in fixed if same == length]
        if any(_runs_longer(module, traced.example, axes) for axes in ([(place, axis)], alike)):
            yield f"axis {axis} of '{nodes[place].name}' at {length}: {traced.reason}"


def _runs_longer(module: nn.Module, example: Example, axes: list[tuple[int, int]]) -> bool:
    """Whether the module runs with some axes twice or three times as long."""
    for times in _TIMES:
        longer = list(example.tensors)
        for place, axis in axes:
            longer[place] = longer[place].repeat_interleave(times, dim=axis)  # what is sorted stays so
        if not failed(module, example.replaced(longer)):
            return True
    return False


__all__ = ["axes_of_word", "freely_traced", "frozen_axes"]
