"""A convolution over time, pooling, a recurrent layer and a dense one, with other windows, kernels and options."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from mutating.cells import Array
from mutating.models import Options, Recipe, keras_layer, random_cells, torch_layer
from mutating.ports import (
    FROM_KERAS,
    FROM_TORCH,
    LIVE,
    RECORDED,
    Change,
    Plan,
    Port,
    array,
    every,
    option,
    put,
    sequence,
)

WIDTH, CLASSES, FEATURES = 6, 4, 4
LONG = 24


def right_plan(recipe: Recipe, size: int = 3, **options: Any) -> Plan:
    """Weights that all show, and plain options.

    Args:
        recipe: of the recurrent layer.
        size: of the window.
        options: other than the plain ones.
    """
    random = np.random.default_rng([recipe.seed, 11])
    given = {
        "pads": "same",
        "stride": 1,
        "dilation": 1,
        "groups": 1,
        "pool": "",
        "pool pads": 0,
        "counts": True,
        "width": WIDTH,
        "tail": "steps",
        **options,
    }

    def drawn(*shape: int) -> Array:
        return random.uniform(-0.9, 0.9, shape).astype(np.float32)

    width = given["width"]
    arrays = {
        "conv.kernel": drawn(size, FEATURES // given["groups"], width),
        "conv.bias": drawn(width),
        "head.kernel": drawn(recipe.units, CLASSES),
        "head.bias": drawn(CLASSES),
    }
    return Plan(given, arrays)


def same(plan: Plan, length: int) -> tuple[int, int]:
    """What "same" of Keras adds before and behind."""
    size, stride, dilation = len(plan.arrays["conv.kernel"]), plan["stride"], plan["dilation"]
    count = -(-length // stride)
    total = max(0, (count - 1) * stride + (size - 1) * dilation + 1 - length)
    return total // 2, total - total // 2


def pads_of(plan: Plan, length: int = LONG) -> tuple[int, int]:
    """What is added before and behind, in numbers."""
    reach = (len(plan.arrays["conv.kernel"]) - 1) * plan["dilation"]
    before, behind = same(plan, length)
    found: dict[str, tuple[int, int]] = {
        "same": (before, behind),
        "half": (reach // 2, reach // 2),
        "odd one before": (behind, before),
        "causal": (reach, 0),
        "behind": (0, reach),
        "none": (0, 0),
    }
    return found[plan["pads"]]


def _cells(recipe: Recipe, plan: Plan) -> Any:
    return random_cells(replace(recipe, features=plan["width"]))


def in_torch(recipe: Recipe, plan: Plan) -> Any:
    """The model as a person writes it."""
    import torch
    from torch.nn import functional

    size, taken, given = plan.arrays["conv.kernel"].shape
    pads = pads_of(plan)

    class Sound(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv1d(
                taken * plan["groups"], given, size, plan["stride"], 0, plan["dilation"], plan["groups"]
            )
            kind = {"max": torch.nn.MaxPool1d, "average": torch.nn.AvgPool1d}.get(plan["pool"])
            more = {"count_include_pad": plan["counts"]} if plan["pool"] == "average" else {}
            self.pool = torch.nn.Identity() if kind is None else kind(3, 2, plan["pool pads"], **more)
            self.rnn = torch_layer(recipe.kind, _cells(recipe, plan), Options())
            self.head = torch.nn.Linear(recipe.units, CLASSES)

        def forward(self, x: Any) -> Any:
            x = self.conv(functional.pad(x.transpose(1, 2), pads))
            x = self.pool(torch.tanh(x)).transpose(1, 2)
            y = self.rnn(x)[0]
            return self.head(y.mean(1) if plan["tail"] == "mean" else y)

    module = Sound().eval()
    put(module.conv.weight, plan.arrays["conv.kernel"].transpose(2, 1, 0))
    put(module.conv.bias, plan.arrays["conv.bias"])
    put(module.head.weight, plan.arrays["head.kernel"].T)
    put(module.head.bias, plan.arrays["head.bias"])
    return module


def in_keras(recipe: Recipe, plan: Plan) -> Any:
    """The same as a model of Keras; of a fixed length, or of any."""
    import keras

    size, _, given = plan.arrays["conv.kernel"].shape
    layers = keras.layers
    x = keras.Input((LONG if recipe.seed % 2 else None, FEATURES), name="x")
    plain = plan["pads"] in ("same", "causal")
    y = x if plain else layers.ZeroPadding1D(pads_of(plan), name="pad")(x)
    conv = layers.Conv1D(
        given,
        size,
        plan["stride"],
        plan["pads"] if plain else "valid",
        dilation_rate=plan["dilation"],
        groups=plan["groups"],
        activation="tanh",
        name="conv",
    )
    y = conv(y)
    if plan["pool"]:
        kind = layers.MaxPooling1D if plan["pool"] == "max" else layers.AveragePooling1D
        y = kind(3, 2, "same" if plan["pool pads"] else "valid", name="pool")(y)
    y = keras_layer(recipe.kind, _cells(recipe, plan)[0], Options(), "rnn", return_state=False)(y)
    y = layers.GlobalAveragePooling1D(name="mean")(y) if plan["tail"] == "mean" else y
    head = layers.Dense(CLASSES, name="head")
    y = head(y)
    conv.set_weights([plan.arrays["conv.kernel"], plan.arrays["conv.bias"]])
    head.set_weights([plan.arrays["head.kernel"], plan.arrays["head.bias"]])
    return keras.Model(x, y, name="sound")


def _draw(recipe: Recipe, salt: int) -> Array:
    return sequence(replace(recipe, features=FEATURES), salt, LONG)


def _port(name: str, words: str, layer: str, change: Change, size: int = 3, **more: Any) -> Port:
    engines = {"engines": more.pop("engines")} if "engines" in more else {}
    ways = more.pop("ways", (RECORDED, LIVE))
    build = {"torch": in_torch, "keras": in_keras}
    right = partial(right_plan, size=size, **more)
    return Port(name, words, layer, right, change, build, _draw, ways=ways, **engines)


def _torch_view(kernel: Array) -> Array:
    """torch's weight filled with the numbers of Keras's kernel in the order in which they lie."""
    return kernel.reshape(kernel.shape[2], kernel.shape[1], kernel.shape[0]).transpose(2, 1, 0)


def _keras_view(kernel: Array) -> Array:
    """Keras's kernel filled with the numbers of torch's weight in the order in which they lie."""
    return np.ascontiguousarray(kernel.transpose(2, 1, 0)).reshape(kernel.shape)


def _ports() -> Iterator[Port]:
    for size in (3, 5):
        # Of a length where half and the odd one before are one, a recording of a model of any length does not tell them apart.
        for engines, ways in ((FROM_KERAS, (RECORDED, LIVE)), (FROM_TORCH, (LIVE,))):
            words = f"half, window of {size}, stride 2, from {engines[0][0]}"
            yield _port("padding", words, "conv", option(pads="half"), size, stride=2, engines=engines, ways=ways)
    yield _port("padding", "the odd one before, window of 4", "conv", option(pads="odd one before"), 4)
    yield _port("padding", "causal for same", "conv", option(pads="causal"))
    yield _port("padding", "causal for same, dilated", "conv", option(pads="causal"), dilation=2)
    yield _port("padding", "same for causal", "conv", option(pads="half"), pads="causal")
    yield _port("padding", "behind for causal", "conv", option(pads="behind"), pads="causal")
    yield _port("padding", "same for causal, dilated", "conv", option(pads="half"), pads="causal", dilation=2)
    yield _port("padding", "none for same", "conv", option(pads="none"), tail="mean")
    yield _port("kernel flipped", "in time", "conv", array("conv.kernel", lambda k: k[::-1]))
    yield _port("kernel flipped", "in time, dilated", "conv", array("conv.kernel", lambda k: k[::-1]), dilation=2)
    yield _port("kernel flipped", "in groups", "conv", array("conv.kernel", lambda k: k[::-1]), groups=2, width=8)
    yield _port("kernel reshaped", "into torch's weight", "conv", array("conv.kernel", _torch_view))
    yield _port("kernel reshaped", "into Keras's kernel", "conv", array("conv.kernel", _keras_view))
    yield _port("kernel reshaped", "in groups", "conv", array("conv.kernel", _torch_view), groups=2, width=8)
    yield _port("kernel reshaped", "of single channels", "conv", array("conv.kernel", _torch_view), groups=4, width=8)
    yield _port(
        "kernel transposed",
        "channels of a convolution",
        "conv",
        array("conv.kernel", lambda k: k.swapaxes(1, 2)),
        width=FEATURES,
    )
    yield _port("channels reversed", "of a convolution", "conv", array("conv.kernel", lambda k: k[:, ::-1]))
    yield _port("bias dropped", "of a convolution", "conv", array("conv.bias", np.zeros_like))
    yield _port("strides", "lost", "conv", option(stride=1), stride=2, pads="none", tail="mean")
    yield _port("dilations", "lost, causal", "conv", option(dilation=1), dilation=2, pads="causal")
    yield _port("dilations", "lost, same", "conv", option(dilation=1), dilation=3)
    yield _port("pooling function", "average for max", "pool", option(pool="average"), pool="max")
    yield _port("pooling function", "max for average", "pool", option(pool="max"), pool="average")
    counted: dict[str, Any] = {"pool": "average", "pool pads": 1}
    both = (("torch", "torch"),)
    yield _port("padding in the mean", "not counted", "pool", option(counts=False), **counted, engines=both)
    yield _port("padding in the mean", "counted", "pool", option(counts=True), **counted, counts=False, engines=both)
    for groups in (2, 4):
        order = partial(_shuffled, groups=groups)
        both_arrays = every(array("conv.kernel", order), array("conv.bias", order))
        yield _port("groups in another order", f"{groups} groups", "conv", both_arrays, groups=groups, width=8)
        yield _port(
            "groups in another order",
            f"kernel of {groups} groups",
            "conv",
            array("conv.kernel", order),
            groups=groups,
            width=8,
        )


def _shuffled(numbers: Array, groups: int) -> Array:
    """The channels that are given, those of a group not side by side."""
    count = numbers.shape[-1]
    return numbers[..., np.arange(count).reshape(groups, -1).T.ravel()]


SOUNDS: tuple[Port, ...] = tuple(_ports())
"""Mistakes with convolutions and pooling over time."""
