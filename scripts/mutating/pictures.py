"""A convolution over pictures, pooling, columns that become steps, a recurrent layer and a dense one: recognizers of text, small."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from mutating.cells import Array
from mutating.models import Options, Recipe, keras_layer, random_cells, torch_layer
from mutating.ports import FROM_KERAS, Change, Plan, Port, array, option, put

HEIGHT, LENGTH, COLOURS, WIDTH, CLASSES = 8, 10, 3, 6, 5


def right_plan(recipe: Recipe, **options: Any) -> Plan:
    """Weights that all show, and plain options."""
    random = np.random.default_rng([recipe.seed, 12])
    given = {
        "pads": (1, 1, 1, 1),
        "strides": (1, 1),
        "dilations": (1, 1),
        "pool": "max",
        "columns": "transposed, channels last",
        "tail": "steps",
        "flat": "steps first",
        "width": WIDTH,
        "last": "softmax",
        **options,
    }

    def drawn(*shape: int) -> Array:
        return random.uniform(-0.9, 0.9, shape).astype(np.float32)

    width = given["width"]
    rows = recipe.units * (_steps(given) if given["tail"] == "flat" else 1)
    arrays = {
        "conv.kernel": drawn(3, 3, COLOURS, width),
        "conv.bias": drawn(width),
        "head.kernel": drawn(rows, CLASSES),
        "head.bias": drawn(CLASSES),
    }
    return Plan(given, arrays)


def _steps(options: dict[str, Any]) -> int:
    return -(-LENGTH // int(options["strides"][1]))


def _features(plan: Plan) -> int:
    return -(-HEIGHT // int(plan["strides"][0])) // 2 * int(plan["width"])


def _cells(recipe: Recipe, plan: Plan) -> Any:
    return random_cells(replace(recipe, features=_features(plan)))


def in_torch(recipe: Recipe, plan: Plan) -> Any:
    """The model as a person writes it: of (batch, height, width, colours)."""
    import torch
    from torch.nn import functional

    class Picture(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(COLOURS, plan["width"], 3, plan["strides"], 0, plan["dilations"])
            self.pool = (torch.nn.MaxPool2d if plan["pool"] == "max" else torch.nn.AvgPool2d)((2, 1))
            self.rnn = torch_layer(recipe.kind, _cells(recipe, plan), Options())
            self.head = torch.nn.Linear(plan.arrays["head.kernel"].shape[0], CLASSES)

        def forward(self, x: Any) -> Any:
            top, bottom, left, right = plan["pads"]
            x = functional.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
            x = self.pool(torch.tanh(self.conv(x)))
            x = columns(x)
            x = self.rnn(x)[0]
            if plan["tail"] == "flat":
                x = (x if plan["flat"] == "steps first" else x.transpose(1, 2)).flatten(1)
            x = self.head(x)
            return torch.softmax(x, -1) if plan["last"] == "softmax" else torch.softmax(x, 1)

    def columns(x: Any) -> Any:
        """(batch, channels, height, width) to (batch, width, features)."""
        if plan["columns"] == "transposed, channels last":
            return x.permute(0, 3, 2, 1).flatten(2)
        if plan["columns"] == "transposed, channels first":
            return x.permute(0, 3, 1, 2).flatten(2)
        x = x.permute(0, 2, 3, 1)
        return x.reshape(len(x), x.shape[2], x.shape[1], x.shape[3]).flatten(2)

    module = Picture().eval()
    put(module.conv.weight, plan.arrays["conv.kernel"].transpose(3, 2, 0, 1))
    put(module.conv.bias, plan.arrays["conv.bias"])
    put(module.head.weight, plan.arrays["head.kernel"].T)
    put(module.head.bias, plan.arrays["head.bias"])
    return module


def in_keras(recipe: Recipe, plan: Plan) -> Any:
    """The same as a model of Keras."""
    import keras

    layers = keras.layers
    x = keras.Input((HEIGHT, LENGTH, COLOURS), name="x")
    top, bottom, left, right = plan["pads"]
    y = layers.ZeroPadding2D(((top, bottom), (left, right)), name="pad")(x)
    conv = layers.Conv2D(plan["width"], 3, plan["strides"], dilation_rate=plan["dilations"], name="conv")
    y = layers.Activation("tanh", name="tanh")(conv(y))
    y = (layers.MaxPooling2D if plan["pool"] == "max" else layers.AveragePooling2D)((2, 1), name="pool")(y)
    if plan["columns"] == "transposed, channels last":
        y = layers.Permute((2, 1, 3), name="turn")(y)
    elif plan["columns"] == "transposed, channels first":
        y = layers.Permute((2, 3, 1), name="turn")(y)
    y = layers.Reshape((y.shape[1] if "transposed" in plan["columns"] else y.shape[2], _features(plan)), name="flat")(y)
    y = keras_layer(recipe.kind, _cells(recipe, plan)[0], Options(), "rnn", return_state=False)(y)
    if plan["tail"] == "flat":
        y = y if plan["flat"] == "steps first" else layers.Permute((2, 1), name="back")(y)
        y = layers.Flatten(name="all")(y)
    head = layers.Dense(CLASSES, name="head")
    y = layers.Softmax(axis=-1 if plan["last"] == "softmax" else 1, name="softmax")(head(y))
    conv.set_weights([plan.arrays["conv.kernel"], plan.arrays["conv.bias"]])
    head.set_weights([plan.arrays["head.kernel"], plan.arrays["head.bias"]])
    return keras.Model(x, y, name="picture")


def _draw(recipe: Recipe, salt: int) -> Array:
    random = np.random.default_rng([recipe.seed, salt])
    return random.normal(size=(recipe.batch, HEIGHT, LENGTH, COLOURS)).astype(np.float32)


def _port(name: str, words: str, layer: str, change: Change, **more: Any) -> Port:
    engines = {"engines": more.pop("engines")} if "engines" in more else {}
    build = {"torch": in_torch, "keras": in_keras}
    return Port(name, words, layer, partial(right_plan, **more), change, build, _draw, **engines)


def _ports() -> Iterator[Port]:
    kernel = partial(array, "conv.kernel")
    yield _port("flatten order", "columns", "", option(columns="transposed, channels first"))
    yield _port("reshaped in place of transposed", "columns", "", option(columns="reshaped"))
    yield _port("flatten order", "steps before the dense layer", "", option(flat="features first"), tail="flat")
    yield _port("softmax axis", "steps", "", option(last="softmax over time"))
    yield _port("kernel flipped", "in both axes", "conv", kernel(lambda k: k[::-1, ::-1]))
    yield _port("kernel transposed", "height and width", "conv", kernel(lambda k: k.swapaxes(0, 1)))
    yield _port("kernel transposed", "channels of pictures", "conv", kernel(lambda k: k.swapaxes(2, 3)), width=COLOURS)
    yield _port("kernel reshaped", "of pictures", "conv", kernel(_torch_view))
    yield _port("kernel reshaped", "of pictures, back", "conv", kernel(_keras_view))
    yield _port("channels reversed", "BGR", "conv", kernel(lambda k: k[:, :, ::-1]))
    yield _port("bias dropped", "of pictures", "conv", array("conv.bias", np.zeros_like))
    yield _port("strides", "exchanged", "conv", option(strides=(2, 1)), strides=(1, 2), engines=())
    yield _port("padding", "none below", "conv", option(pads=(2, 0, 1, 1)), engines=())
    behind = (0, 1, 0, 1)
    yield _port(
        "padding", "half, pictures", "conv", option(pads=(1, 1, 1, 1)), pads=behind, strides=(2, 2), engines=FROM_KERAS
    )
    yield _port("padding", "behind", "conv", option(pads=(0, 2, 0, 2)))
    yield _port("padding", "before", "conv", option(pads=(2, 0, 2, 0)))
    yield _port("pooling function", "of pictures", "pool", option(pool="average"))
    yield _port(
        "dilations", "of pictures", "conv", option(dilations=(1, 1), pads=(1, 1, 1, 1)), dilations=(2, 2), pads=(2,) * 4
    )
    yield _port("another activation", "sigmoid for softmax", "", option(last="sigmoid"), engines=())


def _torch_view(kernel: Array) -> Array:
    return kernel.reshape([kernel.shape[axis] for axis in (3, 2, 0, 1)]).transpose(2, 3, 1, 0)


def _keras_view(kernel: Array) -> Array:
    return np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)).reshape(kernel.shape)


PICTURES: tuple[Port, ...] = tuple(one for one in _ports() if one.engines)
"""Mistakes with pictures and with axes that become one."""
