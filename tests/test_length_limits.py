"""Models that hold at some lengths only: what is written of them fails at others, in every framework, and never gives wrong numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from parity.errors import ParityError, ShapeError
from parity.frameworks.keras.written import make_known
from parity.frameworks.onnx.whole import reading
from parity.frameworks.onnx.whole.writing import model_of
from parity.frameworks.torch.whole import graph_of
from parity.graph import Builder, Graph
from parity.graph.inputs import check_graph_inputs
from parity.graph.operations import GroupNormalization
from parity.graph.reading_notes import limited_axes
from parity.recurrent import Array
from parity.sources import open_source
from tests.keras_code_harness import check_format
from tests.keras_code_harness import written as keras_written
from tests.torch_code_running import lint
from tests.torch_code_running import written as torch_written

Run = Callable[[Array], Array]

LIMITS = {
    "time at least 4": ((4, 9), (1, 3)),
    "time at most 8": ((1, 8), (9, 30)),
    "time at least 4, time at most 8": ((4, 8), (3, 9)),
}
"""Lengths that are taken, and others."""


class Deciding(nn.Module):
    """Another result where there are few steps."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.shape[1] > 3 else x


class Looping(nn.Module):
    """As many rounds as there were steps."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for step in range(x.shape[1]):
            x = x + step
        return x


def doubling(limits: str, shape: Sequence[int | str] = ("batch", "time", 3), dtype: str = "float32") -> Graph:
    build = Builder("model")
    if limits:
        build.details["limits"] = limits
    return build.graph({"y": build.multiply(build.input("x", shape, dtype), 2 if dtype == "int64" else 2.0)})


def runs_of(graph: Graph, folder: Path) -> dict[str, Run]:
    """The written models, each run by its own framework."""
    module = keras_written(graph, folder)[1]
    called, predicted = module.load(), module.load()
    in_torch = torch_written(graph, folder)[1].load()
    session = onnxruntime.InferenceSession(model_of(graph).SerializeToString(), _quiet())
    return {
        "Keras": lambda x: np.asarray(keras.ops.convert_to_numpy(called(x))),
        "Keras, predict": lambda x: np.asarray(predicted.predict(x, verbose=0)),
        "torch": lambda x: np.asarray(in_torch(torch.from_numpy(x))),
        "ONNX Runtime": lambda x: np.asarray(session.run(None, {"x": x})[0]),
    }


def _quiet() -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return options


def graph_in(path: Path) -> Graph:
    """What is read of a Keras file."""
    found: Graph = open_source(path, partial=True).graph
    return found


def steps(length: int, batch: int = 2) -> Array:
    return np.random.default_rng(length).standard_normal((batch, length, 3)).astype(np.float32)


def test_a_module_that_decides_by_a_size(tmp_path: Path) -> None:
    module, graph = Deciding(), graph_of(Deciding(), torch.randn(2, 6, 3))
    assert graph.details["limits"] == "time at least 4"
    runs = runs_of(graph, tmp_path)
    for length in (6, 4, 11):
        for run in runs.values():
            np.testing.assert_array_equal(run(steps(length)), module(torch.from_numpy(steps(length))))
    for length in (2, 3, 1):
        for name, run in runs.items():
            with pytest.raises(Exception, match=r"at_least_4|at least 4"):
                pytest.fail(f"{name} gave {run(steps(length))}")
        with pytest.raises(ShapeError, match="lengths for which the model was not read"):
            graph.run({"x": steps(length)})
        with pytest.raises(ShapeError, match="time at least 4"):
            check_graph_inputs(graph, steps(length))


def test_without_the_checks_the_numbers_are_wrong(tmp_path: Path) -> None:
    graph = graph_of(Deciding(), torch.randn(2, 6, 3))
    mutant = replace(graph, details={})
    expected = Deciding()(torch.from_numpy(steps(2))).numpy()
    for run in runs_of(mutant, tmp_path).values():
        assert np.abs(run(steps(2)) - expected).max() > 0.1


@pytest.mark.parametrize("batch", ["batch", 2])
@pytest.mark.parametrize("limits", LIMITS)
def test_lengths_within_limits_are_taken_and_others_fail(limits: str, batch: Any, tmp_path: Path) -> None:
    fine, others = LIMITS[limits]
    runs = runs_of(doubling(limits, (batch, "time", 3)), tmp_path)
    for length in (*fine, *others, *fine):
        for name, run in runs.items():
            if length in fine:
                np.testing.assert_array_equal(run(steps(length)), 2 * steps(length))
            else:
                with pytest.raises(Exception, match=r"at_(least_4|most_8)|at (least 4|most 8)"):
                    pytest.fail(f"{name} gave {run(steps(length)).shape}")


def test_keras_says_which_length_it_wants(tmp_path: Path) -> None:
    model = keras_written(doubling("time at least 4"), tmp_path)[1].load()
    with pytest.raises(ValueError, match="x_time_at_least_4: the length of axis 1 is 3, it has to be at least 4"):
        model(steps(3))


def test_two_limits_are_checked_one_by_one(tmp_path: Path) -> None:
    """(8, 2) holds as many numbers as (4, 4), which would be within both."""
    runs = runs_of(doubling("batch at most 4, time at least 4"), tmp_path)
    for name, run in runs.items():
        np.testing.assert_array_equal(run(steps(4, 4)), 2 * steps(4, 4))
        with pytest.raises(Exception, match=r"at_(least|most)_4|at (least|most) 4"):
            pytest.fail(f"{name} gave {run(steps(2, 8)).shape}")


@pytest.mark.parametrize("dtype", ["int64", "float64"])
def test_other_types_pass_unchanged(dtype: str, tmp_path: Path) -> None:
    graph = doubling("time at least 4", ("batch", "time"), dtype)
    model = keras_written(graph, tmp_path)[1].load()
    x = (np.arange(10) + 2**24 + 1).reshape(2, 5).astype("int32" if dtype == "int64" else "float64")
    layer = next(one for one in model.layers if type(one).__name__ == "LimitedLength")
    found = keras.ops.convert_to_numpy(layer(keras.ops.convert_to_tensor(x)))
    np.testing.assert_array_equal(found, x)
    with pytest.raises(ValueError, match="at least 4"):
        model(x[:, :3])


def test_frozen_lengths_are_fixed(tmp_path: Path) -> None:
    module, graph = Looping(), graph_of(Looping(), torch.randn(2, 6, 3))
    assert "axis 1 of 'x' at 6" in graph.details["frozen"]
    assert graph.inputs[0].shape[1] == 6
    proto = model_of(graph)
    assert proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value == 6
    assert keras_written(graph, tmp_path)[1].load().input_shape[1] == 6
    for name, run in runs_of(graph, tmp_path).items():
        np.testing.assert_allclose(run(steps(6)), module(torch.from_numpy(steps(6))), rtol=1e-6)
        for length in (5, 7, 1):
            with pytest.raises(
                Exception, match=r"axis_1_is_6|to be 6|expected shape=\(None, 6, \w+\)|Got: \d Expected: 6"
            ):
                pytest.fail(f"{name} gave {run(steps(length)).shape}")


def test_a_frozen_batch_is_fixed(tmp_path: Path) -> None:
    graph = doubling("", (2, "time", 3))
    graph = replace(graph, details={"frozen": "axis 0 of 'x' at 2: its length is used as a number"})
    for name, run in runs_of(graph, tmp_path).items():
        np.testing.assert_array_equal(run(steps(5, 2)), 2 * steps(5, 2))
        with pytest.raises(Exception, match=r"to be (at most )?2|Expected: 2|axis_0_is_2"):
            pytest.fail(f"{name} gave {run(steps(5, 3)).shape}")


def test_onnx_describes_its_limits() -> None:
    model = model_of(doubling("time at least 4, time at most 8"))
    assert model.graph.input[0].doc_string == "axis 1 (time) at least 4 and at most 8"
    assert "time at least 4 and at most 8" in model.graph.doc_string
    assert not model_of(doubling("")).graph.doc_string


@pytest.mark.parametrize("limits", [*LIMITS, "batch at most 4, time at least 4"])
def test_limits_survive_onnx_and_keras_files(limits: str, tmp_path: Path) -> None:
    graph = doubling(limits)
    again = reading.graph_of(model_of(graph))
    assert limited_axes(again) == limited_axes(graph)
    assert [node.name for node in again.nodes] == [node.name for node in reading.graph_of(model_of(doubling(""))).nodes]
    make_known([])
    keras_written(graph, tmp_path)[1].load().save(tmp_path / "model.keras")
    found = graph_in(tmp_path / "model.keras")
    assert limited_axes(found) == limited_axes(graph)
    x = steps(5)
    np.testing.assert_array_equal(next(iter(found.run({"x": x}).values())), 2 * x.astype(np.float64))


def test_another_reshape_is_no_check() -> None:
    """What only looks like a check is not taken for one: it is refused, as ever."""
    model = model_of(doubling("time at least 4"))
    for tensor in model.graph.initializer:
        if tensor.name.endswith(".least"):
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array([0, 4, 3], np.int64), tensor.name))
    with pytest.raises(ParityError, match="a length is used as a number"):
        reading.graph_of(model)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"axis": 5}, "no such axis"), ({"least": "x"}, "limits that are none"), ({"most": 0}, "limits that are none")],
)
def test_a_hostile_layer_is_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    model = keras_written(doubling("time at least 4"), tmp_path)[1].load()
    layer = next(one for one in model.layers if type(one).__name__ == "LimitedLength")
    for key, value in options.items():
        setattr(layer, key, value)
    model.save(tmp_path / "model.keras")
    with pytest.raises(ParityError, match=message):
        graph_in(tmp_path / "model.keras")


BACKENDS = """
import sys
import keras
import numpy as np
sys.path.insert(0, sys.argv[1])
import model
built = model.load()
for jit in (False, True) if keras.backend.backend() == "tensorflow" else (False,):
    built.compile(jit_compile=jit)
    for length in (9, 3, 4):
        x = np.ones((2, length, 3), np.float32)
        for run in (built, lambda x: built.predict(x, verbose=0)):
            try:
                found = keras.ops.convert_to_numpy(run(x))
            except Exception as error:
                assert length < 4 and "at_least_4" in str(error), (length, error)
            else:
                assert length >= 4 and (found == 2).all(), length
