"""Attention in torch modules whose masks hide everything from some queries: zeros there, in every framework and at every size."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import parity
from parity.errors import UnsupportedError
from parity.frameworks.torch.whole import graph_of
from parity.graph import Graph
from parity.graph.operations import Attention, Repeat
from parity.graph.simplify import spelled_out

# Keras wonders at a softmax over a single step, where its own attention does not.
pytestmark = pytest.mark.filterwarnings("ignore:You are using a softmax over axis")

Array = np.ndarray[Any, Any]
Inputs = list[Array]
LOWEST = float(np.finfo(np.float32).min)


class Attending(nn.Module):
    """Projections, and what a function makes of queries, keys, values and perhaps a mask."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(4, size) for size in (6, 6, 5))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """What the function says; truths of the first feature may be a mask."""
        return self.function(self.query(x), self.key(x), self.value(x), x[..., 0] > 0)


class Asked(nn.Module):
    """An attention whose mask is an input."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.value = nn.Linear(4, 6), nn.Linear(4, 5)

    def forward(self, q: Tensor, m: Tensor) -> Tensor:
        """As torch documents it."""
        return F.scaled_dot_product_attention(self.query(q), self.query(q) * 0.7, self.value(q), attn_mask=m)


class Heads(nn.Module):
    """torch's own attention of several heads, without the shares it took."""

    def __init__(self, shares: bool = False) -> None:
        super().__init__()
        self.attention, self.shares = nn.MultiheadAttention(4, 2, batch_first=True), shares

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Steps that nobody sees are True in the second."""
        found: Tensor = self.attention(x, x, x, key_padding_mask=hidden, need_weights=self.shares)[0]
        return found


def _rows(mask: Tensor) -> Tensor:
    return mask[:, None, :].expand(-1, mask.size(1), -1)


def _numbers(mask: Tensor) -> Tensor:
    return torch.where(_rows(mask), 0.0, -math.inf)


def _lowest(mask: Tensor) -> Tensor:
    """Numbers of which some are -inf, the others so low that nothing of a score is left."""
    return torch.where(_rows(mask), torch.full((), LOWEST), torch.full((), -math.inf))


def _triangle(mask: Tensor) -> Tensor:
    steps = torch.arange(mask.size(1))
    return _rows(mask) & (steps[:, None] >= steps)


def _decomposed(q: Tensor, k: Tensor, v: Tensor, m: Tensor) -> Tensor:
    """As torch's decomposition has it."""
    scores = (q @ k.mT) * 0.4 + _numbers(m)
    hidden = torch.logical_not(torch.any(torch.logical_not(scores == -math.inf), -1, True))
    return torch.where(hidden, 0.0, torch.softmax(scores, -1)) @ v


SDPA: Any = F.scaled_dot_product_attention
ATEN: Any = torch.ops.aten
FUNCTIONS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "truths": lambda q, k, v, m: SDPA(q, k, v, attn_mask=_rows(m)),
    "one row of truths": lambda q, k, v, m: SDPA(q, k, v, attn_mask=m[:, None, :], scale=0.3),
    "numbers": lambda q, k, v, m: SDPA(q, k, v, attn_mask=_numbers(m)),
    "lowest numbers": lambda q, k, v, m: SDPA(q, k, v, attn_mask=_lowest(m)),
    "triangle": lambda q, k, v, m: SDPA(q, k, v, attn_mask=_triangle(m)),
    "heads": lambda q, k, v, m: SDPA(q[:, None], k[:, None], v[:, None], attn_mask=m[:, None, None, :])[:, 0],
    "shared keys": lambda q, k, v, m: SDPA(
        torch.stack([q, q * 0.6, q - 1, q + 2], 1),
        torch.stack([k, k + 1], 1),
        torch.stack([v, v * 2], 1),
        attn_mask=_rows(m)[:, None],
        enable_gqa=True,
    ).sum(1),
    "flash": lambda q, k, v, m: ATEN._scaled_dot_product_flash_attention_for_cpu(
        *(one[:, None] for one in (q, k, F.pad(v, (0, 1)))),
        attn_mask=_numbers(m)[:, None].type_as(q),  # of another precision, the kernel for AVX2 reads it wrongly
        scale=0.3,
    )[0][:, 0],
    "math": lambda q, k, v, m: ATEN._scaled_dot_product_attention_math(q, k, v, _numbers(m))[0],
    "safe softmax": lambda q, k, v, m: ATEN._safe_softmax(q @ k.mT + _numbers(m), -1) @ v,
    "decomposed": _decomposed,
}


