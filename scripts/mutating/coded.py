"""Recurrent models as people write them, a right one and one with a mistake in its code: what every kind of them shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from mutating.cells import Array, Cell, Cells
from mutating.injections import Expected, Wrong
from mutating.models import ORDERS, Options, Recipe, keras_layer, random_cells, torch_layer
from mutating.ports import LIVE, RECORDED, sequence
from mutating.whole import WholeSubject

CLASSES = 4
Draw: TypeAlias = Callable[[Recipe, int], Array]


@dataclass
class Parts:
    """What both models are made of.

    Args:
        recipe: kind, sizes and options.
        cells: weights of the recurrent layers.
        head: kernel (features, classes) and bias of the dense layer at the end.
        table: of an embedding, (tokens, features).
    """

    recipe: Recipe
    cells: Cells
    head: tuple[Array, Array]
    table: Array

    def keras(self, number: int = 0, way: int | None = None, **options: Any) -> Any:
        """A recurrent layer of Keras, of both directions or one alone; every step by default, without states."""
        cells = self.cells[number] if way is None else [self.cells[number][way]]
        name = f"rnn_{number}" if way is None else f"rnn_{number}_{way}"
        return keras_layer(self.recipe.kind, cells, self.recipe.options, name, **{"return_state": False, **options})

    def torch(self, number: int | None = None, way: int | None = None) -> Any:
        """A recurrent layer of torch: all layers, one of them, one direction of one."""
        cells = self.cells if number is None else [self.cells[number]]
        return torch_layer(self.recipe.kind, [[layer[way]] for layer in cells] if way is not None else cells, Options())

    def dense(self) -> Any:
        """The last layer, of Keras."""
        import keras

        layer = keras.layers.Dense(CLASSES, name="head")
        layer.build((None, len(self.head[0])))
        layer.set_weights(list(self.head))
        return layer

    def linear(self) -> Any:
        """The last layer, of torch."""
        import torch

        layer = torch.nn.Linear(*self.head[0].shape)
        layer.load_state_dict(
            {"weight": torch.from_numpy(self.head[0].T.copy()), "bias": torch.from_numpy(self.head[1])}
        )
        return layer

    def embedding(self, **options: Any) -> Any:
        """The table, in Keras."""
        import keras

        layer = keras.layers.Embedding(*self.table.shape, name="embedding", **options)
        layer.build((None, None))
        layer.set_weights([self.table])
        return layer

    def lookup(self) -> Any:
        """The table, in torch."""
        import torch

        embedding: Any = torch.nn.Embedding
        return embedding.from_pretrained(torch.from_numpy(self.table.copy()))


Make: TypeAlias = Callable[[Parts], Any]


@dataclass(frozen=True)
class Coded:
    """A right model and the same with one mistake in its code.

    Args:
        name: of the fault that has to be named.
        words: what is done, for the table.
        right, wrong: (framework, what makes the model) each.
        draw: inputs, from a recipe and a number.
        ways, layers: directions and layers.
        kinds: of the layers.
        width: features that the dense layer takes, in units; 0 for as many as there are directions.
        handed: how the suspect can be handed over: what it computed, or itself.
        direction: that has to be named, "" for any.
    """

    name: str
    words: str
    right: tuple[str, Make]
    wrong: tuple[str, Make]
    draw: Draw = sequence
    ways: int = 1
    layers: int = 1
    kinds: tuple[str, ...] = ("lstm", "gru", "rnn")
    width: int = 0
    handed: tuple[str, ...] = (RECORDED, LIVE)
    direction: str = ""

    @property
    def title(self) -> str:
        """The fault, how it is made, and the frameworks."""
        return f"{self.name}: {self.words}, {self.right[0]}>{self.wrong[0]}"

    def subject(self, recipe: Recipe) -> WholeSubject:
        """Both models with the same weights, and inputs."""
        recipe = replace(recipe, ways=self.ways, layers=self.layers)
        random = np.random.default_rng([recipe.seed, 5])
        size = recipe.units * (self.width or self.ways)

        def drawn(*shape: int) -> Array:
            return random.uniform(-0.9, 0.9, shape).astype(np.float32)

        parts = Parts(recipe, random_cells(recipe), (drawn(size, CLASSES), drawn(CLASSES)), drawn(6, recipe.features))
        expected = Expected(self.name, direction=self.direction)
        return WholeSubject(
            recipe,
            self.right[1](parts),
            self.wrong[1](parts),
            self.draw(recipe, 2),
            Wrong(parts.cells, recipe.options, (), (expected,)),
            draw=lambda: self.draw(recipe, 77),
        )


def in_torch(forward: Callable[..., Any], **layers: Callable[[Parts], Any]) -> tuple[str, Make]:
    """A module of torch whose `forward` is a function of it and of x."""

    def make(parts: Parts) -> Any:
        import torch

        class Model(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                for name, layer in layers.items():
                    setattr(self, name, layer(parts))
                self.head = parts.linear()

            def forward(self, x: Any) -> Any:
                return forward(self, x)

        return Model().eval()

    return "torch", make


def in_keras(call: Callable[[Parts, Any], Any], tokens: bool = False) -> tuple[str, Make]:
    """A functional model of Keras; the function makes everything before the last layer."""

    def make(parts: Parts) -> Any:
        import keras

        x = (
            keras.Input((None,), dtype="int32", name="x")
            if tokens
            else keras.Input((None, parts.recipe.features), name="x")
        )
        return keras.Model(x, parts.dense()(call(parts, x)), name="model")

    return "keras", make


def in_onnx(nodes: Callable[[Parts], tuple[list[Any], dict[str, Array]]], steps: bool) -> tuple[str, Make]:
    """A model of ONNX that takes X, (batch, time, features), and whose last layer takes the value "taken".

    Args:
        nodes: all before the last layer, and their arrays; the value "steps" is X with time first.
        steps: whether the model gives every step.
    """

    def make(parts: Parts) -> Any:
        from onnx import TensorProto, checker, helper, numpy_helper

        made, arrays = nodes(parts)
        arrays = {**arrays, "kernel": parts.head[0], "bias": parts.head[1]}
        every = [
            helper.make_node("Transpose", ["X"], ["steps"], perm=[1, 0, 2]),
            *made,
            helper.make_node("MatMul", ["taken", "kernel"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["Y"]),
        ]
        given = helper.make_tensor_value_info("X", TensorProto.FLOAT, ["batch", "time", parts.recipe.features])
        shape: list[Any] = ["batch", "time", CLASSES] if steps else ["batch", CLASSES]
        shown = helper.make_tensor_value_info("Y", TensorProto.FLOAT, shape)
        weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
        graph = helper.make_graph(every, "model", [given], [shown], weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        checker.check_model(model)
        return model

    return "onnxruntime", make


def onnx_node(
    parts: Parts, cells: list[Cell], value: str, name: str, direction: str, **more: Any
) -> tuple[Any, dict[str, Array]]:
    """A recurrent node that gives `name`_Y, `name`_H (and `name`_C), and its arrays."""
    from onnx import helper

    kind, order = parts.recipe.kind, ORDERS["onnxruntime"][parts.recipe.kind]
    arrays = {
        f"{name}_W": np.stack([_rows(cell.w, order) for cell in cells]),
        f"{name}_R": np.stack([_rows(cell.r, order) for cell in cells]),
        f"{name}_B": np.stack([np.concatenate([_rows(cell.b, order), _rows(cell.c, order)]) for cell in cells]),
    }
    if kind == "gru":
        more["linear_before_reset"] = int(parts.recipe.options.reset_after)
    outputs = [f"{name}_{one}" for one in ("YHC" if kind == "lstm" else "YH")]
    node = helper.make_node(
        kind.upper(), [value, *arrays], outputs, name=name, hidden_size=parts.recipe.units, direction=direction, **more
    )
    return node, arrays


def _rows(gates: dict[str, Array], order: str) -> Array:
    return np.concatenate([gates[gate] for gate in order])


__all__ = ["CLASSES", "Coded", "Draw", "Make", "Parts", "in_keras", "in_onnx", "in_torch", "onnx_node"]
