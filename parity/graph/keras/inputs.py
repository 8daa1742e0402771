"""The inputs of a model: their names, their axes, what stands in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parity.errors import Problem
from parity.graph.keras.call import Tensor
from parity.graph.keras.model import Model
from parity.network.keras.chain import field, input_shape, name_of, where_of
from parity.network.keras.options import INPUT, Config, Option, check_options, plain, shown

_KINDS = {"float": "float32", "bfloat": "float32", "int": "int64", "uint": "int64", "bool": "bool"}


def words_of(shape: Sequence[Any]) -> tuple[int | str, ...]:
    """Axes as a graph names them: a word for one that differs from call to call.

    Example:
        >>> words_of((None, None, 6)), words_of((None, None, None, 3)), words_of((None, 32, None, 1))
        (('batch', 'time', 6), ('batch', 'height', 'width', 3), ('batch', 32, 'width', 1))
    """
    found: list[int | str] = ["batch"]
    spatial = len(shape) == 4 and (shape[1] is not None or shape[2] is None)
    names = {1: "height", 2: "width", 3: "depth"} if spatial else {1: "time", 2: "length"}
    if spatial and shape[2] is None and shape[3] is None:
        names = {2: "height", 3: "width"}
    for axis, length in enumerate(shape[1:], 1):
        found.append(length if length is not None else names.get(axis, f"axis_{axis}"))
    return tuple(found)


def add_input(model: Model, layer: Config, shape: object = None) -> list[Tensor]:
    """An input of the model, from its InputLayer.

    Args:
        model: being read.
        layer: the InputLayer.
        shape: of its values, where the layer does not state it.
    """
    where, problems = where_of(layer), model.reading.problems
    config: Config = field(layer, "config", Mapping, where)
    check_options(config, {**INPUT, "dtype": Option()}, where, problems)
    word = str(plain(config.get("dtype") or "float32"))
    kind = next((_KINDS[start] for start in _KINDS if word.startswith(start)), None)
    if kind is None:
        problems.append(Problem("dtype is not kept exactly", where, "numbers or truth values", word, "give numbers"))
    stated = input_shape(layer) or shape
    if not isinstance(stated, (list, tuple)) or not all(one is None or isinstance(one, int) for one in stated):
        problems.append(
            Problem(
                "the shape of the inputs is not known",
                where,
                "a shape",
                shown(stated),
                "build the model with keras.Input",
            )
        )
        stated = [None, None]
    return [Tensor(model.build.input(name_of(layer), words_of(stated), kind or "float32"))]


__all__ = ["add_input", "words_of"]
