"""The command line as a user sees it: words, exit codes, files."""

from __future__ import annotations

import importlib
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
import torch

import parity
from parity.cli import main
from parity.frameworks import ENGINES


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return int(stop.value.code or 0), out, err


@pytest.fixture
def folder(tmp_path: Path, random: np.random.Generator) -> Path:
    """A model, a bare stack and its state dict, and a wrong port of it."""
    model = keras.Sequential(
        [keras.Input((None, 3)), keras.layers.LSTM(5, name="lstm"), keras.layers.Dense(2, name="classes")], name="small"
    )
    model.set_weights([random.uniform(-0.7, 0.7, w.shape) for w in model.get_weights()])
    model.save(tmp_path / "model.keras")
    gru = torch.nn.GRU(3, 5, num_layers=2, bidirectional=True)
    torch.save(gru.state_dict(), tmp_path / "gru.pt")
    with torch.no_grad():
        dict(gru.named_parameters())["bias_hh_l1"][7] += 0.01
    torch.save(gru.state_dict(), tmp_path / "wrong.pt")
    return tmp_path


def test_inspect(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "inspect", folder / "model.keras")
    assert code == 0
    assert "5 units, forward, bias, passes on the last state" in out
    assert re.search(r"kernel +\(3, 20\) = \(input, gate\*hidden\)", out)
    assert "what to look out for when this moves" in out
    code, out, _ = run(capsys, "inspect", folder / "gru.pt", "--json")
    facts = json.loads(out)
    assert code == 0
    assert [layer["directions"] for layer in facts["layers"]] == [["forward", "backward"]] * 2
    assert facts["layers"][1]["weights"]["backward.kernel"] == [3, 5, 10]


def test_convert_every_way_for_a_bare_stack(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["gru.safetensors", "gru.onnx", "gru.keras", "again.pt"]
    source = "gru.pt"
    for name in names:
        code, out, _ = run(capsys, "convert", folder / source, folder / name)
        assert code == 0
        assert "read back: the " in out
        source = name
    before = torch.load(folder / "gru.pt", weights_only=True)
    after = torch.load(folder / "again.pt", weights_only=True)
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    code, out, _ = run(capsys, "compare", folder / "gru.pt", *(folder / name for name in names))
    assert code == 0, out


def _gru_before(folder: Path, random: np.random.Generator, **options: Any) -> Path:
    """A model of a GRU with reset_after=False, random in every weight."""
    gru = keras.layers.GRU(6, reset_after=False, name="gru", **options)
    model = keras.Sequential([keras.Input((None, 3)), gru])
    model.set_weights([random.uniform(-0.7, 0.7, w.shape) for w in model.get_weights()])
    model.save(folder / "before.keras")
    return folder / "before.keras"


def test_inspect_shows_the_weights_that_a_layer_has(
    folder: Path, capsys: pytest.CaptureFixture[str], random: np.random.Generator
) -> None:
    path = _gru_before(folder, random)
    held = [tuple(w.shape) for w in keras.models.load_model(path).get_weights()]
    assert held == [(3, 18), (6, 18), (18,)]
    code, out, _ = run(capsys, "inspect", path)
    assert code == 0
    assert "6 units, forward, bias, reset_after=False" in out
    assert "as Keras keeps them, gates in the order z r h" in out
    assert _shapes(out) == [str(shape) for shape in held]
    _saved(folder, "after.keras", keras.layers.GRU(6))
    out = run(capsys, "inspect", folder / "after.keras")[1]
    assert _shapes(out)[-1] == "(2, 18)"
    assert "reset_after=False" not in out


def _shapes(out: str) -> list[str]:
    """The shapes of weights, as inspect shows them."""
    return re.findall(r"(\([0-9, ]+\)) += \(", out)


def test_inspect_shows_a_projection_where_there_is_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, present in (({}, False), ({"proj_size": 2}, True)):
        torch.save(torch.nn.LSTM(3, 5, **options).state_dict(), folder / "lstm.pt")
        out = run(capsys, "inspect", folder / "lstm.pt")[1]
        assert bool(re.search(r"weight_hr_l0 +\(2, 5\)", out)) is present
    assert run(capsys, "convert", folder / "model.keras", folder / "model.onnx")[0] == 0
    assert "  P " not in run(capsys, "inspect", folder / "model.onnx")[1]


def test_convert_says_what_is_not_plainly_native(
    folder: Path, capsys: pytest.CaptureFixture[str], random: np.random.Generator
) -> None:
    code, out, _ = run(capsys, "convert", folder / "gru.pt", folder / "gru.onnx")
    assert (code, len(out.splitlines())) == (0, 1)
    path = _gru_before(folder, random, dropout=0.25)
    code, out, err = run(capsys, "convert", path, folder / "before.onnx")
    assert (code, err) == (0, "")
    assert out.splitlines()[1:] == ["note: layer 'gru': dropout=0.25 is inert at inference"]
    torch.save(torch.nn.LSTM(3, 5, proj_size=2).state_dict(), folder / "lstm.pt")
    code, out, _ = run(capsys, "convert", folder / "lstm.pt", folder / "lstm.keras")
    first, *more = out.splitlines()
    assert code == 0
    assert first.startswith("wrote ")
    assert len(more) == 2
    assert more[0].startswith("composed: layer 'lstm")
    assert more[0].endswith("Keras has no projection of h")
    assert more[1] == "Keras opens it after `import parity.keras_layers`"
    assert "parity.keras_layers" not in run(capsys, "convert", folder / "lstm.pt", folder / "lstm.onnx")[1]


def test_convert_a_model_to_onnx(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "convert", folder / "model.keras", folder / "model.onnx", "--no-verify")[0] == 0
    assert [output.name for output in onnx.load(folder / "model.onnx").graph.output] == ["classes"]
    assert run(capsys, "compare", folder / "model.onnx", folder / "model.keras")[0] == 0


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".npz", ".h5"])
def test_a_whole_model_in_tensors_and_back(suffix: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "convert", folder / "model.keras", folder / f"model{suffix}")
    assert (code, err) == (0, "")
    assert "the same layers and, bit for bit, the same weights" in out
    assert ("parity's description" in out) == (suffix != ".h5")
    code, out, _ = run(capsys, "convert", folder / f"model{suffix}", folder / "again.keras")
    assert code == 0
    old, new = (keras.models.load_model(folder / name) for name in ("model.keras", "again.keras"))
    assert all(np.array_equal(one, other) for one, other in zip(old.get_weights(), new.get_weights(), strict=True))
    assert [layer.name for layer in new.layers][-2:] == [layer.name for layer in old.layers][-2:] == ["lstm", "classes"]


