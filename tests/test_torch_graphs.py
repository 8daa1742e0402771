"""Operators of whole torch modules as graphs, each against the module itself; and what is refused or frozen."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from parity.errors import ParityError, UnsupportedError
from parity.frameworks.torch.whole import call, graph_of, intermediate
from parity.network import Dense, Recurrent
from tests import torch_graphs_cases as cases
from tests.torch_graphs_checks import check, tensors

ALL = [*cases.activations(), *cases.layers(), *cases.functions()]
LESS_FREE = ("AdaptiveAvgPool2d-8", "MaxPool1d-28")
"""Cases that need a length of the example."""


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize(("name", "module", "shapes"), ALL, ids=[case[0] for case in ALL])
def test_operators(name: str, module: nn.Module, shapes: Any) -> None:
    graph = check(module, tensors(shapes))
    assert "batch" in graph.words
    assert ("frozen" in graph.details) == (name in LESS_FREE)
    assert ("time" in graph.words) == (name != "MaxPool1d-28")


def test_the_tests_can_fail() -> None:
    """A number that is off by one in a million is seen."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.off = False

        def forward(self, x: Tensor) -> Tensor:
            return x * (1 + 1e-6) if self.off else x * 1.0

    module = Two()
    graph = graph_of(module, torch.ones(3, 4))
    module.off = True
    x = np.ones((5, 4))
    assert abs(graph.run({"x": x})["output"] - call(module, graph, {"x": x})["output"]).max() > 1e-7


def test_names() -> None:
    """Layers by the paths of their modules, functions as the trace calls them, a shared layer once."""
    module = nn.Sequential()
    module.add_module("encoder", nn.Sequential(nn.Linear(4, 4), nn.Tanh()))
    module.add_module("again", module.get_submodule("encoder"))
    module.add_module("memory", nn.LSTM(4, 3, num_layers=2, batch_first=True))
    graph = graph_of(module)
    assert [node.name for node in graph.nodes][:5] == [
        "encoder.0",
        "encoder.1",
        "encoder.0_2",
        "encoder.1_2",
        "memory_l0",
    ]
    assert [node.source for node in graph.nodes][:6] == [
        "encoder.0",
        "encoder.1",
        "encoder.0@1",
        "encoder.1@1",
        "",
        "memory",
    ]
    assert [type(one).__name__ for one in graph.operations].count("Dense") == 1
    assert list(graph.outputs) == ["output", "output_1", "output_2"]


class Answer(NamedTuple):
    """What a module returns by name."""

    logits: Tensor
    state: Tensor


class Named(nn.Module):
    """Options, a state that may be left out, and a named tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 5, batch_first=True)

    def forward(self, x: Tensor, state: Tensor | None = None, *, scale: float = 2.0) -> Answer:
        """Scaled outputs and the state."""
        y, h = self.gru(x, state)
        return Answer(y * scale, h)


def test_arguments_by_name() -> None:
    graph = check(Named(), torch.randn(2, 7, 4))
    assert list(graph.outputs) == ["logits", "state"]
    graph = check(Named(), {"state": torch.randn(1, 1, 5), "x": torch.randn(1, 7, 4), "scale": 3.0})
    assert graph.details["call"] == "x=x, state=state, scale=3.0"
    assert [one.shape for one in graph.inputs] == [("batch", "time", 4), (1, "batch", 5)]


def test_nested_arguments() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.rand(4))

        def forward(self, batch: dict[str, Tensor], pair: tuple[Tensor, Tensor]) -> dict[str, Any]:
            return {"sum": batch["x"] * self.scale + pair[0], "both": (pair[1] * 2, batch["x"])}

    one = torch.randn(3, 4)
    graph = check(Nested(), ({"x": one}, (one, one)))
    assert graph.details["call"] == "{'x': batch_x}, (pair_0, pair_1)"
    assert list(graph.outputs) == ["sum", "both_0", "both_1"]


def test_single_precision() -> None:
    """A module in float32 stays so, and is run as it is; its graph has its numbers."""
    module = nn.Sequential(nn.Linear(4, 3), nn.Sigmoid())
    graph = graph_of(module)
    x = {"input": np.random.default_rng(2).standard_normal((5, 6, 4)).astype(np.float32)}
    found = call(module, graph, x)["output"]
    assert found.dtype == np.float32
    assert list(intermediate(module, graph, x)) == ["0", "1"]
    np.testing.assert_allclose(graph.run(x)["output"], found, atol=1e-6)
    assert call(module, graph, x, dtype="float64")["output"].dtype == np.float64
    assert module[0].weight.dtype == torch.float32
    (dense,) = (one for one in graph.operations if isinstance(one, Dense))
    np.testing.assert_array_equal(dense.kernel, module.get_parameter("0.weight").detach().numpy().T)


def test_the_module_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)).train()
    graph_of(module)
    assert module.training
    assert module[1].training
    assert not module._forward_pre_hooks


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Embedding(7, 3), ("batch", "time")),
        (nn.GRU(4, 3), ("time", "batch", 4)),
        (nn.GRUCell(4, 3), ("batch", 4)),
        (nn.Sequential(nn.Conv1d(4, 3, 5, stride=4), nn.Conv1d(3, 2, 5)), ("batch", 4, "time")),
        (nn.Sequential(nn.Linear(6, 2), nn.BatchNorm1d(2)), ("batch", 6)),
    ],
)
def test_derived_inputs(module: nn.Module, shape: tuple[Any, ...]) -> None:
    assert check(module).inputs[0].shape == shape


class Two(nn.Module):
    """Two inputs."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Their sum."""
        return left + right


