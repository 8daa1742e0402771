"""Layers of classes that users have registered: their functions are called, and what is wrong with them is said in their own words."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from traceback import walk_tb
from types import FrameType
from typing import Any

from parity.errors import ParityError, ShapeError, UnsupportedError
from parity.graph.builder import Builder
from parity.graph.custom import Reads, line_of
from parity.graph.graph import Wire
from parity.graph.keras.call import Call, Tensor, flat
from parity.network.keras.options import shown
from parity.network.keras.stored import as_kept, held

_GIVEN_FIRST = 3
"""A function takes the builder, the configuration and the weights before the values."""

_A_WIRE = "a Wire stands for a value of the graph"


class FaultyRegistrationError(UnsupportedError):
    """A registered function that is wrong in itself: an error where layers that are not known become stubs, too."""


def read_users(call: Call, function: Reads, given: Sequence[Any], named: Mapping[str, Any]) -> list[Tensor]:
    """What a layer of a registered class gives.

    Args:
        call: of the layer.
        function: what was registered.
        given: the arguments by position; tensors as `Tensor`.
        named: the arguments by name. That called `mask` goes to the keyword `mask` of the function, every other in its place.

    Raises:
        FaultyRegistrationError: the function raises an error, has no keyword for the mask, or gives no value of the graph.
        UnsupportedError: the function needs what nobody knows, because the layer is behind a stub.
    """
    stored = call.held.stored()
    weights = list(stored.values()) if isinstance(stored, Mapping) else list(stored)
    kept = call.once("weights", lambda: [held(as_kept(one), call.where) for one in weights])
    tensors = flat([*given, *(value for key, value in named.items() if key != "mask")])
    wires = [tensor.wire for tensor in tensors]
    mend = f"mend the function that parity.register has for '{call.held.class_name.rpartition('>')[2]}'"
    options = _mask_option(call, function, named.get("mask"), tensors)
    try:
        value = function(call.build, dict(call.config), list(kept), *wires, **options)
    except Exception as error:  # whatever the user's code raises
        what, expected = "the function registered for this class raised an error", "what the layer computes"
        got = _in_words(error, _file_of(function))[:600] + _place(error, function)
        if isinstance(error, ParityError) and not all(_is_known(call.build, wire) for wire in wires):
            raise call.refused(what, expected, got, "register what the layers before it compute, too") from error
        raise FaultyRegistrationError(what, call.where, expected, got, mend) from error
    names = {node.name for node in call.build.nodes} | {one.name for one in call.build.inputs}
    if not isinstance(value, Wire) or value.node not in names:
        what, expected = (
            "the function registered for this class gives no value of the graph",
            "the Wire of what it gives",
        )
        raise FaultyRegistrationError(what, call.where, expected, shown(value) + _place(None, function), mend)
    return [Tensor(value)]


def _mask_option(call: Call, function: Reads, mask: Any, tensors: Sequence[Tensor]) -> dict[str, Wire | None]:
    """The mask as the function's keyword, if it has one: the one that the layer is called with, else that of its first input.

    Raises:
        FaultyRegistrationError: the layer gets a mask and the function has no keyword for it.
    """
    first = mask
    while isinstance(first, (list, tuple)):
        first = first[0] if first else None
    if first is not None and not isinstance(first, Tensor):
        raise call.refused("a mask that is no value of the model", "a mask that is computed in the model", shown(first))
    if _takes_mask(function, len(tensors)):
        return {"mask": first.wire if first is not None else tensors[0].mask if tensors and mask is None else None}
    if first is not None and not _filled_by_place(function, len(tensors)):
        raise FaultyRegistrationError(
            "the layer is called with a mask, and the function registered for its class takes none",
            call.where,
            "def function(build, config, weights, x, mask=None)",
            f"{getattr(function, '__name__', 'a function')} without a keyword 'mask'" + _place(None, function),
            "give it the keyword; if the layer does nothing with the mask, do nothing with it there",
        )
    return {}


def _parameters(function: Reads) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # something callable that Python cannot describe
        return []


def _takes_mask(function: Reads, values: int) -> bool:
    """Whether a function has a keyword `mask` that none of the values given by position takes."""
    parameters = _parameters(function)
    named = any(one.name == "mask" and one.kind is not one.POSITIONAL_ONLY for one in parameters)
    named = named or any(one.kind is one.VAR_KEYWORD for one in parameters)
    return named and not _filled_by_place(function, values)


def _filled_by_place(function: Reads, values: int) -> bool:
    """Whether one of the values is the mask: the layer was called with it by position."""
    places = [one.name for one in _parameters(function) if one.kind is one.POSITIONAL_OR_KEYWORD]
    return "mask" in places[: _GIVEN_FIRST + values]


def _is_known(build: Builder, wire: Wire) -> bool:
    try:
        build.shape(wire)
    except ShapeError:
        return False
    return True


# ---- what went wrong, and where


def _file_of(function: Reads) -> str:
    """The file in which a function is defined, as its frames name it; "" if none says so."""
    return str(getattr(_code_of(function), "co_filename", ""))


def _code_of(function: Any) -> Any:
    inner = getattr(inspect.unwrap(function), "func", inspect.unwrap(function))
    return getattr(inner, "__code__", None) or getattr(
        inspect.getattr_static(type(inner), "__call__", None), "__code__", None
    )


def _place(error: BaseException | None, function: Reads) -> str:
    """The file and line of an error in words; where none of its lines ran, those of the function's definition."""
    file = _file_of(function)
    line = None if error is None else line_of(error, file)
    line = line or getattr(_code_of(function), "co_firstlineno", None)
    return f" ({file}, line {line})" if file and line else ""


