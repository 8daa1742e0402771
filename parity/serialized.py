"""A network as plain JSON values and arrays, and back: what goes to an engine in another process.

The classes are found by walking the annotations of `Network` and `Result`, so a field or a class that is added there is known here. Nothing
but those classes is ever made, and every value is checked against the annotation of its field first: a description from outside
can be wrong, but it cannot run anything.

    None, bool, int, float, str    themselves; a float that is not finite {"float": "nan"}
    a tuple                        [...]
    a list                         {"list": [...]}
    a dict with names              {"dict": {name: ...}}
    an array                       {"array": its name among the arrays}
    a dataclass                    {"class": its name, "fields": {name: ...}}
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import numpy as np

from parity.deferred import Array, Arrays, Deferred
from parity.errors import FormatError, ParityError
from parity.network import Network
from parity.result import Result

Data: TypeAlias = Any
"""JSON values: None, bool, int, float, str, lists and dicts of them."""

_DEPTH = 40
"""How deep a description may be nested: far more than any network is, far less than Python's own limit."""

_NUMBERS = "fiub"


def to_data(value: object) -> tuple[Data, Arrays]:
    """A network, or anything else of the forms above, as JSON values, and its arrays by name: the value's own, not copied.

    Raises:
        FormatError: a value of another form; says where.

    Example:
        >>> import json
        >>> from parity.network import Recurrent
        >>> from parity.recurrent import RecurrentSpec, Weights
        >>> weights = Weights(np.zeros((3, 5, 2)), np.zeros((3, 5, 5)))
        >>> data, arrays = to_data(Network("gru", (Recurrent("gru", RecurrentSpec("gru", 2, 5), (weights,)),)))
        >>> from_data(json.loads(json.dumps(data)), arrays).recurrent[0].weights[0].kernel.shape
        (3, 5, 2)
    """
    writer = _Writer()
    return writer.write(value, type(value).__name__), Arrays(writer.arrays)


def from_data(data: Data, arrays: Mapping[str, Array | Deferred]) -> Network:
    """The network of a description.

    Args:
        data: what `to_data` gave, after a way through JSON or not.
        arrays: by the names in it.

    Raises:
        FormatError: unknown classes or fields, fields or arrays that are missing, values of another type than the field's.
        ParityError: what the network itself refuses, such as weights that are not finite.

    Example:
        >>> from_data({"class": "Popen", "fields": {"args": "ls"}}, {})
        Traceback (most recent call last):
        ...
        parity.errors.FormatError: unknown class
          where:    data
          expected: ...
          got:      'Popen'
    """
    value = value_from_data(data, arrays)
    if not isinstance(value, Network):
        raise FormatError("this describes something else", expected="a Network", got=_short(value))
    return value


def value_from_data(data: Data, arrays: Mapping[str, Array | Deferred]) -> object:
    """Whatever `to_data` described; see `from_data`."""
    return _Reader(arrays).read(data, "data")


@cache
def known_classes() -> dict[str, type]:
    """Every dataclass that a network or a result may hold, by name: those that the annotations of their fields lead to.

    Example:
        >>> {"Network", "Recurrent", "Weights", "RecurrentSpec", "Value", "Result"} <= set(known_classes())
        True
    """
    found: dict[str, type] = {}
    waiting: list[Any] = [Network, Result]
    while waiting:
        hint = waiting.pop()
        waiting += get_args(hint)
        if isinstance(hint, type) and is_dataclass(hint) and hint.__name__ not in found:
            found[hint.__name__] = hint
            waiting += _hints(hint).values()
    return found


