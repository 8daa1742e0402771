"""Models whose numbers went through a shorter format: weights alone, inputs alone, every operation, what products of matrices take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mutating.cells import Array, Cell, Gates
from mutating.models import Options, Recipe, keras_layer, random_cells, torch_layer
from mutating.ports import BETWEEN, INTO_TORCH, RECORDED, Change, Plan, Port, option, put, sequence

CLASSES = 7
"""More than the units of the recurrent layer: then the outputs tell what the dense layer takes."""
INTO_KERAS = (("torch", "keras"), ("keras", "keras"))


def right_plan(recipe: Recipe) -> Plan:
    """Weights of the dense layer, and float32 everywhere."""
    random = np.random.default_rng([recipe.seed, 14])
    arrays = {
        "head.kernel": random.uniform(-0.9, 0.9, (recipe.units, CLASSES)).astype(np.float32),
        "head.bias": random.uniform(-0.9, 0.9, CLASSES).astype(np.float32),
    }
    options = {"weights": "", "in": ("rnn", "head"), "inputs": "", "computes": "", "head": "", "policy": "", "auto": ""}
    return Plan(options, arrays)


def in_torch(recipe: Recipe, plan: Plan) -> Any:
    """A module that computes as the plan says."""
    import torch

    cells = random_cells(recipe)
    inside = getattr(torch, plan["computes"]) if plan["computes"] else torch.float32
    head = getattr(torch, plan["head"]) if plan["head"] else torch.float32

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = torch_layer(recipe.kind, cells, Options())
            self.head = torch.nn.Linear(recipe.units, CLASSES)

        def forward(self, x: Any) -> Any:
            x = x.to(getattr(torch, plan["inputs"])).float() if plan["inputs"] else x
            if plan["auto"]:
                with torch.autocast("cpu", dtype=getattr(torch, plan["auto"])):
                    return self.head(self.rnn(x)[0]).float()
            y = self.rnn(x.to(inside))[0]
            return self.head(y.to(head)).float()

    module = Model().eval()
    put(module.head.weight, plan.arrays["head.kernel"].T)
    put(module.head.bias, plan.arrays["head.bias"])
    if plan["weights"]:
        for name in plan["in"]:
            getattr(module, name).to(getattr(torch, plan["weights"])).float()
    module.rnn.to(inside)
    module.head.to(head)
    return module


def in_keras(recipe: Recipe, plan: Plan) -> Any:
    """A model of Keras that computes as the plan says."""
    import keras

    inside = plan["policy"] or plan["computes"] or "float32"
    behind = plan["head"] or ("float32" if plan["computes"] else inside)
    x = keras.Input((None, recipe.features), name="x")
    y = keras.ops.cast(keras.ops.cast(x, plan["inputs"]), "float32") if plan["inputs"] else x
    # Orthogonal matrices, the default, are not made in bfloat16.
    given = {"return_state": False, "dtype": inside, "recurrent_initializer": "glorot_uniform"}
    rnn = keras_layer(recipe.kind, random_cells(recipe)[0], Options(), "rnn", **given)
    head = keras.layers.Dense(CLASSES, name="head", dtype=behind)
    y = head(rnn(y))
    head.set_weights([plan.arrays["head.kernel"], plan.arrays["head.bias"]])
    y = y if str(y.dtype) == "float32" else keras.layers.Activation("linear", dtype="float32", name="shown")(y)
    layers = {"rnn": rnn, "head": head}
    for name in plan["in"] if plan["weights"] else ():
        layers[name].set_weights([_numbers_through(one, plan["weights"]) for one in layers[name].get_weights()])
    return keras.Model(x, y, name="model")


def _numbers_through(numbers: Array, kind: str) -> Array:
    import ml_dtypes

    short: Any = np.float16 if kind == "float16" else ml_dtypes.bfloat16
    return np.asarray(numbers, np.float32).astype(short).astype(np.float32)


class Multiplied:
    """A model in NumPy whose products of matrices take numbers with a significand of 10 bits, as tensor cores do."""

    def __init__(self, recipe: Recipe, plan: Plan) -> None:
        self._kind, self._cell = recipe.kind, random_cells(recipe)[0][0]
        self._plan, self._units = plan, recipe.units

    def __call__(self, x: Array) -> Array:
        """Of (batch, time, features) (batch, time, classes), in float32."""
        h = np.zeros((len(x), self._units), np.float32)
        c, found = h, []
        for t in range(x.shape[1]):
            h, c = _step(self._kind, self._cell, x[:, t], h, c)
            found.append(_times(h, self._plan.arrays["head.kernel"]) + self._plan.arrays["head.bias"])
        return np.stack(found, axis=1)


def _times(x: Array, matrix: Array) -> Array:
    return _short(x) @ _short(matrix)


def _short(numbers: Array) -> Array:
    """float32 to 10 bits behind the point, to the nearest, ties to even: 13 bits are cut off."""
    bits = np.ascontiguousarray(numbers, np.float32).view(np.uint32)
    even = (bits >> np.uint32(13)) & np.uint32(1)
    found = (bits + np.uint32(0xFFF) + even) & np.uint32(0xFFFFE000)
    return found.view(np.float32)


def _sigmoid(x: Array) -> Array:
    return (1 / (1 + np.exp(-x))).astype(np.float32)


def _step(kind: str, cell: Cell, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    """One step: the gates by their letters (i input, f forget, g candidate, o output; r reset, z update, n candidate)."""
    given: Gates = {gate: _times(x, cell.w[gate].T) + cell.b[gate] for gate in cell.w}
    kept: Gates = {gate: _times(h, cell.r[gate].T) + cell.c[gate] for gate in cell.r}
    if kind == "rnn":
        return np.tanh(given["n"] + kept["n"]), c
    if kind == "gru":
        r, z = (_sigmoid(given[gate] + kept[gate]) for gate in "rz")
        n = np.tanh(given["n"] + r * kept["n"])
        return (1 - z) * n + z * h, c
    i, f, o = (_sigmoid(given[gate] + kept[gate]) for gate in "ifo")
    c = f * c + i * np.tanh(given["g"] + kept["g"])
    return o * np.tanh(c), c


def _multiplied(recipe: Recipe, plan: Plan) -> Any:
    """The right model, or where the plan says so one that multiplies coarsely."""
    return Multiplied(recipe, plan) if plan["computes"] == "TF32" else in_torch(recipe, plan)


def _port(name: str, words: str, layer: str, change: Change, **more: Any) -> Port:
    # A model that is exported to ONNX computes in float32 again.
    more.setdefault("engines", BETWEEN if name == "weights rounded" else BETWEEN[:4])
    torch_build: Callable[[Recipe, Plan], Any] = more.pop("torch", in_torch)
    return Port(name, words, layer, right_plan, change, {"torch": torch_build, "keras": in_keras}, sequence, **more)


def _ports() -> Iterator[Port]:
    for kind in ("float16", "bfloat16"):
        yield _port("weights rounded", kind, "", option(weights=kind))
        for layer in ("rnn", "head"):
            yield _port("weights rounded", f"{kind}, {layer}", layer, option(**{"weights": kind, "in": (layer,)}))
        yield _port("inputs rounded", kind, "", option(inputs=kind), ways=(RECORDED,))
        yield _port("precision", f"{kind} throughout", "", option(computes=kind, head=kind), ways=(RECORDED,))
        yield _port("precision", f"{kind}, the head in float32", "", option(computes=kind), ways=(RECORDED,))
        yield _port(
            "precision", f"mixed_{kind}", "", option(policy=f"mixed_{kind}"), engines=INTO_KERAS, ways=(RECORDED,)
        )
        yield _port(
            "precision",
            f"mixed_{kind}, the head in float32",
            "",
            option(policy=f"mixed_{kind}", head="float32"),
            engines=INTO_KERAS,
            ways=(RECORDED,),
        )
    yield _port("precision", "autocast", "", option(auto="bfloat16"), engines=INTO_TORCH)
    yield _port(
        "precision", "TF32", "", option(computes="TF32"), engines=INTO_TORCH, torch=_multiplied, ways=(RECORDED,)
    )


PRECISE: tuple[Port, ...] = tuple(_ports())
"""Shorter formats."""
