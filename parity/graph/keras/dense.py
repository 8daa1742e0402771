"""Products with a matrix, and tables: `Dense`, `EinsumDense`, `Embedding`.

Source: Keras 3 `keras/src/layers/core/`; `_analyze_einsum_string` for the axes of an `EinsumDense`.
"""

from __future__ import annotations

import math
from string import ascii_letters
from typing import Any

import numpy as np

from parity.deferred import Array
from parity.graph.graph import Wire
from parity.graph.keras.activation import activated, function_name
from parity.graph.keras.call import Call, Outputs, Reader, Tensor, passed
from parity.graph.operations import Length
from parity.network import Dense, Embedding
from parity.network.activations import ACTIVATIONS
from parity.network.keras.options import Option

_INERT, _FLAG = Option(), Option((True, False))
_ADAPTED = {
    "lora_rank": Option((None,), "merge the LoRA matrices into the kernel, then save"),
    "lora_alpha": _INERT,
    "quantization_config": Option((None,), "convert the float32 model, quantize the result"),
    "gptq_unpacked_column_size": _INERT,
}


def whole_array(weight: Any) -> Array:
    """A weight in memory, wherever it stands."""
    found: Array = np.asarray(weight[()] if not isinstance(weight, np.ndarray) else weight)
    return found


def linear(call: Call, x: Wire, kernel: Any, bias: Any, key: str, name: str, activation: str = "linear") -> Wire:
    """A Dense of the layer, shared by its calls."""
    return call.build.call(call.once(key, lambda: Dense(call.build.unique(name), kernel, bias, activation)), x)


def _dense(call: Call) -> Outputs:
    units, has_bias = call.whole("units"), bool(call.config.get("use_bias", True))
    value = call.config.get("activation")
    function = function_name(call, value)
    kernel, *rest = call.weights(("kernel", (None, units)), *([("bias", (units,))] if has_bias else []))
    bias = rest[0] if rest else None
    if function in ACTIVATIONS:
        return linear(call, call.wire(), kernel, bias, "dense", call.name, function)
    logits = linear(call, call.wire(), kernel, bias, "dense", call.part("linear"))
    return activated(call, logits, value, call.name)


def _embedding(call: Call) -> Outputs:
    rows, features = call.whole("input_dim"), call.whole("output_dim")
    (table,) = call.weights(("embeddings", (rows, features)))
    mask_zero = bool(call.config.get("mask_zero"))
    operation = call.once("table", lambda: Embedding(call.build.unique(call.name), table, mask_zero))
    return call.build.call(operation, call.model.tokens(call.wire(), rows))


def _embedding_mask(call: Call, outputs: list[Tensor]) -> Any:  # noqa: ARG001  the signature all of them share
    if not call.config.get("mask_zero"):
        return None
    return call.model.masks.differs(call.wire(), 0, call.part("mask"))


def _einsum_dense(call: Call) -> Outputs:
    build, x = call.build, call.wire()
    shapes = call.weight_shapes()
    if not shapes:
        call.weights(("kernel", (None,)))
    has_bias = call.config.get("bias_axes") is not None
    kernel, *rest = call.weights(
        ("kernel", (None,) * len(shapes[0])), *([("bias", (None,) * len(shapes[-1]))] if has_bias else [])
    )
    taken, own, given = _letters(call, call.rank(), len(shapes[0]))
    summed = [letter for letter in taken if letter not in given]
    new = [letter for letter in given if letter not in taken]
    ends = taken[-len(summed) :] == "".join(summed) and given[-len(new) :] == "".join(new) if summed and new else False
    plain = ends and own == "".join(summed + new) and taken[: -len(summed)] == given[: -len(new)]
    bias = whole_array(rest[0]) if rest else None
    final = call.config.get("activation")
    name = call.name if function_name(call, final) == "linear" else call.part("linear")
    fits = bias is None or all(length == 1 for length in bias.shape[: -len(new)]) or bias.ndim <= len(new)
    if plain and fits:
        y = _as_dense(call, x, kernel, bias, len(summed), len(new), name)
    else:
        y = build.einsum(f"{taken},{own}->{given}", x, call.parameter("kernel", kernel), name=name)
        if bias is not None:
            y = build.add(y, call.parameter("bias", bias), name=name)
    return activated(call, y, final, call.name)


def _letters(call: Call, rank: int, kernel_rank: int) -> tuple[str, str, str]:
    """The equation's three words, an ellipsis written out."""
    equation = str(call.config.get("equation")).replace(" ", "")
    words = equation.replace("->", ",").split(",")
    if len(words) != 3 or equation.count("->") != 1:
        raise call.refused("an equation that is not read", "two inputs and an output", equation)
    if "..." in equation:
        free = [letter for letter in ascii_letters if letter not in equation]
        count = rank - len(words[0].replace("...", ""))
        words = [word.replace("...", "".join(free[:count])) for word in words]
    taken, own, given = words
    known = set(taken) | set(own)
    if len(taken) != rank or len(own) != kernel_rank or not set(given) <= known or not "".join(words).isalpha():
        raise call.refused("an equation that does not fit", f"{rank} axes and {kernel_rank} of the kernel", equation)
    return taken, own, given


def _as_dense(call: Call, x: Wire, kernel: Any, bias: Array | None, summed: int, new: int, name: str) -> Wire:
    """An einsum over the last axes as a Dense, with reshapes where there are several of them."""
    build, shape = call.build, tuple(kernel.shape)
    rank = call.rank()
    inner, outer = math.prod(shape[:summed]), math.prod(shape[summed:])
    if summed == new == 1:
        flat_bias = None if bias is None else bias.reshape(-1)
        flat_bias = np.broadcast_to(flat_bias, (outer,)).copy() if flat_bias is not None else None
        return linear(call, x, kernel, flat_bias, "dense", name)
    matrix = call.once("matrix", lambda: whole_array(kernel).reshape(inner, outer))
    row = None
    if bias is not None:
        short = bias.reshape(bias.shape[-new:]) if bias.ndim > new else bias
        row = np.broadcast_to(short, shape[summed:]).reshape(-1).copy()
    free = [Length(0, axis) for axis in range(rank - summed)]
    if summed > 1:
        x = build.reshape(x, [*free, inner])
    y = linear(call, x, matrix, row, "dense", name if new == 1 else call.part("linear"))
    return y if new == 1 else build.reshape(y, [*free, *shape[summed:]], name=name)


READERS: dict[str, Reader] = {
    "Dense": Reader(_dense, {"units": _INERT, "use_bias": _FLAG, "activation": _INERT, **_ADAPTED}, masks=passed),
    "EinsumDense": Reader(
        _einsum_dense,
        {"equation": _INERT, "output_shape": _INERT, "bias_axes": _INERT, "activation": _INERT, **_ADAPTED},
    ),
    "Embedding": Reader(
        _embedding,
        {
            **dict.fromkeys(("input_dim", "output_dim", "input_length"), _INERT),
            "mask_zero": _FLAG,
            **_ADAPTED,
        },
        masks=_embedding_mask,
    ),
}
"""The layers of this family, by class."""