def _x(batch: int, time: int) -> Array:
    """Random numbers; the first feature of one sequence is negative all along, and at the first step of all others."""
    x = np.random.default_rng(3).normal(size=(batch, time, 4)).astype(np.float32)
    x[-1, :, 0] = -np.abs(x[-1, :, 0]) - 0.1
    x[:, 0, 0] = -np.abs(x[:, 0, 0]) - 0.1
    return x


def _in_torch(module: Any, inputs: Inputs) -> Array:
    found: Array = module(*map(torch.from_numpy, inputs)).detach().numpy()
    return found


def _in_keras(model: Any, inputs: Inputs) -> Array:
    return np.asarray(model(inputs if len(inputs) > 1 else inputs[0]))


def _in_onnx(model: Any, inputs: Inputs) -> Array:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    found: Array = session.run(None, dict(zip(names, inputs, strict=True)))[0]
    return found


TARGETS: dict[str, tuple[Callable[..., Any], Callable[[Any, Inputs], Array]]] = {
    "torch": (parity.to_torch, _in_torch),
    "keras": (parity.to_keras, _in_keras),
    "onnx": (parity.to_onnx, _in_onnx),
}


def _agree(module: nn.Module, make: Callable[[int, int], Inputs], target: str) -> None:
    """A conversion gives what the module gives, at other sizes than it was traced with, NaN where that does."""
    convert, run = TARGETS[target]
    converted = convert(module, inputs=make(3, 6))
    for batch, time in ((3, 6), (2, 1), (1, 2), (4, 3), (2, 17)):
        given = make(batch, time)
        np.testing.assert_allclose(run(converted, given), _in_torch(module, given), rtol=2e-5, atol=2e-6)


def _attending(kind: str) -> Attending:
    torch.manual_seed(1)
    return Attending(FUNCTIONS[kind]).eval()


def _attention(graph: Graph) -> Attention:
    (found,) = (node.operation for node in graph.nodes if isinstance(node.operation, Attention))
    return found


# ---- masks that the module computes


@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("target", TARGETS)
def test_a_query_that_sees_nothing_gets_zeros(kind: str, target: str) -> None:
    module = _attending(kind)
    seen = _in_torch(module, [_x(3, 6)])
    assert np.all(seen[-1] == 0.0)
    assert np.all(np.any(seen[:-1, 1:] != 0.0, axis=(1, 2)))
    assert kind != "triangle" or np.all(seen[:, 0] == 0.0)
    _agree(module, lambda batch, time: [_x(batch, time)], target)


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_the_graph_itself(kind: str) -> None:
    module = _attending(kind).double()
    graph = graph_of(module, _x(3, 6))
    assert "limits" not in graph.details
    x = _x(4, 5).astype(np.float64)
    wanted = _in_torch(module, [x])
    for one in (graph, spelled_out(graph)):
        with np.errstate(invalid="ignore"):  # the shares that the decomposition does not take are NaN
            (found,) = one.run({"x": x}).values()
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("scale", [None, 0.3])
def test_a_causal_attention(target: str, scale: float | None) -> None:
    torch.manual_seed(1)
    module = Attending(lambda q, k, v, _: SDPA(q, k, v, is_causal=True, scale=scale)).eval()
    _agree(module, lambda batch, time: [_x(batch, time)], target)
    attention = _attention(graph_of(module, _x(3, 6)))
    assert attention.causal
    assert math.isclose(attention.scale, scale or 6**-0.5)


