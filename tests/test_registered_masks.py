# ruff: noqa: ARG001, ARG005  registered functions have one signature, whatever they use of it
"""Registered layers that take masks, and registered functions that are wrong: an error with its file and line, with stubs, too."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import layers as kl

import parity
from parity.errors import UnsupportedError
from parity.graph.custom import CUSTOM, register

TOKENS = np.array([[1, 2, 3, 4, 5], [6, 5, 1, 0, 0], [2, 0, 0, 0, 0]])
HERE = Path(__file__).name

pytestmark = pytest.mark.filterwarnings("ignore")


@keras.saving.register_keras_serializable(package="masks")
class ValidMean(kl.Layer):  # type: ignore[misc]  # Keras has no types
    """The mean of the valid steps; of all, where there is no mask."""

    def call(self, x: Any, mask: Any = None) -> Any:
        """The mean."""
        if mask is None:
            return keras.ops.mean(x, 1)
        valid = keras.ops.cast(mask, x.dtype)[:, :, None]
        return keras.ops.sum(x * valid, 1) / keras.ops.sum(valid, 1)


@keras.saving.register_keras_serializable(package="masks")
class Unheard(kl.Layer):  # type: ignore[misc]
    """A layer of which nobody says anything."""

    def call(self, x: Any) -> Any:
        """A sum of its own."""
        return x + 1


def valid_mean(build: Any, x: Any, mask: Any) -> Any:
    """What `ValidMean` computes."""
    if mask is None:
        return build.mean(x, axis=1)
    valid = build.expand_dims(build.cast(mask, "float32"), 2)
    return build.divide(build.sum(build.multiply(x, valid), axis=1), build.sum(valid, axis=1))


def usual(build: Any, config: Any, weights: Any, x: Any, mask: Any = None) -> Any:
    """As it is documented."""
    return valid_mean(build, x, mask)


def keyword_only(build: Any, config: Any, weights: Any, x: Any, *, mask: Any) -> Any:
    """With a keyword that is nothing else."""
    return valid_mean(build, x, mask)


def any_keyword(build: Any, config: Any, weights: Any, x: Any, **options: Any) -> Any:
    """With any keywords."""
    return valid_mean(build, x, options["mask"])


def careless(build: Any, config: Any, weights: Any, x: Any, mask: Any = None) -> Any:
    """Does nothing with the mask."""
    return valid_mean(build, x, None)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """What a test registers goes afterwards."""
    before = dict(CUSTOM)
    yield
    CUSTOM.clear()
    CUSTOM.update(before)


def model_of(called: Callable[[Any, Any], Any], mask_zero: bool = True) -> keras.Model:
    """Words, an LSTM, the layer, scores."""
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    x = kl.LSTM(3, return_sequences=True, name="lstm")(kl.Embedding(9, 4, mask_zero=mask_zero)(tokens))
    model = keras.Model(tokens, kl.Dense(2)(called(x, tokens)), name="model")
    random = np.random.default_rng(3)
    model.set_weights([random.uniform(-0.8, 0.8, one.shape) for one in model.get_weights()])
    return model


def sources(model: keras.Model, folder: Path) -> list[Any]:
    """The model, and its files."""
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    return [model, folder / "model.keras", folder / "model.h5"]


def difference(source: Any, model: keras.Model) -> float:
    """The largest between what torch computes from a source and what Keras does."""
    with torch.no_grad():
        found = parity.to_torch(source)(torch.tensor(TOKENS)).numpy()
    return float(np.abs(found - np.asarray(model(TOKENS))).max())


CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "handed on by Keras": lambda x, tokens: ValidMean(name="mean")(x),
    "given by name": lambda x, tokens: ValidMean(name="mean")(x, mask=keras.ops.greater(tokens, 2)),
    "given by place": lambda x, tokens: ValidMean(name="mean")(x, keras.ops.greater(tokens, 2)),
}


# ---- masks


@pytest.mark.parametrize("function", [usual, keyword_only, any_keyword])
def test_the_keyword_gets_the_mask(function: Any, tmp_path: Path) -> None:
    register("ValidMean", function)
    model = model_of(CALLS["handed on by Keras"])
    for source in sources(model, tmp_path):
        assert difference(source, model) < 1e-6
    register("ValidMean", careless)
    assert difference(tmp_path / "model.keras", model) > 1e-2


@pytest.mark.parametrize("way", CALLS)
def test_the_mask_that_is_given_is_the_one(way: str, tmp_path: Path) -> None:
    """Above 2, no token of the last sample is: one sample has no number, in Keras and here."""
    register("ValidMean", usual)
    model = model_of(CALLS[way])
    for source in sources(model, tmp_path):
        with torch.no_grad():
            found = parity.to_torch(source)(torch.tensor(TOKENS)).numpy()
        np.testing.assert_allclose(found, np.asarray(model(TOKENS)), atol=1e-6)


def test_without_a_mask_it_is_none(tmp_path: Path) -> None:
    masks = []

    def watching(build: Any, config: Any, weights: Any, x: Any, mask: Any = None) -> Any:
        masks.append(mask)
        return valid_mean(build, x, mask)

    register("ValidMean", watching)
    model = model_of(CALLS["handed on by Keras"], mask_zero=False)
    model.save(tmp_path / "model.keras")
    for source in (model, tmp_path / "model.keras"):
        assert difference(source, model) < 1e-6
    assert masks
    assert set(masks) == {None}


def test_a_function_without_the_keyword_is_refused() -> None:
    """What the layer does with its mask would be lost."""
    register("ValidMean", lambda build, config, weights, x: build.mean(x, axis=1))
    with pytest.raises(UnsupportedError, match="called with a mask") as refused:
        parity.to_torch(model_of(CALLS["handed on by Keras"]))
    (problem,) = refused.value.problems
    assert "mask=None" in problem.expected
    assert f"{HERE}, line " in problem.got
    model = model_of(CALLS["handed on by Keras"], mask_zero=False)
    assert difference(model, model) < 1e-6


# ---- functions that are wrong

WRONG: dict[str, tuple[Callable[..., Any], str]] = {
    "an operation": (lambda b, c, w, x, mask: b.call(x), r"build.call\(operation=<Wire lstm>\): a Wire stands for"),
    "an axis": (lambda b, c, w, x, mask: b.mean(x, axis=x), r"axis=<Wire lstm>.*in the place of something else"),
    "an array": (lambda b, c, w, x, mask: b.matmul(x, np.ones((3, 3))), r"right=<ndarray>.*build.weight\(name"),
    "a product": (lambda b, c, w, x, mask: x * 2, r"'Wire' and 'int'; .*build.multiply\(x, y\)"),
    "a method": (lambda b, c, w, x, mask: x.mean(1), r"build.mean\(x, ...\)"),
    "a shape": (lambda b, c, w, x, mask: x.shape[0], r"has no shape: build.shape\(x\)"),
    "no function": (lambda b, c, w, x, mask: b.elementwise("nosuch", x), r"one of add, multiply.*'nosuch'"),
    "a size": (lambda b, c, w, x, mask: b.matmul(x, b.weight("w", np.ones((5, 5)))), "ShapeError"),
    "an error": (lambda b, c, w, x, mask: w[0], "IndexError: list index out of range"),
    "a refusal": (lambda b, c, w, x, mask: (_ for _ in ()).throw(UnsupportedError("never")), "UnsupportedError: never"),
    "an argument": (lambda b, c, w, x, y, z, mask=None: y, "missing 2 required positional arguments"),
    "no value": (lambda b, c, w, x, mask: 3, "3"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_function_is_an_error_with_its_place(wrong: str, tmp_path: Path) -> None:
    function, reason = WRONG[wrong]
    register("ValidMean", function)
    model = model_of(CALLS["handed on by Keras"])
    model.save(tmp_path / "model.keras")
    for source, options in ((model, {}), (tmp_path / "model.keras", {}), (tmp_path / "model.keras", {"partial": True})):
        with pytest.raises(UnsupportedError, match="registered for this class") as refused:
            parity.convert(source, tmp_path / "out", to="onnx", **options)
        (problem,) = [one for one in refused.value.problems if "registered" in one.what]
        assert "layer 'mean' (ValidMean)" in problem.where
        assert re.search(reason, problem.got, re.DOTALL), problem.got
        assert f"{HERE}, line {function.__code__.co_firstlineno})" in problem.got
        assert "'ValidMean'" in problem.remedy
        assert not (tmp_path / "out").exists()


def test_behind_a_stub_a_function_that_needs_shapes_becomes_one_too(tmp_path: Path) -> None:
    """It is not wrong: nobody knows what it asks for."""

    def asking(build: Any, config: Any, weights: Any, x: Any, mask: Any = None) -> Any:
        return build.mean(x, axis=build.rank(x) - 2)

    register("ValidMean", asking)
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    x = Unheard(name="unheard")(kl.Embedding(9, 4)(tokens))
    keras.Model(tokens, kl.Dense(2)(ValidMean(name="mean")(x))).save(tmp_path / "model.keras")
    parity.convert(tmp_path / "model.keras", tmp_path / "out", to="torch", partial=True)
    source = (tmp_path / "out" / "model.py").read_text("utf-8")
    assert "Unheard" in source
    assert "ValidMean" in source
    with pytest.raises(UnsupportedError, match="unheard"):
        parity.convert(tmp_path / "model.keras", tmp_path / "other", to="torch")


# ---- activations


@pytest.mark.parametrize(("threshold", "below"), [(0.25, -0.5), (0.25, 0.0), (-0.5, 2.0)])
def test_the_threshold_of_keras(threshold: float, below: float, tmp_path: Path) -> None:
    x = keras.Input((None, 4), name="x")
    model = keras.Model(x, keras.activations.threshold(kl.Dense(3)(x), threshold, below))
    model.save(tmp_path / "model.keras")
    values = np.random.default_rng(5).normal(size=(2, 6, 4)).astype(np.float32)
    expected = np.asarray(model(values))
    assert (expected == below).any()
    assert (expected > threshold).any()
    for source in (model, tmp_path / "model.keras"):
        found = parity.to_torch(source)(torch.tensor(values)).detach().numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_sparsemax_is_refused_by_name() -> None:
    x = keras.Input((None, 4), name="x")
    with pytest.raises(UnsupportedError, match="sparsemax"):
        parity.to_torch(keras.Model(x, kl.Dense(3, activation="sparsemax", name="scores")(x)))
