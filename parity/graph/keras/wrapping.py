"""`TimeDistributed`: a layer or a model for every step, with time as part of the batch.

Source: Keras 3 `TimeDistributed.call`, which hands step i of the mask to the layer's `call`.
"""

from __future__ import annotations

from collections.abc import Mapping

from parity.graph.graph import Wire
from parity.graph.keras.call import Call, Held, Kept, Outputs, Reader, Tensor, passed
from parity.graph.operations import Length
from parity.network.keras.calls import is_model
from parity.network.keras.chain import class_name_of, field, layers_in, name_of
from parity.network.keras.options import Config, Option, plain

_POINTWISE = ("Dense", "Dropout", "Activation", "LeakyReLU", "ELU", "ReLU", "ThresholdedReLU", "Rescaling", "Embedding", "Identity",
              "GaussianNoise", "GaussianDropout", "AlphaDropout")  # fmt: skip
"""Layers that treat every step by itself anyway."""

_LOOKING = ("Multiply", "Maximum", "Minimum", "MultiHeadAttention")
"""Layers that look at the masks of what they take without being handed them."""


def _each_step(call: Call) -> Outputs:
    layer: Config = field(call.config, "layer", Mapping, call.where)
    if class_name_of(layer) in _POINTWISE and not is_model(layer):
        return _inner(call, layer, Tensor(call.wire()))
    return _apart(call, layer)


def _apart(call: Call, layer: Config) -> Outputs:
    build, x, rank = call.build, call.wire(), call.rank()
    if rank < 3:
        raise call.refused("the layer gets too few axes", "(batch, time, ...)", f"{rank} axes")
    merged = build.reshape(x, [-1, *(Length(0, axis) for axis in range(2, rank))])
    mask = None
    if call.mask is not None:
        mask_rank = call.rank(call.mask)
        if mask_rank > 2:
            mask = build.reshape(call.mask, [-1, *(Length(0, axis) for axis in range(2, mask_rank))])
        elif _uses_mask(call, layer):
            got = "a mask of steps for a layer that takes one of its own"
            raise call.refused("a mask goes into the layer", "no mask before a TimeDistributed", got)
    (found,) = _wires(_inner(call, layer, Tensor(merged), mask))
    rest = call.rank(found) - 1
    after = [Length(0, 1 + axis) for axis in range(rest - 1)] + ([-1] if rest else [])
    return build.reshape(found, [Length(1, 0), Length(1, 1), *after], x, name=call.name)


def _uses_mask(call: Call, layer: Config) -> bool:
    """Whether what a layer or a model computes depends on the mask of what it takes."""
    if is_model(layer):
        return any(_uses_mask(call, one) for one in layers_in(layer["config"], name_of(layer)))
    class_name = class_name_of(layer)
    return class_name in _LOOKING or (call.model.takes_mask(layer) and class_name != "BatchNormalization")


def _wires(found: Outputs) -> list[Wire]:
    each = [found] if isinstance(found, (Wire, Tensor)) else list(found)
    return [one.wire if isinstance(one, Tensor) else one for one in each]


def _inner(call: Call, layer: Config, x: Tensor, mask: Wire | None = None) -> Outputs:
    """What the layer inside gives for a value."""
    stored = call.held.stored()
    weights = list(stored.values()) if isinstance(stored, Mapping) else list(stored)
    if is_model(layer):
        (found,) = call.model.inside(call, layer, weights, Tensor(x.wire, Kept(mask)))
        return Tensor(found.wire)
    own = call.once("inner", lambda: Held(layer, f"{call.held.path}/{name_of(layer)}", lambda: weights))
    merged = class_name_of(layer) in _POINTWISE
    name = call.name if merged else call.part(str(plain(layer["config"].get("name"))))
    named = {"mask": Tensor(mask)} if mask is not None and call.model.takes_mask(layer) else {}
    return [tensor.wire for tensor in call.model.call(own.layer, own.path, name, own.stored, [x], named, 1)]


READERS: dict[str, Reader] = {
    "TimeDistributed": Reader(
        _each_step, {"layer": Option()}, ("inputs", "training", "mask"), takes_mask=True, masks=passed
    )
}
"""The wrapper, by class."""
