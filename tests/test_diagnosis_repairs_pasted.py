"""Lines of a repair pasted as a stranger pastes them: run as they are printed, with the check that is printed, judged by the frameworks."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
import torch
from keras import layers as kl
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import parity
from parity.diagnosis import Diagnosis, diagnose

FEATURES, UNITS, CLASSES, WORDS = 3, 5, 4, 11
RANDOM = np.random.default_rng(5)
X = RANDOM.standard_normal((4, 9, FEATURES)).astype(np.float32)
TOKENS = RANDOM.integers(1, WORDS, (4, 9))
LENGTHS = (9, 6, 3, 8)
for row, length in enumerate(LENGTHS):
    TOKENS[row, length:] = 0


def filled(model: Any, seed: int = 7) -> Any:
    """A Keras model, or a module, with weights of which none is near zero."""
    random = np.random.default_rng(seed)

    def numbers(shape: Any) -> Any:
        return (random.uniform(0.1, 0.8, shape) * random.choice([-1.0, 1.0], shape)).astype(np.float32)

    if isinstance(model, nn.Module):
        model.load_state_dict({name: torch.from_numpy(numbers(one.shape)) for name, one in model.state_dict().items()})
        return model.eval()
    model.set_weights([numbers(one.shape) for one in model.weights])
    return model


def pasted(found: Diagnosis, **names: Any) -> Any:
    """What is called `suspect` after the lines and their check were run as they are printed, `names` being there."""
    assert found.found, str(found)
    exec(found.repair, names)
    (check,) = (line for line in found.repair.splitlines() if line.startswith("# check: "))
    exec(f"import parity\n{check.removeprefix('# check: ')}", names)
    return names["suspect"]


def largest(one: Any, other: Any) -> float:
    """The largest difference of what two models gave."""
    return float(np.abs(np.asarray(one) - np.asarray(other)).max())


def of_torch(module: nn.Module, x: Any) -> Any:
    with torch.no_grad():
        y = module(torch.from_numpy(x))
    return np.asarray(y[0] if isinstance(y, tuple) else y)


def by_onnx(model: onnx.ModelProto, x: Any) -> Any:
    runtime = __import__("onnxruntime").InferenceSession(model.SerializeToString())
    return runtime.run(None, {runtime.get_inputs()[0].name: x})[0]


def gru_in_keras(**options: Any) -> Any:
    """A functional model whose input has no name of its own."""
    x = keras.Input((None, FEATURES))
    return filled(keras.Model(x, kl.Dense(CLASSES)(kl.GRU(UNITS, return_sequences=True, **options)(x))))


def before_into_after(right: Any) -> Any:
    """A model with reset_after=True and the weights of one without."""
    wrong = gru_in_keras()
    wrong.set_weights([np.stack([w, 0 * w]) if place == 2 else w for place, w in enumerate(right.get_weights())])
    return wrong


def test_a_functional_model_whose_input_has_no_name() -> None:
    right = gru_in_keras(reset_after=False)
    wrong = before_into_after(right)
    found = diagnose(right, wrong, pairs=False)
    assert not found.replaces
    made = pasted(found, reference=right, suspect=wrong)
    assert largest(right(X), made(X)) < 1e-5 < largest(right(X), wrong(X))


def state_of(layer: Any, path: Path) -> str:
    """The blocks of a GRU of Keras with one bias as a state dict of `nn.GRU`, which cannot say that."""
    weights = parity.read(layer).recurrent[0].weights[0]
    bias = torch.from_numpy(np.array(weights.bias_input)).reshape(-1)
    kernels = {"weight_ih_l0": weights.kernel, "weight_hh_l0": weights.recurrent}
    tensors = {name: torch.from_numpy(np.array(w)).flatten(0, 1) for name, w in kernels.items()}
    torch.save({f"rnn.{name}": w for name, w in (tensors | {"bias_ih_l0": bias, "bias_hh_l0": 0 * bias}).items()}, path)
    return str(path)


def test_a_state_dict_gives_way_to_a_file_that_is_written(tmp_path: Path) -> None:
    """Keras's file is right, and what torch has no layer for."""
    x = keras.Input((None, FEATURES))
    right = filled(keras.Model(x, kl.GRU(UNITS, return_sequences=True, reset_after=False, name="g")(x)))
    right.save(tmp_path / "right.keras")
    path = state_of(right, tmp_path / "port.pt")
    before = Path(path).read_bytes()
    found = diagnose(str(tmp_path / "right.keras"), path, pairs=False)
    assert found.replaces
    assert "torch.nn.GRU has no reset_after=False" in found.repair
    made = pasted(found)
    assert made == str(tmp_path / "port-mended.pt")
    assert Path(path).read_bytes() == before
    y = of_torch(parity.to_torch(made), X)
    assert largest(right(X), y) < 1e-5
    with pytest.raises(FileExistsError):
        exec(found.repair, {})


