"""The layers around recurrent ones with other options or weights: normalizations, dense layers, activations, ported from Keras to torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mutating.cells import Array
from mutating.models import Options, Recipe, keras_layer, random_cells, torch_layer

WIDTH, CLASSES = 6, 4


@dataclass(frozen=True)
class Around:
    """The weights and options of a model: a recurrent layer, a dense one, an activation, a normalization, another dense one, softmax.

    Args:
        norm: "batch" or "layer".
        epsilon: of it.
        activation: of the first dense layer.
        softmax: whether the second one has it.
        arrays: by name.
        training: whether the normalization is left in training mode, in torch.
    """

    norm: str
    epsilon: float
    activation: str
    softmax: bool = True
    arrays: dict[str, Array] = field(default_factory=dict)
    training: bool = False


Change = Callable[[Around], Around]


def random_around(recipe: Recipe, norm: str, activation: str, size: float = 1.0) -> Around:
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
        "sigmoid": torch.sigmoid,
        "hard_sigmoid": functional.hardsigmoid,
    }

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = torch_layer(recipe.kind, random_cells(recipe), Options())
            self.dense = torch.nn.Linear(recipe.units, WIDTH)
            batch = around.norm == "batch"
            self.norm: Any = (torch.nn.BatchNorm1d if batch else torch.nn.LayerNorm)(WIDTH, eps=around.epsilon)
            self.head = torch.nn.Linear(WIDTH, CLASSES)

        def forward(self, x: Any) -> Any:
            x = functions[around.activation](self.dense(self.rnn(x)[0]))
            x = self.norm(x.transpose(1, 2)).transpose(1, 2) if around.norm == "batch" else self.norm(x)
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


def in_keras(recipe: Recipe, around: Around) -> Any:
    """The same model as a chain of Keras."""
    import keras

    functions: dict[str, Any] = {"leaky 0.3": None, "leaky 0.01": None}
    arrays = around.arrays
    rnn = keras_layer(recipe.kind, random_cells(recipe)[0], Options(), "rnn", return_state=False)
    dense = keras.layers.Dense(WIDTH, activation=functions.get(around.activation, around.activation), name="dense")
    more = (
        [keras.layers.LeakyReLU(float(around.activation.split()[1]), name="leaky")]
        if "leaky" in around.activation
        else []
    )
    batch = around.norm == "batch"
    norm = (keras.layers.BatchNormalization if batch else keras.layers.LayerNormalization)(
        epsilon=around.epsilon, name="norm"
    )
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


@dataclass(frozen=True)
class AroundCase:
    """One mistake.

    Args:
        name: of the fault that has to be named.
        norm, activation: of the right model.
        change: makes it.
        change_in_torch: whether a model of torch alone can be made so.
    """

    name: str
    norm: str
    activation: str
    change: Change
    change_in_torch: bool = False


def _cases() -> Iterator[AroundCase]:
    for norm in ("batch", "layer"):
        for epsilon in (1e-5, 1e-6):
            yield AroundCase("epsilon", norm, "relu", _with(epsilon=epsilon))
        swapped = _arrays(lambda a: {"norm.gamma": a["norm.beta"], "norm.beta": a["norm.gamma"]})
        yield AroundCase("order of the weights", norm, "tanh", swapped)
        initial = _arrays(
            lambda a: {"norm.gamma": np.ones_like(a["norm.gamma"]), "norm.beta": np.zeros_like(a["norm.beta"])}
        )
        yield AroundCase("normalization not loaded", norm, "tanh", initial)
    yield AroundCase("training mode", "batch", "tanh", _with(training=True), True)
    yield AroundCase("activation lost", "layer", "tanh", _with(activation="linear"))
    yield AroundCase("activation lost", "layer", "relu", _with(softmax=False))
    yield AroundCase("another activation", "layer", "gelu", _with(activation="gelu tanh"), True)
    yield AroundCase("another activation", "layer", "leaky 0.3", _with(activation="leaky 0.01"))
    yield AroundCase("another activation", "batch", "hard_sigmoid", _with(activation="sigmoid"))
    none = _arrays(lambda a: {"dense.bias": np.zeros_like(a["dense.bias"])})
    yield AroundCase("bias dropped", "layer", "relu", none)
    turned = _arrays(lambda a: {"dense.kernel": a["dense.kernel"].T.reshape(a["dense.kernel"].shape)})
    yield AroundCase("kernel reshaped", "batch", "relu", turned)


AROUND: tuple[AroundCase, ...] = tuple(_cases())
"""Mistakes in the layers around recurrent ones."""
