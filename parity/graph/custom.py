"""Layers that users add themselves: what a class of their own computes, said once for every framework."""

from __future__ import annotations

from collections.abc import Callable
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

if TYPE_CHECKING:
    from parity.graph.graph import Wire

Reads: TypeAlias = "Callable[..., Wire]"
"""(build, config, weights, *inputs) -> what the layer gives; with a keyword `mask`, if it has one, the mask that the layer gets or None."""

_Function = TypeVar("_Function", bound=Callable[..., Any])

CUSTOM: dict[str, Reads] = {}
"""What was registered, by the name of the class."""


@overload
def register(class_name: str, function: None = None) -> Callable[[_Function], _Function]: ...


@overload
def register(class_name: str, function: _Function) -> _Function: ...


def register(class_name: str, function: Any = None) -> Any:
    """Say what a layer of a class of your own computes.

    Args:
        class_name: as the framework writes it, without module or package.
        function: called with a `parity.graph.Builder`, the layer's configuration, its weights in the framework's order and the wires that
            it takes; gives the wire of its value. Where it has a keyword `mask`, it gets the mask with which the layer is called, else that
            of the first input, (batch, time), or None: `def function(build, config, weights, x, mask=None)`. An error that it raises
            is one of the conversion, with stubs (`partial=True`), too. Without a function this is a decorator.

    Returns:
        The function, or the decorator.

    Example, the attention of textgenrnn: a share for every step, then the weighted sum of the steps:
        >>> import numpy as np
        >>> @register("AttentionWeightedAverage")
        ... def attention(build, config, weights, x):
        ...     share = build.softmax(build.matmul(x, build.weight("scores", weights[0])), axis=1)
        ...     return build.sum(build.multiply(x, share), axis=1)
        >>> from parity.graph import Builder
        >>> build = Builder("model")
        >>> x = build.input("x", ("batch", "time", 4))
        >>> y = registered("AttentionWeightedAverage")(build, {}, [np.ones((4, 1), np.float32)], x)
        >>> build.graph({"y": y}).run({"x": np.ones((2, 5, 4))})["y"].tolist()
        [[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
        >>> del CUSTOM["AttentionWeightedAverage"]
    """
    if function is None:
        return lambda own: register(class_name, own)
    CUSTOM[class_name] = function
    return function


def registered(class_name: str) -> Reads | None:
    """What was said of a class; None if nothing.

    Example:
        >>> registered("NobodyKnowsIt") is None
        True
    """
    return CUSTOM.get(class_name)


def line_of(error: BaseException, file: str) -> int | None:
    """The line of a file in which an error was raised, or from which what raised it was called; None if none was.

    Example:
        >>> try:
        ...     exec(compile("x = 1\\nx / 0", "own.py", "exec"))
        ... except ZeroDivisionError as error:
        ...     line_of(error, "own.py")
        2
    """
    lines = [line for frame, line in walk_tb(error.__traceback__) if frame.f_code.co_filename == file]
    return lines[-1] if lines else None


__all__ = ["CUSTOM", "Reads", "line_of", "register", "registered"]
