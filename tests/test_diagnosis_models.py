"""Mistakes in the layers around recurrent ones, made by hand in modules of torch: each is named with its layer; healthy ports get none."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import parity
from parity.diagnosis import diagnose
from parity.sources import Opened, open_source

Change = Callable[[Any], None]


class Function(nn.Module):
    """A function in the place of a layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        return self.function(x)


def shaken(module: nn.Module, seed: int = 5) -> nn.Module:
    """The module with random weights, biases and moving statistics, in evaluation mode."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            one = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            weight.copy_(one + 0.4 * torch.randn(weight.shape, generator=draw))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.5 * torch.randn(buffer.shape, generator=draw))
            elif name.endswith("running_var"):
                buffer.copy_(0.02 + 0.3 * torch.rand(buffer.shape, generator=draw))
    return module.eval()


class Norms(nn.Module):
    """Three kinds of normalization of (batch, time, 6)."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_norm = nn.BatchNorm1d(6, eps=1e-3)
        self.gru = nn.GRU(6, 8, batch_first=True)
        self.layer_norm = nn.LayerNorm(8, eps=1e-3)
        self.dense = nn.Linear(8, 12)
        self.group_norm = nn.GroupNorm(3, 12)

    def forward(self, x: Tensor) -> Tensor:
        """To (batch, time, 12)."""
        y = self.batch_norm(x.transpose(1, 2)).transpose(1, 2)
        y = self.layer_norm(self.gru(y)[0])
        found: Tensor = self.group_norm(self.dense(y).transpose(1, 2)).transpose(1, 2)
        return found


