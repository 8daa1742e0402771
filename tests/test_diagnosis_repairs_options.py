"""Repairs of options, of code around layers and of files, in every framework: pasted as a stranger pastes them, and handed back."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
import torch
from keras import layers as kl
from safetensors.torch import save_file
from torch import nn

import parity
from parity.diagnosis import Diagnosis, diagnose
from parity.sources import layer_named, open_source

FEATURES, UNITS, WIDTH, CLASSES = 3, 5, 6, 4
X = np.random.default_rng(5).standard_normal((4, 9, FEATURES)).astype(np.float32)


def numbers(*shape: int, seed: int) -> Any:
    """Numbers of which none is near zero."""
    random = np.random.default_rng(seed)
    return (random.uniform(0.1, 0.9, shape) * random.choice([-1.0, 1.0], shape)).astype(np.float32)


def filled(model: Any) -> Any:
    """A Keras model with weights of which none is zero; variances are positive."""
    arrays = [numbers(*one.shape, seed=place) for place, one in enumerate(model.weights)]
    model.set_weights([np.abs(a) if "variance" in v.path else a for a, v in zip(arrays, model.weights, strict=True)])
    return model


def keras_model(norm: str = "batch", **changed: Any) -> Any:
    """A recurrent layer, a dense one, a normalization, an activation, a head."""
    options = {
        "cell": {}, "kind": kl.SimpleRNN, "merge": "sum", "activation": "gelu", "epsilon": 1e-3, "slope": 0.3, "softmax": "softmax",
    } | changed  # fmt: skip
    make = {"batch": kl.BatchNormalization, "layer": kl.LayerNormalization}[norm]
    inner = options["kind"](UNITS, return_sequences=True, **options["cell"])
    return filled(
        keras.Sequential(
            [
                keras.Input((None, FEATURES)),
                kl.Bidirectional(inner, merge_mode=options["merge"], name="both"),
                kl.Dense(WIDTH, activation=options["activation"], name="dense"),
                make(epsilon=options["epsilon"], name="norm"),
                kl.LeakyReLU(negative_slope=options["slope"], name="leaky"),
                kl.Dense(CLASSES, activation=options["softmax"], name="head"),
            ]
        )
    )


class Port(nn.Module):
    """The same layers in a class of one's own."""

    def __init__(self, epsilon: float = 1e-3, slope: float = 0.3, act: nn.Module | None = None, **options: Any) -> None:
        super().__init__()
        self.rnn = nn.RNN(FEATURES, UNITS, batch_first=True, **options)
        self.dense = nn.Linear(UNITS, WIDTH)
        self.act = nn.Tanh() if act is None else act
        self.norm = nn.LayerNorm(WIDTH, eps=epsilon)
        self.tail = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.LeakyReLU(slope))
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.dense(self.rnn(self.before(x))[0]))
        return torch.softmax(self.head(self.tail(self.norm(0.05 * y))), dim=-1)

    def before(self, x: torch.Tensor) -> torch.Tensor:
        """What is done to inputs."""
        return x


def ported(**options: Any) -> Any:
    """A port with the same random numbers every time."""
    made = Port(**options).eval()
    state = {
        name: torch.from_numpy(numbers(*one.shape, seed=at)) for at, (name, one) in enumerate(made.state_dict().items())
    }
    made.load_state_dict(state)
    return made


def edited(make: Callable[[], Any], edit: Callable[[Any], None]) -> Any:
    """A model in which something is changed."""
    made = make()
    with torch.no_grad():
        edit(made)
    return made


@dataclass(frozen=True)
class Mistake:
    """A right and a wrong model.

    Args:
        right, wrong: make them.
        fault: that is named.
        line: of the repair, where it changes the suspect itself; "" where the suspect's own code is to be edited.
    """

    right: Callable[[], Any]
    wrong: Callable[[], Any]
    fault: str
    line: str


def weights_set(model: Any, name: str, place: int, change: Callable[[Any], Any]) -> None:
    layer = model.get_layer(name)
    weights = layer.get_weights()
    weights[place] = change(weights[place])
    layer.set_weights(weights)