@pytest.mark.parametrize(
    ("inputs", "word"),
    [
        (None, "inputs={'left': array, 'right': array}"),
        (torch.ones(3), "missing a required argument"),
        ((torch.ones(3), torch.ones(4)), "does not run on the example inputs"),
        ({"left": torch.ones(3), "wrong": torch.ones(3)}, "missing a required argument"),
    ],
)
def test_inputs_that_do_not_do(inputs: Any, word: str) -> None:
    with pytest.raises(ParityError, match=r"(?s).*") as error:
        graph_of(Two(), inputs)
    assert word in str(error.value)


class Loop(nn.Module):
    """A cell in a Python loop over the time."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Every h."""
        h, c, found = x.new_zeros(x.size(0), 5), x.new_zeros(x.size(0), 5), []
        for step in range(x.size(1)):
            h, c = self.cell(x[:, step], (h, c))
            found.append(h)
        return torch.stack(found, 1)


def test_frozen_time() -> None:
    """A loop over the steps freezes their number, and the graph says so."""
    graph = check(Loop(), torch.randn(3, 6, 4))
    assert graph.inputs[0].shape == ("batch", 6, 4)
    assert graph.details["frozen"].startswith("axis 1 of 'x' at 6")
    assert sum(isinstance(one, Recurrent) for one in graph.operations) == 1


def test_an_axis_that_only_an_operator_needs() -> None:
    graph = graph_of(cases.Of(lambda x: F.adaptive_avg_pool1d(x.mT, 4)), torch.randn(3, 12, 8))
    assert graph.inputs[0].shape == ("batch", 12, 8)
    assert "windows differ in size" in graph.details["frozen"]


def test_limits() -> None:
    """A branch on a length holds from that length on."""
    graph = graph_of(cases.Of(lambda x: x * 2 if x.size(1) > 8 else x), torch.randn(3, 12, 8))
    assert graph.details["limits"] == "time at least 9"


def test_a_height_that_one_reshape_needs() -> None:
    """The trace would keep a height of 17 for the same; the module runs with neither 32 nor 48."""
    module = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 8 * 7, 3))
    assert check(module, torch.randn(1, 1, 16, 14)).inputs[0].shape == ("batch", 1, 16, 14)


def _view_written(x: Tensor) -> Tensor:
    y = x * 1
    part = y.flatten(1)
    y.add_(1)
    return part + 1


REFUSED: dict[str, tuple[Any, str]] = {
    "cumsum": (lambda x: x.cumsum(1), "aten.cumsum"),
    "topk": (lambda x: x.topk(2)[0], "aten.topk"),
    "random": (lambda x: x + torch.rand_like(x), "random numbers"),
    "dropout": (lambda x: F.dropout(x, 0.5), "dropout that is at work"),
    "half": (lambda x: x.half().float(), "half precision"),
    "boolean index": (lambda x: x.sum((1, 2))[x.sum((1, 2)) > 0], "GuardOn|choice by truth values|nonzero"),
    "batch statistics": (lambda x: F.batch_norm(x.mT, None, None, training=True), "numbers of the batch itself"),
    "data dependent": (lambda x: x * 2 if x.sum() > 0 else x, "cannot trace"),
    "ceil": (lambda x: F.avg_pool1d(x, 3, 2, ceil_mode=True), "beyond the end"),
    "pixels": (lambda x: F.interpolate(x[:, None], scale_factor=2, mode="bilinear"), "upsample_bilinear2d"),
    "bits": (lambda x: x.long() & 3, "bits of integers"),
    "sort": (lambda x: x.sort(-1)[0], "sorting"),
    "batch variance": (lambda x: x.var(0), "corrected variance"),
    "view written": (_view_written, "in place"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    function, word = REFUSED[name]
    with pytest.raises(UnsupportedError, match=f"(?s)({word})") as error:
        graph_of(cases.Of(function), torch.randn(3, 12, 8))
    assert (
        "test_torch_graphs.py, line" in error.value.problems[0].where
        or "torch_graphs_cases" in error.value.problems[0].where
    )


def test_all_problems_at_once() -> None:
    class Many(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.ConvTranspose1d(4, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x.cumsum(1)) + self.inner(x) + x.topk(1, 1)[0]

    with pytest.raises(UnsupportedError) as error:
        graph_of(Many(), torch.randn(3, 4, 1))
    where = [problem.where for problem in error.value.problems]
    assert len(where) == 3
    assert "module 'inner'" in where[1]
    assert all("test_torch_graphs.py, line" in one for one in where)


class Remembering(nn.Module):
    """A state in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 5, batch_first=True)
        self.state: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """The next steps."""
        y, self.state = self.gru(x, self.state)
        return y


def test_a_state_that_the_module_keeps() -> None:
    with pytest.raises(UnsupportedError, match="something else at its second call"):
        graph_of(Remembering(), torch.randn(3, 7, 4))
