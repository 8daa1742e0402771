"""Weights into models with code of their own: the frameworks judge the outputs, and every wrong match is refused."""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from torch import nn

import parity
from parity.floor import measure
from parity.frameworks.torch.tensors import TorchTensor
from parity.network import Network, Recurrent
from parity.result import State
from parity.transferring import Row
from parity.transferring.matching import GIVEN, NAMED, ONLY, ORDER

MODELS = Path(__file__).parents[2] / "shared" / "models"
published = pytest.mark.skipif(not MODELS.exists(), reason="the published models are not here")

# float32 of two frameworks on these sizes: measured differences stay below 4e-7; a wrong gate, axis or bias makes more than 1e-2.
FLOOR: dict[str, Any] = {"rtol": 0, "atol": 2e-6}

FLOORS = 2.0
"""What parity allows an engine: see `parity.judge`."""


def shaken(model: Any, random: np.random.Generator) -> Any:
    """Random, non-zero values in every weight; variances above zero."""
    if isinstance(model, nn.Module):
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if tensor.is_floating_point():
                    values = random.normal(0, 0.4, tuple(tensor.shape))
                    tensor.copy_(torch.from_numpy(np.abs(values) + 0.3 if "var" in name else values))
        return model
    for variable in model.weights:
        values = random.normal(0, 0.4, variable.shape)
        variable.assign(np.abs(values) + 0.3 if "variance" in variable.name else values)
    return model


def values_of(model: Any) -> dict[str, Any]:
    if isinstance(model, nn.Module):
        # bfloat16 is no type of NumPy's; float64 holds all of them.
        return {name: tensor.double().numpy().copy() for name, tensor in model.state_dict().items()}
    return {variable.path: variable.numpy() for variable in model.weights}


def unchanged(model: Any, before: dict[str, Any]) -> bool:
    now = values_of(model)
    return all(np.array_equal(now[name], value) for name, value in before.items())


def refused(
    source: Any, target: Any, names: dict[str, str | None] | None = None, kind: type[Exception] = parity.ParityError
) -> str:
    """The message, once it is sure that the target is as it was."""
    before = values_of(target)
    with pytest.raises(kind) as caught:
        parity.transfer(source, target, names)
    assert unchanged(target, before)
    return str(caught.value)


def same(one: Any, other: Any) -> bool:
    return torch.equal(one, other)


def numbers(tensor: Any) -> Any:
    return tensor.detach().numpy()


def pasted(message: str) -> dict[str, str | None]:
    """The names to paste, taken literally."""
    found = re.search(r"names=(\{.*\})", message, re.DOTALL)
    assert found
    names: dict[str, str | None] = eval(found[1])
    return names


def keras_tagger(random: np.random.Generator) -> Any:
    """Embedding, Conv1D, BatchNormalization, two directions of LSTM, GRU, Dense; all sizes differ."""
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(11, 6, name="words"),
            keras.layers.Conv1D(7, 3, padding="same", activation="relu", name="conv"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Bidirectional(keras.layers.LSTM(5, return_sequences=True), name="both"),
            keras.layers.LayerNormalization(name="scale"),
            keras.layers.GRU(4, return_sequences=True, name="gru"),
            keras.layers.Dense(3, activation="softmax", name="classes"),
        ]
    )
    return shaken(model, random)