def rounded(module: nn.Module) -> None:
    for one in module.parameters():
        one.copy_(one.to(torch.bfloat16).to(torch.float32))


def swapped_norm(model: Any) -> None:
    layer = model.get_layer("norm")
    gamma, beta, *rest = layer.get_weights()
    layer.set_weights([beta, gamma, *rest])


KERAS = {
    "epsilon": Mistake(keras_model, lambda: keras_model(epsilon=1e-5), "epsilon", ".get_layer('norm').epsilon = 0.001"),
    "activation lost": Mistake(keras_model, lambda: keras_model(activation=None), "activation lost", 'activations.get("gelu")'),
    "activation": Mistake(keras_model, lambda: keras_model(activation="silu"), "another activation", 'activations.get("gelu")'),
    "slope": Mistake(keras_model, lambda: keras_model(slope=0.01), "another activation", ".negative_slope = 0.3"),
    "softmax": Mistake(keras_model, lambda: keras_model(softmax=None), "activation lost", 'get("softmax")'),
    "merge mode": Mistake(keras_model, lambda: keras_model(merge="ave"), "merge mode", '.merge_mode = "sum"'),
    "weights of a norm": Mistake(keras_model, lambda: edited(keras_model, swapped_norm), "order of the weights", "parity.transfer("),
    "reset gate": Mistake(
        lambda: keras_model(kind=kl.GRU, cell={"reset_after": False}),
        lambda: edited(lambda: keras_model(kind=kl.GRU), _before_into_after),
        "reset gate",
        '["reset_after"] = False',
    ),
    "gate function": Mistake(
        lambda: keras_model(kind=kl.GRU),
        lambda: keras_model(kind=kl.GRU, cell={"recurrent_activation": "hard_sigmoid"}),
        "gate function",
        '.recurrent_activation = keras.activations.get("sigmoid")',
    ),
}  # fmt: skip


def _before_into_after(model: Any) -> None:
    """The weights of GRUs with one bias, in GRUs with two."""
    right = keras_model(kind=kl.GRU, cell={"reset_after": False}).get_weights()
    own = [
        right[at] if at not in (2, 5) else np.stack([right[at], np.zeros_like(right[at])]) for at in range(len(right))
    ]
    model.set_weights(own)


class Turned(Port):
    """Its inputs are turned round."""

    def before(self, x: torch.Tensor) -> torch.Tensor:
        return x.flip(1)


