"""Writes a graph as code for Keras, imports it, loads its weights, runs it, and compares with the graph."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from parity.graph import Graph
from parity.graph.code import Code
from parity.graph.keras_code import keras_code, write_weights
from parity.graph.noise import Float32Noise

SEEDS = 6
FACTOR = 4.0
"""How many times the spread of six replicas a difference may be: each rounds every place once, up or down, so that six of them
show about the largest of six draws; the factor 2 of `parity.floor` is for sixteen replicas, and kernels of other backends sum in
another order."""

LENGTHS = {"batch": 4, "time": 13}
SOURCES: list[str] = []
"""What was checked so far."""

_numbers = itertools.count()


def written(graph: Graph, folder: Path) -> tuple[Code, ModuleType]:
    """The module of a graph, imported, its weights beside it."""
    code = keras_code(graph)
    own = folder / f"case_{next(_numbers)}"
    own.mkdir()
    (own / "model.py").write_text(code.source, "utf-8")
    write_weights(code, own / "model.weights.h5")
    return code, imported(own / "model.py")


def imported(path: Path) -> ModuleType:
    """A module from a file."""
    name = f"written_{path.parent.name}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def inputs_for(graph: Graph, seed: int = 3, lengths: Mapping[str, int] = LENGTHS) -> dict[str, np.ndarray[Any, Any]]:
    """Random inputs; sequences of integers end in zeros, so that masks leave steps out."""
    random, found = np.random.default_rng(seed), dict[str, np.ndarray[Any, Any]]()
    sizes = {word: lengths.get(word, 6 + index) for index, word in enumerate(graph.words)}
    for one in graph.inputs:
        shape = tuple(sizes[n] if isinstance(n, str) else n for n in one.shape)
        if one.dtype == "int64":
            found[one.name] = random.integers(1, one.below or 5, shape)
            if len(shape) == 2:
                for row in range(shape[0]):
                    found[one.name][row, shape[1] - row * 2 :] = 0
        elif one.dtype == "bool":
            found[one.name] = random.random(shape) < 0.7
        else:
            found[one.name] = random.standard_normal(shape).astype(np.float32)
    return found


def outputs_of(model: Any, graph: Graph, inputs: Mapping[str, Any]) -> list[np.ndarray[Any, Any]]:
    """What the model gives, called with tensors."""
    tensors = [keras.ops.convert_to_tensor(inputs[one.name]) for one in graph.inputs]
    given = model(tensors if len(tensors) > 1 else tensors[0])
    return [keras.ops.convert_to_numpy(value) for value in (given if isinstance(given, (list, tuple)) else [given])]


def worst(graph: Graph, given: Sequence[np.ndarray[Any, Any]], inputs: Mapping[str, Any]) -> float:
    """The largest difference from the graph, in units of the spread of its replicas."""
    exact, found = graph.run(inputs), 0.0
    replicas = [graph.run(inputs, Float32Noise(seed, frozen=seed % 2 == 0)) for seed in range(SEEDS)]
    for (name, expected), value in zip(exact.items(), given, strict=True):
        assert value.shape == expected.shape, (name, value.shape, expected.shape)
        if expected.dtype.kind != "f":
            found = max(found, np.inf if (value != expected).any() else 0.0)
            continue
        spread = max(np.abs(replica[name] - expected).max() for replica in replicas)
        spread += np.finfo(np.float32).eps * np.abs(expected).max()
        found = max(found, float(np.abs(value - expected).max() / spread))
    return found


def check(graph: Graph, folder: Path, predict: bool = False, seed: int = 3) -> Code:
    """Write, import, load, run and compare; the order of the layers; the source is kept in `SOURCES`, to be linted."""
    code, module = written(graph, folder)
    SOURCES.append(code.source)
    model = module.load()
    inputs = inputs_for(graph, seed)
    assert worst(graph, outputs_of(model, graph, inputs), inputs) < FACTOR, code.source
    if predict:
        arrays = [inputs[one.name] for one in graph.inputs]
        given = model.predict(arrays if len(arrays) > 1 else arrays[0], verbose=0)
        assert worst(graph, given if isinstance(given, list) else [given], inputs) < FACTOR
    same_order(code, model, folder)
    return code


def lint_sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whatever the tests of a file checked is linted in the end, all at once."""
    SOURCES.clear()
    yield
    folder = tmp_path_factory.mktemp("sources")
    paths = [folder / f"model_{number}.py" for number in range(len(set(SOURCES)))]
    for path, source in zip(paths, dict.fromkeys(SOURCES), strict=True):
        path.write_text(source, "utf-8")
    check_format(paths)


def same_order(code: Code, model: Any, folder: Path) -> None:
    """Keras itself keeps the same arrays at the same places."""
    path = folder / f"own_{next(_numbers)}.weights.h5"
    model.save_weights(path)
    found: dict[str, np.ndarray[Any, Any]] = {}
    with h5py.File(path) as file:

        def visit(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and "seed_generator" not in name:
                found[name] = item[()]

        file.visititems(visit)
    assert set(found) == set(code.weights), (sorted(found), sorted(code.weights))
    for name, array in found.items():
        np.testing.assert_array_equal(array, code.weights[name].whole().astype(array.dtype), err_msg=name)


def check_format(paths: Sequence[Path]) -> None:
    """Python 3.10 reads it; ruff has nothing to say, with its default rules, imports and modern syntax; its formatter changes nothing."""
    for path in paths:
        ast.parse(path.read_text("utf-8"), feature_version=(3, 10))
    ruff = [sys.executable, "-m", "ruff"]
    names = [str(path) for path in paths]
    rules = ["--isolated", "--target-version", "py310", "--extend-select", "I,UP", "--no-cache"]
    for arguments in (["check", *rules, *names], ["format", "--isolated", "--no-cache", "--diff", *names]):
        result = subprocess.run([*ruff, *arguments], capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout[:10000] + result.stderr
