"""Recurrent layers in every form, and architectures that people port, as graphs against the modules themselves."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from parity.frameworks.torch.whole import call, graph_of
from parity.graph.noise import Float32Noise
from parity.network import Recurrent
from tests import torch_graphs_cases as cases
from tests import torch_graphs_models as models
from tests.torch_graphs_checks import LENGTHS, check, draw

STEPS = LENGTHS["time"]
LENGTHS_OF_SAMPLES = {"lengths": np.array([5, STEPS, 1, 9])}
SORTED = {"lengths": np.array([STEPS, 9, 4, 1])}


def words(batch: int, time: int) -> torch.Tensor:
    """Random words."""
    return torch.randint(1, 20, (batch, time))


def sequence(layer: Any, batch: int = 3) -> torch.Tensor:
    """Random steps for a layer, in its order of axes."""
    return torch.randn(batch, 11, 8) if layer.batch_first else torch.randn(11, batch, 8)


def states(layer: Any, batch: int = 3) -> Any:
    """Random initial states for a layer."""
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    h, c = torch.randn(count, batch, layer.proj_size or 5), torch.randn(count, batch, 5)
    return (h, c) if isinstance(layer, nn.LSTM) else h


@pytest.mark.parametrize("name", cases.RECURRENT)
def test_recurrent(name: str) -> None:
    layer: Any = cases.RECURRENT[name]
    graph = check(cases.Recurrent(layer), sequence(layer))
    assert graph.inputs[0].shape == (("batch", "time", 8) if layer.batch_first else ("time", "batch", 8))
    found = [one for one in graph.operations if isinstance(one, Recurrent)]
    assert [one.name for one in found] == (
        [f"layer_l{depth}" for depth in range(layer.num_layers)] if layer.num_layers > 1 else ["layer"]
    )


@pytest.mark.parametrize("name", cases.RECURRENT)
def test_initial_states(name: str) -> None:
    """Given for a batch of one, which the trace would freeze."""
    layer: Any = cases.RECURRENT[name]
    graph = check(cases.Stateful(layer), (sequence(layer, 1), states(layer, 1)))
    assert graph.words == (("batch", "time") if layer.batch_first else ("time", "batch"))
    assert graph.inputs[1].shape[1] == "batch"


@pytest.mark.parametrize(("total", "ordered"), [(True, False), (False, False), (False, True)])
@pytest.mark.parametrize("name", ["LSTM1", "LSTM3", "GRU4", "RNN7"])
def test_packed(name: str, total: bool, ordered: bool) -> None:
    layer: Any = cases.RECURRENT[name]
    module = cases.Packing(layer, ordered, layer.batch_first, total)
    lengths = torch.tensor([11, 7, 5] if ordered else [4, 11, 7])
    graph = check(module, (sequence(layer), lengths), SORTED if ordered else LENGTHS_OF_SAMPLES)
    assert set(graph.words) == {"batch", "time"}
    assert ("total_length" in graph.details.get("packed", "")) is not total


def test_sorted_by_hand() -> None:
    graph = check(cases.SortedByHand(), (torch.randn(3, 11, 8), torch.tensor([4, 11, 7])), LENGTHS_OF_SAMPLES)
    assert [one.name for one in graph.operations if type(one).__name__ == "Take"] == ["longest_fills_time"]


def test_a_place_counted_from_the_end() -> None:
    """A sample without a step takes the last one, as torch does."""
    module = cases.Of(lambda x: x[torch.arange(x.size(0)), (x[:, 0, 0] * 0).long() - 1])
    check(module, torch.randn(3, 11, 8))


@pytest.mark.parametrize(
    "cell", [nn.LSTMCell(8, 5), nn.GRUCell(8, 5, bias=False), nn.RNNCell(8, 5, nonlinearity="relu")]
)
def test_cells(cell: nn.Module) -> None:
    check(cell)
    graph = check(cases.Looped(cell, 4), torch.randn(3, 6, 8))
    assert [one.name for one in graph.operations if isinstance(one, Recurrent)] == ["cell"]


def test_unbatched() -> None:
    assert check(cases.Recurrent(nn.LSTM(4, 5)), torch.randn(7, 4)).inputs[0].shape == ("time", 4)


ONE_STATE = tuple(torch.randn(1, 1, size) for size in (6, 6, 5, 5))

MODELS: dict[str, tuple[nn.Module, Any, tuple[tuple[Any, ...], ...]]] = {
    "CRNN": (models.TextRecogniser(), torch.randn(1, 1, 16, 24), (("batch", 1, 16, "time"),)),
    "DeepSpeech2": (models.SpeechRecogniser(), torch.randn(2, 1, 16, 21), (("batch", 1, 16, "time"),)),
    "translator": (models.Translator(), (words(3, 9), words(3, 7)), (("batch", "time"), ("batch", "target_time"))),
    "Tacotron2": (models.TextEncoder(), None, (("batch", "time"),)),
    "OpenUnmix": (models.Unmixer(), torch.randn(1, 2, 7, 13), (("batch", 2, 7, "time"),)),
    "DTLN": (
        models.Denoiser(),
        (torch.randn(1, 4, 9), ONE_STATE),
        (("batch", "time", 9), *((1, "batch", size) for size in (6, 6, 5, 5))),
    ),
    "DTLN, one step": (
        models.Denoiser(),
        (torch.randn(1, 1, 9), ONE_STATE),
        (("batch", "time", 9), *((1, "batch", size) for size in (6, 6, 5, 5))),
    ),
    "Resemblyzer": (models.VoiceEncoder(), None, (("batch", "time", 10),)),
    "tagger": (
        models.Tagger(),
        {"lengths": torch.tensor([4, 11, 6]), "words": words(3, 11)},
        (("batch", "time"), ("batch",)),
    ),
    "forecaster": (
        models.Forecaster(),
        {"static": torch.randn(1, 3), "past": torch.randn(1, 9, 4)},
        (("batch", "time", 4), ("batch", 3)),
    ),
    "picker": (models.Picker(), torch.randn(2, 3, 40), (("batch", 3, "time"),)),
    "detector": (
        models.VoiceDetector(),
        (torch.randn(1, 64), torch.randn(2, 1, 6)),
        (("batch", "time"), (2, "batch", 6)),
    ),
    "streamer": (
        models.Streamer(),
        (torch.randn(1, 5), ((torch.randn(1, 6), torch.randn(1, 6)), torch.randn(1, 4))),
        (("batch", 5), ("batch", 6), ("batch", 6), ("batch", 4)),
    ),
    "last step": (
        models.LastStep(),
        (torch.randn(3, 11, 4), torch.tensor([4, 11, 6])),
        (("batch", "time", 4), ("batch",)),
    ),
    "shared": (models.Shared(), (words(3, 9), words(3, 7)), (("batch", "time"), ("batch", "right_time"))),
    "positions": (models.Positioned(), torch.randn(2, 9, 6), (("batch", "time", 6),)),
    "masked attention": (
        models.Attending(),
        (torch.randn(3, 11, 8), torch.arange(11)[None] >= torch.tensor([[11], [4], [7]])),
        (("batch", "time", 8), ("batch", "time")),
    ),
    "decoder layer": (
        models.Decoding(),
        (torch.randn(3, 11, 8), torch.randn(3, 9, 8)),
        (("batch", "time", 8), ("batch", "memory_time", 8)),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_models(name: str) -> None:
    module, inputs, shapes = MODELS[name]
    given: dict[str, Any] = dict(LENGTHS_OF_SAMPLES) if name in ("tagger", "last step") else {}
    if name == "masked attention":
        given["mask"] = np.arange(STEPS)[None] >= LENGTHS_OF_SAMPLES["lengths"][:, None]
    graph = check(cases.weighted(module), inputs, given)
    assert tuple(one.shape for one in graph.inputs) == shapes
    assert "frozen" not in graph.details


def test_states_are_handed_over_without_detours() -> None:
    """The encoder's states go straight into the decoder: nothing stacks and takes apart."""
    module, inputs, _ = MODELS["translator"]
    graph = check(module, inputs)
    decoder = graph.node("decoder")
    assert [str(wire) for wire in decoder.inputs[2:]] == ["encoder[1]", "encoder[2]"]