class Logits(Port):
    """It lacks its softmax."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.tail(self.norm(0.05 * self.act(self.dense(self.rnn(x)[0])))))  # type: ignore[no-any-return]


def of_class(kind: type[Port]) -> Any:
    made = kind().eval()
    made.load_state_dict(ported().state_dict())
    return made


TORCH = {
    "epsilon": Mistake(ported, lambda: ported(epsilon=1e-5), "epsilon", "suspect.norm.eps = 0.001"),
    "activation": Mistake(ported, lambda: ported(act=nn.Sigmoid()), "another activation", "suspect.act = torch.nn.Tanh()"),
    "slope": Mistake(ported, lambda: ported(slope=0.01), "another activation", "suspect.tail[1] = torch.nn.LeakyReLU(0.3)"),
    "activation lost": Mistake(ported, lambda: of_class(Logits), "activation lost", "Sequential(suspect.head, torch.nn.Softmax(dim="),
    "function of nn.RNN": Mistake(ported, lambda: ported(nonlinearity="relu"), "activation", 'suspect.rnn.mode = "RNN_TANH"'),
    "steps": Mistake(ported, lambda: of_class(Turned), "reversed in time", "suspect.rnn = Mended(suspect.rnn)"),
    "weights of a norm": Mistake(
        ported, lambda: edited(ported, lambda m: m.norm.weight.fill_(1.0)), "normalization not loaded", "parity.transfer("
    ),
    "rounded": Mistake(ported, lambda: edited(ported, rounded), "weights rounded", "parity.transfer("),
}  # fmt: skip


def checked(found: Diagnosis, mistake: Mistake, reference: Any, suspect: Any) -> None:
    """The cause, and both ways to mend a suspect."""
    assert found.found, str(found)
    assert found.faults[0].name == mistake.fault, str(found)
    assert mistake.line in found.repair, found.repair
    assert found.replaces == (not mistake.line), found.repair
    assert parity.compare(reference, found.repaired(), inputs=X).ok, found.repair
    names = {"reference": reference, "suspect": suspect}
    exec(found.repair, names)
    assert parity.compare(reference, names["suspect"], inputs=X).ok, found.repair


@pytest.mark.parametrize("name", KERAS)
def test_keras_models(name: str) -> None:
    mistake = KERAS[name]
    right, wrong = mistake.right(), mistake.wrong()
    checked(diagnose(right, wrong, X, pairs=False), mistake, right, wrong)


@pytest.mark.parametrize("name", TORCH)
def test_torch_modules(name: str) -> None:
    mistake = TORCH[name]
    right, wrong = mistake.right(), mistake.wrong()
    checked(diagnose(right, wrong, X, pairs=False), mistake, right, wrong)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", ["epsilon", "slope", "merge mode", "weights of a norm", "reset gate"])
def test_keras_files(name: str, suffix: str, tmp_path: Path) -> None:
    mistake = KERAS[name]
    right, path = mistake.right(), str(tmp_path / f"wrong{suffix}")
    mistake.wrong().save(path)
    before = Path(path).read_bytes()
    found = diagnose(right, path, X, pairs=False)
    checked(found, mistake, right, path)
    assert isinstance(found.repaired(), parity.Network)
    assert Path(path).read_bytes() == before, "the suspect's own file was changed"
    assert (tmp_path / f"wrong-mended{suffix}").is_file()


ONNX = {
    "epsilon": Mistake(
        lambda: keras_model("layer"), lambda: keras_model("layer", epsilon=1e-5), "epsilon", "make_attribute('epsilon', 0.001)"
    ),
    "slope": Mistake(keras_model, lambda: keras_model(slope=0.01), "another activation", "make_attribute('alpha', 0.3)"),
    "gate function": Mistake(
        lambda: keras_model(kind=kl.GRU), lambda: keras_model(kind=kl.GRU, cell={"recurrent_activation": "hard_sigmoid"}), "gate function",
        "make_attribute('linear_before_reset', 1)"
    ),
    "activation": Mistake(
        lambda: keras_model(activation="relu"), lambda: keras_model(activation="sigmoid"), "another activation", 'node.op_type = "Relu"'
    ),
    "weights": Mistake(
        keras_model,
        lambda: edited(keras_model, lambda m: weights_set(m, "head", 1, np.zeros_like)),
        "bias dropped",
        "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("file", [False, True], ids=["live", "file"])
@pytest.mark.parametrize("name", ONNX)
def test_onnx_models(name: str, file: bool, tmp_path: Path) -> None:
    mistake = ONNX[name]
    right, wrong = mistake.right(), parity.to_onnx(mistake.wrong())
    onnx.save(wrong, tmp_path / "wrong.onnx")
    suspect = str(tmp_path / "wrong.onnx") if file else wrong
    checked(diagnose(right, suspect, X, pairs=False), mistake, right, suspect)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_rounded_numbers_in_a_state_dict(suffix: str, tmp_path: Path) -> None:
    """What was rounded cannot be computed back: the right numbers are put there."""
    torch.manual_seed(3)
    right = nn.LSTM(FEATURES, UNITS, batch_first=True)
    state = {name: one.to(torch.bfloat16).to(torch.float32) for name, one in right.state_dict().items()}
    path = str(tmp_path / f"wrong{suffix}")
    torch.save(state, path) if suffix == ".pt" else save_file(state, path)
    found = diagnose(right, path)
    checked(found, Mistake(lambda: right, lambda: path, "weights rounded", "weights.kernel"), right, path)


def test_code_of_ones_own_is_said_in_words_and_the_model_taken_anew() -> None:
    """A Keras model is wanted, a torch module is right: it is traced by inputs that the lines make."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(FEATURES, UNITS, batch_first=True, bidirectional=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.gru(x)[1]
            return torch.cat([h[0], h[1]], dim=-1)

    torch.manual_seed(3)
    right = Last().eval()
    x = keras.Input((None, FEATURES))
    y = kl.Bidirectional(kl.GRU(UNITS, return_sequences=True), name="both")(x)
    wrong = keras.Model(x, y[:, -1])
    parity.transfer(right.gru, wrong.get_layer("both"))
    found = diagnose(right, wrong, X, pairs=False)
    assert "# In the code around layer 'gru'" in found.repair.splitlines()[1], found.repair
    checked(found, Mistake(lambda: right, lambda: wrong, "step in place of the final state", ""), right, wrong)


