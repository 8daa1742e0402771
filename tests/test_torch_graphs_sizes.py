"""Modules that decide by the size of their inputs: refused, frozen or limited, and the code that is written checks it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import parity
from parity.errors import ShapeError, UnsupportedError
from parity.frameworks.torch.whole import call, graph_of
from parity.graph.folder import write_code
from parity.graph.inputs import check_graph_inputs
from parity.graph.reading_notes import frozen_lengths, length_limits, reading_notes
from parity.graph.torch_code import torch_code
from parity.sources import open_source


class Deciding(nn.Module):
    """A layer, and what a function makes of its result and its input."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """What the function says."""
        return self.function(self.layer(x), x)


class Loop(nn.Module):
    """The last state of a cell, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        """The state after the last step."""
        h = c = x.new_zeros(x.size(0), 4)
        for step in range(x.size(1)):
            h, c = self.cell(x[:, step], (h, c))
        return h


def _short_refused(y: Tensor, x: Tensor) -> Tensor:
    if x.shape[1] in (1, 2):
        raise ValueError("too short")
    return y


BATCHES: dict[str, tuple[Any, str]] = {
    "even": (lambda y, x: y * 2 if x.shape[0] % 2 == 0 else y, "batch 1, 3"),
    "one": (lambda y, x: y * 2 if x.shape[0] == 1 else y, "batch 1"),
    "seventeen": (lambda y, x: y * 2 if x.shape[0] == 17 else y, "batch 17"),
    "as many as steps": (lambda y, x: y * 2 if x.shape[0] == x.shape[1] else y, "batch 6"),
    "squeezed": (lambda y, _: y.squeeze(), "batch 1"),
}
FROZEN: dict[str, tuple[Any, str]] = {
    "even": (lambda y, x: y * 2 if x.shape[1] % 2 == 0 else y, "time 1, 3"),
    "multiple": (lambda y, x: y * 2 if x.shape[1] % 16 == 0 else y, "time 16"),
    "seven": (lambda y, x: y * 2 if x.shape[1] == 7 else y, "time 7"),
}
LIMITED: dict[str, tuple[Any, int]] = {
    "traced": (lambda y, x: y * 2 if x.shape[1] > 3 else y, 4),
    "one step": (lambda y, x: y * 2 if x.shape[1] == 1 else y, 2),
    "squeezed": (lambda y, _: y.squeeze(1), 2),
    "refused": (_short_refused, 3),
}


@pytest.mark.parametrize("name", BATCHES)
def test_a_module_that_decides_by_its_batch(name: str) -> None:
    function, where = BATCHES[name]
    with pytest.raises(UnsupportedError, match="decides by the size of its inputs") as error:
        graph_of(Deciding(function), torch.randn(2, 6, 3))
    (problem,) = error.value.problems
    assert where in problem.got
    assert "`if` on a size" in problem.remedy


@pytest.mark.parametrize("name", FROZEN)
def test_a_module_that_decides_by_its_steps(name: str) -> None:
    """The steps stay as many as in the example, where the graph is right for any batch."""
    function, where = FROZEN[name]
    module = Deciding(function).double()
    graph = graph_of(module, torch.randn(2, 6, 3))
    assert graph.inputs[0].shape == ("batch", 6, 3)
    assert frozen_lengths(graph) == [("x", 1, 6)]
    assert f"decides by the size of its inputs: at {where}" in graph.details["frozen"]
    x = np.random.default_rng(0).standard_normal((5, 6, 3))
    np.testing.assert_allclose(graph.run({"x": x})["output"], call(module, graph, {"x": x})["output"], atol=1e-12)


@pytest.mark.parametrize("name", LIMITED)
def test_a_least_number_of_steps(name: str) -> None:
    """The limit is sharp: at it the graph is right, and the code that is written says what is below it."""
    function, least = LIMITED[name]
    module = Deciding(function)
    graph = graph_of(module, torch.randn(2, 6, 3))
    assert graph.inputs[0].shape == ("batch", "time", 3)
    assert length_limits(graph) == {"time": (least, None)}
    written = parity.to_torch(module, inputs=torch.randn(2, 6, 3))
    x = torch.randn(3, least, 3)
    torch.testing.assert_close(written(x), module(x))
    with pytest.raises(ValueError, match=rf"x.shape\[1\] has to be at least {least} \(time\)"):
        written(x[:, 1:])
    assert any(f"time at least {least}" in note for note in written.parity_form.notes)
    with pytest.raises(ShapeError, match=f"time at least {least}"):
        check_graph_inputs(graph, torch.randn(2, least - 1, 3))