def test_a_layer_of_torch_in_the_place_of_a_keras_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras refuses what it is patched with: the layer itself is written as a file beside the user's."""
    right = filled(nn.GRU(FEATURES, UNITS, batch_first=True))
    torch.save(right.state_dict(), tmp_path / "right.pt")
    keras.Sequential([keras.Input((None, FEATURES)), parity.to_keras(right)]).save(tmp_path / "wrong.keras")
    x = keras.Input((None, FEATURES))
    wrong = keras.Model(x, kl.GRU(UNITS, return_sequences=True, reset_after=False)(x))
    kernel, recurrent, bias = keras.saving.load_model(tmp_path / "wrong.keras").get_weights()
    wrong.set_weights([kernel, recurrent, bias.sum(0)])
    wrong.save(tmp_path / "wrong.keras")
    monkeypatch.setattr("parity.frameworks.keras.mending.rebuilt", lambda *_: [])
    found = diagnose(str(tmp_path / "right.pt"), str(tmp_path / "wrong.keras"), pairs=False)
    assert found.replaces
    made = pasted(found)
    sequence, *_ = keras.saving.load_model(made)(X)
    assert largest(of_torch(right, X), sequence) < 1e-5


def test_one_layer_of_a_keras_file_is_patched(tmp_path: Path) -> None:
    """A state dict says what is right of one layer: the rest of the file stays."""
    right = gru_in_keras(reset_after=True)
    module: Any = nn.GRU(FEATURES, UNITS, batch_first=True)
    parity.transfer(parity.read(right).recurrent[0], module)
    torch.save(module.state_dict(), tmp_path / "right.pt")
    x = keras.Input((None, FEATURES))
    gru = kl.GRU(UNITS, return_sequences=True, reset_after=False, name="g")
    wrong = keras.Model(x, kl.Dense(CLASSES)(gru(x)))
    wrong.set_weights([w.sum(0) if place == 2 else w for place, w in enumerate(right.get_weights())])
    wrong.save(tmp_path / "wrong.keras")
    found = diagnose(str(tmp_path / "right.pt"), str(tmp_path / "wrong.keras"), pairs=False)
    assert not found.replaces, found.repair
    made = pasted(found)
    assert made == str(tmp_path / "wrong-mended.keras")
    assert largest(right(X), keras.saving.load_model(made)(X)) < 1e-5 < largest(right(X), wrong(X))


class Port(nn.Module):
    """A port of `keras_tokens`, with mistakes in its own code."""

    def __init__(self, packs: bool = True, halves: bool = False) -> None:
        super().__init__()
        self.emb = nn.Embedding(WORDS, FEATURES)
        self.rnn = nn.LSTM(FEATURES, UNITS, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * UNITS, CLASSES)
        self.packs, self.halves = packs, halves

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        e = self.emb(x)
        if self.packs:
            lengths = (x != 0).sum(1)
            packed = nn.utils.rnn.pack_padded_sequence(e, lengths, batch_first=True, enforce_sorted=False)
            _, (h, _) = self.rnn(packed)
        else:
            _, (h, _) = self.rnn(e)
        y = torch.cat([h[1], h[0]] if self.halves else [h[0], h[1]], -1)
        return self.head(y)  # type: ignore[no-any-return]


