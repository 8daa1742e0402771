"""Code for torch, written, imported and run: what the tests of the writer share."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from parity.deferred import Array
from parity.files.safetensors_file import write
from parity.graph import Graph
from parity.graph.code import Code
from parity.graph.torch_code import torch_code

RUFF = Path(sys.executable).with_name("ruff")
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