class Read(nn.Module):
    """A layer, what is read of it, and how it begins."""

    def __init__(self, read: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], begin: float = 0.0) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURES, UNITS, batch_first=True)
        self.read, self.begin = read, begin

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, h = self.gru(x, torch.full((1, x.shape[0], UNITS), self.begin))
        return self.read(y, h)


def final(_: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    return h[0]


WRAPPED = "suspect = Mended(suspect)"
CODE = {
    "mean over time": (lambda y, _: y.mean(1), ""),
    "max over time": (lambda y, _: y.max(1).values, ""),
    "output negated": (lambda _, h: -h[0], WRAPPED),
    "output scaled": (lambda _, h: 2.5 * h[0], WRAPPED),
    "units reversed": (lambda _, h: h[0].flip(-1), WRAPPED),
    "initial state that is not zero": (final, ""),
}


@pytest.mark.parametrize("name", CODE)
def test_mistakes_in_code_of_ones_own(name: str) -> None:
    torch.manual_seed(3)
    read, line = CODE[name]
    right, wrong = Read(final).eval(), Read(read, float(read is final)).eval()
    wrong.load_state_dict(right.state_dict())
    checked(diagnose(right, wrong, X, pairs=False), Mistake(lambda: right, lambda: wrong, name, line), right, wrong)


def test_places_of_layers_with_one_direction() -> None:
    right, wrong = (nn.GRU(FEATURES, UNITS, batch_first=True) for _ in range(2))
    state = dict(right.state_dict())
    wrong.load_state_dict(state | {"weight_hh_l0": state["weight_hh_l0"].roll(UNITS, 0)})
    found = diagnose(right, wrong)
    assert found.found
    assert "direction" not in str(found.where[0])
    assert found.where[0].tensor == "recurrent"


def test_the_order_of_old_lstms_has_a_name() -> None:
    right, wrong = (nn.LSTM(FEATURES, UNITS, batch_first=True) for _ in range(2))
    i, f, g, o = (torch.randn(UNITS, UNITS) for _ in range(4))
    state = dict(right.state_dict())
    right.load_state_dict(state | {"weight_hh_l0": torch.cat([i, f, g, o])})
    wrong.load_state_dict(state | {"weight_hh_l0": torch.cat([i, g, f, o])})
    assert "BasicLSTMCell" in diagnose(right, wrong).cause


def test_a_module_in_bfloat16() -> None:
    """The right numbers would be rounded again where they are put: it is brought to float32 first."""
    torch.manual_seed(3)
    right, wrong = (nn.LSTM(FEATURES, UNITS, batch_first=True) for _ in range(2))
    wrong.load_state_dict(right.state_dict())
    found = diagnose(right, wrong.to(torch.bfloat16))
    checked(found, Mistake(lambda: right, lambda: wrong, "weights rounded", "suspect = suspect.float()"), right, wrong)


def gru_port(right: Any) -> nn.Module:
    """A Keras GRU and a dense layer in torch, the blocks of the gates copied as they stand."""

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(FEATURES, UNITS, batch_first=True)
            self.head = nn.Linear(UNITS, CLASSES)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.gru(x)[0][:, -1])  # type: ignore[no-any-return]

    made = Own().eval()
    kernel, recurrent, bias, head, last = (torch.from_numpy(one) for one in right.get_weights())
    arrays = (kernel.T, recurrent.T, bias[0], bias[1], head.T, last)
    made.load_state_dict(dict(zip(made.state_dict(), arrays, strict=True)))
    return made