def keras_tokens() -> Any:
    x = keras.Input((None,), dtype="int32")
    e = kl.Embedding(WORDS, FEATURES, mask_zero=True, name="emb")(x)
    return filled(keras.Model(x, kl.Dense(CLASSES)(kl.Bidirectional(kl.LSTM(UNITS), name="bi")(e))))


def doubled(port: Any) -> None:
    with torch.no_grad():
        for end in ("", "_reverse"):
            getattr(port.rnn, f"bias_hh_l0{end}").copy_(getattr(port.rnn, f"bias_ih_l0{end}"))


def regated(port: Any) -> None:
    with torch.no_grad():
        for name, one in port.rnn.named_parameters():
            if "bias_hh" not in name:
                i, f, g, o = one.chunk(4)
                one.copy_(torch.cat([i, g, f, o]))


def port_of(right: Any, **mistakes: bool) -> Any:
    made = Port(**mistakes).eval()
    parity.transfer(right, made)
    return made


def test_weights_are_patched_and_code_is_told() -> None:
    """The weights alone are right after the patch: the own code mended by hand, the port agrees."""
    right = keras_tokens()
    wrong, other = port_of(right, packs=False), port_of(right)
    doubled(wrong)
    found = diagnose(right, wrong, inputs=TOKENS)
    assert {one.name for one in found.faults} >= {"bias doubled"} or "twice as large" in found.cause, found.cause
    patch, words, last = (found.repair.index(one) for one in ("suspect.rnn.bias_", "# In the code", "last resort"))
    assert patch < words < last
    assert found.replaces
    other.load_state_dict(wrong.state_dict())
    made = pasted(found, reference=right, suspect=wrong, inputs=TOKENS)
    assert made is not wrong
    expected = np.asarray(right(TOKENS))
    assert largest(expected, of_torch(made, TOKENS)) < 1e-5
    assert largest(expected, of_torch(wrong, TOKENS)) > 1e-3
    wrong.packs = True
    assert largest(expected, of_torch(wrong, TOKENS)) < 1e-5
    assert largest(expected, of_torch(other, TOKENS)) > 1e-3


def test_what_a_repair_hands_back_agrees_where_the_code_is_wrong_too() -> None:
    right = keras_tokens()
    wrong = port_of(right, halves=True)
    regated(wrong)
    found = diagnose(right, wrong, inputs=TOKENS)
    assert "for array in (suspect.rnn.weight_ih_l0" in found.repair
    assert largest(right(TOKENS), of_torch(found.repaired(), TOKENS)) < 1e-5


def test_the_check_holds_for_a_port_that_takes_padding_at_the_end_alone() -> None:
    right = keras_tokens()
    for given in (None, TOKENS):
        wrong = port_of(right)
        doubled(wrong)
        found = diagnose(right, wrong, inputs=given, pairs=False)
        assert ("inputs=inputs" in found.repair) == (given is not None)
        assert ("# with the inputs that you gave" in found.repair) == (given is not None)
        made = pasted(found, reference=right, suspect=wrong, **({} if given is None else {"inputs": given}))
        assert made is wrong
        assert largest(right(TOKENS), of_torch(wrong, TOKENS)) < 1e-5


def node(right: Any, op: str, order: tuple[int, ...], **attributes: Any) -> onnx.ModelProto:
    """One node without a name, as a script by hand makes it, from the weights of a layer of Keras without a backward one."""
    kernel, recurrent, bias = right.get_weights()
    both = bias if bias.ndim == 2 else np.stack([bias, 0 * bias])

    def blocks(array: Any) -> Any:
        parts = np.split(array, len(order), -1)
        return np.concatenate([parts[place] for place in order], -1)

    arrays = {"W": blocks(kernel).T[None], "R": blocks(recurrent).T[None], "B": blocks(both).reshape(1, -1)}
    shape = np.array([0, 0, UNITS], np.int64)
    nodes = [
        helper.make_node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]),
        helper.make_node(op, ["xt", "W", "R", "B"], ["Y"], hidden_size=UNITS, **attributes),
        helper.make_node("Transpose", ["Y"], ["Y2"], perm=[2, 0, 1, 3]),
        helper.make_node("Reshape", ["Y2", "shape"], ["y"]),
    ]
    held = [numpy_helper.from_array(one, name) for name, one in (arrays | {"shape": shape}).items()]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", "t", size])
        for name, size in (("x", FEATURES), ("y", UNITS))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