print("checked")
"""


@pytest.mark.parametrize("backend", ["tensorflow", "torch", "jax"])
def test_on_every_backend(backend: str, tmp_path: Path) -> None:
    module = keras_written(doubling("time at least 4"), tmp_path)[1]
    check_format([Path(str(module.__file__))])
    command = [sys.executable, "-c", BACKENDS, str(Path(str(module.__file__)).parent)]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip().endswith("checked"), done.stderr[-3000:]


@pytest.mark.parametrize("shape", [("batch", "time", 6), ("batch", 6), ("batch", 1, 6), ("batch", "a", "b", 6)])
@pytest.mark.parametrize("plain", [False, True])
def test_groups_of_one_number(shape: tuple[int | str, ...], plain: bool, tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    gamma, beta = (None if plain else random.standard_normal(6).astype(np.float32) for _ in range(2))
    layer = keras.layers.GroupNormalization(-1, epsilon=1e-3, center=not plain, scale=not plain)
    layer.build((None, *(n if isinstance(n, int) else None for n in shape[1:])))
    layer.set_weights([] if gamma is None or beta is None else [gamma, beta])
    build = Builder("model")
    graph = build.graph({"y": build.call(GroupNormalization("norm", gamma, beta, 1e-3, 6), build.input("x", shape))})
    module = torch_written(graph, tmp_path)[1]
    model = module.load()
    lint(tmp_path)
    for length, batch in ((1, 1), (1, 3), (4, 1), (5, 2)):
        sizes = [{"batch": batch}.get(n, length) if isinstance(n, str) else n for n in shape]
        x = random.standard_normal(sizes).astype(np.float32) * 3
        expected = keras.ops.convert_to_numpy(layer(x))
        with torch.no_grad():
            found = model(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
        if all(n == 1 for n in sizes[1:-1]):
            np.testing.assert_array_equal(found, np.broadcast_to(0.0 if beta is None else beta, found.shape))
    assert "group_norm(" in module.__loader__.get_data(module.__file__).decode()


def test_groups_that_torch_takes_stay_a_plain_call(tmp_path: Path) -> None:
    for shape, groups in ((("batch", "time", 6), 3), (("batch", 4, 6), 6)):
        build = Builder("model")
        layer = GroupNormalization("norm", np.ones(6, np.float32), None, 1e-3, groups)
        graph = build.graph({"y": build.call(layer, build.input("x", shape))})
        assert "def group_norm" not in torch_written(graph, tmp_path)[0].source


def test_torch_itself_refuses_groups_of_one_number() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        nn.GroupNorm(6, 6).eval()(torch.ones(1, 6, 1))
