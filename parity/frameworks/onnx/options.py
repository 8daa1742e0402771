"""What the attributes of a recurrent ONNX node say about its cells.

Source: the ONNX operator specification of LSTM, GRU and RNN. ONNX Runtime 1.32 was measured to agree with it, except for what it takes
where a file leaves out the parameters of Affine, ScaledTanh and ThresholdedRelu.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.cell import Cell, plain_cell
from parity.errors import FormatError, Problem, UnsupportedError
from parity.functions import FUNCTIONS, Function, function_from_onnx
from parity.layouts import SLOTS, Kind
from parity.recurrent import DIRECTIONS, Direction

NODE_DIRECTIONS: dict[str, tuple[Direction, ...]] = {
    "forward": ("forward",),
    "reverse": ("backward",),
    "bidirectional": DIRECTIONS,
}

_TYPES: dict[str, tuple[type, bool]] = {
    "activation_alpha": (float, True),
    "activation_beta": (float, True),
    "activations": (bytes, True),
    "clip": (float, False),
    "direction": (bytes, False),
    "hidden_size": (int, False),
    "input_forget": (int, False),
    "layout": (int, False),
    "linear_before_reset": (int, False),
}
"""Types of the attributes of a recurrent node, and which are lists."""

_AMBIGUOUS = ("affine", "scaled_tanh", "thresholded_relu")
"""Functions for whose parameters ONNX Runtime takes other values than the specification where a file gives none."""


@dataclass(frozen=True)
class Options:
    """The options of a node: its directions, one cell for each, and whether batch comes first."""

    directions: tuple[Direction, ...]
    cells: tuple[Cell, ...]
    layout: int


def options_of(kind: Kind, attributes: Mapping[str, Any], where: str) -> Options:
    """The options of a node.

    Raises:
        FormatError: values that the specification does not have.
        UnsupportedError: options that mean different things to different readers; all of them.

    Example:
        >>> options_of("rnn", {"activations": [b"Relu"], "direction": b"reverse"}, "a node").directions
        ('backward',)
    """
    _check_types(attributes, where)
    direction = attributes.get("direction", b"forward").decode()
    if direction not in NODE_DIRECTIONS:
        raise FormatError("unknown direction", where, ", ".join(NODE_DIRECTIONS), str(attributes["direction"]))
    layout = int(attributes.get("layout", 0))
    if layout not in (0, 1):
        raise FormatError("unknown layout", where, "0 or 1", str(layout))
    directions = NODE_DIRECTIONS[direction]
    functions = _functions(kind, attributes, len(directions), where)
    clip = attributes.get("clip")
    width = len(SLOTS[kind])
    cells = tuple(
        Cell(
            tuple(functions[start : start + width]),
            kind != "gru" or bool(attributes.get("linear_before_reset", 0)),
            None if clip is None else plain_number(float(clip)),
            kind == "lstm" and bool(attributes.get("input_forget", 0)),
        )
        for start in range(0, width * len(directions), width)
    )
    return Options(directions, cells, layout)


def _check_types(attributes: Mapping[str, Any], where: str) -> None:
    """Each attribute is of the type that the specification says; text is UTF-8 and numbers are finite."""
    problems = []
    for name, value in attributes.items():
        if name not in _TYPES:
            continue
        kind, many = _TYPES[name]
        values = value if many and isinstance(value, Sequence) else [value]
        listed = isinstance(value, Sequence) and not isinstance(value, bytes)
        if listed is not many or not all(isinstance(one, kind) and _is_sound(one) for one in values):
            expected = ("a list of " if many else "") + {bytes: "text", int: "a whole number"}.get(kind, "a number")
            problems.append(
                Problem(f"attribute {name} is of another type", where, expected, repr(value)[:80], "export it anew")
            )
    if problems:
        raise FormatError(problems)


def _is_sound(value: object) -> bool:
    if isinstance(value, bytes):
        return value.isascii()
    return not isinstance(value, float) or math.isfinite(value)


def _functions(kind: Kind, attributes: Mapping[str, Any], directions: int, where: str) -> list[Function]:
    names = [name.decode() for name in attributes.get("activations", [])]
    if not names:
        return [*plain_cell(kind).functions] * directions
    if len(names) != directions * len(SLOTS[kind]):
        slots = " and ".join(SLOTS[kind])
        raise FormatError(
            "another number of activations than the node needs", where, f"{slots} per direction", ", ".join(names)
        )
    given = {key: iter(attributes.get(f"activation_{key}", [])) for key in ("alpha", "beta")}
    functions, problems = [], []
    for name in names:
        try:
            plain = function_from_onnx(name)
        except UnsupportedError as error:
            problems += [Problem(p.what, where, p.expected, p.got, p.remedy) for p in error.problems]
            continue
        # Each list is used up in order by the functions that have such a parameter.
        found = {key: _next(given[key]) for key in plain.parameters}
        missing = [key for key, value in found.items() if value is None]
        if missing and plain.name in _AMBIGUOUS:
            problems.append(_ambiguous(name, plain, missing, where))
        row = FUNCTIONS[plain.name]
        usual = {"alpha": (row.alpha, row.keras_parameters[0]), "beta": (row.beta, row.keras_parameters[1])}
        known = {key: None if value is None else plain_number(value, *usual[key]) for key, value in found.items()}
        functions.append(function_from_onnx(name, **known))
    for key, rest in given.items():
        if unused := list(rest):
            problems.append(Problem(f"more activation_{key} than the activations take", where, got=str(unused)))
    if problems:
        raise UnsupportedError(problems)
    return functions


def plain_number(stored: float, *usual: float | None) -> float:
    """The number that a float32 attribute stands for: a usual one that float32 stores so, else the shortest such decimal.

    Example:
        >>> plain_number(0.20000000298023224), plain_number(0.1666666716337204, 1 / 6) == 1 / 6
        (0.2, True)
    """
    same = (value for value in usual if value is not None and np.float32(value) == np.float32(stored))
    return next(same, float(str(np.float32(stored))))


def _next(values: Iterator[float]) -> float | None:
    value = next(values, None)
    return None if value is None else float(value)


def _ambiguous(name: str, plain: Function, missing: list[str], where: str) -> Problem:
    words = " and ".join(f"activation_{key}" for key in missing)
    usual = ", ".join(f"{key}={getattr(FUNCTIONS[plain.name], key):g}" for key in missing)
    return Problem(
        f"{name} without its parameters is not one function",
        where,
        f"{words} in the file",
        f"none: the specification means {usual}, ONNX Runtime takes 0",
        f"write {words} into the node",
    )