def test_weights_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "convert", folder / "model.keras", folder / "model.weights.h5")
    assert code == 0
    assert "without the network" in out
    model = keras.models.load_model(folder / "model.keras")
    before = model.get_weights()
    model.set_weights([np.zeros_like(weight) for weight in before])
    model.load_weights(folder / "model.weights.h5")
    assert all(np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True))


@pytest.fixture
def parts(folder: Path) -> Path:
    """A state dict of several modules, which no one can run as a whole."""
    torch.manual_seed(2)
    modules = {"encoder": torch.nn.LSTM(3, 5), "norm": torch.nn.LayerNorm(5), "decoder": torch.nn.LSTM(3, 5)}
    torch.save(torch.nn.ModuleDict(modules).state_dict(), folder / "parts.pt")
    return folder / "parts.pt"


def test_one_layer_of_a_file_alone(parts: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "convert", parts, folder / "encoder.keras")
    assert code == 2
    assert "one by one: 'encoder', 'decoder'" in err
    assert "--layer" in err
    assert run(capsys, "convert", parts, folder / "encoder.keras", "--layer", "encoder")[0] == 0
    assert run(capsys, "compare", parts, folder / "encoder.keras", "--layer", "encoder", "--layer", "0")[0] == 0
    code, out, _ = run(capsys, "compare", parts, parts, "--layer", "encoder", "--layer", "1")
    assert code == 1
    assert "another training" in out
    code, _, err = run(capsys, "convert", parts, folder / "x.keras", "--layer", "norm")
    assert code == 2
    assert "one of encoder, decoder" in err
    code, _, err = run(capsys, "compare", parts, parts, parts, "--layer", "encoder", "--layer", "1")
    assert code == 2
    assert "once for all files, or 3 times" in err


