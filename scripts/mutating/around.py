"""The layers around recurrent ones with other options or weights: normalizations, dense layers, activations, ported from Keras to torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from mutating.cells import Array
from mutating.models import Options, Recipe, keras_layer, random_cells, torch_layer
from mutating.ports import INTO_TORCH, RECORDED, Port, sequence

WIDTH, CLASSES = 6, 4


@dataclass(frozen=True)
class Around:
    """The weights and options of a model: a recurrent layer, a dense one, an activation, a normalization, another dense one, softmax.

    Args:
        norm: "batch", "layer" or "group".
        epsilon: of it.
        activation: of the first dense layer.
        softmax: whether the second one has it.
        arrays: by name.
        training: whether the normalization is left in training mode, in torch.
        groups: of a group normalization.
        by_hand: how it is written in torch, where it is no layer; "" for a layer.
    """

    norm: str
    epsilon: float
    activation: str
    softmax: bool = True
    arrays: dict[str, Array] = field(default_factory=dict)
    training: bool = False
    groups: int = 3
    by_hand: str = ""


Change = Callable[[Around], Around]


def random_around(recipe: Recipe, norm: str, activation: str, size: float = 1.0, positive: bool = False) -> Around:
    """Weights that all show; those before the normalization of a size at which epsilon does."""
    random = np.random.default_rng([recipe.seed, 8])

    def drawn(*shape: int) -> Array:
        return random.uniform(-0.9, 0.9, shape).astype(np.float32)

    arrays = {
        "dense.kernel": size * drawn(recipe.units, WIDTH),
        "dense.bias": size * drawn(WIDTH),
        "norm.gamma": drawn(WIDTH) + 1.5,
        "norm.beta": drawn(WIDTH),
        "norm.mean": size * drawn(WIDTH),
        "norm.variance": size * (np.abs(drawn(WIDTH)) * 0.2 + 0.05),
        "head.kernel": drawn(WIDTH, CLASSES),
        "head.bias": drawn(CLASSES),
    }
    if positive:
        arrays["norm.mean"] = np.abs(arrays["norm.mean"]) + np.float32(0.1)
    return Around(norm, 1e-3, activation, True, {name: array.astype(np.float32) for name, array in arrays.items()})


def in_torch(recipe: Recipe, around: Around) -> Any:
    """The model as a person writes it."""
    import torch
    from torch.nn import functional

    arrays = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in around.arrays.items()}
    functions: dict[str, Callable[[Any], Any]] = {
        "relu": torch.relu,
        "tanh": torch.tanh,
        "linear": lambda x: x,
        "gelu": functional.gelu,
        "gelu tanh": lambda x: functional.gelu(x, approximate="tanh"),
        "leaky 0.3": lambda x: functional.leaky_relu(x, 0.3),
        "leaky 0.01": lambda x: functional.leaky_relu(x, 0.01),
        "leaky 0.123": lambda x: functional.leaky_relu(x, 0.123),
        "sigmoid": torch.sigmoid,
        "hard_sigmoid": functional.hardsigmoid,
    }

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = torch_layer(recipe.kind, random_cells(recipe), Options())
            self.dense = torch.nn.Linear(recipe.units, WIDTH)
            batch = around.norm == "batch"
            kind = torch.nn.BatchNorm1d if batch else torch.nn.LayerNorm
            self.norm: Any = kind(WIDTH, eps=around.epsilon)
            if around.norm == "group":
                self.norm = torch.nn.GroupNorm(around.groups, WIDTH, eps=around.epsilon)
            self.head = torch.nn.Linear(WIDTH, CLASSES)

        def forward(self, x: Any) -> Any:
            x = functions[around.activation](self.dense(self.rnn(x)[0]))
            if around.by_hand:
                x = _by_hand(around.by_hand, self.norm, x)
            elif around.norm == "layer":
                x = self.norm(x)
            else:
                x = self.norm(x.transpose(1, 2)).transpose(1, 2)
            x = self.head(x)
            return torch.softmax(x, dim=-1) if around.softmax else x

    module = Model().eval()
    with torch.no_grad():
        for name in ("dense", "head"):
            getattr(module, name).weight.copy_(arrays[f"{name}.kernel"].T)
            getattr(module, name).bias.copy_(arrays[f"{name}.bias"])
        module.norm.weight.copy_(arrays["norm.gamma"])
        module.norm.bias.copy_(arrays["norm.beta"])
        if around.norm == "batch":
            module.norm.running_mean.copy_(arrays["norm.mean"])
            module.norm.running_var.copy_(arrays["norm.variance"])
    module.norm.train(around.training)
    return module


def _by_hand(kind: str, norm: Any, x: Any) -> Any:
    """A normalization as people write it, with one mistake."""
    import torch

    if kind == "nothing":
        return x
    if isinstance(norm, torch.nn.BatchNorm1d):
        assert norm.running_var is not None
        spread = norm.running_var + norm.eps if kind == "no root" else norm.running_var.sqrt() + norm.eps
        return (x - norm.running_mean) / spread * norm.weight + norm.bias
    axes = {"over time": (1,), "over both": (1, 2)}.get(kind, (-1,))
    mean = 0.0 if kind == "mean square" else x.mean(axes, keepdim=True)
    count = x.shape[-1] - 1 if "unbiased" in kind else None
    squares = (x - mean) ** 2
    variance = squares.mean(axes, keepdim=True) if count is None else squares.sum(axes, keepdim=True) / count
    spread = variance.sqrt() + norm.eps if "outside" in kind else (variance + norm.eps).sqrt()
    return (x - mean) / spread * norm.weight + norm.bias


def in_keras(recipe: Recipe, around: Around) -> Any:
    """The same model as a chain of Keras."""
    import keras

    functions: dict[str, Any] = {"leaky 0.3": None, "leaky 0.01": None, "leaky 0.123": None}
    arrays = around.arrays
    rnn = keras_layer(recipe.kind, random_cells(recipe)[0], Options(), "rnn", return_state=False)
    dense = keras.layers.Dense(WIDTH, activation=functions.get(around.activation, around.activation), name="dense")
    more = (
        [keras.layers.LeakyReLU(float(around.activation.split()[1]), name="leaky")]
        if "leaky" in around.activation
        else []
    )
    batch = around.norm == "batch"
    more_options = {"groups": around.groups} if around.norm == "group" else {}
    norm = {
        "batch": keras.layers.BatchNormalization,
        "layer": keras.layers.LayerNormalization,
        "group": keras.layers.GroupNormalization,
    }[around.norm](epsilon=around.epsilon, name="norm", **more_options)
    head = keras.layers.Dense(CLASSES, activation="softmax" if around.softmax else None, name="head")
    model = keras.Sequential([keras.Input((None, recipe.features)), rnn, dense, *more, norm, head], name="model")
    dense.set_weights([arrays["dense.kernel"], arrays["dense.bias"]])
    head.set_weights([arrays["head.kernel"], arrays["head.bias"]])
    names = ("gamma", "beta", "mean", "variance") if batch else ("gamma", "beta")
    norm.set_weights([arrays[f"norm.{name}"] for name in names])
    return model


def _with(**changes: Any) -> Change:
    return lambda around: replace(around, **changes)


def _arrays(change: Callable[[dict[str, Array]], dict[str, Array]]) -> Change:
    return lambda around: replace(around, arrays={**around.arrays, **change(around.arrays)})


def _port(name: str, norm: str, activation: str, change: Change, words: str, layer: str = "norm", **more: Any) -> Port:
    given = {one: more.pop(one) for one in ("size", "positive") if one in more}
    right = partial(random_around, norm=norm, activation=activation, **given)
    return Port(name, f"{norm}, {words}", layer, right, change, {"torch": in_torch, "keras": in_keras}, _draw, **more)


def _draw(recipe: Recipe, salt: int) -> Array:
    return sequence(recipe, salt)


def _made_anew(names: tuple[str, ...], arrays: dict[str, Array]) -> dict[str, Array]:
    return {f"norm.{one}": _fresh(one, arrays[f"norm.{one}"]) for one in names}


def _norms() -> Iterator[Port]:
    for norm in ("batch", "layer", "group"):
        for epsilon in (1e-5, 1e-6, 0.0123):
            yield _port("epsilon", norm, "relu", _with(epsilon=epsilon), f"{epsilon:g}", size=0.02)
        swapped = _arrays(lambda a: {"norm.gamma": a["norm.beta"], "norm.beta": a["norm.gamma"]})
        yield _port("order of the weights", norm, "tanh", swapped, "gamma and beta")
        for names in (("gamma", "beta"), ("gamma",), ("beta",)):
            initial = _arrays(partial(_made_anew, names))
            yield _port("normalization not loaded", norm, "tanh", initial, " and ".join(names))
        yield _port("normalization left out", norm, "tanh", _with(by_hand="nothing"), "nothing", engines=INTO_TORCH)
    statistics = _arrays(partial(_made_anew, ("mean", "variance")))
    yield _port("normalization not loaded", "batch", "tanh", statistics, "statistics")
    exchanged = _arrays(lambda a: {"norm.mean": a["norm.variance"], "norm.variance": a["norm.mean"]})
    yield _port("order of the weights", "batch", "tanh", exchanged, "mean and variance", positive=True)
    yield _port(
        "training mode", "batch", "tanh", _with(training=True), "training", engines=INTO_TORCH, ways=(RECORDED,)
    )
    root = _arrays(lambda a: {"norm.variance": np.sqrt(a["norm.variance"])})
    yield _port("standard deviation for variance", "batch", "tanh", root, "loaded")
    for name, by_hand in (
        ("standard deviation for variance", "no root"),
        ("epsilon outside", "outside"),
    ):
        yield _port(name, "batch", "relu", _with(by_hand=by_hand), by_hand, engines=INTO_TORCH, size=0.05)
    for name, by_hand in (
        ("epsilon outside", "outside"),
        ("unbiased variance", "unbiased"),
        ("unbiased variance", "unbiased, outside"),
        ("mean left out", "mean square"),
        ("normalized axis", "over time"),
        ("normalized axis", "over both"),
    ):
        yield _port(name, "layer", "relu", _with(by_hand=by_hand), by_hand, engines=INTO_TORCH, size=0.3)
    yield _port("groups", "group", "tanh", _with(groups=2), "2 for 3")
    yield _port("groups", "group", "tanh", _with(groups=1), "1 for 3")


def _fresh(name: str, numbers: Array) -> Array:
    return np.full_like(numbers, 1.0 if name in ("gamma", "variance") else 0.0)


def _dense() -> Iterator[Port]:
    yield _port("activation lost", "layer", "tanh", _with(activation="linear"), "tanh", "")
    yield _port("activation lost", "layer", "relu", _with(softmax=False), "softmax", "")
    tanh = _with(activation="gelu tanh")
    yield _port("another activation", "layer", "gelu", tanh, "gelu by tanh", "", engines=INTO_TORCH)
    yield _port("another activation", "layer", "leaky 0.3", _with(activation="leaky 0.01"), "slope 0.01", "")
    yield _port("another activation", "layer", "leaky 0.3", _with(activation="leaky 0.123"), "slope 0.123", "")
    yield _port("another activation", "batch", "hard_sigmoid", _with(activation="sigmoid"), "sigmoid", "")
    none = _arrays(lambda a: {"dense.bias": np.zeros_like(a["dense.bias"])})
    yield _port("bias dropped", "layer", "relu", none, "dense", "dense")
    turned = _arrays(lambda a: {"dense.kernel": a["dense.kernel"].T.reshape(a["dense.kernel"].shape)})
    yield _port("kernel reshaped", "batch", "relu", turned, "dense", "dense")


NORMS: tuple[Port, ...] = (*_norms(), *_dense())
"""Mistakes in normalizations, and in the layers beside them."""
