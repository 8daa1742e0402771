"""A module traced by `torch.export`, with every axis free that the module leaves free."""

from __future__ import annotations

import io
import itertools
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.utils import _pytree as pytree

from parity.errors import Problem, UnsupportedError
from parity.frameworks.torch.modes import evaluating
from parity.frameworks.torch.whole.examples import Example
from parity.frameworks.torch.whole.fast_path import plain_attention
from parity.frameworks.torch.whole.kept import Keeping, unchecked

_USER_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)\n\s*(.*)')


Axes: TypeAlias = frozenset[tuple[int, int]]
"""Axes of inputs: the place of a tensor among them, and its axis."""


@dataclass(frozen=True, eq=False)
class Traced:
    """What `torch.export` made of a module.

    Args:
        program: the exported program.
        example: the arguments it was traced with.
        axes: the lengths of every input's axes: integers, or expressions of those that may differ.
        reason: why an axis that is not free in the trace is not.
        tied: axes that were said to have one length.
    """

    program: Any
    example: Example
    axes: tuple[tuple[Any, ...], ...]
    reason: str
    tied: tuple[Axes, ...] = ()


def trace(module: nn.Module, example: Example, fixed: Axes = frozenset(), tied: Sequence[Axes] = ()) -> Traced:
    """Trace a module.

    Args:
        module: it is put into evaluation and back.
        example: what it is called with.
        fixed: axes that stay as they are.
        tied: axes that have one length, although nothing in the module may compare them.

    Raises:
        UnsupportedError: `torch.export` cannot trace it; says what it said, and where in the user's code.
    """
    reason = "its length is used as a number: a loop over it, an `if`, or int()"
    try:
        program = _exported(module, example, fixed, tied, free=True)
    except Exception as free:
        try:
            program = _exported(module, example, fixed, tied, free=False)
        except Exception as error:
            raise UnsupportedError([_untraceable(module, error)]) from error
        reason = _first_line(free)
    axes = tuple(tuple(_length(one) for one in node.meta["val"].shape) for node in user_inputs(program))
    return Traced(program, example, axes, reason, tuple(tied))


def user_inputs(program: Any) -> list[Any]:
    """The nodes of a program that are tensors given by the user, in order."""
    own = {
        spec.arg.name
        for spec in program.graph_signature.input_specs
        if spec.kind.name == "USER_INPUT" and hasattr(spec.arg, "name")
    }
    return [
        node
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in own and isinstance(node.meta.get("val"), Tensor)
    ]


def _exported(module: nn.Module, example: Example, fixed: Axes, tied: Sequence[Axes], free: bool) -> Any:
    places = itertools.count()

    def axes(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return None
        place = next(places)
        return {
            axis: Dim.AUTO if free and length > 1 and (place, axis) not in fixed else Dim.STATIC
            for axis, length in enumerate(leaf.shape)
        }

    shapes = {name: pytree.tree_map(axes, value) for name, value in example.named(module).items()}
    with evaluating(module), _quiet(), plain_attention(), _comparing(module, tied), unchecked(), Keeping():
        return torch.export.export(module, example.args, example.kwargs, dynamic_shapes=shapes, strict=False)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), ExitStack() as stack:
        warnings.simplefilter("ignore")
        # What torch.export has to say comes as an error, too.
        stack.enter_context(redirect_stdout(io.StringIO()))
        stack.enter_context(redirect_stderr(io.StringIO()))
        kept = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(kept)


@contextmanager
def _comparing(module: nn.Module, tied: Sequence[Axes]) -> Iterator[None]:
    """Lets the trace see that some axes have one length."""

    def compare(_: nn.Module, args: Any, kwargs: Any) -> None:
        tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        for axes in tied:
            lengths = [tensors[place].shape[axis] for place, axis in sorted(axes)]
            if any(length != lengths[0] for length in lengths[1:]):
                raise ValueError("inputs of one batch differ in its length")

    hook = module.register_forward_pre_hook(compare, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def _length(size: Any) -> Any:
    """A length as an integer, or as an expression."""
    if isinstance(size, int):
        return size
    expression = size.node.expr
    return int(expression) if expression.is_Integer else expression


def expressions(shape: Sequence[Any]) -> tuple[Any, ...]:
    """A shape of a trace: integers and expressions.

    Example:
        >>> expressions(torch.ones(2, 3).shape)
        (2, 3)
    """
    return tuple(_length(size) for size in shape)


def _untraceable(module: nn.Module, error: Exception) -> Problem:
    frames = user_frames(str(error)) or [""]
    return Problem(
        "torch.export cannot trace this module",
        frames[-1] or type(module).__qualname__,
        "a forward of tensor operations, without `if` or loops that depend on numbers inside tensors",
        _first_line(error),
        "rewrite that line with torch.where, masks or slices; or convert the modules inside it one by one",
    )


def user_frames(stack: str) -> list[str]:
    """The lines of the user's code in a stack trace, "model.py, line 12: y = self.lstm(x)", the innermost last."""
    return [
        f"{file.rsplit('/', 1)[-1]}, line {line}: {text.strip()}"
        for file, line, _, text in _USER_FRAME.findall(stack)
        if "/torch/" not in file and not file.startswith("torch/") and "/parity/frameworks/" not in file
    ]


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {(lines or [''])[0][:200]}"


__all__ = ["Axes", "Traced", "expressions", "trace", "user_frames", "user_inputs"]