def test_outputs_by_name() -> None:
    module, inputs, _ = MODELS["tagger"]
    assert list(check(module, inputs, LENGTHS_OF_SAMPLES).outputs) == ["logits", "summary"]


@pytest.mark.parametrize(
    "name", ["CRNN", "DeepSpeech2", "translator", "OpenUnmix", "tagger", "picker", "masked attention"]
)
def test_single_precision_is_within_its_noise(name: str) -> None:
    """The module in float32 is as far from its graph as roundings of that size take the graph itself."""
    module, inputs, _ = MODELS[name]
    module = copy.deepcopy(module).float().eval()
    graph = graph_of(module, inputs)
    drawn = {**draw(graph), **({"lengths": LENGTHS_OF_SAMPLES["lengths"]} if "lengths" in str(graph.inputs) else {})}
    if name == "masked attention":
        drawn["mask"] = np.arange(STEPS)[None] >= LENGTHS_OF_SAMPLES["lengths"][:, None]
    exact, found = graph.run(drawn), call(module, graph, drawn)
    noisy = [graph.run(drawn, Float32Noise(seed)) for seed in range(4)]
    for output, array in exact.items():
        floor = max(np.sqrt(np.mean((run[output] - array) ** 2)) for run in noisy)
        assert 0 < np.sqrt(np.mean((found[output] - array) ** 2)) < 3 * floor, output
