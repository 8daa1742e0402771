"""Whole models as torch's exporter writes them, read as graphs and judged by ONNX Runtime at other lengths than those of the export."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from parity.graph.operations import Reshape, Squeeze, Transpose
from parity.network import Dense, Embedding, Recurrent
from tests.onnx_reading_judge import exported, judged
from tests.onnx_reading_operators import normal

BATCH_FIRST, TIME_FIRST = {0: "batch", 1: "time"}, {0: "time", 1: "batch"}


class Stacked(nn.Module):
    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__()
        self.rnn = getattr(nn, kind)(5, 7, **options)
        self.fc = nn.Linear(14 if options.get("bidirectional") else 7, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.fc(self.rnn(x)[0])
        return result


class States(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(5, 7, 2, batch_first=True, bidirectional=True)

    def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> Any:
        y, (hidden, cell) = self.rnn(x, (h, c))
        return y, hidden, cell


class Recogniser(nn.Module):
    """Convolution, batch normalization, pooling, the height folded into the features, two layers of LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.pool = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.MaxPool2d((2, 1))
        self.rnn, self.out = nn.LSTM(16, 6, 2, bidirectional=True), nn.Linear(12, 9)
        assert self.norm.running_mean is not None
        assert self.norm.running_var is not None
        nn.init.normal_(self.norm.running_mean)
        nn.init.uniform_(self.norm.running_var, 0.5, 2.0)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(torch.relu(self.norm(self.conv(x))))
        batch, channels, height, width = x.shape
        x = x.permute(3, 0, 1, 2).reshape(width, batch, channels * height)
        return torch.log_softmax(self.out(self.rnn(x)[0]), -1)


class Tagger(nn.Module):
    """Tokens, a bidirectional GRU, attention over the steps that are no padding."""

    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(11, 5, padding_idx=0)
        self.rnn = nn.GRU(5, 6, batch_first=True, bidirectional=True)
        self.score, self.out = nn.Linear(12, 1), nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> Any:
        steps, _ = self.rnn(self.emb(x))
        share = torch.softmax(self.score(steps).squeeze(-1).masked_fill(x == 0, float("-inf")), 1)
        return self.out((steps * share.unsqueeze(-1)).sum(1)), share


class Encoder(nn.Module):
    """The last states of the last layer, a dense layer, unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.fc = nn.LSTM(5, 7, 2, bidirectional=True, batch_first=True), nn.Linear(14, 3)
        self.drop = nn.Dropout(0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, (h, _) = self.rnn(x)
        found = torch.relu(self.fc(self.drop(torch.cat([h[-2], h[-1]], 1))))
        return torch.nn.functional.normalize(found, dim=1)


class Decoder(nn.Module):
    """An encoder hands its state to a decoder, which attends to it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.GRU(5, 6, batch_first=True), nn.GRU(4, 6, batch_first=True)
        self.out = nn.Linear(12, 3)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        memory, state = self.encoder(x)
        steps, _ = self.decoder(z, state)
        share = torch.softmax(steps @ memory.transpose(1, 2) / 6**0.5, -1)
        result: torch.Tensor = self.out(torch.cat([steps, share @ memory], -1))
        return result


