"""Code for torch, written, imported and run: what the tests of the writer share."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from parity.deferred import Array
from parity.files.safetensors_file import write
from parity.graph import Builder, Graph, Wire
from parity.graph.code import Code
from parity.graph.torch_code import torch_code
from parity.layouts import GATES, PEEPHOLES
from parity.network import Recurrent
from parity.recurrent import RecurrentSpec, Weights

RUFF = Path(sys.executable).with_name("ruff")
BOTH: Any = ("forward", "backward")

SOURCES: list[str] = []
"""What was written so far."""

_number = iter(range(10**6))


def written(graph: Graph, folder: Path) -> tuple[Code, Any]:
    """The code of a graph, and the module that is imported from its file, with the weights beside it."""
    code = torch_code(graph)
    SOURCES.append(code.source)
    path = folder / "model.py"
    path.write_text(code.source, encoding="utf-8")
    with (folder / "model.safetensors").open("wb") as file:
        write(code.weights, file)
    spec = importlib.util.spec_from_file_location(f"written_{next(_number)}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return code, module


def outputs(module: Any, graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """What the written model gives, by the names of the graph's outputs."""
    model = module.load()
    double = any(one.dtype == torch.float64 for one in model.state_dict().values())
    tensors = [torch.from_numpy(_as(inputs[one.name], double)) for one in graph.inputs]
    with torch.no_grad():
        found = model(*tensors)
    values = found if isinstance(found, tuple) else (found,)
    return {name: value.numpy() for name, value in zip(graph.outputs, values, strict=True)}


def _as(array: Array, double: bool) -> Array:
    return np.array(array, np.float64 if double else np.float32) if array.dtype.kind == "f" else np.array(array)


def check(graph: Graph, inputs: Mapping[str, Array], folder: Path, tolerance: float = 1e-9) -> Code:
    """Write a graph, run it in float64 and compare; the source is kept in `SOURCES`, to be linted.

    A graph without weights computes in float32, unless a weight of float64 is there: tests that want float64 give it one.
    """
    folder.mkdir(exist_ok=True)
    code, module = written(graph, folder)
    expected, found = graph.run(inputs), outputs(module, graph, inputs)
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].shape == array.shape, (name, found[name].shape, array.shape, code.source)
        scale = max(1.0, float(np.abs(array).max())) if array.size and array.dtype.kind == "f" else 1.0
        error = float(np.abs(found[name].astype(np.float64) - array.astype(np.float64)).max()) if array.size else 0.0
        assert error <= tolerance * scale, (name, error, code.source)
        assert (found[name].dtype.kind == "b") == (array.dtype.kind == "b"), code.source
    return code


def lint(folder: Path) -> None:
    """What ruff says of all files in a folder."""
    rules = ["--extend-select", "I,UP,ANN,B,RUF", "--target-version", "py310"]
    for command in (["check", *rules], ["format", "--diff"]):
        done = subprocess.run(
            [RUFF, *command, "--isolated", "--no-cache", folder], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[:10000]


def lint_sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whatever the tests of a file wrote is linted in the end, all at once."""
    SOURCES.clear()
    yield
    folder = tmp_path_factory.mktemp("sources")
    for number, source in enumerate(dict.fromkeys(SOURCES)):
        (folder / f"model_{number}.py").write_text(source, encoding="utf-8")
    lint(folder)


Build = Callable[[Builder, Wire, np.random.Generator], Wire]


def graph_of(make: Build, rng: np.random.Generator, shape: tuple[int | str, ...] = ("batch", "time", 6)) -> Graph:
    """A model of one input, whose weight of float64 makes the module compute in it."""
    build = Builder("model", "keras")
    x = build.input("x", shape)
    scaled = build.multiply(
        x, build.weight("scale", rng.uniform(0.5, 2.0, shape[-1] if isinstance(shape[-1], int) else 1))
    )
    return build.graph({"y": make(build, scaled, rng)})


def given(graph: Graph, rng: np.random.Generator, batch: int = 4, time: int = 9) -> dict[str, Any]:
    """Inputs of lengths that were not probed."""
    lengths = {"batch": batch, "time": time}
    found: dict[str, Any] = {}
    for one in graph.inputs:
        shape = [lengths.get(n, 5) if isinstance(n, str) else n for n in one.shape]
        found[one.name] = rng.integers(0, one.below or 5, shape) if one.dtype == "int64" else rng.normal(size=shape)
    return found


def same(
    make: Build, tmp_path: Path, rng: np.random.Generator, shape: tuple[int | str, ...] = ("batch", "time", 6)
) -> str:
    graph = graph_of(make, rng, shape)
    return check(graph, given(graph, rng), tmp_path).source


def weights_of(
    rng: np.random.Generator, spec: RecurrentSpec, bias: bool = True, peepholes: bool = False
) -> tuple[Weights, ...]:
    gates, hidden, state = len(GATES[spec.kind]), spec.hidden_size, spec.state_size
    return tuple(
        Weights(
            rng.normal(size=(gates, hidden, spec.input_size)),
            rng.normal(size=(gates, hidden, state)),
            rng.normal(size=(gates, hidden)) if bias else None,
            rng.normal(size=(gates, hidden)) if bias else None,
            rng.normal(size=(len(PEEPHOLES[spec.kind]), hidden)) if peepholes else None,
            rng.normal(size=(state, hidden)) if spec.projection_size else None,
        )
        for _ in spec.directions
    )


def recurrent(rng: np.random.Generator, kind: Any = "lstm", ways: Any = ("forward",), **options: Any) -> Recurrent:
    projection, bias = options.pop("projection", None), options.pop("bias", True)
    peepholes, (inputs, units) = options.pop("peepholes", False), options.pop("sizes", (6, 5))
    spec = RecurrentSpec(kind, inputs, units, ways, projection)
    return Recurrent(options.pop("name", "rnn"), spec, weights_of(rng, spec, bias, peepholes), **options)


def masks(rng: np.random.Generator, batch: int = 6, time: int = 9) -> np.ndarray:
    """Right and left padded, with holes, full, and empty."""
    mask = rng.integers(0, 2, (batch, time)).astype(bool)
    mask[0], mask[1], mask[2, :4], mask[2, 4:], mask[3, :4], mask[3, 4:] = True, False, True, False, False, True
    return mask