class Words(nn.Module):
    """Words to classes, with a skip connection and values that come together."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 5)
        self.gru = nn.GRU(5, 6, batch_first=True)
        self.square = nn.Linear(6, 6)
        self.leaky = nn.LeakyReLU(0.3)
        self.wide = nn.Linear(11, 7)
        self.gelu = nn.GELU()
        self.classes = nn.Linear(7, 4)
        self.softmax: nn.Module = nn.Softmax(-1)
        self.join: Callable[[list[Tensor]], Tensor] = self._join
        self.skip: Callable[[Tensor, Tensor], Tensor] = torch.add
        self.factor = 0.25

    @staticmethod
    def _join(values: list[Tensor]) -> Tensor:
        return torch.cat(values, dim=-1)

    def forward(self, words: Tensor) -> Tensor:
        """Of (batch, time) integers (batch, time, 4)."""
        rows = self.table(words)
        steps, _ = self.gru(rows)
        y = self.skip(steps, self.leaky(self.square(steps)))
        y = self.join([rows, y])
        found: Tensor = self.softmax(self.classes(self.gelu(self.wide(y))) * self.factor)
        return found


class Sounds(nn.Module):
    """Convolutions, pooling and a recurrent layer on (batch, 3, time)."""

    def __init__(self) -> None:
        super().__init__()
        self.causal = nn.Conv1d(3, 6, 3, dilation=2)
        self.strided = nn.Conv1d(6, 6, 3, stride=2)
        self.grouped = nn.Conv1d(6, 6, 3, padding=1, groups=2)
        self.pool: nn.Module = nn.AvgPool1d(2)
        self.gru = nn.GRU(6, 5, batch_first=True)
        self.sides = ((4, 0), (0, 1))

    def forward(self, sound: Tensor) -> Tensor:
        """The mean over time of the recurrent layer, (batch, 5)."""
        x = self.causal(F.pad(sound, self.sides[0]))
        x = self.pool(torch.tanh(self.strided(F.pad(self.grouped(x), self.sides[1]))))
        return self.reduced(self.gru(x.transpose(1, 2))[0])

    def reduced(self, x: Tensor) -> Tensor:
        """One vector for all steps."""
        return x.mean(1)


def exchange(*names: str) -> Change:
    """Tensors of a module that change places."""

    def change(module: nn.Module) -> None:
        tensors = [module.get_parameter(name) if "running" not in name else module.get_buffer(name) for name in names]
        with torch.no_grad():
            first, second = (tensor.clone() for tensor in tensors)
            tensors[0].copy_(second)
            tensors[1].copy_(first)

    return change


def put(name: str, value: Callable[[Tensor], Tensor]) -> Change:
    """A tensor of a module with other numbers."""

    def change(module: nn.Module) -> None:
        tensor = module.get_buffer(name) if "running" in name else module.get_parameter(name)
        with torch.no_grad():
            tensor.copy_(value(tensor.clone()).reshape(tensor.shape))

    return change


def option(path: str, value: Any) -> Change:
    """An attribute of a module."""

    def change(module: nn.Module) -> None:
        *owners, last = path.split(".")
        setattr(module.get_submodule(".".join(owners)), last, value)

    return change


def both(first: Change, second: Change) -> Change:
    """Two mistakes."""

    def change(module: nn.Module) -> None:
        first(module)
        second(module)

    return change


def instead(name: str, made: Callable[[Any, Tensor], Tensor]) -> Change:
    """A layer that computes something else: a function of the right layer and of x."""

    def change(module: nn.Module) -> None:
        right = module.get_submodule(name)
        setattr(module, name, Function(lambda x: made(right, x)))

    return change


def by_hand(x: Tensor, norm: Any, unbiased: bool = False, outside: bool = False, mean: bool = True) -> Tensor:
    """A layer normalization as people write it."""
    centred = x - x.mean(-1, keepdim=True) if mean else x
    variance = x.var(-1, keepdim=True, unbiased=unbiased) if mean else (x**2).mean(-1, keepdim=True)
    spread = variance.sqrt() + norm.eps if outside else (variance + norm.eps).sqrt()
    found: Tensor = centred / spread * norm.weight + norm.bias
    return found


def in_training(norm: Any, x: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, norm.weight, norm.bias, True, 0.0, norm.eps)


NORMS: dict[str, tuple[Change, str, str]] = {
    "epsilon of torch": (option("batch_norm.eps", 1e-5), "epsilon", "batch_norm"),
    "epsilon in a layer norm": (option("layer_norm.eps", 1e-5), "epsilon", "layer_norm"),
    "epsilon of no list": (option("layer_norm.eps", 0.0317), "epsilon", "layer_norm"),
    "epsilon in a group norm": (option("group_norm.eps", 1e-3), "epsilon", "group_norm"),
    "gamma and beta": (exchange("batch_norm.weight", "batch_norm.bias"), "order of the weights", "batch_norm"),
    "gamma and beta of a layer norm": (
        exchange("layer_norm.weight", "layer_norm.bias"),
        "order of the weights",
        "layer_norm",
    ),
    "root of the variance": (
        put("batch_norm.running_var", torch.sqrt),
        "standard deviation for variance",
        "batch_norm",
    ),
    "no root": (
        instead("batch_norm", lambda n, x: _channels(n, x, lambda v: v + n.eps)),
        "standard deviation for variance",
        "batch_norm",
    ),
    "epsilon outside of the root": (
        instead("batch_norm", lambda n, x: _channels(n, x, lambda v: v.sqrt() + n.eps)),
        "epsilon outside",
        "batch_norm",
    ),
    "statistics never loaded": (
        lambda module: module.batch_norm.reset_running_stats(),
        "normalization not loaded",
        "batch_norm",
    ),
    "weights never loaded": (
        lambda module: module.layer_norm.reset_parameters(),
        "normalization not loaded",
        "layer_norm",
    ),
    "training": (instead("batch_norm", in_training), "training mode", "batch_norm"),
    "unbiased": (instead("layer_norm", lambda n, x: by_hand(x, n, unbiased=True)), "unbiased variance", "layer_norm"),
    "unbiased and outside": (
        instead("layer_norm", lambda n, x: by_hand(x, n, unbiased=True, outside=True)),
        "unbiased variance",
        "layer_norm",
    ),
    "outside": (instead("layer_norm", lambda n, x: by_hand(x, n, outside=True)), "epsilon outside", "layer_norm"),
    "root mean square": (instead("layer_norm", lambda n, x: by_hand(x, n, mean=False)), "mean left out", "layer_norm"),
    "over time": (
        instead(
            "layer_norm",
            lambda n, x: (
                F.layer_norm(x.transpose(1, 2), x.shape[1:2], None, None, n.eps).transpose(1, 2) * n.weight + n.bias
            ),
        ),
        "normalized axis",
        "layer_norm",
    ),
    "over both": (
        instead("layer_norm", lambda n, x: F.layer_norm(x, x.shape[1:], None, None, n.eps) * n.weight + n.bias),
        "normalized axis",
        "layer_norm",
    ),
    "left out": (instead("layer_norm", lambda _, x: x), "normalization left out", "layer_norm"),
    "one group": (option("group_norm.num_groups", 1), "groups", "group_norm"),
}


def _channels(norm: Any, x: Tensor, spread: Callable[[Tensor], Tensor]) -> Tensor:
    """A batch normalization by hand, channels on axis 1."""
    mean, divisor, gamma, beta = (
        one[:, None] for one in (norm.running_mean, spread(norm.running_var), norm.weight, norm.bias)
    )
    return (x - mean) / divisor * gamma + beta


WORDS: dict[str, tuple[Change, str, str]] = {
    "transposed": (put("square.weight", torch.t), "kernel transposed", "square"),
    "reshaped": (
        put("wide.weight", lambda w: w.t().contiguous().reshape(w.shape)),
        "kernel reshaped",
        "wide",
    ),
    "reshaped back": (
        put("wide.weight", lambda w: w.contiguous().reshape(w.t().shape).t()),
        "kernel reshaped",
        "wide",
    ),
    "bias": (put("wide.bias", torch.zeros_like), "bias dropped", "wide"),
    "logits": (option("softmax", nn.Identity()), "activation lost", "softmax"),
    "softmax twice": (
        option("softmax", nn.Sequential(nn.Softmax(-1), nn.Softmax(-1))),
        "activation doubled",
        "softmax",
    ),
    "softmax over time": (option("softmax", nn.Softmax(1)), "softmax axis", "softmax"),
    "log_softmax": (option("softmax", nn.LogSoftmax(-1)), "another activation", "softmax"),
    "slope": (option("leaky.negative_slope", 0.01), "another activation", "leaky"),
    "slope of no list": (option("leaky.negative_slope", 0.137), "another activation", "leaky"),
    "gelu by tanh": (option("gelu", nn.GELU("tanh")), "another activation", "gelu"),
    "silu": (option("gelu", nn.SiLU()), "another activation", "gelu"),
    "no gelu": (option("gelu", nn.Identity()), "activation lost", "gelu"),
    "one row behind": (put("table.weight", lambda w: w.roll(-1, 0)), "index off by one", "table"),
    "one row before": (
        put("table.weight", lambda w: torch.cat([0 * w[:1], w[:-1]])),
        "index off by one",
        "table",
    ),
    "row of the padding": (
        put("table.weight", lambda w: torch.cat([0 * w[:1], w[1:]])),
        "padding row zero",
        "table",
    ),
    "the next word": (
        instead("table", lambda table, x: table((x + 1).clamp(max=8))),
        "index off by one",
        "table",
    ),
    "table read into its transpose": (
        put("table.weight", lambda w: w.contiguous().reshape(w.t().shape).t()),
        "table reshaped",
        "table",
    ),
    "skip from elsewhere": (
        option("skip", lambda _, other: torch.where(other > 0, other, other / 0.3) + other),
        "connection from elsewhere",
        "add",
    ),
    "scaled rows": (put("table.weight", lambda w: w * math.sqrt(5)), "embedding scaled", "table"),
    "no skip": (option("skip", lambda steps, _: steps), "connection lost", "add"),
    "skip alone": (option("skip", lambda _, other: other), "connection lost", "add"),
    "product": (option("skip", torch.mul), "merged otherwise", "add"),
    "other order": (option("join", lambda values: torch.cat(values[::-1], -1)), "inputs in another order", "cat"),
    "no factor": (option("factor", 1.0), "scaling lost", "mul"),
}

ON_EITHER_SIDE = option("sides", ((4, 0), (1, 0)))
"""Of an even length the last place of padding=1 is in no window: it is one with padding before alone."""

SOUNDS: dict[str, tuple[Change, str, str]] = {
    "causal padding lost": (option("sides", ((2, 2), (0, 1))), "padding", "causal"),
    "not causal": (option("sides", ((0, 4), (0, 1))), "padding", "causal"),
    "other side": (ON_EITHER_SIDE, "padding", "strided"),
    "flipped": (put("causal.weight", lambda w: w.flip(-1)), "kernel flipped", "causal"),
    "reshaped": (
        put("causal.weight", lambda w: w.permute(2, 1, 0).contiguous().reshape(w.shape)),
        "kernel reshaped",
        "causal",
    ),
    "channels": (put("strided.weight", lambda w: w.transpose(0, 1)), "kernel transposed", "strided"),
    "order of the channels": (put("causal.weight", lambda w: w.flip(1)), "channels reversed", "causal"),
    "bias": (put("strided.bias", torch.zeros_like), "bias dropped", "strided"),
    "groups": (
        put("grouped.weight", lambda w: w[[0, 3, 1, 4, 2, 5]]),
        "groups in another order",
        "grouped",
    ),
    "stride": (option("strided.stride", (1,)), "strides", "strided"),
    "dilation": (
        both(option("causal.dilation", (1,)), option("sides", ((2, 0), (0, 1)))),
        "dilations",
        "causal",
    ),
    "largest": (option("pool", nn.MaxPool1d(2)), "pooling function", "pool"),
    "sum": (option("reduced", lambda x: x.sum(1)), "another reduction", "mean"),
    "maximum": (option("reduced", lambda x: x.amax(1)), "another reduction", "mean"),
}


@pytest.fixture(scope="module")
def opened() -> dict[str, tuple[nn.Module, np.ndarray[Any, Any], Opened]]:
    """The right modules, inputs for them, and what parity reads of them."""
    random = np.random.default_rng(7)
    inputs = {
        "norms": random.normal(size=(4, 9, 6)).astype(np.float32),
        "words": np.concatenate([np.arange(9)[None], random.integers(0, 9, (3, 9))]),
        "sounds": random.normal(size=(4, 3, 20)).astype(np.float32),
    }
    found = {}
    for name, module in (("norms", Norms()), ("words", Words()), ("sounds", Sounds())):
        right = shaken(module)
        found[name] = (right, inputs[name], open_source(right, partial=True, inputs=inputs[name]))
    return found


CASES = [
    pytest.param(model, change, kind, layer, id=f"{model}, {words}")
    for model, table in (("norms", NORMS), ("words", WORDS), ("sounds", SOUNDS))
    for words, (change, kind, layer) in table.items()
]


@pytest.mark.parametrize(("model", "change", "kind", "layer"), CASES)
def test_outputs_alone_name_the_mistake(opened: Any, model: str, change: Change, kind: str, layer: str) -> None:
    """Nothing but what the module with the mistake gave once is known."""
    right, inputs, reference = opened[model]
    wrong = copy.deepcopy(right)
    change(wrong)
    with torch.no_grad():
        outputs = wrong(torch.from_numpy(inputs)).numpy()
    found = diagnose(reference, {"inputs": inputs, "outputs": outputs}, pairs=False)
    explanations = [found.faults, *found.alternatives]
    assert len(explanations) == (2 if change is ON_EITHER_SIDE else 1), str(found)
    for faults in explanations:
        assert [(fault.name, fault.place.layer) for fault in faults] == [(kind, layer)], str(found)
    if change is ON_EITHER_SIDE:
        assert any("19 steps in place of 20 would tell the two ways of 'padding' apart" in note for note in found.notes)


@pytest.mark.parametrize("model", ["norms", "words", "sounds"])
def test_right_outputs_get_no_cause(opened: Any, model: str) -> None:
    right, inputs, reference = opened[model]
    with torch.no_grad():
        outputs = right(torch.from_numpy(inputs)).numpy()
    found = diagnose(reference, {"inputs": inputs, "outputs": outputs}, pairs=False)
    assert found.agrees
    assert not found.faults


class Crnn(nn.Module):
    """The port of `crnn_file`, written by hand around layers that have its numbers."""

    def __init__(self, layers: Any) -> None:
        super().__init__()
        self.conv: nn.Module = copy.deepcopy(layers.conv)
        self.norm: nn.Module = copy.deepcopy(layers.norm)
        self.both: nn.Module = copy.deepcopy(layers.both)
        self.ln: nn.Module = copy.deepcopy(layers.ln)
        self.classes: nn.Module = copy.deepcopy(layers.classes)
        self.sides = (0, 1, 1, 1)
        self.slope = 0.3
        self.columns = (0, 3, 2, 1)
        self.last: Callable[[Tensor], Tensor] = nn.Softmax(-1)

    def forward(self, picture: Tensor) -> Tensor:
        """Of (batch, height, width, channels) (batch, time, classes)."""
        x = self.conv(F.pad(picture.permute(0, 3, 1, 2), self.sides))[..., :5]
        x = F.max_pool2d(F.leaky_relu(self.norm(x), self.slope), (2, 1))
        x, _ = self.both(x.permute(self.columns).flatten(2))
        return self.last(self.classes(self.ln(x)))


@pytest.fixture(scope="module")
def crnn_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small recognizer of text, as Keras keeps it."""
    import keras

    layers, random = keras.layers, np.random.default_rng(3)
    x = keras.Input((12, 10, 2), name="picture")
    y = layers.Conv2D(6, 3, strides=(1, 2), padding="same", name="conv")(x)
    y = layers.LeakyReLU(name="leaky")(layers.BatchNormalization(name="norm")(y))
    y = layers.Permute((2, 1, 3), name="turn")(layers.MaxPooling2D((2, 1), name="pool")(y))
    y = layers.Bidirectional(layers.GRU(7, return_sequences=True), name="both")(layers.Reshape((5, 36), name="flat")(y))
    y = layers.Dense(9, activation="softmax", name="classes")(layers.LayerNormalization(name="ln")(y))
    model = keras.Model(x, y, name="crnn")
    for variable in model.weights:
        numbers = random.normal(0.0, 0.4, variable.shape)
        variable.assign(0.02 + numbers**2 if "variance" in variable.path else numbers + ("gamma" in variable.path))
    path = tmp_path_factory.mktemp("models") / "crnn.keras"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def ported(crnn_file: Path) -> Crnn:
    return Crnn(parity.to_torch(crnn_file)).eval()