class Folded(nn.Module):
    """Batch and time folded into one axis and unfolded by their lengths; states of zeros written out."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.fc = nn.LSTM(5, 4, 2, batch_first=True), nn.Linear(4, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, time, _ = x.shape
        zeros = torch.zeros(2, x.size(0), 4)
        steps = self.rnn(x, (zeros, zeros))[0].contiguous().view(batch * time, -1)
        result: torch.Tensor = self.fc(steps).view(batch, time, 2, 3)
        return result


class Pooled(nn.Module):
    """A mean over the steps that lengths say, after normalization and a GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(5), nn.Linear(5, 4)

    def forward(self, x: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        valid = torch.arange(x.shape[1])[None] < n[:, None]
        steps = nn.functional.gelu(self.fc(self.norm(x))) * valid[..., None]
        return steps.sum(1) / n[:, None]


@dataclass(frozen=True)
class Export:
    """A module, example inputs and other inputs, and the names of its axes."""

    make: Callable[[], nn.Module]
    examples: Mapping[str, Any]
    inputs: Mapping[str, Any]
    axes: Mapping[str, Mapping[int, str]]
    outputs: Sequence[str] = ("y",)
    layers: Mapping[type, int] = field(default_factory=dict)


TOKENS = np.array([[1, 2, 3, 4, 0, 0], [5, 6, 7, 8, 9, 10], [1, 0, 3, 0, 0, 0]])
X, OTHER = normal(2, 4, 5), normal(3, 6, 5)
EXPORTS: dict[str, Export] = {
    **{
        f"{kind} {options}": Export(
            lambda kind=kind, options=options: Stacked(kind, **options),  # type: ignore[misc]
            {"x": X},
            {"x": OTHER},
            {"x": BATCH_FIRST if "batch_first" in options else TIME_FIRST},
            layers={Recurrent: options.get("num_layers", 1), Dense: 1, Reshape: 0, Squeeze: 0},
        )
        for kind in ("LSTM", "GRU", "RNN")
        for options in ({}, {"batch_first": True}, {"bidirectional": True, "num_layers": 2, "batch_first": True})
    },
    "states": Export(
        States,
        {"x": X, "h": normal(4, 2, 7), "c": normal(4, 2, 7)},
        {"x": OTHER, "h": normal(4, 3, 7), "c": normal(4, 3, 7)},
        {"x": BATCH_FIRST, "h": {1: "batch"}, "c": {1: "batch"}},
        ("y", "hidden", "cell"),
        {Recurrent: 2, Transpose: 0, Reshape: 0},
    ),
    "recogniser": Export(
        Recogniser,
        {"x": normal(2, 1, 8, 10)},
        {"x": normal(3, 1, 8, 13)},
        {"x": {0: "batch", 3: "time"}},
        layers={Recurrent: 2},
    ),
    "tagger": Export(
        Tagger,
        {"x": np.array([[1, 2, 3, 4], [5, 6, 0, 0]])},
        {"x": TOKENS},
        {"x": BATCH_FIRST},
        ("y", "share"),
        {Embedding: 1},
    ),
    "encoder": Export(Encoder, {"x": X}, {"x": OTHER}, {"x": BATCH_FIRST}, layers={Recurrent: 2, Transpose: 0}),
    "decoder": Export(
        Decoder,
        {"x": X, "z": normal(2, 3, 4)},
        {"x": OTHER, "z": normal(3, 7, 4)},
        {"x": BATCH_FIRST, "z": {0: "batch", 1: "steps"}},
        layers={Recurrent: 2, Dense: 1},
    ),
    "folded": Export(Folded, {"x": X}, {"x": OTHER}, {"x": BATCH_FIRST}, layers={Recurrent: 2, Reshape: 2}),
    "pooled": Export(
        Pooled,
        {"x": X, "n": np.array([2, 4])},
        {"x": OTHER, "n": np.array([1, 6, 3])},
        {"x": BATCH_FIRST, "n": {0: "batch"}},
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("name", EXPORTS)
def test_export(name: str, opset: int) -> None:
    one = EXPORTS[name]
    torch.manual_seed(5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        examples = [torch.from_numpy(value) for value in one.examples.values()]
        model = exported(one.make(), examples, one.axes, opset, one.outputs, list(one.examples))
    graph = judged(model, one.inputs)
    assert [given.name for given in graph.inputs] == list(one.inputs)
    assert list(graph.outputs) == list(one.outputs)
    for kind, count in one.layers.items():
        assert sum(isinstance(node.operation, kind) for node in graph.nodes) == count, (kind, graph)


@pytest.mark.filterwarnings("ignore")
def test_names_of_modules() -> None:
    torch.manual_seed(5)
    model = exported(Recogniser(), [torch.from_numpy(normal(2, 1, 8, 10))], {"x": {0: "batch", 3: "time"}})
    graph = judged(model, {"x": normal(3, 1, 8, 11)})
    layers = {node.name: node.source for node in graph.nodes if node.operation.arrays.held}
    assert list(layers) == ["conv", "rnn", "rnn_2", "out"]  # the exporter folds the batch normalization
    assert layers["rnn"] == "/rnn/LSTM"
    assert graph.inputs[0].shape == ("batch", 1, 8, "time")


@pytest.mark.filterwarnings("ignore")
def test_tokens_stay_below_the_table() -> None:
    model = exported(Tagger(), [torch.from_numpy(TOKENS)], {"x": BATCH_FIRST}, outputs=["y", "share"])
    (given,) = judged(model, {"x": TOKENS}).inputs
    assert (given.dtype, given.below) == ("int64", 11)