def test_a_most_number_of_steps() -> None:
    """Found where the trace has it, and checked."""
    code = torch_code(graph_of(Deciding(lambda y, x: y * 2 if x.shape[1] < 9 else y), torch.randn(2, 6, 3)))
    assert "if x.shape[1] > 8:" in code.source


@pytest.mark.parametrize(
    "module",
    [
        Deciding(lambda y, _: y),
        Deciding(lambda y, _: y * 2 if y.is_contiguous() else y),
        nn.LSTM(3, 4, batch_first=True),
    ],
    ids=["plain", "contiguous", "LSTM"],
)
def test_free_modules_stay_free(module: nn.Module) -> None:
    graph = graph_of(module, torch.randn(2, 6, 3))
    assert graph.inputs[0].shape == ("batch", "time", 3)
    assert not list(reading_notes(graph))
    assert "has to be" not in torch_code(graph).source


def test_a_module_whose_own_tensors_are_float32() -> None:
    """It does not run in float64; it is checked as it is."""

    def function(y: Tensor, x: Tensor) -> Tensor:
        wide = y @ torch.ones(4, 2)
        return wide * 2 if x.shape[0] == 1 else wide

    with pytest.raises(UnsupportedError, match="something else at batch 1"):
        graph_of(Deciding(function), torch.randn(2, 6, 3))
    free = graph_of(Deciding(lambda y, _: y @ torch.ones(4, 2)), torch.randn(2, 6, 3))
    assert free.inputs[0].shape == ("batch", "time", 3)


def test_the_module_stays_as_it_was() -> None:
    module = Deciding(lambda y, _: y).train()
    before = module.layer.weight.detach().clone()
    graph_of(module, torch.randn(2, 6, 3))
    assert module.training
    assert module.layer.weight.dtype == torch.float32
    assert torch.equal(module.layer.weight, before)


def test_a_frozen_loop_is_never_quiet() -> None:
    """The written code, its docstring, its notes, and the comparison say it."""
    module, x = Loop(), torch.randn(2, 6, 3)
    written = parity.to_torch(module, inputs=x)
    torch.testing.assert_close(written(x), module(x))
    for steps in (2, 5, 7, 12):
        with pytest.raises(ValueError, match=r"x.shape\[1\] has to be 6"):
            written(torch.randn(2, steps, 3))
    source = torch_code(graph_of(module, x)).source
    assert "x.shape[1] has to be 6" in source.partition('"""\n\nimport')[0]
    assert any("axis 1 of 'x' at 6" in note for note in written.parity_form.notes)
    assert any("axis 1 of 'x' at 6" in note for note in parity.compare(module, inputs=x, engines=["torch"]).notes)


def test_float64_is_said() -> None:
    notes = {dtype: torch_code(graph_of(nn.Linear(3, 4).to(dtype))).notes for dtype in (torch.float64, torch.float32)}
    assert "float64" in notes[torch.float64][0]
    assert notes[torch.float32] == ()


def test_a_folder_is_proved_within_the_limits(tmp_path: Path) -> None:
    """Its code refuses what is below them, so the proof must not try that."""
    module = Deciding(lambda y, x: y * 2 if x.shape[1] > 19 else y)
    opened = open_source(module, partial=True, inputs=torch.randn(2, 30, 3))
    written = write_code(opened, "torch", tmp_path / "out")
    assert written.comparison is not None
    assert any("time at least 20" in note for note in (*written.notes, *written.comparison.notes))


class PackedWithStates(nn.Module):
    """A packed sequence and initial states: with states of more layers than there are, torch itself reads past their end."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x: Tensor, h: Tensor, c: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        y, _ = self.lstm(packed, (h, c))
        return nn.utils.rnn.pad_packed_sequence(y, batch_first=True)[0]


def test_packed_sequences_with_states_do_not_end_the_process() -> None:
    random = np.random.default_rng(0)
    x, h, c = (random.standard_normal(shape).astype(np.float32) for shape in ((3, 5, 3), (1, 3, 4), (1, 3, 4)))
    network = parity.read(PackedWithStates().eval(), inputs=(x, h, c, np.array([5, 3, 1])))
    assert [layer.spec.hidden_size for layer in network.recurrent] == [4]