@cache
def _hints(kind: type) -> dict[str, Any]:
    """What may stand in every field that its constructor takes."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in _fields(kind)}


def _fields(kind: type) -> tuple[Field[Any], ...]:
    return tuple(field for field in fields(kind) if field.init and field.metadata.get("described", True))


class _Writer:
    def __init__(self) -> None:
        self.arrays: dict[str, Array | Deferred] = {}
        self._names: dict[int, str] = {}

    def write(self, value: Any, where: str) -> Any:
        """The value in the forms of this module, its arrays kept by name."""
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if type(value) in (tuple, list):
            items = [self.write(item, f"{where}[{index}]") for index, item in enumerate(value)]
            return items if type(value) is tuple else {"list": items}
        if isinstance(value, Mapping) and all(type(key) is str for key in value):
            return {"dict": {key: self.write(item, f"{where}[{key!r}]") for key, item in value.items()}}
        if isinstance(value, (np.ndarray, Deferred)) and value.dtype.kind in _NUMBERS:
            return {"array": self._name(value)}
        kind = type(value)
        if known_classes().get(kind.__name__) is kind:
            own = {
                field.name: self.write(object.__getattribute__(value, field.name), f"{where}.{field.name}")
                for field in _fields(kind)
            }
            return {"class": kind.__name__, "fields": own}
        got = f"array of {value.dtype}" if isinstance(value, np.ndarray) else f"{kind.__module__}.{kind.__qualname__}"
        raise FormatError(
            "this cannot be written down", where, "numbers, texts, tuples, dicts, arrays, known classes", got
        )

    def _name(self, array: Array | Deferred) -> str:
        """One name for one array, however often it occurs: tied weights stay tied."""
        name = self._names.setdefault(id(array), str(len(self._names)))
        self.arrays[name] = array
        return name


class _Reader:
    def __init__(self, arrays: Mapping[str, Array | Deferred]) -> None:
        self._arrays = arrays
        self._read = {
            "float": self._float,
            "list": lambda content, where, depth: list(self._items(content, where, depth)),
            "dict": self._dict,
            "array": self._array,
        }

    def read(self, data: object, where: str, depth: int = 0) -> object:
        """What such a form stands for."""
        if depth > _DEPTH:
            raise FormatError("nested too deeply", where, f"at most {_DEPTH} levels")
        if data is None or type(data) in (bool, int, float, str):
            return data
        if isinstance(data, (list, tuple)):
            return self._items(data, where, depth)
        if isinstance(data, dict) and set(data) == {"class", "fields"}:
            return self._object(data["class"], data["fields"], where, depth)
        if isinstance(data, dict) and len(data) == 1:
            ((key, content),) = data.items()
            if key in self._read:
                return self._read[key](content, where, depth)
        known = ", ".join([*self._read, "class and fields"])
        raise FormatError("unknown form of a value", where, known, _short(data))

    def _items(self, content: object, where: str, depth: int) -> tuple[object, ...]:
        if not isinstance(content, (list, tuple)):
            raise FormatError("this is no list", where, "a list", _short(content))
        return tuple(self.read(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(content))

    def _dict(self, content: object, where: str, depth: int) -> dict[str, object]:
        if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
            raise FormatError("this is no dict by name", where, "names and values", _short(content))
        return {key: self.read(item, f"{where}[{key!r}]", depth + 1) for key, item in content.items()}

    def _float(self, content: object, where: str, depth: int) -> float:
        if content not in ("nan", "inf", "-inf"):
            raise FormatError("this is no such number", where, "nan, inf or -inf", _short(content))
        return float(str(content))

    def _array(self, content: object, where: str, depth: int) -> Array | Deferred:
        array = self._arrays.get(content) if isinstance(content, str) else None
        if not isinstance(array, (np.ndarray, Deferred)) or array.dtype.kind not in _NUMBERS:
            raise FormatError("an array of numbers is missing", where, "its name among the arrays", _short(content))
        return array

    def _object(self, name: object, content: object, where: str, depth: int) -> object:
        kind = known_classes().get(name) if isinstance(name, str) else None
        if kind is None:
            raise FormatError("unknown class", where, ", ".join(sorted(known_classes())), _short(name))
        if not isinstance(content, dict):
            raise FormatError("the fields are no dict", where, "names and values", _short(content))
        hints, own = _hints(kind), {field.name: field for field in _fields(kind)}
        if unknown := [str(key) for key in content if key not in own]:
            raise FormatError(f"unknown fields of {kind.__name__}", where, ", ".join(own), ", ".join(unknown))
        needed = [f.name for f in own.values() if f.default is MISSING and f.default_factory is MISSING]
        if missing := [key for key in needed if key not in content]:
            raise FormatError(
                f"missing fields of {kind.__name__}", where, ", ".join(needed), f"no {', '.join(missing)}"
            )
        values = {}
        for key, item in content.items():
            values[key] = self.read(item, f"{where}.{key}", depth + 1)
            if not _fits(values[key], hints[key]):
                raise FormatError("another type than the field's", f"{where}.{key}", _spelt(hints[key]), _short(item))
        try:
            return kind(**values)
        except ParityError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise FormatError("values that contradict each other", where, f"a {kind.__name__}", str(error)) from error


def _fits(value: object, hint: Any) -> bool:
    """Whether a value is what an annotation says, to any depth; a form of annotation that is not known here fits nothing."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, other) for other in inner)
    if origin is Literal:
        return any(type(value) is type(other) and value == other for other in inner)
    if hint is None or hint is type(None):
        return value is None
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(inner) == 2 and inner[1] is Ellipsis:
            return all(_fits(item, inner[0]) for item in value)
        return len(value) == len(inner) and all(map(_fits, value, inner))
    if origin is list:
        return isinstance(value, list) and all(_fits(item, inner[0]) for item in value)
    if origin in (dict, Mapping):
        return isinstance(value, dict) and all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in value.items())
    if origin is np.ndarray:
        return isinstance(value, (np.ndarray, Deferred))
    if hint in (Any, object):
        return True
    if hint is float:
        return type(value) in (float, int)
    if isinstance(hint, type) and is_dataclass(hint):
        return isinstance(value, hint)
    return hint in (bool, int, str) and type(value) is hint


def _spelt(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")


def _short(value: object) -> str:
    text = repr(value) if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__
    return text if len(text) <= 80 else f"{text[:77]}..."


__all__ = ["Data", "from_data", "known_classes", "to_data", "value_from_data"]