def epsilons(module: Any) -> None:
    module.norm.eps = module.ln.eps = 1e-5


PORTS: dict[str, tuple[Change, list[tuple[str, str]], tuple[str, ...]]] = {
    "epsilon": (option("norm.eps", 1e-5), [("epsilon", "norm")], ("1e-05", "0.001", "torch")),
    "epsilon of a layer norm": (option("ln.eps", 1e-5), [("epsilon", "ln")], ("1e-05", "0.001")),
    "both epsilons": (epsilons, [("epsilon", "")], ("'norm', 'ln'",)),
    "epsilon of no list": (option("norm.eps", 4.2e-4), [("epsilon", "norm")], ("0.00042", "0.001")),
    "slope": (option("slope", 0.01), [("another activation", "leaky")], ("slope 0.01", "slope 0.3")),
    "slope of no list": (option("slope", 0.17), [("another activation", "leaky")], ("slope 0.17",)),
    "columns": (option("columns", (0, 3, 1, 2)), [("flatten order", "flat")], ("axes 3 2",)),
    "logits": (option("last", nn.Identity()), [("activation lost", "classes")], ("logits", "softmax")),
    "softmax over time": (option("last", nn.Softmax(1)), [("softmax axis", "classes")], ("axis 1",)),
    "padding": (option("sides", (1, 1, 1, 1)), [("padding", "conv")], ("k//2",)),
    "two mistakes": (
        both(option("norm.eps", 1e-5), put("classes.bias", torch.zeros_like)),
        [("epsilon", "norm"), ("bias dropped", "classes")],
        (),
    ),
}


