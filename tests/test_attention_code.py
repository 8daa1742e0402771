"""Attention: the operation, what is taken for it and what is not, and the code that is written, against the frameworks themselves."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnxruntime
import pytest
import torch
from keras import layers as kl
from torch.nn import functional as F

from parity.errors import ShapeError
from parity.frameworks.keras.twins import layer_at
from parity.frameworks.onnx.whole.writing import model_of
from parity.graph import Builder, Graph, Wire, computed, shapes_of
from parity.graph.keras.reading import graph_from_keras
from parity.graph.keras_code.attention import attending
from parity.graph.operations import Attention, Length, Range
from parity.graph.simplify import simplified, spelled_out, with_attention
from parity.network import Dropout
from parity.reference import Exact
from tests import keras_code_harness, torch_code_running

LOWEST = -0.7 * float(np.finfo(np.float32).max)


@pytest.fixture(scope="module", autouse=True)
def linted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    yield from torch_code_running.lint_sources(tmp_path_factory)


# ---- the operation


def drawn(random: np.random.Generator) -> list[np.ndarray[Any, Any]]:
    return [random.normal(size=shape) for shape in ((2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7))]


def truths(random: np.random.Generator) -> np.ndarray[Any, Any]:
    mask = random.random((2, 1, 4, 6)) < 0.6
    mask[:, :, 1], mask[:, :, 2], mask[:, :, 3] = False, True, [True, *[False] * 5]
    return mask


@pytest.mark.parametrize("kind", ["none", "causal", "bool", "added", "all hidden"])
def test_the_operation_as_torch(kind: str, random: np.random.Generator) -> None:
    values = drawn(random)
    if kind == "bool":
        values.append(truths(random))
    if kind in ("added", "all hidden"):
        values.append(random.normal(size=(4, 6)))
    if kind == "all hidden":
        values[-1][2] = -np.inf
    (found,) = computed(Attention("a", 0.3, causal=kind == "causal"), values, Exact())
    query, key, value, *masks = (torch.from_numpy(value) for value in values)
    mask = masks[0] if masks else None
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=kind == "causal", scale=0.3)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-10, atol=1e-12)
    assert shapes_of(Attention("a", 0.3), [one.shape for one in values[:3]]) == (found.shape,)


@pytest.mark.parametrize("lowered", [LOWEST, -1e9, -2.0])
def test_scores_that_are_lowered(lowered: float, random: np.random.Generator) -> None:
    query, key, value = drawn(random)
    mask = truths(random)
    (found,) = computed(Attention("a", 0.3, lowered), [query, key, value, mask], Exact())
    scores = torch.from_numpy(np.einsum("bhtd,bhsd->bhts", query, key) * 0.3 + np.where(mask, 0.0, lowered))
    np.testing.assert_allclose(found, (scores.softmax(-1) @ torch.from_numpy(value)).numpy(), rtol=1e-10)
    if lowered == LOWEST:
        np.testing.assert_allclose(found[:, :, 1], value.mean(axis=2), rtol=1e-10)


@pytest.mark.parametrize(
    ("shapes", "causal"),
    [
        ([(2, 4, 5), (2, 6, 5)], False),
        ([(2, 4, 5), (2, 6, 3), (2, 6, 5)], False),
        ([(2, 4, 5), (2, 6, 5), (2, 7, 5)], False),
        ([(2, 4, 5), (3, 6, 5), (2, 6, 5)], False),
        ([(2, 4, 5), (2, 0, 5), (2, 0, 5)], False),
        ([(2, 4, 5), (6, 5), (2, 6, 5)], False),
        ([(2, 4, 5), (2, 6, 5), (2, 6, 5), (2, 6, 4)], False),
        ([(2, 4, 5), (2, 6, 5), (2, 6, 5), (3, 1, 4, 6)], False),
        ([(2, 4, 5), (2, 6, 5), (2, 6, 5), (4, 6)], True),
    ],
)
def test_shapes_that_do_not_go_together(shapes: Any, causal: bool) -> None:
    with pytest.raises(ShapeError):
        shapes_of(Attention("a", 1.0, causal=causal), shapes)


# ---- what is taken for one


@dataclass
class Parts:
    """Query, key and value, (batch, 2, time, ...), and truth values (batch, 1, time, time)."""

    build: Builder
    query: Wire
    key: Wire
    value: Wire
    mask: Wire


Make = Callable[[Parts], Wire]


def steps(p: Parts, x: Wire) -> Wire:
    return p.build.call(Range(p.build.unique("steps"), Length(0, 2)), x)


def products(p: Parts) -> Wire:
    return p.build.matmul(p.query, p.build.transpose(p.key, (0, 1, 3, 2)))


def causal(p: Parts, function: str = "greater_equal") -> Wire:
    return p.build.elementwise(function, p.build.expand_dims(steps(p, p.query), 1), steps(p, p.key))


def softmaxed(p: Parts, scores: Wire) -> Wire:
    return p.build.matmul(p.build.softmax(scores), p.value)


def masked(p: Parts, mask: Wire, scores: Wire, other: float | Wire) -> Wire:
    return softmaxed(p, p.build.elementwise("where", mask, scores, other))


def lowered(p: Parts, mask: Wire, scores: Wire) -> Wire:
    return masked(p, mask, scores, p.build.subtract(scores, 1e9))


def zeroed(p: Parts, mask: Wire, inner: Wire) -> Wire:
    shares = p.build.softmax(p.build.elementwise("where", inner, products(p), -1e9))
    return p.build.matmul(p.build.elementwise("where", mask, shares, 0.0), p.value)


def added(p: Parts, scores: Wire, mask: Wire) -> Wire:
    return softmaxed(p, p.build.add(scores, mask))


FORMS: dict[str, tuple[Make, dict[str, Any]]] = {
    "plain": (lambda p: softmaxed(p, products(p)), {"scale": 1.0}),
    "divided": (lambda p: softmaxed(p, p.build.divide(products(p), 2.5)), {"scale": 0.4}),
    "scaled both": (
        lambda p: softmaxed(
            p,
            p.build.multiply(
                3.0, products(replace(p, query=p.build.multiply(p.query, 0.5), key=p.build.multiply(0.25, p.key)))
            ),
        ),
        {"scale": 0.375},
    ),
    "scaled key": (
        lambda p: softmaxed(p, p.build.matmul(p.query, p.build.multiply(p.build.transpose(p.key, (0, 1, 3, 2)), 0.25))),
        {"scale": 0.25},
    ),
    "scaled beneath": (
        lambda p: softmaxed(
            p,
            products(
                replace(
                    p,
                    query=p.build.transpose(
                        p.build.multiply(p.build.transpose(p.query, (0, 2, 1, 3)), 0.5), (0, 2, 1, 3)
                    ),
                )
            ),
        ),
        {"scale": 0.5},
    ),
    "einsum": (
        lambda p: p.build.einsum(
            "nmij,nmjk->nmik", p.build.softmax(p.build.einsum("abtd,absd->abts", p.query, p.key)), p.value
        ),
        {"scale": 1.0},
    ),
    "causal": (
        lambda p: masked(p, causal(p), p.build.multiply(products(p), 0.5), -math.inf),
        {"scale": 0.5, "causal": True},
    ),
    "causal, lowered": (lambda p: lowered(p, causal(p), products(p)), {"causal": True}),
    "replaced": (lambda p: masked(p, p.mask, products(p), LOWEST), {"lowered": pytest.approx(LOWEST)}),
    "lowered": (lambda p: lowered(p, p.mask, products(p)), {"lowered": -1e9}),
    "lowered, scaled": (
        lambda p: lowered(p, p.mask, p.build.multiply(products(p), 0.5)),
        {"lowered": -1e9, "scale": 0.5},
    ),
    "zeros": (lambda p: zeroed(p, p.mask, p.mask), {"lowered": -math.inf}),
    "added": (
        lambda p: added(p, p.build.multiply(products(p), 0.5), p.build.elementwise("where", p.mask, 0.0, -1e4)),
        {"scale": 0.5},
    ),
    "added before": (
        lambda p: added(p, p.build.multiply(p.build.subtract(1.0, p.build.cast(p.mask, "float32")), -1e9), products(p)),
        {},
    ),
}


def model_with(make: Make) -> Graph:
    build = Builder("model")
    query, key = (build.input(name, ("batch", 2, "time", 4)) for name in ("query", "key"))
    value, mask = (
        build.input("value", ("batch", 2, "time", 3)),
        build.input("mask", ("batch", 1, "time", "time"), "bool"),
    )
    found = make(Parts(build, query, key, value, mask))
    marker = build.cast(mask, "float32")
    return build.graph({"y": build.activation("tanh", found, source="behind"), "marker": marker})


def given(seed: int = 1, batch: int = 3, time: int = 6) -> dict[str, np.ndarray[Any, Any]]:
    """Inputs; step 1 of every sequence sees nothing."""
    random = np.random.default_rng(seed)
    mask = random.random((batch, 1, time, time)) < 0.6
    mask[:, :, 1], mask[0, :, 2] = False, True
    arrays = {
        name: random.normal(size=(batch, 2, time, size)) for name, size in (("query", 4), ("key", 4), ("value", 3))
    }
    return {name: value.astype(np.float32) for name, value in arrays.items()} | {"mask": mask}


def seen(name: str) -> np.ndarray[Any, Any]:
    """Where results can be told in float32: scores from which 1e9 was taken are multiples of 64 there, those less 1e4 of 1e-3."""
    found = given()["mask"].any(-1, keepdims=True) | np.array(not name.startswith(("lowered", "added")))
    return np.broadcast_to(found, (3, 2, 6, 3))


def attentions(graph: Graph) -> list[Attention]:
    return [operation for operation in graph.operations if isinstance(operation, Attention)]


@pytest.mark.parametrize("name", FORMS)
def test_what_is_spelled_out_becomes_one(name: str) -> None:
    make, options = FORMS[name]
    graph = model_with(make)
    made = with_attention(simplified(graph))
    (found,) = attentions(made)
    assert not any("Softmax" in type(operation).__name__ for operation in made.operations)
    assert {key: getattr(found, key) for key in options} == options
    back = spelled_out(made)
    assert not attentions(back)
    if not name.startswith("added"):
        again = {key: pytest.approx(value) for key, value in found.facts.items()}
        assert attentions(with_attention(back))[0].facts == again
    expected = graph.run(given())["y"]
    assert np.isfinite(expected).all()
    for other in (made, back):
        np.testing.assert_allclose(other.run(given())["y"], expected, rtol=1e-7, atol=1e-7)


KEPT: dict[str, Make] = {
    "NaN where nothing is seen": lambda p: masked(p, p.mask, products(p), -math.inf),
    "equal shares where nothing is seen": lambda p: masked(p, p.mask, products(p), -1e9),
    "a number that hides nothing": lambda p: masked(p, causal(p), products(p), -10.0),
    "infinities that may be added": lambda p: added(
        p, products(p), p.build.elementwise("where", p.mask, 0.0, -math.inf)
    ),
    "a mask that is an input": lambda p: added(p, products(p), p.build.input("bias", ("time", "time"))),
    "the other triangle": lambda p: masked(p, causal(p, "less_equal"), products(p), -math.inf),
    "without the diagonal": lambda p: masked(p, causal(p, "greater"), products(p), -math.inf),
    "another mask behind": lambda p: zeroed(p, causal(p), p.mask),
    "another axis": lambda p: p.build.matmul(p.build.softmax(products(p), axis=-2), p.value),
    "logarithms": lambda p: p.build.matmul(p.build.softmax(products(p), log=True), p.value),
    "a layer of its own": lambda p: p.build.matmul(p.build.softmax(products(p), source="softmax"), p.value),
    "dropout": lambda p: p.build.matmul(
        p.build.call(Dropout("dropout", 0, 0.5), p.build.softmax(products(p))), p.value
    ),
    "other letters": lambda p: p.build.einsum("abts,abtd->absd", p.build.softmax(products(p)), p.value),
    "a scale that is learned": lambda p: softmaxed(
        p, p.build.multiply(products(p), p.build.weight("scale", np.array([0.3], np.float32)))
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_no_attention_stays(name: str) -> None:
    graph = simplified(model_with(KEPT[name]))
    assert not attentions(with_attention(graph))


@pytest.mark.parametrize("place", ["softmax", "matmul"])
def test_scores_that_somebody_else_asks_for_stay(place: str) -> None:
    graph = model_with(FORMS["plain"][0])
    assert attentions(with_attention(graph))
    asked = Graph(graph.name, graph.inputs, graph.nodes, {**graph.outputs, "asked": Wire(place)})
    assert not attentions(with_attention(asked))
    # In ONNX every node has a name, elsewhere a name is a layer's.
    named = replace(graph, nodes=tuple(replace(node, source=node.name) for node in graph.nodes))
    assert not attentions(with_attention(named))
    assert attentions(with_attention(replace(named, origin="onnx")))


# ---- code for torch, Keras and ONNX

EXPECTED = {
    "plain": "F.scaled_dot_product_attention(query, key, value, scale=1.0)",
    "divided": "scale=0.4",
    "causal": "is_causal=True)",
    "causal, lowered": "is_causal=True, scale=1.0",
    "replaced": "attn_mask=torch.where(mask, 0.0, -2.3819763e38)",
    "lowered": "attn_mask=torch.where(mask, 0.0, -1000000000.0)",
    "zeros": "attn_mask=mask",
}


@pytest.mark.parametrize("name", FORMS)
def test_torch_has_a_function(name: str, tmp_path: Path) -> None:
    graph = model_with(FORMS[name][0])
    code, module = torch_code_running.written(graph, tmp_path)
    found, expected = torch_code_running.outputs(module, graph, given())["y"], graph.run(given())["y"]
    np.testing.assert_allclose(found[seen(name)], expected[seen(name)], atol=1e-6)
    assert keras_code_harness.worst(graph, [found, given()["mask"]], given()) < keras_code_harness.FACTOR
    assert "scaled_dot_product_attention(" in code.source
    assert "softmax" not in code.source
    assert EXPECTED.get(name, "") in code.source.replace("\n", "")
    assert bool(code.notes) == (name == "zeros")


def test_the_scale_that_torch_takes_unasked_is_not_written(tmp_path: Path) -> None:
    usual = model_with(lambda p: softmaxed(p, p.build.divide(products(p), 2.0)))
    assert "attention(query, key, value)" in torch_code_running.check(usual, given(), tmp_path / "a", 1e-6).source
    # A mutant: the same code with another scale is far off.
    _, module = torch_code_running.written(usual, tmp_path / "a")
    found = torch_code_running.outputs(module, model_with(FORMS["divided"][0]), given())["y"]
    assert np.abs(found - model_with(FORMS["divided"][0]).run(given())["y"]).max() > 1e-3


@pytest.mark.parametrize("name", FORMS)
def test_a_module_of_float64(name: str, tmp_path: Path) -> None:
    def make(p: Parts) -> Wire:
        wide = p.build.weight("wide", np.array([0.1, 1.3, 0.7, 0.4]))
        return FORMS[name][0](replace(p, query=p.build.multiply(p.query, wide)))

    torch_code_running.check(
        model_with(make), given(), tmp_path, 1e-6 if "lowered" in name or "added" in name else 1e-9
    )


@pytest.mark.parametrize("opset", [13, 22])
@pytest.mark.parametrize("kind", ["none", "causal", "bool", "lowest", "lowered", "added"])
def test_the_operation_in_onnx_keras_and_torch(kind: str, opset: int, tmp_path: Path) -> None:
    def make(p: Parts) -> Wire:
        options: dict[str, Any] = {"lowest": {"lowered": LOWEST}, "lowered": {"lowered": -1e9}}.get(kind, {})
        attention = Attention("attention", 0.7, causal=kind == "causal", **options)
        numbers = p.build.elementwise("where", p.mask, 0.3, -math.inf)
        masks = [] if kind in ("none", "causal") else [numbers if kind == "added" else p.mask]
        return p.build.call(attention, p.query, p.key, p.value, *masks)

    graph, inputs = model_with(make), given()
    assert np.isfinite(graph.run(inputs)["y"]).all()
    session = onnxruntime.InferenceSession(model_of(graph, opset).SerializeToString())
    expected, told = graph.run(inputs)["y"], seen(kind if kind == "lowered" else "")
    found = session.run(["y"], {one.name: inputs[one.name] for one in graph.inputs})[0]
    np.testing.assert_allclose(found[told], expected[told], atol=1e-6)
    if opset == 22:
        _, module = keras_code_harness.written(graph, tmp_path)
        found = keras_code_harness.outputs_of(module.load(), graph, inputs)[0]
        np.testing.assert_allclose(found[told], expected[told], atol=1e-6)
        _, module = torch_code_running.written(graph, tmp_path)
        found = torch_code_running.outputs(module, graph, inputs)["y"]
        np.testing.assert_allclose(found[told], expected[told], atol=1e-6)


# ---- layers of Keras

VOCABULARY = 9


def embedded(*names: str, sizes: tuple[int, ...] = (5, 6, 4)) -> tuple[list[Any], list[Any]]:
    inputs = [keras.Input((None,), name=name, dtype="int32") for name in names]
    tables = [kl.Embedding(VOCABULARY, size, mask_zero=True) for size in sizes]
    return inputs, [table(x) for table, x in zip(tables, inputs, strict=False)]


def sequences(*names: str, sizes: tuple[int, ...] = (5, 6, 4)) -> list[Any]:
    return [keras.Input((None, size), name=name) for name, size in zip(names, sizes, strict=False)]


def multi(masked: bool = False, parts: int = 2, call: Any = None, **options: Any) -> keras.Model:
    inputs, x = embedded(*"abc"[:parts]) if masked else (sequences(*"abc"[:parts]),) * 2
    layer = kl.MultiHeadAttention(3, 4, name="heads", **options)
    y = layer(*x, **(call or {}))
    return keras.Model(inputs, kl.Dense(2, name="end")(y))


def several() -> keras.Model:
    (x,) = sequences("a")
    y = x
    for number in range(2):
        z = kl.MultiHeadAttention(2, 3, name=f"heads_{number}")(y, y)
        y = kl.LayerNormalization(name=f"norm_{number}")(kl.Add(name=f"sum_{number}")([y, z]))
    return keras.Model(x, kl.MultiHeadAttention(2, 3, name="last")(y, x))


def single(masked: bool = False, parts: int = 2, options: Any = None, **call: Any) -> keras.Model:
    if masked:
        inputs, x = embedded(*"abc"[:parts], sizes=(5, 5, 5))
    else:
        inputs = x = sequences(*"abc"[:parts], sizes=(5, 5, 5))
    return keras.Model(inputs, kl.Dense(2, name="end")(kl.Attention(name="single", **(options or {}))(list(x), **call)))


def given_mask() -> keras.Model:
    x, m = keras.Input((6, 5), name="a"), keras.Input((6, 6), name="m", dtype="bool")
    return keras.Model([x, m], kl.MultiHeadAttention(2, 3, name="heads")(x, x, attention_mask=m))


MODELS: dict[str, tuple[Callable[[], keras.Model], str, str]] = {
    "heads": (multi, 'layers.MultiHeadAttention(3, 4, name="heads")(a, b)', "attention("),
    "heads, three": (
        lambda: multi(parts=3, value_dim=5, use_bias=False, output_shape=7),
        'layers.MultiHeadAttention(3, 4, value_dim=5, use_bias=False, output_shape=7, name="heads")',
        "attention(",
    ),
    "heads, masked": (lambda: multi(True), "attention_mask=", "attn_mask=torch.where("),
    "heads, three masked": (lambda: multi(True, 3), "key=", "attn_mask=torch.where("),
    "heads, causal": (lambda: multi(call={"use_causal_mask": True}), "use_causal_mask=True", "is_causal=True"),
    "heads, causal and masked": (lambda: multi(True, call={"use_causal_mask": True}), "attention_mask=", "attn_mask="),
    "heads, dropout": (lambda: multi(True, dropout=0.5), "ops.where", "attn_mask="),
    "heads, gate": (lambda: multi(use_gate=True), "ops.matmul", "attention("),
    "heads, given mask": (given_mask, "attention_mask=m", "attn_mask=torch.where(m"),
    "several": (several, 'name="last"', "attention("),
    "single": (single, 'layers.Attention(name="single")([a, b])', "scale=1.0"),
    "single, three": (lambda: single(parts=3), 'layers.Attention(name="single")([a, b, c])', "attention("),
    "single, causal": (lambda: single(use_causal_mask=True), "use_causal_mask=True", "is_causal=True"),
    "single, masked": (lambda: single(True), "mask=[None, ", "attn_mask=torch.where("),
    "single, scaled": (lambda: single(options={"use_scale": True}), "ops.einsum", "torch.softmax"),
}


def randomized(model: keras.Model) -> keras.Model:
    random = np.random.default_rng(5)
    model.set_weights([random.normal(0.0, 0.7, weight.shape) for weight in model.get_weights()])
    return model


def graph_of(model: keras.Model) -> Graph:
    config = keras.saving.serialize_keras_object(model)
    return graph_from_keras(config, lambda path: layer_at(model, path).get_weights(), model.name)


def inputs_of(graph: Graph, hidden: bool) -> dict[str, np.ndarray[Any, Any]]:
    """Inputs; the first sequence is all padding, or its mask all False, if that is asked for."""
    random, found = np.random.default_rng(2), dict[str, np.ndarray[Any, Any]]()
    lengths = {"batch": 3, "time": 6}
    for one in graph.inputs:
        shape = tuple(lengths.get(n, 4) if isinstance(n, str) else n for n in one.shape)
        if one.dtype == "int64":
            found[one.name] = random.integers(1, VOCABULARY, shape)
            found[one.name][1, -2:] = 0
            found[one.name][0] *= not hidden
        elif one.dtype == "bool":
            found[one.name] = random.random(shape) < 0.7
            found[one.name][:, :, 0], found[one.name][0, 1] = True, not hidden
        else:
            found[one.name] = random.normal(size=shape).astype(np.float32)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_layers_of_keras_in_code(name: str, tmp_path: Path) -> None:
    make, in_keras, in_torch = MODELS[name]
    model = randomized(make())
    graph = graph_of(model)
    code, module = keras_code_harness.written(graph, tmp_path)
    assert in_keras in re.sub(r",?\n *(?=\))|\n *", "", code.source).replace(",", ", ").replace(",  ", ", ")
    written = module.load()
    keras_code_harness.same_order(code, written, tmp_path)
    keras_code_harness.check_format([Path(str(module.__file__))])
    torch_code, torch_module = torch_code_running.written(graph, tmp_path)
    assert in_torch in torch_code.source
    session = onnxruntime.InferenceSession(model_of(graph).SerializeToString())
    for hidden in (False, True) if "single, masked" not in name else (False,):
        inputs = inputs_of(graph, hidden)
        expected = keras_code_harness.outputs_of(model, graph, inputs)
        assert keras_code_harness.worst(graph, expected, inputs) < keras_code_harness.FACTOR
        for found in (
            keras_code_harness.outputs_of(written, graph, inputs),
            list(torch_code_running.outputs(torch_module, graph, inputs).values()),
            session.run(None, {one.name: inputs[one.name] for one in graph.inputs}),
        ):
            assert keras_code_harness.worst(graph, found, inputs) < keras_code_harness.FACTOR


@pytest.mark.parametrize("name", MODELS)
def test_keras_code_computes_the_same_graph(name: str) -> None:
    graph = graph_of(randomized(MODELS[name][0]()))
    made = attending(graph)
    for hidden in (False, True):
        inputs = inputs_of(graph, hidden)
        for output, expected in graph.run(inputs).items():
            np.testing.assert_allclose(made.run(inputs)[output], expected, rtol=1e-6, atol=1e-7)


def test_shares_that_keras_returns_stay() -> None:
    inputs = sequences("a", "b")
    y, shares = kl.MultiHeadAttention(2, 3, name="heads")(*inputs, return_attention_scores=True)
    graph = graph_of(randomized(keras.Model(inputs, [y, shares])))
    assert not attentions(with_attention(simplified(graph)))
    assert [type(one).__name__ for one in attending(graph).operations].count("Softmax") == 1