def gru_model() -> Any:
    return filled(keras.Sequential([keras.Input((None, FEATURES)), kl.GRU(UNITS, name="enc"), kl.Dense(CLASSES)]))


@pytest.mark.filterwarnings("ignore")
def test_an_exported_onnx_file_is_mended_and_named_in_its_own_letters(tmp_path: Path) -> None:
    """The graph holds layers of its own beside the file's: both are mended."""
    right, path, kept = gru_model(), str(tmp_path / "port.onnx"), str(tmp_path / "model.keras")
    right.save(kept)
    axes = {"x": {0: "batch", 1: "time"}}
    x = (torch.ones(1, 7, FEATURES),)
    torch.onnx.export(gru_port(right), x, path, dynamo=False, input_names=["x"], dynamic_axes=axes)
    found = diagnose(kept, path, X, pairs=False)
    assert "in the order r z h (torch's), where z r h belongs" in found.cause
    assert "in torch's letters" not in str(found)
    assert parity.compare(kept, found.repaired(), inputs=X).ok
    names: dict[str, Any] = {}
    exec(found.repair, names)  # the lines open what they need
    assert parity.compare(kept, names["suspect"], inputs=X).ok
    assert "np.split" in found.repair
    assert found.repair.count("np.split") == 1, found.repair
    assert names["suspect"] == str(tmp_path / "port-mended.onnx")
    assert found.repair.endswith(
        f"# check: assert parity.diagnose({kept!r}, suspect, inputs=inputs).agrees  # with the inputs that you gave\n"
    )
    with pytest.raises(FileExistsError):
        exec(found.repair, {})