def test_nothing_is_overwritten_unasked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = folder / "taken.onnx"
    target.write_bytes(b"mine")
    code, _, err = run(capsys, "convert", folder / "gru.pt", target)
    assert code == 2
    assert "--overwrite" in err
    assert target.read_bytes() == b"mine"
    assert run(capsys, "convert", folder / "gru.pt", target, "--overwrite")[0] == 0
    assert run(capsys, "inspect", target)[0] == 0
    page = folder / "page.html"
    page.write_text("mine", encoding="utf-8")
    code, _, err = run(capsys, "compare", folder / "gru.pt", "--engines", "torch", "--report", page)
    assert code == 2
    assert page.read_text(encoding="utf-8") == "mine"
    assert not list(folder.glob(".*.part"))


def test_compare_agrees_and_reports(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, record = folder / "r.html", folder / "r.json"
    code, out, _ = run(capsys, "compare", folder / "model.keras", "--report", page, "--json", record, "--time", 9)
    assert code == 0
    assert "keras, torch and onnxruntime agree with the float64 reference on 3 x 9 steps" in out
    drawn = page.read_text(encoding="utf-8")
    assert "agree" in drawn.partition("<title>")[2].partition("</title>")[0]
    mapped = json.loads(record.read_text(encoding="utf-8"))["map"]["quantity"]
    assert f"worst place of <bdi>{mapped}</bdi></span>" in drawn
    assert json.loads(record.read_text(encoding="utf-8"))["verdict"] == "agree"
    again = folder / "again.html"
    assert run(capsys, "report", record, "-o", again)[0] == 0
    assert again.read_text(encoding="utf-8") == page.read_text(encoding="utf-8")


def test_compare_disagrees(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "compare", folder / "gru.pt", folder / "wrong.pt")
    assert code == 1
    assert "wrong.pt (torch) disagrees with the reference of gru.pt" in out
    assert "gru_l1" in out or "l1.sequence" in out


def test_compare_is_undecided_beyond_the_horizon(
    folder: Path, capsys: pytest.CaptureFixture[str], random: np.random.Generator
) -> None:
    lively = torch.nn.LSTM(3, 64)
    weights = lively.state_dict()
    weights["weight_hh_l0"] = torch.from_numpy(random.standard_normal((256, 64)) * 6 / 8).float()
    weights["weight_ih_l0"] = torch.from_numpy(random.standard_normal((256, 3)) * 0.5).float()
    torch.save(weights, folder / "lively.pt")
    code, out, _ = run(capsys, "compare", folder / "lively.pt", "--time", 250, "--engines", "torch,onnxruntime")
    assert code == 3
    assert "Undecided" in out


def test_compare_with_inputs(folder: Path, capsys: pytest.CaptureFixture[str], random: np.random.Generator) -> None:
    np.savez(folder / "x.npz", x=random.standard_normal((4, 6, 3)))
    code, out, _ = run(capsys, "compare", folder / "gru.pt", "--engines", "torch", "--inputs", folder / "x.npz")
    assert code == 0
    assert "4 x 6 steps" in out


def test_explain(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--units", 64, "--features", 20, "--batch", 32, "--time", 10]
    for flags, shapes in (
        ([], "(32, 64)"),
        (["--return-sequences"], "(32, 10, 64)"),
        (["--return-sequences", "--return-state"], "[(32, 10, 64), (32, 64), (32, 64)]"),
    ):
        code, out, _ = run(capsys, "explain", "--layer", "lstm", *sizes, *flags)
        assert code == 0
        assert out.splitlines()[0].endswith(f": {shapes}")
    code, out, _ = run(capsys, "explain", "--layer", "gru", "--bidirectional", "--merge-mode", "none")
    assert code == 0
    assert "backward_output" in out
    code, out, _ = run(capsys, "explain", folder / "gru.pt", "--time", 7)
    assert code == 0
    assert "return 5 values" in out
    assert "[3]  layer 1, backward" in out
    code, out, _ = run(capsys, "explain", folder / "gru.pt", "--layer", 1)
    assert code == 0
    assert "returns 3 values" in out
    assert "layer 1" not in out


def _truncated(folder: Path) -> Path:
    path = folder / "cut.keras"
    path.write_bytes((folder / "model.keras").read_bytes()[:3000])
    return path


def _saved(folder: Path, name: str, *layers: Any) -> Path:
    keras.Sequential([keras.Input((None, 3)), *layers]).save(folder / name)
    return folder / name


def _with_nan(folder: Path) -> list[object]:
    x = np.ones((2, 4, 3))
    x[1, 2, 0] = np.nan
    np.savez(folder / "nan.npz", x=x)
    return ["compare", folder / "gru.pt", "--inputs", folder / "nan.npz", "--engines", "torch"]


def _misshapen(folder: Path) -> list[object]:
    np.savez(folder / "shape.npz", x=np.ones((2, 4, 7)))
    return ["compare", folder / "gru.pt", "--inputs", folder / "shape.npz", "--engines", "torch"]


def _pickled(folder: Path) -> list[object]:
    np.savez(folder / "objects.npz", x=np.array([{}], dtype=object))
    return ["compare", folder / "gru.pt", "--inputs", folder / "objects.npz", "--engines", "torch"]


def _too_large(folder: Path) -> list[object]:
    np.savez(folder / "large.npz", x=np.full((2, 4, 3), 1e300))
    return ["compare", folder / "gru.pt", "--inputs", folder / "large.npz", "--engines", "torch"]


def _not_a_number(folder: Path) -> list[object]:
    weights = torch.load(folder / "gru.pt", weights_only=True)
    weights["weight_hh_l1"][3, 2] = float("nan")
    torch.save(weights, folder / "nan.pt")
    return ["convert", folder / "nan.pt", folder / "nan.onnx"]


def _no_weights(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "model.keras") as source, zipfile.ZipFile(folder / "bare.keras", "w") as target:
        for name in ("config.json", "metadata.json"):
            target.writestr(name, source.read(name))
    return folder / "bare.keras"


BAD: dict[str, tuple[Any, list[str]]] = {
    "wrong suffix": (lambda f: ["inspect", f / "model.caffe"], ["no such file"]),
    "unknown target": (lambda f: ["convert", f / "gru.pt", f / "gru.mlmodel"], ["suffix", ".mlmodel", ".onnx"]),
    "missing file": (lambda f: ["compare", f / "nowhere.keras"], ["no such file", "nowhere.keras"]),
    "truncated": (lambda f: ["inspect", _truncated(f)], ["cut.keras", "zip archive", "remedy"]),
    "weights missing": (lambda f: ["inspect", _no_weights(f)], ["model.weights.h5", "missing"]),
    "no recurrent layer": (
        lambda f: ["convert", _saved(f, "dense.keras", keras.layers.Dense(2)), f / "dense.safetensors"],
        ["more than a chain of layers", "no recurrent layer in the model", "as a whole it goes to .onnx"],
    ),
    "activation of no cell": (
        lambda f: ["convert", _saved(f, "soft.keras", keras.layers.LSTM(4, activation="softmax")), f / "x.onnx"],
        ["activation", "softmax", "tanh"],
    ),
    "wrong input size": (_misshapen, ["(batch, time, 3)", "(2, 4, 7)"]),
    "NaN": (_with_nan, ["not finite", "nan at (1, 2, 0)"]),
    "objects in npz": (_pickled, ["cannot be read"]),
    "sources of two sizes": (
        lambda f: ["compare", f / "gru.pt", f / "model.keras"],
        ["differ in kind, size or direction", "gru of 5 units"],
    ),
    "unknown engine": (lambda f: ["compare", f / "gru.pt", "--engines", "caffe"], ["unknown engine", "onnxruntime"]),
    "no device": (lambda f: ["compare", f / "gru.pt", "--engines", "torch", "--device", "cuda"], ["CUDA", "NVIDIA"]),
    "engine of a backend alone": (
        lambda f: ["compare", f / "gru.pt", "--engines", "jax"],
        ["unknown engine", "'jax'", "keras:jax"],
    ),
    "no engine": (lambda f: ["compare", f / "gru.pt", "--engines", ""], ["an engine without a name", "keras,torch"]),
    "a comma too many": (lambda f: ["compare", f / "gru.pt", "--engines", "torch,"], ["without a name", "'torch,'"]),
    "size of inputs that are given": (
        lambda f: ["compare", f / "gru.pt", "--inputs", f / "x.npz", "--batch", 4, "--time", 2],
        ["for random inputs", "--batch, --time", "leave them out"],
    ),
    "one direction merged": (
        lambda _: ["explain", "--layer", "lstm", "--merge-mode", "sum"],
        ["one direction alone is not merged", "add --bidirectional"],
    ),
    "explain nothing": (lambda _: ["explain"], ["--layer"]),
    "explain a kind there is not": (lambda _: ["explain", "--layer", "conv"], ["--layer conv", "lstm, gru or rnn"]),
    "explain a layer there is not": (
        lambda f: ["explain", f / "gru.pt", "--layer", "encoder"],
        ["no recurrent layer 'encoder'", "one of "],
    ),
    "explain with a file's options": (lambda f: ["explain", f / "gru.pt", "--units", 3], ["--units", "leave them out"]),
    "report of no format": (
        lambda f: ["compare", f / "gru.pt", "--engines", "torch", "--report", f / "r.txt"],
        ["r.txt", ".html"],
    ),
    "one name for two": (
        lambda f: ["compare", f / "gru.pt", "--engines", "torch", "--report", f / "r.html", "--json", f / "r.html"],
        [".json"],
    ),
    "record that is not there": (lambda f: ["report", f / "none.json", "-o", f / "x.html"], ["no such file"]),
    "too large for float32": (_too_large, ["not finite", "float32"]),
    "a weight that is no number": (_not_a_number, ["a weight is not finite", "nan"]),
    "merge mode": (lambda _: ["explain", "--layer", "gru", "--merge-mode", "max"], ["merge mode", "concat"]),
    "no record": (lambda f: ["report", f / "gru.pt", "-o", f / "x.html"], ["no record"]),
    "no option": (lambda f: ["compare", f / "gru.pt", "--tolerance", 1], ["--tolerance"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, words = BAD[case]
    arguments = make(folder)
    before = {path.name for path in folder.iterdir()}
    code, _, err = run(capsys, *arguments)
    assert code == 2
    missing = [word for word in words if word not in err]
    assert not missing, f"{missing} not in: {err}"
    assert {path.name for path in folder.iterdir()} == before


def test_an_engine_that_is_not_installed(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENGINES, "torch", "torch_that_is_absent")
    real = importlib.import_module

    def absent(name: str, package: str | None = None) -> Any:
        if name.endswith("torch_that_is_absent"):
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", absent)
    code, _, err = run(capsys, "compare", folder / "model.keras", "--engines", "torch")
    assert code == 2
    assert "the engine 'torch' is not installed" in err
    assert "pip install 'keras-torch-parity[torch]'" in err
    code, out, _ = run(capsys, "compare", folder / "model.keras")
    assert code == 0
    assert "torch left out" in out


def test_assert_parity_is_the_comparison_in_words() -> None:
    module, wrong = torch.nn.LSTM(3, 5), torch.nn.LSTM(3, 5)
    with pytest.raises(AssertionError, match=r"disagrees with the reference.*\n.*largest difference") as caught:
        parity.assert_parity(module, wrong, time=6)
    assert "largest against the floor" in str(caught.value)


def test_zeros_test_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gru = torch.nn.GRU(3, 5, num_layers=2, bidirectional=True, bias=False)
    torch.save(gru.state_dict(), folder / "one.pt")
    torch.save(torch.nn.GRU(3, 5, num_layers=2, bidirectional=True, bias=False).state_dict(), folder / "other.pt")
    np.save(folder / "zeros.npy", np.zeros((2, 6, 3)))
    code, out, _ = run(capsys, "compare", folder / "one.pt", folder / "other.pt", "--inputs", folder / "zeros.npy")
    assert code == 3
    assert "everything computed is zero" in out
    assert "all inputs are zero" in out


def test_what_was_not_compared_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = keras.models.load_model(folder / "model.keras")
    bare = parity.to_torch(model.layers[0])
    torch.save(bare.state_dict(), folder / "bare.pt")
    code, out, _ = run(capsys, "compare", folder / "model.keras", folder / "bare.pt")
    assert code == 0
    assert "not the outputs (classes)" in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version")[1] == f"parity {parity.__version__}\n"