def test_a_mean_of_what_is_hidden_is_another_computation() -> None:
    """A mutant that lowers hidden scores to a number, as Keras does, differs where nothing is seen and nowhere else."""
    module = _attending("truths").double()
    graph, x = graph_of(module, _x(3, 6)), _x(3, 6).astype(np.float64)
    mutant = replace(
        graph,
        nodes=tuple(
            replace(node, operation=replace(node.operation, lowered=-1e30))
            if isinstance(node.operation, Attention)
            else node
            for node in graph.nodes
        ),
    )
    for one in (mutant, spelled_out(mutant)):
        (found,) = one.run({"x": x}).values()
        differs = np.abs(found - _in_torch(module, [x])).max(axis=-1) > 1e-4
        assert np.all(differs == [[False], [False], [True]])


def test_heads_that_share_keys_are_repeated() -> None:
    graph = graph_of(_attending("shared keys"), _x(3, 6))
    assert [(one.axis, one.times) for node in graph.nodes if isinstance(one := node.operation, Repeat)] == [(1, 2)] * 2


@pytest.mark.parametrize("kind", ["truths", "numbers"])
def test_a_softmax_alone_gives_nan(kind: str) -> None:
    """A twin that spells attention without the zeros keeps its NaN: it is not taken for torch's function."""
    torch.manual_seed(1)
    if kind == "truths":
        twin = Attending(lambda q, k, v, m: (q @ k.mT).masked_fill(~_rows(m), -math.inf).softmax(-1) @ v).eval()
    else:
        twin = Attending(lambda q, k, v, m: (q @ k.mT + _numbers(m)).softmax(-1) @ v).eval()
    assert np.all(np.isnan(_in_torch(twin, [_x(3, 6)])[-1]))
    for target in TARGETS:
        _agree(twin, lambda batch, time: [_x(batch, time)], target)


# ---- masks that are an input


def _truths(batch: int, time: int) -> Array:
    mask = np.random.default_rng(7).random((batch, time, time)) < 0.6
    mask[-1], mask[0, 0] = False, False
    return mask


def _added(batch: int, time: int) -> Array:
    numbers = np.random.default_rng(8).normal(size=(batch, time, time)).astype(np.float32)
    return np.where(_truths(batch, time), numbers, -np.inf).astype(np.float32)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("mask", [_truths, _added])
def test_a_mask_that_is_an_input(mask: Callable[[int, int], Array], target: str) -> None:
    torch.manual_seed(2)
    module = Asked().eval()
    assert np.all(_in_torch(module, [_x(3, 6), mask(3, 6)])[-1] == 0.0)
    _agree(module, lambda batch, time: [_x(batch, time), mask(batch, time)], target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shares", [False, True])
def test_heads_with_padding(target: str, shares: bool) -> None:
    """torch gives zeros to the last projection if it needs no shares, NaN if it does."""
    torch.manual_seed(2)
    module = Heads(shares).eval()
    nn.init.normal_(module.attention.out_proj.bias)
    nn.init.normal_(module.attention.in_proj_bias)

    def inputs(batch: int, time: int) -> Inputs:
        return [_x(batch, time), ~_truths(batch, time)[:, -1]]

    seen = _in_torch(module, inputs(3, 6))
    assert np.all(np.isnan(seen[-1])) if shares else np.all(seen[-1] == module.attention.out_proj.bias.detach().numpy())
    _agree(module, inputs, target)


# ---- what is refused


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda q, k, v, _: SDPA(q, k, v, dropout_p=0.5), "dropout"),
        (
            lambda q, k, v, m: ATEN._scaled_dot_product_attention_math(q, k, v, _numbers(m))[1],
            "the shares of an attention",
        ),
        (
            lambda q, k, *_: ATEN._scaled_dot_product_flash_attention_for_cpu(q[:, None], k[:, None], k[:, None])[1],
            "the logarithm of their sum",
        ),
    ],
)
def test_refused_by_name(function: Callable[..., Tensor], words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        graph_of(Attending(function).eval(), _x(3, 6))