class Tagger(nn.Module):
    """The same network as somebody writes it in torch, its modules registered in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.second = nn.GRU(10, 4, batch_first=True)
        self.first = nn.LSTM(7, 5, batch_first=True, bidirectional=True)
        self.ln = nn.LayerNorm(10, eps=1e-3)
        self.bn = nn.BatchNorm1d(7, eps=1e-3)
        self.filters = nn.Conv1d(6, 7, 3, padding=1)
        self.table = nn.Embedding(11, 6)

    def forward(self, x: Any) -> Any:
        value = self.table(x).transpose(1, 2)
        value = self.bn(self.filters(value).relu()).transpose(1, 2)
        value = self.ln(self.first(value)[0])
        return self.head(self.second(value)[0]).softmax(-1)


def tokens(random: np.random.Generator) -> Any:
    return random.integers(0, 11, (4, 9))


def outputs(model: Any, x: Any) -> Any:
    if isinstance(model, nn.Module):
        with torch.no_grad():
            return model.eval()(torch.from_numpy(x)).numpy()
    return np.asarray(model(x, training=False))


def test_keras_into_handwritten_torch(random: np.random.Generator) -> None:
    source, target, x = keras_tagger(random), Tagger(), tokens(random)
    done = parity.transfer(source, target)
    np.testing.assert_allclose(outputs(target, x), outputs(source, x), **FLOOR)
    assert set(done.how.values()) == {ONLY}
    written = {row.target for row in done.rows}
    assert written == set(target.state_dict()) - {"bn.num_batches_tracked"}
    assert done.untouched == ("bn.num_batches_tracked",)
    assert done.unused == ()


def _swapped(tensor: Any, *order: int) -> None:
    """The gates along the first axis in another order."""
    parts = tensor.clone().chunk(len(order))
    tensor.copy_(torch.cat([parts[at] for at in order]))


MISTAKES: dict[str, Callable[[Any], Any]] = {
    "r and z of the GRU not swapped": lambda model: _swapped(model.second.weight_hh_l0, 1, 0, 2),
    "gates of the LSTM as ONNX has them": lambda model: _swapped(model.first.weight_ih_l0, 0, 3, 1, 2),
    "both directions exchanged": lambda model: model.first.weight_ih_l0.data.copy_(
        model.first.weight_ih_l0_reverse.clone()
    ),
    "the bias in both places": lambda model: model.first.bias_hh_l0.copy_(model.first.bias_ih_l0),
    "the two biases of the GRU exchanged": lambda model: model.second.bias_hh_l0.copy_(model.second.bias_ih_l0),
    "mean and variance exchanged": lambda model: model.bn.running_mean.copy_(model.bn.running_var),
    "gamma and beta exchanged": lambda model: model.ln.weight.copy_(model.ln.bias),
    "the width of the convolution turned": lambda model: model.filters.weight.copy_(model.filters.weight.flip(2)),
    "reshaped, not transposed": lambda model: model.head.weight.copy_(model.head.weight.T.reshape(3, 4)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_outputs_would_show_a_mistake(mistake: str, random: np.random.Generator) -> None:
    source, target, x = keras_tagger(random), Tagger(), tokens(random)
    parity.transfer(source, target)
    with torch.no_grad():
        MISTAKES[mistake](target)
    assert np.abs(outputs(target, x) - outputs(source, x)).max() > 1e-3


def test_handwritten_torch_into_keras(random: np.random.Generator) -> None:
    source, target, x = shaken(Tagger(), random), keras_tagger(random), tokens(random)
    done = parity.transfer(source, target)
    np.testing.assert_allclose(outputs(target, x), outputs(source, x), **FLOOR)
    assert done.unused == ("bn.num_batches_tracked",)
    assert any("summed" in row.transform for row in done.rows)
    summed = next(row for row in done.rows if row.target == "both/forward/bias")
    assert summed.source == "first.bias_ih_l0 + first.bias_hh_l0"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("both", [False, True])
def test_recurrent_layers_agree_with_the_judge(kind: str, both: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    source = shaken(getattr(nn, kind)(3, 5, num_layers=2, bidirectional=both, batch_first=True), random)
    layers = [
        getattr(keras.layers, "SimpleRNN" if kind == "RNN" else kind)(5, return_sequences=True, name=f"own_{number}")
        for number in range(2)
    ]
    layers = [keras.layers.Bidirectional(layer, name=layer.name) for layer in layers] if both else layers
    target = keras.Sequential([keras.Input((None, 3)), *layers])
    parity.transfer(source, target)
    x = random.normal(size=(2, 7, 3)).astype(np.float32)
    with torch.no_grad():
        expected = source(torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(outputs(target, x), expected, **FLOOR)
    again = getattr(nn, kind)(3, 5, num_layers=2, bidirectional=both, batch_first=True)
    parity.transfer(target, again)
    parity.assert_parity(parity.read(target).recurrent[1], parity.read(again).recurrent[1])


def test_every_row_is_hashed_from_the_target(random: np.random.Generator) -> None:
    source, target = keras_tagger(random), Tagger()
    done = parity.transfer(source, target)
    state = target.state_dict()
    for row in done.rows:
        assert hashlib.sha256(state[row.target].numpy().tobytes()).hexdigest().startswith(row.sha256)
        assert tuple(state[row.target].shape) == row.shape
    lines = str(done).splitlines()
    assert lines[0].split()[:3] == ["source", "transform", "target"]
    assert any("gates z r h -> r z n" in line for line in lines)
    assert done._repr_html_().count("<tr>") == len(done.rows) + 1


def test_html_is_escaped() -> None:
    row = Row("<b>", "as it is", "<script>", (2,), "0", "given")
    assert "<script>" not in parity.Transfer((row,), warnings=("<i>",))._repr_html_()


class Pair(nn.Module):
    def __init__(self, one: str = "encoder", two: str = "decoder") -> None:
        super().__init__()
        self.add_module(two, nn.LSTM(5, 5))
        self.add_module(one, nn.LSTM(5, 5))


def pair_of_keras(random: np.random.Generator, *names: str, layer: Any = keras.layers.LSTM) -> Any:
    layers = [layer(5, return_sequences=True, name=name) for name in names]
    return shaken(keras.Sequential([keras.Input((None, 5)), *layers]), random)


def test_two_of_equal_sizes_with_other_names_are_ambiguous(random: np.random.Generator) -> None:
    source = pair_of_keras(random, "question", "answer")
    target: Any = Pair()
    message = refused(source, target)
    for name in ("question", "answer", "encoder", "decoder", "ambiguous", "a guess"):
        assert name in message
    names = pasted(message)
    assert set(names) == {"question", "answer"}
    assert set(names.values()) == {"encoder", "decoder"}
    right = {"question": "encoder", "answer": "decoder"}
    done = parity.transfer(source, target, right)
    assert set(done.how.values()) == {GIVEN}
    kernel = np.asarray(source.get_layer("question").weights[0])
    assert np.array_equal(numbers(target.encoder.weight_ih_l0).T, kernel)


def test_pasted_names_are_accepted(random: np.random.Generator) -> None:
    source, target = pair_of_keras(random, "question", "answer"), Pair()
    assert set(parity.transfer(source, target, pasted(refused(source, target))).how.values()) == {GIVEN}


def test_equal_names_win_over_the_order_of_registration(random: np.random.Generator) -> None:
    source = pair_of_keras(random, "Encoder", "decoder")
    target: Any = Pair()
    assert set(parity.transfer(source, target).how.values()) == {NAMED}
    assert np.array_equal(numbers(target.encoder.weight_ih_l0).T, np.asarray(source.layers[0].weights[0]))


@pytest.mark.parametrize("numbered", [("rnn1", "rnn2"), ("layers.0", "layers.1"), ("rnn_9", "rnn_10")])
def test_numbered_families_go_by_their_numbers(random: np.random.Generator, numbered: tuple[str, str]) -> None:
    source, target = pair_of_keras(random, "lstm", "lstm_1"), nn.Module()
    modules = {name: nn.LSTM(5, 5) for name in numbered}
    if "." in numbered[0]:
        target.layers = nn.ModuleList(modules.values())
    else:
        for name in reversed(numbered):
            target.add_module(name, modules[name])
    done = parity.transfer(source, target)
    assert set(done.how.values()) == {ORDER}
    first = numbers(modules[numbered[0]].weight_hh_l0)
    assert np.array_equal(first.T, np.asarray(source.layers[0].weights[1]))


def test_numbers_that_contradict_the_order_of_the_data_are_ambiguous(random: np.random.Generator) -> None:
    source = pair_of_keras(random, "lstm_2", "lstm_1")
    assert "ambiguous" in refused(source, Pair("rnn1", "rnn2"))


def test_shifted_numbers_are_ambiguous(random: np.random.Generator) -> None:
    """lstm_2 has an equal name, which would leave lstm_1 for lstm_3: both wrong."""
    source = pair_of_keras(random, "lstm_1", "lstm_2")
    assert "ambiguous" in refused(source, Pair("lstm_2", "lstm_3"))


def test_one_too_many_is_never_guessed(random: np.random.Generator) -> None:
    source = pair_of_keras(random, "lstm", "lstm_1")
    target = nn.Module()
    target.rnn = nn.LSTM(5, 5)
    message = refused(source, target)
    assert "ambiguous" in message
    assert pasted(message) == {"lstm": "rnn", "lstm_1": None}
    done = parity.transfer(source, target, {"lstm_1": "rnn", "lstm": None})
    assert done.unused == ("lstm/kernel", "lstm/recurrent_kernel", "lstm/bias")


def test_square_kernels_are_not_swapped(random: np.random.Generator) -> None:
    """input == hidden: every wrong axis fits, so the outputs have to say it."""
    pairs: Any = ((keras.layers.LSTM, nn.LSTM), (keras.layers.GRU, nn.GRU))
    for layer, module in pairs:
        source = shaken(keras.Sequential([keras.Input((None, 5)), layer(5, return_sequences=True)]), random)
        target = module(5, 5, batch_first=True)
        parity.transfer(source, target)
        x = random.normal(size=(3, 6, 5)).astype(np.float32)
        with torch.no_grad():
            got = target(torch.from_numpy(x))[0].numpy()
        np.testing.assert_allclose(got, outputs(source, x), **FLOOR)
        with torch.no_grad():
            target.weight_hh_l0.copy_(target.weight_hh_l0.reshape(-1, 5, 5).transpose(1, 2).reshape(-1, 5))
            assert np.abs(target(torch.from_numpy(x))[0].numpy() - outputs(source, x)).max() > 1e-2


def test_one_bias_is_not_doubled(random: np.random.Generator) -> None:
    target = nn.LSTM(5, 5)
    source = shaken(keras.Sequential([keras.Input((None, 5)), keras.layers.LSTM(5)]), random)
    done = parity.transfer(source, target)
    bias = next(row for row in done.rows if row.target == "bias_hh_l0")
    assert bias.transform.startswith("zeros")
    assert bias.source == ""
    assert not numbers(target.bias_hh_l0).any()
    assert np.array_equal(numbers(target.bias_ih_l0), np.asarray(source.weights[2]))


def test_without_a_bias(random: np.random.Generator) -> None:
    plain = shaken(keras.Sequential([keras.Input((None, 5)), keras.layers.LSTM(4, use_bias=False)]), random)
    target = nn.LSTM(5, 4)
    parity.transfer(plain, target)
    assert not numbers(target.bias_ih_l0).any()
    message = refused(shaken(nn.LSTM(5, 4), random), plain)
    assert "unused: 'bias_ih_l0'" in message
    assert "unused: 'bias_hh_l0'" in message


def test_reset_before_does_not_go_into_torch(random: np.random.Generator) -> None:
    source = pair_of_keras(random, "gru", layer=lambda units, **kw: keras.layers.GRU(units, reset_after=False, **kw))
    target = nn.Module()
    target.gru = nn.GRU(5, 5)
    message = refused(source, target, kind=parity.UnsupportedError)
    assert "reset_after" in message
    assert "parity.to_torch" in message


def test_other_activations_do_not_go_into_torch(random: np.random.Generator) -> None:
    source = shaken(keras.Sequential([keras.Input((None, 5)), keras.layers.LSTM(4, activation="relu")]), random)
    assert "relu" in refused(source, nn.LSTM(5, 4), kind=parity.UnsupportedError)
    hard = shaken(
        keras.Sequential([keras.Input((None, 5)), keras.layers.GRU(4, recurrent_activation="hard_sigmoid")]), random
    )
    assert "hard_sigmoid" in refused(hard, nn.GRU(5, 4), kind=parity.UnsupportedError)
    parity.transfer(source, keras.models.clone_model(source))
    relu = nn.RNN(5, 4, nonlinearity="relu")
    keras_relu = shaken(
        keras.Sequential([keras.Input((None, 5)), keras.layers.SimpleRNN(4, activation="relu")]), random
    )
    parity.transfer(keras_relu, relu)
    assert "tanh" in refused(keras_relu, nn.RNN(5, 4), kind=parity.UnsupportedError)


def test_cells_and_directions_by_hand(random: np.random.Generator) -> None:
    class Hand(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left = nn.LSTMCell(3, 5)
            self.right = nn.LSTM(3, 5)

    layer = keras.layers.Bidirectional(keras.layers.LSTM(5), name="both")
    source = shaken(keras.Sequential([keras.Input((None, 3)), layer]), random)
    target = Hand()
    assert "untouched: 'left'" in refused(source, target)
    done = parity.transfer(source, target, {"both.forward": "left", "both.backward": "right"})
    assert any("other way" in text for text in done.warnings)
    kernels = [np.asarray(layer.forward_layer.cell.kernel), np.asarray(layer.backward_layer.cell.kernel)]
    assert np.array_equal(numbers(target.left.weight_ih).T, kernels[0])
    assert np.array_equal(numbers(target.right.weight_ih_l0).T, kernels[1])
    other = keras.models.clone_model(source)
    parity.transfer(target, other, {"left": "both.forward", "right": "both.backward"})
    for one, two in zip(other.weights, source.weights, strict=True):
        assert np.array_equal(one.numpy(), two.numpy())


@pytest.mark.parametrize(
    ("forward", "backward"),
    [({}, {"reset_after": False}), ({"reset_after": False}, {}), ({"use_bias": False}, {"reset_after": False})],
)
def test_directions_whose_resets_are_unlike(
    random: np.random.Generator, forward: dict[str, bool], backward: dict[str, bool]
) -> None:
    layers = keras.layers
    ahead, back = (layers.GRU(5, return_sequences=True, go_backwards=g, **o) for g, o in enumerate((forward, backward)))
    both = layers.Bidirectional(ahead, backward_layer=back, name="both")
    source = shaken(keras.Sequential([keras.Input((None, 3)), both]), random)
    target = keras.models.clone_model(source)
    done = parity.transfer(source, target)
    assert len(done.rows) == len(source.weights)
    x = random.normal(size=(2, 7, 3)).astype(np.float32)
    assert np.array_equal(outputs(target, x), outputs(source, x))


def test_projection(random: np.random.Generator) -> None:
    source, target = shaken(nn.LSTM(3, 5, proj_size=2), random), nn.LSTM(3, 5, proj_size=2)
    parity.transfer(source, target)
    assert unchanged(target, values_of(source))
    refused(source, nn.LSTM(3, 5))


def test_stacks_are_named_as_a_whole(random: np.random.Generator) -> None:
    source: Any = nn.Module()
    target: Any = nn.Module()
    source.a, source.b = (shaken(nn.GRU(5, 5, num_layers=2), random) for _ in range(2))
    target.x, target.y = nn.GRU(5, 5, num_layers=2), nn.GRU(5, 5, num_layers=2)
    refused(source, target)
    parity.transfer(source, target, {"a": "y", "b": "x"})
    assert same(target.y.weight_hh_l1, source.a.weight_hh_l1)


def test_incomplete_is_an_error_with_everything_in_it(random: np.random.Generator) -> None:
    source = shaken(nn.ModuleDict({"lstm": nn.LSTM(3, 5), "old_head": nn.Linear(5, 2)}), random)
    target = nn.ModuleDict({"lstm": nn.LSTM(3, 5), "new_head": nn.Linear(5, 7)})
    message = refused(source, target)
    assert "unused: 'old_head'" in message
    assert "untouched: 'new_head'" in message
    names = pasted(message)
    assert names == {"old_head": None, "new_head": None}
    kept = copy.deepcopy(target["new_head"])
    done = parity.transfer(source, target, names)
    assert done.unused == ("old_head.weight", "old_head.bias")
    assert done.untouched == ("new_head.weight", "new_head.bias")
    assert same(kept.weight, target["new_head"].weight)
    assert "nothing called 'nowhere'" in refused(source, target, {"nowhere": "lstm"})
    assert "twice" in refused(source, target, {"lstm": "lstm", "old_head": "lstm"})
    assert "do not fit" in refused(source, target, {"old_head": "new_head"})


def test_one_tensor_is_left_out(random: np.random.Generator) -> None:
    source, target = shaken(nn.Linear(3, 5), random), nn.Linear(3, 5, bias=False)
    assert "unused: 'bias'" in refused(source, target)
    assert parity.transfer(source, target, {"bias": None}).unused == ("bias",)


def test_unknown_layers_by_exact_names_only(random: np.random.Generator) -> None:
    class Own(nn.Module):
        def __init__(self, name: str = "attention") -> None:
            super().__init__()
            self.register_parameter(name, nn.Parameter(torch.zeros(4, 2)))

    source, target = shaken(Own(), random), Own()
    assert set(parity.transfer(source, target).how.values()) == {NAMED}
    assert same(source.attention, target.attention)
    other = Own("weights")
    assert "untouched: 'weights'" in refused(source, other)
    parity.transfer(source, other, {"attention": "weights"})
    assert same(source.attention, other.weights)


def test_tied_weights(random: np.random.Generator) -> None:
    class Tied(nn.Module):
        def __init__(self, tied: bool = True) -> None:
            super().__init__()
            self.emb = nn.Embedding(7, 4)
            self.gru = nn.GRU(4, 4)
            self.out = nn.Linear(4, 7, bias=False)
            if tied:
                self.out.weight = self.emb.weight

    table = keras.layers.Embedding(7, 4, name="emb")
    source = shaken(keras.Sequential([keras.Input((None,)), table, keras.layers.GRU(4, name="gru")]), random)
    target = Tied()
    done = parity.transfer(source, target)
    assert any("one tensor" in text for text in done.warnings)
    assert target.out.weight is target.emb.weight
    assert np.array_equal(numbers(target.emb.weight), np.asarray(table.weights[0]))
    refused(source, Tied(tied=False))
    loose = shaken(Tied(tied=False), random)
    assert "two different values" in refused(loose, Tied())
    parity.transfer(target, loose)
    assert same(loose.out.weight, target.emb.weight)


def test_types_are_exact_or_refused(random: np.random.Generator) -> None:
    source = shaken(nn.LSTM(3, 5).double(), random)
    assert "would be rounded" in refused(source, nn.LSTM(3, 5))
    single = nn.LSTM(3, 5)
    parity.transfer(shaken(nn.LSTM(3, 5), random).double(), single)
    for dtype in (torch.float16, torch.bfloat16):
        assert "would be rounded" in refused(single, nn.LSTM(3, 5).to(dtype))
        small = copy.deepcopy(single).to(dtype)
        target = nn.LSTM(3, 5).to(dtype)
        parity.transfer(small.float(), target)
        assert target.weight_ih_l0.dtype == dtype
        assert same(target.weight_ih_l0.float(), small.weight_ih_l0.float())
    wide = nn.LSTM(3, 5).double()
    parity.transfer(single, wide)
    assert same(wide.weight_ih_l0, single.weight_ih_l0.double())
    broken: Any = copy.deepcopy(single)
    with torch.no_grad():
        broken.weight_hh_l0[1, 2] = float("nan")
    assert "not finite" in refused(broken, nn.LSTM(3, 5))


def test_options_that_are_no_weights_are_told(random: np.random.Generator) -> None:
    source, target = keras_tagger(random), Tagger()
    target.bn.eps, target.filters.stride = 1e-5, (2,)
    told = "\n".join(parity.transfer(source, target).warnings)
    assert "'norm' -> 'bn': eps differs" in told
    assert "'conv' -> 'filters': stride differs" in told
    assert "apply softmax" in told
    assert "'scale' -> 'ln': eps" not in told
    told = "\n".join(parity.transfer(source, Tagger()).warnings)
    assert "eps differs" not in told
    assert "padding" not in told


def test_groups_of_the_same_shape_mean_something_else(random: np.random.Generator) -> None:
    layer = keras.layers.Conv1D(8, 3, groups=2)
    source = shaken(keras.Sequential([keras.Input((None, 8)), layer]), random)
    target: Any = nn.Module()
    target.conv = nn.Conv1d(4, 8, 3)
    assert "groups" in refused(source, target, kind=parity.UnsupportedError)
    target.conv = nn.Conv1d(8, 8, 3, groups=2)
    parity.transfer(source, target)
    x = random.normal(size=(2, 9, 8)).astype(np.float32)
    with torch.no_grad():
        got = target.conv(torch.from_numpy(x).transpose(1, 2)).transpose(1, 2).numpy()
    np.testing.assert_allclose(got, outputs(source, x), **FLOOR)


SPATIAL: dict[str, Any] = {
    "Conv2D": (lambda: keras.layers.Conv2D(5, (3, 2)), lambda: nn.Conv2d(4, 5, (3, 2)), (2, 7, 6, 4)),
    "Conv3D": (lambda: keras.layers.Conv3D(5, (3, 2, 1)), lambda: nn.Conv3d(4, 5, (3, 2, 1)), (2, 7, 6, 3, 4)),
    "Conv1DTranspose": (lambda: keras.layers.Conv1DTranspose(5, 3), lambda: nn.ConvTranspose1d(4, 5, 3), (2, 7, 4)),
    "Conv2DTranspose": (
        lambda: keras.layers.Conv2DTranspose(5, (3, 2)),
        lambda: nn.ConvTranspose2d(4, 5, (3, 2)),
        (2, 7, 6, 4),
    ),
    "GroupNormalization": (
        lambda: keras.layers.GroupNormalization(2),
        lambda: nn.GroupNorm(2, 4, eps=1e-3),
        (2, 7, 6, 4),
    ),
    "RMSNormalization": (keras.layers.RMSNormalization, lambda: nn.RMSNorm(4, eps=1e-6), (2, 7, 4)),
    "PReLU": (keras.layers.PReLU, lambda: nn.PReLU(4), (3, 4)),
}


@pytest.mark.parametrize("name", SPATIAL)
def test_other_layers_compute_the_same(name: str, random: np.random.Generator) -> None:
    make, make_torch, shape = SPATIAL[name]
    source, target = keras.Sequential([keras.Input(shape[1:]), make()]), make_torch()
    shaken(source, random)
    done = parity.transfer(source, target)
    assert not [text for text in done.warnings if "eps" in text or "padding" in text]
    x = random.normal(size=shape).astype(np.float32)
    first = 1 if len(shape) > 2 and name != "RMSNormalization" else -1
    with torch.no_grad():
        got = np.moveaxis(target(torch.from_numpy(np.moveaxis(x, -1, first).copy())).numpy(), first, -1)
    np.testing.assert_allclose(got, outputs(source, x), **FLOOR)
    back = keras.models.clone_model(source)
    parity.transfer(target, back)
    assert all(np.array_equal(one, two) for one, two in zip(back.weights, source.weights, strict=True))


def test_a_write_that_fails_is_taken_back(random: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = keras_tagger(random), Tagger()
    write = TorchTensor.write
    count: list[int] = []

    def failing(self: TorchTensor, native: Any) -> None:
        count.append(1)
        if len(count) == 5:
            raise RuntimeError("the device is gone")
        write(self, native)

    monkeypatch.setattr(TorchTensor, "write", failing)
    assert "the device is gone" in refused(source, target)

    def lossy(self: TorchTensor, native: Any) -> None:
        write(self, native + 1 if len(count) == 30 else native)
        count.append(1)

    count[:] = [1] * 28
    monkeypatch.setattr(TorchTensor, "write", lossy)
    assert "not what the target holds" in refused(source, target)


def test_parameters_stay_what_they_are(random: np.random.Generator) -> None:
    target = Tagger()
    target.head.weight.requires_grad_(False)
    before = dict(target.named_parameters())
    parity.transfer(keras_tagger(random), target)
    assert {name: id(tensor) for name, tensor in target.named_parameters()} == {n: id(t) for n, t in before.items()}
    assert not target.head.weight.requires_grad
    assert target.head.bias.requires_grad


def test_what_is_no_target() -> None:
    with pytest.raises(parity.ParityError, match="no live model"):
        parity.transfer(nn.LSTM(3, 5), "model.pt")
    with pytest.raises(parity.ParityError, match="no weights yet"):
        parity.transfer(nn.LSTM(3, 5), keras.layers.LSTM(5))
    with pytest.raises(parity.ParityError, match="meta"):
        parity.transfer(nn.LSTM(3, 5), nn.LSTM(3, 5, device="meta"))


def test_parametrized_sources_are_read_as_computed() -> None:
    source = nn.ModuleDict({"conv": nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 5, 2)), "gru": nn.GRU(3, 5)})
    target = nn.ModuleDict({"conv": nn.Conv1d(3, 5, 2), "gru": nn.GRU(3, 5)})
    parity.transfer(source, target)
    assert same(source["conv"].weight, target["conv"].weight)
    assert "untouched" in refused(target, source)


def test_wrapped_models_have_a_prefix(random: np.random.Generator) -> None:
    source = shaken(nn.ModuleDict({"module": nn.ModuleDict({"a": nn.GRU(5, 5), "b": nn.GRU(5, 5)})}), random)
    target = nn.ModuleDict({"b": nn.GRU(5, 5), "a": nn.GRU(5, 5)})
    assert set(parity.transfer(source, target).how.values()) == {NAMED}
    assert same(target["a"].weight_hh_l0, source["module"]["a"].weight_hh_l0)


@pytest.mark.parametrize("suffix", [".keras", ".safetensors", ".onnx"])
def test_files_are_sources(tmp_path: Path, random: np.random.Generator, suffix: str) -> None:
    source = shaken(
        keras.Sequential([keras.Input((None, 3)), keras.layers.GRU(5, return_sequences=True, name="gru")]), random
    )
    path = tmp_path / f"model{suffix}"
    source.save(tmp_path / "model.keras")
    if suffix != ".keras":
        parity.convert(tmp_path / "model.keras", path)
    target = nn.ModuleDict({"rnn": nn.GRU(3, 5, batch_first=True)})
    parity.transfer(path, target)
    x = random.normal(size=(2, 7, 3)).astype(np.float32)
    with torch.no_grad():
        got = target["rnn"](torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(got, outputs(source, x), **FLOOR)


def test_a_name_on_both_sides_is_told_apart(random: np.random.Generator) -> None:
    source = shaken(nn.ModuleDict({"a": nn.GRU(3, 3), "b": nn.GRU(3, 3), "z": nn.Linear(2, 2)}), random)
    target = nn.ModuleDict({"b": nn.GRU(3, 3), "z": nn.GRU(3, 3), "a": nn.Linear(9, 2)})
    names = pasted(refused(source, target))
    assert names == {"a": "b", "b": "z", "z": None, "target:a": None}
    done = parity.transfer(source, target, names)
    assert done.unused == ("z.weight", "z.bias")
    assert done.untouched == ("a.weight", "a.bias")
    assert same(target["z"].weight_hh_l0, source["b"].weight_hh_l0)


def test_a_layer_called_twice_is_one(tmp_path: Path, random: np.random.Generator) -> None:
    shared = keras.layers.Dense(5, name="shared")
    x = keras.Input((None, 3))
    value = keras.layers.GRU(5, return_sequences=True, name="gru")(x)
    source = shaken(keras.Model(x, shared(shared(value))), random)
    source.save(tmp_path / "model.keras")
    for given in (source, tmp_path / "model.keras"):
        target = nn.ModuleDict({"gru": nn.GRU(3, 5), "shared": nn.Linear(5, 5)})
        parity.transfer(given, target)
        assert np.array_equal(numbers(target["shared"].weight).T, shared.kernel.numpy())


def test_a_file_that_does_not_say_what_a_tensor_is(tmp_path: Path, random: np.random.Generator) -> None:
    source = shaken(nn.ModuleDict({"table": nn.Embedding(5, 3), "gru": nn.GRU(3, 5)}), random)
    torch.save(source.state_dict(), tmp_path / "model.pt")
    plain = nn.ModuleDict({"e": nn.Embedding(5, 3), "gru": nn.GRU(3, 5)})
    assert any("does not say" in text for text in parity.transfer(tmp_path / "model.pt", plain).warnings)
    assert same(plain["e"].weight, source["table"].weight)
    both = nn.ModuleDict({"p": nn.Linear(3, 5, bias=False), "e": nn.Embedding(5, 3), "gru": nn.GRU(3, 5)})
    message = refused(tmp_path / "model.pt", both)
    assert "does not say what 'table' is" in message
    parity.transfer(tmp_path / "model.pt", both, {"table": "e", "p": None})
    assert same(both["e"].weight, source["table"].weight)


# ---- what a hard critic found


def sequential(random: np.random.Generator, shape: tuple[int | None, ...], *layers: Any) -> Any:
    return shaken(keras.Sequential([keras.Input(shape), *layers]), random)


def told(source: Any, target: Any, names: dict[str, str | None] | None = None) -> str:
    return "\n".join(parity.transfer(source, target, names).warnings)


def test_tensors_named_as_the_table_shows_them_keep_their_axes(random: np.random.Generator) -> None:
    source, target = sequential(random, (4,), keras.layers.Dense(4, name="d")), nn.ModuleDict({"fc": nn.Linear(4, 4)})
    done = parity.transfer(source, target, {"d/kernel": "fc.weight", "d/bias": "fc.bias"})
    assert [row.transform for row in done.rows] == ["transposed", "as it is"]
    assert np.array_equal(numbers(target["fc"].weight).T, source.layers[0].kernel.numpy())
    message = refused(source, target, {"d/kernel": "fc.bias"})
    assert "not the same part" in message
    assert 'names={"d": "fc"}' in message
    lstm = sequential(random, (None, 4), keras.layers.LSTM(4, name="l"))
    torch_lstm = nn.LSTM(4, 4)
    parity.transfer(lstm, torch_lstm, {"l/kernel": "weight_ih_l0", "l/recurrent_kernel": "weight_hh_l0"})
    assert np.array_equal(numbers(torch_lstm.weight_hh_l0).T, lstm.weights[1].numpy())


def test_tensors_of_untyped_files_keep_their_axes(tmp_path: Path, random: np.random.Generator) -> None:
    source = shaken(nn.ModuleDict({"fc": nn.Linear(4, 4)}), random)
    torch.save(source.state_dict(), tmp_path / "model.pt")
    target = sequential(random, (4,), keras.layers.Dense(4, name="d"))
    parity.transfer(tmp_path / "model.pt", target, {"fc.weight": "d/kernel", "fc.bias": "d/bias"})
    assert np.array_equal(numbers(source["fc"].weight).T, target.layers[0].kernel.numpy())


def crossed_graph(layer: Callable[[], Any], features: tuple[int | None, ...], middle: Any = None) -> Any:
    """The layer that was made first stands last, so that Keras's own numbers are against the order of the data."""
    keras.utils.clear_session()
    late, early = layer(), layer()
    x = keras.Input(features)
    value = early(x)
    return keras.Model(x, late(middle(value) if middle else value))