LSTM_ORDER, GRU_ORDER = (0, 3, 1, 2), (0, 1, 2)
NODES: dict[str, tuple[Callable[[], Any], Callable[[Any], onnx.ModelProto], str]] = {
    "reset gate": (
        lambda: kl.GRU(UNITS, return_sequences=True),
        lambda right: node(right, "GRU", GRU_ORDER, linear_before_reset=0),
        "make_attribute('linear_before_reset', 1)",
    ),
    "gate function": (
        lambda: kl.LSTM(UNITS, return_sequences=True, recurrent_activation="hard_sigmoid"),
        lambda right: node(right, "LSTM", LSTM_ORDER, activations=["HardSigmoid", "Tanh", "Tanh"]),
        "make_attribute('activation_alpha', [0.16666666666666666])",
    ),
    "direction": (
        lambda: kl.LSTM(UNITS, return_sequences=True),
        lambda right: node(right, "LSTM", LSTM_ORDER, direction="reverse"),
        "make_attribute('direction', 'forward')",
    ),
}


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("file", [False, True], ids=["live", "file"])
def test_attributes_of_nodes_without_names(name: str, file: bool, tmp_path: Path) -> None:
    make, port, line = NODES[name]
    x = keras.Input((None, FEATURES))
    right = filled(keras.Model(x, make()(x)))
    wrong = port(right)
    onnx.save(wrong, tmp_path / "wrong.onnx")
    found = diagnose(right, str(tmp_path / "wrong.onnx") if file else wrong, pairs=False)
    assert not found.replaces
    assert line in found.repair
    mended = found.repaired()
    assert parity.diagnose(right, mended, pairs=False).agrees
    assert largest(right(X), by_onnx(wrong, X)) > 1e-5
    made = pasted(found, reference=right, suspect=wrong)
    model = onnx.load(made) if file else made
    assert largest(right(X), by_onnx(model, X)) < 1e-5


def pictured() -> Any:
    return filled(
        keras.Sequential(
            [
                keras.Input((9, FEATURES)),
                kl.Conv1D(UNITS, 3, name="conv"),
                kl.GRU(UNITS, name="rnn"),
                kl.Dense(UNITS, name="head"),
            ]
        )
    )