def test_a_bidirectional_onnx_model_is_mended(tmp_path: Path) -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(FEATURES, UNITS, batch_first=True, bidirectional=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.lstm(x)[1][0]
            return torch.cat([h[0], h[1]], -1)

    torch.manual_seed(3)
    right, wrong = Last().eval(), Last().eval()
    state = dict(right.state_dict())
    wrong.load_state_dict(state | {name: one.roll(UNITS, 0) for name, one in state.items() if "reverse" not in name})
    path = str(tmp_path / "wrong.onnx")
    onnx.save(parity.to_onnx(wrong, inputs=X), path)
    assert not parity.compare(right, path, inputs=X).ok
    found = diagnose(right, path, X, pairs=False)
    assert parity.compare(right, found.repaired(), inputs=X).ok


def test_a_layer_that_is_called_twice() -> None:
    class Twice(nn.Module):
        def __init__(self, act: bool) -> None:
            super().__init__()
            self.gru, self.dense, self.act = nn.GRU(FEATURES, UNITS, batch_first=True), nn.Linear(UNITS, UNITS), act

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = self.gru(x)[0]
            again = torch.relu(self.dense(h))
            return again + (torch.tanh(self.dense(h)) if self.act else self.dense(h))

    torch.manual_seed(3)
    right, wrong = Twice(True).eval(), Twice(False).eval()
    wrong.load_state_dict(right.state_dict())
    found = diagnose(right, wrong, X, pairs=False)
    assert "its activation was lost: tanh belongs there" in found.repair
    checked(found, Mistake(lambda: right, lambda: wrong, "activation lost", ""), right, wrong)


def test_nothing_that_writing_a_repair_comes_to_ends_a_diagnosis(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise AttributeError("nobody thought of this suspect")

    monkeypatch.setattr("parity.diagnosis.mending.code_of", broken)
    right, wrong = ported(), ported(epsilon=1e-5)
    found = diagnose(right, wrong, X, pairs=False)
    assert "its epsilon has to be 0.001, it is 1e-05" in found.repair
    assert parity.compare(right, found.repaired(), inputs=X).ok


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_layer_inside_a_file_of_tensors(suffix: str, tmp_path: Path) -> None:
    right, path, kept = gru_model(), str(tmp_path / f"port{suffix}"), str(tmp_path / "model.keras")
    right.save(kept)
    state = gru_port(right).state_dict()
    torch.save(state, path) if suffix == ".pt" else save_file(state, path)
    found = diagnose(layer_named(open_source(kept), "enc"), layer_named(open_source(path, partial=True), "gru"))
    assert "in the order z r n (Keras's and ONNX's), where r z n belongs" in found.cause
    assert "tensors['gru.weight_ih_l0']" in found.repair
    names: dict[str, Any] = {}
    exec(found.repair, names)
    mended = layer_named(open_source(names["suspect"], partial=True), "gru")
    assert parity.compare(layer_named(open_source(kept), "enc"), mended).ok
    (check,) = (line for line in found.repair.splitlines() if line.startswith("# check: "))
    assert "if one.name == 'gru')" in check
    exec(check.removeprefix("# check: "), names | {"parity": parity})


def test_a_state_dict_of_a_gru_that_torch_has_not(tmp_path: Path) -> None:
    right = filled(
        keras.Sequential(
            [keras.Input((None, FEATURES)), kl.GRU(UNITS, reset_after=False, return_sequences=True, name="enc")]
        )
    )
    weights = parity.read(right).recurrent[0].weights[0]
    bias = torch.from_numpy(np.array(weights.bias_input)).reshape(-1)
    state = {
        "weight_ih_l0": torch.from_numpy(np.array(weights.kernel)).reshape(-1, FEATURES),
        "weight_hh_l0": torch.from_numpy(np.array(weights.recurrent)).reshape(-1, UNITS),
        "bias_ih_l0": bias,
        "bias_hh_l0": torch.zeros_like(bias),
    }
    torch.save(state, tmp_path / "port.pt")
    found = diagnose(parity.read(right).recurrent[0], str(tmp_path / "port.pt"))
    assert "torch.nn.GRU has no reset_after=False" in found.repair
    assert "parity.convert(reference, suspect)" in found.repair
    assert parity.compare(parity.read(right).recurrent[0], found.repaired()).ok


def test_gates_of_a_recording_are_said_in_the_letters_of_torch() -> None:
    right, wrong = (nn.GRU(FEATURES, UNITS, batch_first=True) for _ in range(2))
    wrong.load_state_dict(
        {name: torch.cat([one.chunk(3)[at] for at in (1, 0, 2)]) for name, one in right.state_dict().items()}
    )
    gave = wrong(torch.from_numpy(X))[0].detach().numpy()
    found = diagnose(right, {"inputs": X, "outputs": gave})
    assert "z r n (Keras's and ONNX's), where r z n belongs (in torch's letters)" in found.cause
    assert "torch's letters" not in diagnose(right, wrong).cause


def test_an_update_gate_the_other_way_round_in_a_cell_of_ones_own() -> None:
    class Own(nn.Module):
        def __init__(self, gru: nn.GRU) -> None:
            super().__init__()
            self.ih, self.hh = nn.Linear(FEATURES, 3 * UNITS), nn.Linear(UNITS, 3 * UNITS)
            arrays = (gru.weight_ih_l0, gru.bias_ih_l0, gru.weight_hh_l0, gru.bias_hh_l0)
            self.load_state_dict(dict(zip(self.state_dict(), arrays, strict=True)))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = torch.zeros(x.shape[0], UNITS)
            for t in range(x.shape[1]):
                a, b = self.ih(x[:, t]).chunk(3, -1), self.hh(h).chunk(3, -1)
                r, z = torch.sigmoid(a[0] + b[0]), torch.sigmoid(a[1] + b[1])
                h = (1 - z) * h + z * torch.tanh(a[2] + r * b[2])
            return h

    torch.manual_seed(3)
    gru = nn.GRU(FEATURES, UNITS, batch_first=True)
    right = keras.Sequential([keras.Input((9, FEATURES)), kl.GRU(UNITS)])
    parity.transfer(gru, right.layers[0])
    wrong = Own(gru).eval()
    found = diagnose(right, wrong, X, pairs=False)
    assert "h = z * h + (1 - z) * n" in found.repair
    checked(found, Mistake(lambda: right, lambda: wrong, "update gate the other way round", ""), right, wrong)