@pytest.mark.parametrize("suffix", ["live", ".keras", ".h5", ".weights.h5"])
def test_numbers_of_keras_against_the_order_decide_nothing(
    tmp_path: Path, random: np.random.Generator, suffix: str
) -> None:
    norms = shaken(crossed_graph(keras.layers.BatchNormalization, (4,)), random)
    source: Any = tmp_path / f"model{suffix}"
    if suffix == "live":
        source = norms
    else:
        (norms.save_weights if suffix == ".weights.h5" else norms.save)(source)
    target = nn.Sequential(nn.BatchNorm1d(4, eps=1e-3), nn.BatchNorm1d(4, eps=1e-3))
    assert "ambiguous" in refused(source, target)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_the_order_of_a_partial_network_is_that_of_its_file(
    tmp_path: Path, random: np.random.Generator, suffix: str
) -> None:
    keras.utils.clear_session()
    target = nn.Sequential(nn.BatchNorm1d(4, eps=1e-3), nn.BatchNorm1d(4, eps=1e-3))
    automatic = sequential(random, (4,), *(keras.layers.BatchNormalization() for _ in range(2)))
    automatic.save(tmp_path / f"agrees{suffix}")
    assert set(parity.transfer(tmp_path / f"agrees{suffix}", target).how.values()) == {ORDER}
    own = sequential(random, (4,), *(keras.layers.BatchNormalization(name=name) for name in ("own_2", "own_1")))
    own.save(tmp_path / f"contrary{suffix}")
    assert "ambiguous" in refused(tmp_path / f"contrary{suffix}", target)


