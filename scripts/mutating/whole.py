"""Whole models in people's own code: a recurrent layer, what the code takes of it, and a dense layer; in torch and in Keras."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mutating.cells import Array, Cells
from mutating.injections import Expected, States, Wrong
from mutating.models import Options, Recipe, keras_layer, random_cells, random_run, torch_layer
from mutating.ports import Port

CLASSES = 4
Code = Callable[..., Any]


@dataclass(frozen=True)
class Whole:
    """A right model and a wrong one.

    Args:
        name: of the fault that has to be named.
        right, wrong: the code behind the recurrent layer, (framework, function) each.
        ways: directions of the layer.
        width: features that the dense layer takes, in units.
        kinds: of the layer.
        options: for the layer of Keras: of the right model, of the wrong one.
        middle: layers of both frameworks between the recurrent and the dense one, of the right model and of the wrong one.
    """

    name: str
    right: tuple[str, Code]
    wrong: tuple[str, Code]
    ways: int = 1
    width: int = 1
    kinds: tuple[str, ...] = ("lstm", "gru", "rnn")
    options: tuple[dict[str, Any], dict[str, Any]] = field(default_factory=lambda: ({}, {}))

    @property
    def title(self) -> str:
        """The fault and the frameworks."""
        return f"{self.name}: {self.right[0]}>{self.wrong[0]} {self.wrong[1].__name__.strip('_')}"


@dataclass
class WholeSubject:
    """A right model and a wrong one, and inputs; see `mutating.injections.Subject`."""

    recipe: Recipe
    reference: Any
    suspect: Any
    x: Array
    wrong: Wrong
    states: States = None
    live: bool = True
    draw: Callable[[], Array] | None = None

    def unseen(self) -> tuple[Array, States]:
        """Other inputs; as long as these where the model is made for a length."""
        if self.draw is not None:
            return self.draw(), None
        return random_run(self.recipe, salt=77, time=self.recipe.time + 4)

    def recorded(self, x: Array, states: States) -> list[Array]:
        """What the wrong model gives."""
        import torch

        if self.recipe.engine == "onnxruntime":
            import onnxruntime

            session = onnxruntime.InferenceSession(self.suspect.SerializeToString(), providers=["CPUExecutionProvider"])
            (given,) = session.get_inputs()
            return list(session.run(None, {given.name: x.astype("int64") if given.type == "tensor(int64)" else x}))
        if isinstance(self.suspect, torch.nn.Module):
            with torch.no_grad():
                found = self.suspect(torch.from_numpy(x)).numpy()
        else:
            found = np.asarray(self.suspect(x))
        return [found]


def whole_subject(recipe: Recipe, case: Whole) -> WholeSubject:
    """Both models of a case with the same weights."""
    cells = random_cells(recipe)
    random = np.random.default_rng([recipe.seed, 5])
    size = recipe.units * case.width
    head = [
        random.uniform(-0.9, 0.9, (size, CLASSES)).astype(np.float32),
        random.uniform(-0.9, 0.9, CLASSES).astype(np.float32),
    ]
    reference = _built(case.right, recipe, cells, head, case.options[0])
    suspect = _built(case.wrong, recipe, cells, head, case.options[1])
    x, _ = random_run(recipe)
    return WholeSubject(recipe, reference, suspect, x, Wrong(cells, Options(), (), (Expected(case.name),)))


def around_subject(recipe: Recipe, case: Port) -> WholeSubject:
    """A right model, and the same with one mistake in the same or another framework."""
    right = case.right(recipe)
    # A model for ONNX Runtime is exported from one of torch.
    engine = "torch" if recipe.engine == "onnxruntime" else recipe.engine
    reference = case.build[recipe.reference](recipe, right)
    suspect = case.build[engine](recipe, case.change(right))
    x = case.draw(recipe, 2)
    if recipe.engine == "onnxruntime":
        import parity

        suspect = parity.to_onnx(suspect, inputs=x)
    wrong = Wrong([], Options(), (), (Expected(case.name, layer=case.layer),))
    return WholeSubject(recipe, reference, suspect, x, wrong, draw=lambda: case.draw(recipe, 77))


def _built(code: tuple[str, Code], recipe: Recipe, cells: Cells, head: list[Array], options: dict[str, Any]) -> Any:
    framework, function = code
    make = coded if framework == "torch" else functional
    return make(function, recipe, cells, head, **options)


def coded(function: Code, recipe: Recipe, cells: Cells, head: list[Array]) -> Any:
    """A module of torch whose `forward` is the function."""
    import torch

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = torch_layer(recipe.kind, cells, Options())
            self.head = torch.nn.Linear(*head[0].shape)

        def forward(self, x: Any) -> Any:
            return function(self, x)

    module = Model().eval()
    with torch.no_grad():
        module.head.weight.copy_(torch.from_numpy(head[0].T.copy()))
        module.head.bias.copy_(torch.from_numpy(head[1]))
    return module


def functional(function: Code, recipe: Recipe, cells: Cells, head: list[Array], **options: Any) -> Any:
    """A functional model of Keras whose layers the function calls."""
    import keras

    given = {"return_state": False, **options}
    rnn = keras_layer(recipe.kind, cells[0], Options(), "rnn", **given)
    dense = keras.layers.Dense(head[0].shape[1], name="head")
    dense.build((None, head[0].shape[0]))
    dense.set_weights(head)
    x = keras.Input((None, recipe.features), name="x")
    return keras.Model(x, function(rnn, dense, x), name="model")


# ---- torch


def _h(states: Any) -> Any:
    return states[0] if isinstance(states, tuple) else states


def _steps(model: Any, x: Any) -> Any:
    return model.head(model.rnn(x)[0])


def _turned_in(model: Any, x: Any) -> Any:
    return model.head(model.rnn(x.flip(1))[0])


def _turned_out(model: Any, x: Any) -> Any:
    return model.head(model.rnn(x)[0].flip(1))


def _turned_both(model: Any, x: Any) -> Any:
    return model.head(model.rnn(x.flip(1))[0].flip(1))


def _features_turned(model: Any, x: Any) -> Any:
    return model.head(model.rnn(x.flip(-1))[0])


def _time_first(model: Any, x: Any) -> Any:
    return model.head(model.rnn(x.transpose(0, 1))[0].transpose(0, 1))


def _back_half_turned(model: Any, x: Any) -> Any:
    import torch

    ahead, back = model.rnn(x)[0].chunk(2, dim=-1)
    return model.head(torch.cat([ahead, back.flip(1)], dim=-1))


def _ends(model: Any, x: Any) -> Any:
    import torch

    h = _h(model.rnn(x)[1])
    return model.head(torch.cat([h[0], h[1]], dim=-1))


def _ends_swapped(model: Any, x: Any) -> Any:
    import torch

    h = _h(model.rnn(x)[1])
    return model.head(torch.cat([h[1], h[0]], dim=-1))


def _ends_viewed(model: Any, x: Any) -> Any:
    return model.head(_h(model.rnn(x)[1]).reshape(x.shape[0], -1))


def _last_output(model: Any, x: Any) -> Any:
    return model.head(model.rnn(x)[0][:, -1])


def _first_output(model: Any, x: Any) -> Any:
    return model.head(model.rnn(x)[0][:, 0])


def _end(model: Any, x: Any) -> Any:
    return model.head(_h(model.rnn(x)[1])[0])


def _end_of_cell(model: Any, x: Any) -> Any:
    return model.head(model.rnn(x)[1][1][0])


def _summed(model: Any, x: Any) -> Any:
    ahead, back = model.rnn(x)[0].chunk(2, dim=-1)
    return model.head(ahead + back)


def _multiplied(model: Any, x: Any) -> Any:
    ahead, back = model.rnn(x)[0].chunk(2, dim=-1)
    return model.head(ahead * back)


def _averaged(model: Any, x: Any) -> Any:
    ahead, back = model.rnn(x)[0].chunk(2, dim=-1)
    return model.head((ahead + back) / 2)


# ---- Keras


def _layers(rnn: Any, dense: Any, x: Any) -> Any:
    return dense(rnn(x))


def _last_step(rnn: Any, dense: Any, x: Any) -> Any:
    return dense(rnn(x)[:, -1])


def _flipped_in(rnn: Any, dense: Any, x: Any) -> Any:
    import keras

    return dense(rnn(keras.ops.flip(x, axis=1)))


def _flipped_out(rnn: Any, dense: Any, x: Any) -> Any:
    import keras

    return dense(keras.ops.flip(rnn(x), axis=1))


def _cases() -> Iterator[Whole]:
    torch = "torch"
    for name, wrong in (
        ("reversed in time", _turned_in),
        ("steps not turned back", _turned_out),
        ("other direction", _turned_both),
        ("features reversed", _features_turned),
        ("batch and time exchanged", _time_first),
    ):
        yield Whole(name, (torch, _steps), (torch, wrong))
        yield Whole(name, ("keras", _layers), (torch, wrong))
    for name, wrong in (
        ("reversed in time", _turned_in),
        ("steps not turned back", _turned_out),
        ("steps not turned back", _back_half_turned),
        ("batch and time exchanged", _time_first),
    ):
        yield Whole(name, (torch, _steps), (torch, wrong), 2, 2)
        yield Whole(name, ("keras", _layers), (torch, wrong), 2, 2)
    last: tuple[dict[str, Any], dict[str, Any]] = ({"return_sequences": False}, {})
    for name, wrong in (
        ("step in place of the final state", _last_output),
        ("step in place of the final state", _first_output),
        ("states reshaped", _ends_viewed),
        ("halves swapped", _ends_swapped),
    ):
        yield Whole(name, (torch, _ends), (torch, wrong), 2, 2)
        yield Whole(name, ("keras", _layers), (torch, wrong), 2, 2, options=last)
    yield Whole("step in place of the final state", ("keras", _layers), ("keras", _last_step), 2, 2, options=last)
    yield Whole("step in place of the final state", (torch, _ends), ("keras", _last_step), 2, 2)
    yield Whole("final states in place of a step", (torch, _last_output), (torch, _ends), 2, 2)
    yield Whole("step in place of the final state", (torch, _end), (torch, _first_output))
    yield Whole("c in place of h", (torch, _end), (torch, _end_of_cell), kinds=("lstm",))
    yield Whole("c in place of h", ("keras", _layers), (torch, _end_of_cell), kinds=("lstm",), options=last)
    for wrong in (_multiplied, _averaged):
        yield Whole("merge mode", (torch, _summed), (torch, wrong), 2, 1)
        yield Whole("merge mode", ("keras", _layers), (torch, wrong), 2, 1, options=({"merge_mode": "sum"}, {}))
    for mode in ("mul", "ave"):
        options = ({"merge_mode": "sum"}, {"merge_mode": mode})
        yield Whole("merge mode", ("keras", _layers), ("keras", _layers), 2, 1, options=options)
    backward: tuple[dict[str, Any], dict[str, Any]] = ({"go_backwards": True}, {})
    yield Whole("steps not turned back", ("keras", _layers), (torch, _turned_both), options=backward)
    yield Whole(
        "steps not turned back", ("keras", _layers), ("keras", _flipped_out), options=({"go_backwards": True},) * 2
    )
    yield Whole("reversed in time", ("keras", _layers), ("keras", _flipped_in))


WHOLE: tuple[Whole, ...] = tuple(_cases())
"""Every mistake in code, between frameworks that people port between."""