@pytest.mark.parametrize("words", PORTS)
def test_ports_by_hand(crnn_file: Path, ported: Crnn, words: str) -> None:
    """A model of Keras against a module of torch that runs: no inputs are given."""
    change, expected, cause = PORTS[words]
    wrong = copy.deepcopy(ported)
    change(wrong)
    found = diagnose(crnn_file, wrong, pairs=False)
    assert found.found, str(found)
    assert sorted((fault.name, fault.place.layer) for fault in found.faults) == sorted(expected), str(found)
    assert all(one in found.cause for one in cause), found.cause


def test_right_port(crnn_file: Path, ported: Crnn) -> None:
    found = diagnose(crnn_file, ported, pairs=False)
    assert found.agrees
    assert not found.faults


class Halves(nn.Module):
    """A recurrent layer in one format, and behind it a dense layer in another."""

    def __init__(self, cell: Any) -> None:
        super().__init__()
        self.rnn = cell(3, 5, batch_first=True)
        self.head = nn.Linear(5, 7)
        self.inside = torch.float32

    def forward(self, x: Tensor) -> Tensor:
        """Of (batch, time, 3) (batch, time, 7)."""
        found: Tensor = self.head(self.rnn((x * 0.3).to(self.inside))[0].float())
        return found


@pytest.mark.parametrize("cell", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_head_in_float32(cell: Any, dtype: torch.dtype) -> None:
    """The outputs are no numbers of the shorter format; what the dense layer takes is told by them."""
    right = shaken(Halves(cell))
    wrong: Any = copy.deepcopy(right)
    wrong.rnn.to(dtype)
    wrong.inside = dtype
    x = np.random.default_rng(2).normal(size=(4, 9, 3)).astype(np.float32)
    with torch.no_grad():
        outputs = wrong(torch.from_numpy(x)).numpy()
    found = diagnose(right, {"inputs": x, "outputs": outputs}, pairs=False)
    assert [fault.name for fault in found.faults] == ["precision"], str(found)
    word = str(dtype).removeprefix("torch.")
    assert f"computes in {word} up to layer 'head', which computes in float32" in found.cause, found.cause


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_noise_of_the_size_of_a_format_is_none(dtype: torch.dtype) -> None:
    """Errors as large as a shorter format makes, which it did not make."""
    right = shaken(Halves(nn.GRU))
    random = np.random.default_rng(2)
    x = random.normal(size=(4, 9, 3)).astype(np.float32)
    with torch.no_grad():
        outputs = right(torch.from_numpy(x)).numpy()
    size = float(torch.finfo(dtype).eps)
    noisy = (outputs + size * random.normal(size=outputs.shape)).astype(np.float32)
    found = diagnose(right, {"inputs": x, "outputs": noisy}, pairs=False)
    assert not found.faults, str(found)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounded_weights_are_no_constants(dtype: torch.dtype) -> None:
    """A number that stands in the code is not among the layers whose weights are rounded."""
    right = shaken(Halves(nn.GRU))
    wrong = copy.deepcopy(right).to(dtype).float()
    x = np.random.default_rng(2).normal(size=(4, 9, 3)).astype(np.float32)
    with torch.no_grad():
        outputs = wrong(torch.from_numpy(x)).numpy()
    found = diagnose(right, {"inputs": x, "outputs": outputs}, pairs=False)
    assert [(fault.name, fault.place.layer) for fault in found.faults] == [("weights rounded", "")], str(found)
    assert "constant" not in found.cause


def test_layers_are_called_as_in_the_users_model() -> None:
    """A convolution of Keras with an activation is two operations to parity, and one layer to its owner."""
    import keras

    random = np.random.default_rng(6)
    x = keras.Input((12, 3), name="x")
    conv = keras.layers.Conv1D(5, 3, padding="causal", activation="tanh", name="sounds")
    right = keras.Sequential([x, conv, keras.layers.GRU(4, return_sequences=True, name="gru")])
    right.set_weights([random.normal(0, 0.5, one.shape) for one in right.get_weights()])
    wrong = keras.models.clone_model(right)
    wrong.set_weights([one[::-1] if one.ndim == 3 else one for one in right.get_weights()])
    given = random.normal(size=(4, 12, 3)).astype(np.float32)
    found = diagnose(right, {"inputs": given, "outputs": np.asarray(wrong(given))}, pairs=False)
    assert [fault.name for fault in found.faults] == ["kernel flipped"], str(found)
    assert "layer 'sounds'" in found.cause, found.cause