def _in_words(error: Exception, file: str) -> str:
    """An error as its user has to read it: beside its own text the method of the builder that raised it, and what a Wire is not."""
    if isinstance(error, ParityError):
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    own = [place for place, frame in enumerate(frames) if frame.f_code.co_filename == file]
    inner = frames[own[-1] + 1] if own and own[-1] + 1 < len(frames) else None
    if inner is not None and isinstance(inner.f_locals.get("self"), Builder):
        return f"{type(error).__name__} in {_asked(inner)}: {_hint(error, [value for _, value in _given(inner)])}"
    return f"{type(error).__name__}: {_hint(error, [])}"


def _given(frame: FrameType) -> list[tuple[str, Any]]:
    """What a method was given, without `self`: by name, further values without one."""
    code = frame.f_code
    given = [(f"{name}=", frame.f_locals.get(name)) for name in code.co_varnames[1 : code.co_argcount]]
    if code.co_flags & inspect.CO_VARARGS:
        rest = frame.f_locals.get(code.co_varnames[code.co_argcount + code.co_kwonlyargcount], ())
        given += [("", one) for one in rest]
    return [(name, value) for name, value in given if not (value is None or (isinstance(value, str) and not value))]


def _asked(frame: FrameType) -> str:
    """The call of a method of the builder, as people write it."""
    given = ", ".join(f"{name}{_kind(value)}" for name, value in _given(frame))
    return f"build.{frame.f_code.co_name}({given})"


def _kind(value: Any) -> str:
    if isinstance(value, Wire):
        return f"<Wire {value}>"
    return repr(value)[:40] if isinstance(value, (bool, int, float, str)) else f"<{type(value).__name__}>"


def _hint(error: Exception, given: Sequence[Any]) -> str:
    """What an error says, and what to do instead where a Wire was taken for something else, or something else for a Wire."""
    obj, name = getattr(error, "obj", None), getattr(error, "name", None)
    if not isinstance(obj, Wire):
        if "'Wire'" in str(error) and given:
            return f"{error}; {_A_WIRE}, and stands here in the place of something else"
        if "'Wire'" in str(error):
            return (
                f"{error}; {_A_WIRE}, its operations are methods of build: build.add(x, y), build.multiply(x, y), ..."
            )
        arrays = any(hasattr(one, "dtype") for one in given)
        return (
            f"{error}; an array becomes a Wire with build.weight(name, array) or build.constant(array)"
            if arrays
            else str(error)
        )
    if name in ("shape", "ndim", "rank"):
        return f"{_A_WIRE} and has no {name}: build.shape(x) and build.rank(x) say it"
    if isinstance(name, str) and not given and callable(getattr(Builder, name, None)):
        return f"{_A_WIRE}, its operations are methods of build: build.{name}(x, ...)"
    return f"{_A_WIRE}, and stands here in the place of something else, which has a '{name}'"


__all__ = ["FaultyRegistrationError", "read_users"]