def test_creation_is_no_order(tmp_path: Path, random: np.random.Generator) -> None:
    class Own(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.decoder = keras.layers.LSTM(4, return_sequences=True)
            self.encoder = keras.layers.LSTM(4, return_sequences=True)

        def call(self, x: Any) -> Any:
            return self.decoder(self.encoder(x))

    keras.utils.clear_session()
    source = Own()
    source(np.zeros((1, 3, 4), np.float32))
    shaken(source, random)
    source.save_weights(tmp_path / "own.weights.h5")
    for given in (source, tmp_path / "own.weights.h5"):
        assert "ambiguous" in refused(given, nn.LSTM(4, 4, num_layers=2))
    assert "ambiguous" in refused(nn.LSTM(4, 4, num_layers=2), source)
    stacked = keras.layers.RNN([keras.layers.LSTMCell(4), keras.layers.LSTMCell(4)])
    parity.transfer(sequential(random, (None, 4), stacked), nn.LSTM(4, 4, num_layers=2))


class Twins(keras.layers.Layer):  # type: ignore[misc]
    def build(self, shape: Any) -> None:
        self.left = self.add_weight(shape=(3, 3), name="w")
        self.right = self.add_weight(shape=(3, 3), name="w")

    def call(self, x: Any) -> Any:
        return keras.ops.matmul(keras.ops.matmul(x, self.left), self.right)


def test_weights_of_one_name_are_not_exchanged(random: np.random.Generator) -> None:
    source, target = (sequential(random, (3,), Twins(name="twins")) for _ in range(2))
    parity.transfer(source, target)
    assert np.array_equal(source.layers[0].left.numpy(), target.layers[0].left.numpy())
    assert np.array_equal(source.layers[0].right.numpy(), target.layers[0].right.numpy())


def test_weights_that_no_attribute_tells_apart_are_refused(random: np.random.Generator) -> None:
    class Listed(keras.layers.Layer):  # type: ignore[misc]
        def build(self, shape: Any) -> None:
            self.kept = [self.add_weight(shape=(3, 3), name="w") for _ in range(2)]

    source, target = (sequential(random, (3,), Listed(name="listed")) for _ in range(2))
    assert "listed/w#2" in refused(source, target)
    names: dict[str, str | None] = {"listed/w#1": "listed/w#1", "listed/w#2": "listed/w#2"}
    parity.transfer(source, target, names)
    assert all(np.array_equal(one, two) for one, two in zip(source.weights, target.weights, strict=True))


def test_layers_of_one_name_can_be_named(random: np.random.Generator) -> None:
    class Own(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first = keras.layers.Dense(4, name="d")
            self.second = keras.layers.Dense(4, name="d")

        def call(self, x: Any) -> Any:
            return self.second(self.first(x))

    source: Any = Own()
    target = nn.ModuleDict({"p": nn.Linear(4, 4), "q": nn.Linear(4, 4)})
    source(np.zeros((1, 4), np.float32))
    shaken(source, random)
    names = pasted(refused(source, target))
    assert set(names) == {"first", "second"}
    parity.transfer(source, target, {"first": "q", "second": "p"})
    assert np.array_equal(numbers(target["q"].weight).T, source.first.kernel.numpy())


def test_go_backwards_comes_out_turned(random: np.random.Generator) -> None:
    x = keras.Input((None, 4))
    parts = [
        keras.layers.LSTM(3, return_sequences=True, go_backwards=back, name=name)(x)
        for name, back in (("f", False), ("b", True))
    ]
    source = shaken(keras.Model(x, parts), random)
    target = nn.LSTM(4, 3, batch_first=True, bidirectional=True)
    assert "flip the output" in told(source, target, {"f": "lstm.forward", "b": "lstm.backward"})
    given = random.normal(size=(2, 5, 4)).astype(np.float32)
    with torch.no_grad():
        got = target(torch.from_numpy(given))[0].numpy()
    forward, backward = (np.asarray(one) for one in source(given))
    np.testing.assert_allclose(got, np.concatenate([forward, backward[:, ::-1]], -1), **FLOOR)


def flattening(random: np.random.Generator) -> tuple[Any, Any, Any]:
    layers = (keras.layers.Conv2D(3, 3, name="c"), keras.layers.Flatten(), keras.layers.Dense(5, name="d"))
    source = sequential(random, (6, 5, 2), *layers)
    target = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(36, 5))
    return source, target, random.normal(size=(2, 6, 5, 2)).astype(np.float32)


def test_a_flattened_image_has_its_channels_in_another_order(tmp_path: Path, random: np.random.Generator) -> None:
    source, target, x = flattening(random)
    words = told(source, target)
    assert "(4, 3, 3) -> (3, 4, 3)" in words
    weight = target[2].weight
    remedy = re.search(r"columns: (weight.*?);", words)
    assert remedy
    with torch.no_grad():
        weight.copy_(eval(remedy[1], {"weight": weight.clone()}))
        got = target(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(got, outputs(source, x), rtol=0, atol=1e-5)
    source.save(tmp_path / "model.keras")
    assert "flattened image" in told(tmp_path / "model.keras", target)
    assert "flattened image" not in told(tmp_path / "model.keras", source)
    words = told(shaken(target, random), source)
    remedy = re.search(r"rows: (kernel.*?);", words)
    assert remedy
    kernel = source.layers[-1].kernel
    kernel.assign(eval(remedy[1], {"kernel": kernel.numpy()}))
    with torch.no_grad():
        got = target(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(outputs(source, x), got, rtol=0, atol=1e-5)


def test_features_that_are_no_image_are_flattened_alike(random: np.random.Generator) -> None:
    layers = (keras.layers.LSTM(3, return_sequences=True), keras.layers.Flatten(), keras.layers.Dense(5))
    source = sequential(random, (6, 2), *layers)
    assert "flattened" not in told(source, nn.ModuleDict({"l": nn.LSTM(2, 3), "d": nn.Linear(18, 5)}))


def test_normalization_computes_with_what_was_written(random: np.random.Generator) -> None:
    models = []
    for scale in (3, 1):
        layer = keras.layers.Normalization(name="n")
        layer.adapt(random.normal(size=(50, 4)) * scale + scale)
        models.append(keras.Sequential([keras.Input((4,)), layer]))
    source, target = models
    parity.transfer(source, target)
    x = random.normal(size=(3, 4)).astype(np.float32)
    np.testing.assert_array_equal(outputs(target, x), outputs(source, x))


@pytest.mark.parametrize("layer", [keras.layers.LayerNormalization, keras.layers.RMSNormalization])
def test_another_axis_is_another_layer(layer: Any, random: np.random.Generator) -> None:
    module = nn.LayerNorm(4) if layer is keras.layers.LayerNormalization else nn.RMSNorm(4)
    source = sequential(random, (4, 4), layer(axis=1, name="n"))
    assert "axis differs" in refused(source, module, kind=parity.UnsupportedError)
    last = sequential(random, (4, 4), layer(axis=2, name="n"))
    assert "axis differs" in refused(source, last, kind=parity.UnsupportedError)
    assert "axis" not in told(last, module)


OTHERWISE: dict[str, Any] = {
    "batch_norm": lambda random: (
        sequential(random, (4, 4), keras.layers.BatchNormalization(axis=1)),
        nn.BatchNorm1d(4),
        "axis differs",
    ),
    "leaky": lambda random: (
        *(
            sequential(
                random, (4,), keras.layers.Dense(3, activation=keras.layers.LeakyReLU(negative_slope=s), name="d")
            )
            for s in (0.3, 0.1)
        ),
        "negative_slope=0.3",
    ),
    "lambda": lambda random: (
        *(
            sequential(random, (4,), keras.layers.Dense(3, activation=f, name="d"))
            for f in (lambda x: 2 * x, lambda x: 3 * x)
        ),
        "activation differs",
    ),
    "padding_mode": lambda _: (
        nn.Conv1d(4, 3, 3, padding=1, padding_mode="circular"),
        nn.Conv1d(4, 3, 3, padding=1),
        "padding_mode differs",
    ),
    "output_padding": lambda _: (
        nn.ConvTranspose1d(4, 3, 3, 2, padding=1, output_padding=1),
        nn.ConvTranspose1d(4, 3, 3, 2, padding=1),
        "padding differs",
    ),
    "transposed same": lambda random: (
        sequential(random, (9, 4), keras.layers.Conv1DTranspose(3, 3, strides=2, padding="same")),
        nn.ConvTranspose1d(4, 3, 3, 2, padding=1, output_padding=1),
        "padding differs",
    ),
    "transposed, short kernel": lambda random: (
        sequential(random, (9, 4), keras.layers.Conv1DTranspose(3, 2, strides=3)),
        nn.ConvTranspose1d(4, 3, 2, 3),
        "padding differs",
    ),
    "masking": lambda random: (
        sequential(random, (None, 4), keras.layers.Masking(), keras.layers.LSTM(3)),
        nn.LSTM(4, 3),
        "masked steps",
    ),
    "batch_first": lambda _: (nn.LSTM(4, 3, batch_first=True), nn.LSTM(4, 3), "batch_first"),
}


@pytest.mark.parametrize("name", OTHERWISE)
@pytest.mark.filterwarnings("ignore:The object being serialized")
def test_what_else_changes_the_numbers_is_told(name: str, random: np.random.Generator) -> None:
    source, target, words = OTHERWISE[name](random)
    assert words in told(source, target)
    assert words not in told(source, source)


def test_paddings_that_are_the_same_are_not_told(random: np.random.Generator) -> None:
    assert "padding" not in told(nn.Conv2d(4, 3, (3, 5), padding=(1, 2)), nn.Conv2d(4, 3, (3, 5), padding="same"))
    for kernel, stride, more in ((3, 1, 0), (2, 3, 1)):
        layer = keras.layers.Conv1DTranspose(3, kernel, strides=stride)
        source, module = (
            sequential(random, (9, 4), layer),
            nn.ConvTranspose1d(4, 3, kernel, stride, output_padding=more),
        )
        assert "padding" not in told(source, module)
        x = random.normal(size=(2, 9, 4)).astype(np.float32)
        with torch.no_grad():
            got = module(torch.from_numpy(x).transpose(1, 2)).transpose(1, 2).numpy()
        np.testing.assert_allclose(got, outputs(source, x), **FLOOR)


def test_half_of_a_pair_is_not_left_out(random: np.random.Generator) -> None:
    source, target = sequential(random, (4,), keras.layers.Dense(3, name="d")), nn.Linear(4, 3)
    assert "nothing else goes to 'bias'" in refused(source, target, {"d/bias": None})
    kept = target.bias.detach().clone()
    done = parity.transfer(source, target, {"d/bias": None, "bias": None})
    assert same(kept, target.bias)
    assert (done.unused, done.untouched) == (("d/bias",), ("bias",))
    lstm = sequential(random, (None, 4), keras.layers.LSTM(3, name="l"))
    assert "nothing else goes to 'bias_ih_l0'" in refused(lstm, nn.LSTM(4, 3), {"l/bias": None})
    assert parity.transfer(source, target, {"bias": None}).unused == ("d/bias",)


def test_sizes_against_the_names_are_ambiguous(random: np.random.Generator) -> None:
    source = shaken(nn.ModuleDict({"mean": nn.Linear(4, 3), "var": nn.Linear(4, 5)}), random)
    target = nn.ModuleDict({"mean": nn.Linear(4, 5), "var": nn.Linear(4, 3)})
    assert "something else than the names" in refused(source, target)
    parity.transfer(source, target, {"mean": "var", "var": "mean"})
    assert same(target["var"].weight, source["mean"].weight)


def test_the_two_biases_of_a_gru_are_called_so(random: np.random.Generator) -> None:
    target = sequential(random, (None, 4), keras.layers.GRU(3, name="g"))
    done = parity.transfer(shaken(nn.GRU(4, 3), random), target)
    assert next(row for row in done.rows if row.target == "g/bias").transform.startswith(
        "stacked: the input's bias, the"
    )


def test_a_target_that_refuses_the_old_values_too(random: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    target = nn.Linear(4, 3)

    def broken(self: TorchTensor, _: Any) -> None:
        with torch.no_grad():
            self.tensor.zero_()
        raise RuntimeError("no")

    monkeypatch.setattr(TorchTensor, "write", broken)
    with pytest.raises(parity.ParityError, match="not all of its old values"):
        parity.transfer(shaken(nn.Linear(4, 3), random), target)


def test_big_endian(tmp_path: Path, random: np.random.Generator) -> None:
    weight = random.normal(size=(3, 4)).astype(">f4")
    arrays: Any = {"fc.weight": weight, "fc.bias": np.ones(3, ">f4")}
    np.savez(tmp_path / "model.npz", **arrays)
    target = nn.ModuleDict({"fc": nn.Linear(4, 3)})
    parity.transfer(tmp_path / "model.npz", target)
    assert np.array_equal(numbers(target["fc"].weight), weight)


@pytest.mark.parametrize("names", [5, "x", [("0", "0")], {"0": {"a": 1}}, {"0": ["a"]}, {1: "0"}])
def test_names_that_are_none(names: Any) -> None:
    assert "names=" in refused(nn.Linear(4, 3), nn.Linear(4, 3), names)


def test_a_direction_is_left_out_in_any_order(random: np.random.Generator) -> None:
    source = sequential(random, (None, 4), keras.layers.Bidirectional(keras.layers.LSTM(3), name="bi"))
    for keys in (("bi.forward", "bi.backward"), ("bi.backward", "bi.forward")):
        names = {"bi.forward": "lstm", "bi.backward": None}
        parity.transfer(source, nn.LSTM(4, 3), {key: names[key] for key in keys})
    target: Any = nn.LSTM(4, 3, bidirectional=True)
    kept = target.weight_hh_l0.detach().clone()
    parity.transfer(source, target, {"bi.forward": None, "lstm.forward": None})
    assert same(kept, target.weight_hh_l0)
    assert np.array_equal(numbers(target.weight_hh_l0_reverse).T, source.layers[0].backward_layer.cell.recurrent_kernel)


@pytest.mark.parametrize("stored", [False, True])
def test_a_cell_of_raw_parameters(tmp_path: Path, random: np.random.Generator, stored: bool) -> None:
    class Cell(nn.Module):
        def __init__(self, *shape: int) -> None:
            super().__init__()
            self.W, self.U = nn.Parameter(torch.zeros(4, 12)), nn.Parameter(torch.zeros(3, 12))
            self.b = nn.Parameter(torch.zeros(12))

    model = sequential(random, (None, 4), keras.layers.LSTM(3, name="l"))
    model.save(tmp_path / "model.keras")
    source, target = (tmp_path / "model.keras" if stored else model), Cell()
    names: dict[str, str | None] = {"l/kernel": "W", "l/recurrent_kernel": "U", "l/bias": "b"}
    done = parity.transfer(source, target, names)
    for parameter, weight in zip((target.W, target.U, target.b), model.weights, strict=True):
        assert np.array_equal(numbers(parameter), weight.numpy())
    assert any("not transposed" in text for text in done.warnings)
    assert all("axes" in row.transform for row in done.rows)
    target.W = nn.Parameter(torch.zeros(12, 4))
    assert "do not fit" in refused(source, target, names)


def test_where_nothing_fits_nothing_is_there_to_paste(random: np.random.Generator) -> None:
    message = refused(shaken(nn.LSTM(4, 3), random), nn.ModuleDict({"fc": nn.Linear(5, 2)}))
    assert "no layer of the source fits" in message
    assert "names={\n" not in message


# ---- published models


class Silero(nn.Module):
    """The network of silero-vad from the README beside its weights, with names of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(128, 128)
        self.final = nn.Conv1d(128, 1, 1)
        sizes = ((129, 128, 1), (128, 64, 2), (64, 64, 2), (64, 128, 1))
        self.encoder = nn.ModuleList(nn.Conv1d(a, b, 3, stride, 1) for a, b, stride in sizes)
        self.stft = nn.Conv1d(1, 258, 256, 128, bias=False)

    def forward(self, x: Any, state: Any) -> Any:
        value = self.stft(nn.functional.pad(x[:, None], (0, 64), mode="reflect"))
        value = (value[:, :129] ** 2 + value[:, 129:] ** 2).sqrt()
        for layer in self.encoder:
            value = layer(value).relu()
        state = self.cell(value.squeeze(-1), state)
        return self.final(state[0].relu()[..., None]).sigmoid().mean(2), state


@published
def test_silero_state_dict() -> None:
    expected = np.load(MODELS / "silero_vad_expected.npz")
    target = Silero()
    done = parity.transfer(MODELS / "silero_vad_16k.safetensors", target)
    states = np.concatenate([np.zeros((1, 2, 1, 128), np.float32), expected["safetensors_state"]])
    with torch.no_grad():
        for step, x in enumerate(expected["safetensors_lstm_input"]):
            after = target.cell(torch.from_numpy(x)[None], tuple(torch.from_numpy(states[step])))
            np.testing.assert_allclose(torch.stack(after).numpy(), states[step + 1], rtol=1e-5, atol=5e-6)
            prob = float(target.final(after[0].relu()[..., None]).sigmoid().mean())
            assert abs(prob - expected["safetensors_prob"].reshape(-1)[step]) < 2e-6
    assert len(done.rows) == len(target.state_dict())


@published
def test_silero_onnx() -> None:
    expected = np.load(MODELS / "silero_vad_expected.npz")
    target = Silero()
    parity.transfer(MODELS / "silero_vad_16k_op15.onnx", target)
    audio = np.concatenate([np.zeros(64, np.float32), expected["audio"]])
    state, probs = (torch.zeros(1, 128), torch.zeros(1, 128)), []
    with torch.no_grad():
        for start in range(0, len(audio) - 64, 512):
            prob, state = target(torch.from_numpy(audio[start : start + 576])[None], state)
            probs.append(float(prob))
    # The README beside the model measured 7e-7 for a module written so.
    np.testing.assert_allclose(probs, expected["onnx_prob"].reshape(-1), rtol=0, atol=5e-6)


def over_the_floor(layer: Recurrent, x: Any) -> Callable[[Any], float]:
    """How far a sequence lies from the float64 reference, in units of the float32 noise of this very run."""
    shape = layer.spec.state_shape("h", len(x))
    band = measure(Network(layer.name, (layer,)), x, {layer.name: State(np.zeros(shape), np.zeros(shape))}).bands[
        "sequence"
    ]
    assert band.comparable.all()
    reference, noise = band.reference.reshape(*x.shape[:2], -1), band.floor.reshape(*x.shape[:2], 1)
    return lambda sequence: float((np.abs(sequence - reference) / noise).max())


@published
def test_textgenrnn() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(465, 100)
            self.rnn1, self.rnn2 = nn.LSTM(100, 128, batch_first=True), nn.LSTM(128, 128, batch_first=True)
            self.attention = nn.Parameter(torch.zeros(356, 1))
            self.head = nn.Linear(356, 465)

    expected, target = np.load(MODELS / "textgenrnn_expected.npz"), Own()
    network = parity.read(MODELS / "textgenrnn_weights.hdf5")
    assert "attention" in refused(MODELS / "textgenrnn_weights.hdf5", target)
    done = parity.transfer(MODELS / "textgenrnn_weights.hdf5", target, {"attention/attention_W": "attention"})
    x = target.table(torch.from_numpy(expected["x"]).long()).detach().numpy()
    for layer, given, module in zip(network.recurrent, (x, expected["rnn_1"]), (target.rnn1, target.rnn2), strict=True):
        distance = over_the_floor(layer, given)
        with torch.no_grad():
            assert distance(module(torch.from_numpy(given))[0].numpy()) <= FLOORS
        assert distance(expected[layer.name]) <= FLOORS
    assert len(done.rows) == len(target.state_dict())
    assert any("assumed" in text for text in done.warnings)


@published
def test_ethnicolr() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.lstm, self.table = (
                nn.Linear(128, 4),
                nn.LSTM(32, 128, batch_first=True),
                nn.Embedding(977, 32),
            )

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(self.table(x))[0][:, -1]).softmax(-1)

    expected, target = np.load(MODELS / "census2010_ln_lstm_expected.npz"), Own()
    parity.transfer(MODELS / "census2010_ln_lstm.h5", target)
    np.testing.assert_allclose(outputs(target, expected["x"].astype(np.int64)), expected["y"], rtol=0, atol=2e-6)