class Pictured(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.rnn = nn.Conv1d(FEATURES, UNITS, 3), nn.GRU(UNITS, UNITS, batch_first=True)
        self.head = nn.Linear(UNITS, UNITS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(self.conv(x.transpose(1, 2)).transpose(1, 2))[1][0])  # type: ignore[no-any-return]


MOVED = {"kernel flipped": ("conv", ".flip([2])"), "kernel transposed": ("head", "array.T.clone()")}


@pytest.mark.parametrize("name", MOVED)
def test_one_kernel_of_torch_is_patched(name: str) -> None:
    layer, line = MOVED[name]
    right, wrong = pictured(), Pictured().eval()
    parity.transfer(right, wrong)
    kept = wrong.rnn.get_parameter("weight_hh_l0").detach().clone()
    with torch.no_grad():
        weight = getattr(wrong, layer).weight
        weight.copy_(weight.flip(2) if layer == "conv" else weight.T.clone())
    found = diagnose(right, wrong, X, pairs=False)
    assert not found.replaces
    assert line in found.repair
    assert "parity.transfer" not in found.repair
    made = pasted(found, reference=right, suspect=wrong, inputs=X)
    assert made is wrong
    assert torch.equal(kept, wrong.rnn.weight_hh_l0)
    assert largest(right(X), of_torch(wrong, X)) < 1e-5


@pytest.mark.parametrize("engine", ["keras", "onnx"])
def test_one_kernel_of_other_frameworks_is_patched(engine: str) -> None:
    right, wrong = pictured(), pictured()
    kernel, *rest = wrong.get_weights()
    wrong.set_weights([kernel[::-1], *rest])
    suspect = wrong if engine == "keras" else parity.to_onnx(wrong)
    found = diagnose(right, suspect, X, pairs=False)
    assert not found.replaces, found.repair
    assert "np.flip(array" in found.repair
    made = pasted(found, reference=right, suspect=suspect, inputs=X)
    assert largest(right(X), made(X) if engine == "keras" else by_onnx(made, X)) < 1e-5


class Shifted(Port):
    """Its code takes the integers for one less."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(self.emb((x - 1) % WORDS))[0])  # type: ignore[no-any-return]


class Plain(Port):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(self.emb(x))[0])  # type: ignore[no-any-return]


@pytest.mark.parametrize("by", [1, -1])
def test_a_table_off_by_a_row_is_moved_back(by: int) -> None:
    right, wrong = filled(Plain()), filled(Plain())
    with torch.no_grad():
        wrong.emb.weight.copy_(wrong.emb.weight.roll(by, 0))
    found = diagnose(right, wrong, TOKENS, pairs=False)
    assert not found.replaces
    assert f"array.roll({-by}, 0)" in found.repair
    made = pasted(found, reference=right, suspect=wrong, inputs=TOKENS)
    assert made is wrong
    assert torch.equal(right.emb.weight, wrong.emb.weight)


def test_a_table_that_is_right_is_left_alone() -> None:
    """The code is wrong: rolling the table would make two mistakes that cancel out."""
    right, wrong = filled(Plain()), filled(Shifted())
    found = diagnose(right, wrong, TOKENS, pairs=False)
    assert "roll(" not in found.repair
    assert "where your code changes the integers, 1 is to be added to them" in found.repair
    made = pasted(found, reference=right, suspect=wrong, inputs=TOKENS)
    assert torch.equal(right.emb.weight, wrong.emb.weight)
    assert largest(of_torch(right, TOKENS), of_torch(made, TOKENS)) < 1e-5


def test_descriptions_that_were_read_say_what_to_do(tmp_path: Path) -> None:
    right = filled(nn.LSTM(FEATURES, UNITS, batch_first=True))
    wrong = nn.LSTM(FEATURES, UNITS, batch_first=True)
    wrong.load_state_dict(right.state_dict() | {"weight_hh_l0": right.weight_hh_l0.detach().roll(UNITS, 0)})
    reference, suspect = (parity.read(one).recurrent[0] for one in (right, wrong))
    found = diagnose(reference, suspect, pairs=False)
    assert "diagnose the model or the file itself for lines" in found.repair
    assert "recurrent kernel: the gates put into their own order" in found.repair
    made = pasted(found, reference=reference, suspect=suspect)
    parity.convert(made, tmp_path / "mended.pt")
    assert torch.equal(torch.load(tmp_path / "mended.pt")["weight_hh_l0"], right.weight_hh_l0)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".npz", ".keras", ".h5", ".onnx"])
def test_what_a_repair_hands_back_is_written_to_any_file(suffix: str, tmp_path: Path) -> None:
    right = filled(nn.LSTM(FEATURES, UNITS, batch_first=True))
    torch.save(right.state_dict() | {"weight_hh_l0": right.weight_hh_l0.detach().roll(UNITS, 0)}, tmp_path / "wrong.pt")
    mended = diagnose(right, str(tmp_path / "wrong.pt"), pairs=False).repaired()
    for source, name in ((mended, "network"), (right, "live")):
        path = parity.convert(source, tmp_path / f"{name}{suffix}")
        parity.assert_parity(right, path)
    with pytest.raises(parity.ParityError, match="there already"):
        parity.convert(mended, tmp_path / f"live{suffix}")
