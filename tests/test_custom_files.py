"""`--custom FILE.py`: layers of a user's own on the command line."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import parity
from parity.cli import main
from parity.custom_files import LOADED
from parity.graph.custom import CUSTOM

README = Path(__file__).resolve().parent.parent / "README.md"

_REGISTERED = """
@parity.register("Pooled")
def pooled(build, config, weights, x):
    scores = build.matmul(x, build.weight(f"{config['name']}.W", weights[0]))
    return build.sum(build.multiply(x, build.softmax(scores, axis=1)), axis=1)
"""

_CLASS = """
@keras.saving.register_keras_serializable(package="mine")
class Pooled(keras.layers.Layer):
    def build(self, shape):
        self.W = self.add_weight(shape=(shape[-1], 1), name="W")

    def call(self, x):
        return keras.ops.sum(x * keras.ops.softmax(x @ self.W, axis=1), axis=1)
"""


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output, standard error; nothing of the command stays."""
    before = dict(CUSTOM), list(sys.path)
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert (CUSTOM, sys.path) == before
    assert LOADED == []
    return int(stop.value.code or 0), out, err


@pytest.fixture
def folder(tmp_path: Path, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A model with a layer that only its user knows, a file that registers it, one with its class, too, and a wrong one."""
    pooled = _class_of(_CLASS, "Pooled")
    words = keras.Input((None,), dtype="int32", name="words")
    x = keras.layers.Embedding(11, 4, name="table")(words)
    x = pooled(name="pool")(keras.layers.LSTM(5, return_sequences=True, name="lstm")(x))
    model = keras.Model(words, keras.layers.Dense(3, name="out")(x), name="small")
    model.set_weights([random.uniform(-0.7, 0.7, weight.shape) for weight in model.get_weights()])
    model.save(tmp_path / "model.keras")
    _forget_classes()
    texts = {
        "layers.py": _REGISTERED,
        "both.py": _CLASS + _REGISTERED,
        "wrong.py": _CLASS + _REGISTERED.replace("build.sum", "build.mean"),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(f"import keras\nimport parity\n{text}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    _forget_classes()


def _class_of(text: str, name: str) -> Any:
    names: dict[str, Any] = {"__name__": "training", "keras": keras, "parity": parity}
    exec(text, names)
    return names[name]


def _forget_classes() -> None:
    """As in a new process, Keras knows no class but its own."""
    for name in ("mine>Pooled", "Custom>AttentionWeightedAverage"):
        keras.saving.get_custom_objects().pop(name, None)


def test_without_the_option_the_layer_is_named_and_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "inspect", "model.keras")
    assert code == 0
    assert "a custom layer class is not known: Pooled of module training, registered as mine>Pooled" in out
    assert "(layer 'pool' (Pooled))" in out
    assert "parity.register says what it computes" in out
    assert "--custom FILE.py" in out
    for arguments in (["convert", "model.keras", "out", "--to", "torch"], ["compare", "model.keras"]):
        code, _, err = run(capsys, *arguments)
        assert code == 2
        assert "layer 'pool' (Pooled)" in err
        assert re.search(r"remedy: .*parity\.register .*--custom FILE\.py", err)
    assert not (folder / "out").exists()


def test_with_the_option_the_model_is_whole(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "inspect", "model.keras", "--custom", "layers.py")
    assert code == 0
    assert "not known" not in out
    assert "parity compare model.keras --custom layers.py" in out
    code, out, _ = run(capsys, "explain", "model.keras", "--custom", "layers.py")
    assert code == 0
    assert "(batch, 3)" in out
    for target in ("torch", "onnx"):
        code, out, _ = run(capsys, "convert", "model.keras", f"out_{target}", "--to", target, "--custom", "both.py")
        assert code == 0
        assert f"model.keras (keras) and out_{target}/" in out
        assert "agree with the float64 reference" in out
    assert "parity" not in (folder / "out_torch" / "model.py").read_text(encoding="utf-8")
    code, _, _ = run(capsys, "convert", "model.keras", "model.onnx", "--custom", "layers.py")
    assert code == 0
    code, out, _ = run(capsys, "compare", "model.keras", "model.onnx", "--custom", "both.py")
    assert code == 0, out
    _forget_classes()
    code, out, _ = run(capsys, "convert", "model.keras", "out", "--to", "torch", "--custom", "layers.py")
    assert code == 0
    assert "was not run by keras itself: Keras cannot open this file: Could not locate class 'Pooled'" in out


@pytest.mark.usefixtures("folder")
def test_a_wrong_registration_disagrees_with_keras(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "compare", "model.keras", "--custom", "wrong.py", "--engines", "keras")
    assert code == 1
    assert "output out" in out
    code, _, err = run(capsys, "convert", "model.keras", "out", "--to", "torch", "--custom", "wrong.py")
    assert code == 2
    assert "model.keras (keras) disagrees with the reference" in err
    assert "look at what parity.register says of Pooled" in err
    _forget_classes()
    code, _, err = run(capsys, "compare", "model.keras", "--custom", "layers.py")
    assert code == 2
    assert re.search(r"got: +Could not locate class 'Pooled'\n", err)
    assert "define the class for Keras, too" in err
    assert "--engines torch,onnxruntime" in err
    assert run(capsys, "compare", "model.keras", "--custom", "layers.py", "--engines", "torch,onnxruntime")[0] == 0


def test_the_command_as_a_process(folder: Path) -> None:
    """With Keras alone, whose own lines on standard error are none of the command's."""
    options = ["--custom", "both.py", "--engines", "keras", "--report", "a b.html", "--json", "record.json"]
    words = [sys.executable, "-m", "parity", "compare", "model.keras", *options]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "absl" not in done.stderr
    assert "keras agrees with the float64 reference" in done.stdout
    again = json.loads((folder / "record.json").read_text(encoding="utf-8"))["again"]
    assert again["command"].endswith(" --custom both.py")
    assert again["python"].startswith("runpy.run_path('both.py')")
    assert again["command"] in html.unescape((folder / "a b.html").read_text(encoding="utf-8"))


@pytest.mark.usefixtures("folder")
def test_a_backend_in_another_process_runs_the_file_too(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--engines", "keras:torch,torch"]
    code, out, _ = run(capsys, "compare", "model.keras", "--custom", "layers.py", *options)
    assert code == 3
    assert "keras:torch failed (Keras cannot open this file: Could not locate class 'Pooled')" in out
    code, out, _ = run(capsys, "compare", "model.keras", "--custom", "both.py", *options)
    assert code == 0
    assert "keras:torch and torch agree" in out


_FAULTS = {
    "missing.py": (None, ["no such file", "--custom missing.py", "nothing there"]),
    "notes.txt": ("x", ["this is no file of Python", "notes.txt"]),
    "empty.py": ("import parity\n", ["this file registers no layer", "empty.py", "parity.register"]),
    "syntax.py": ("x = 1\ndef (\n", ["raised an error", "syntax.py, line 2\n", "SyntaxError: "]),
    "name.py": ("x = 1\n\nnothing(x)\n", ["name.py, line 3\n", "NameError: name 'nothing' is not defined"]),
    "inside.py": ("import json\n\njson.loads('{')\n", ["inside.py, line 3\n", "JSONDecodeError: "]),
    "leaves.py": ("import sys\nsys.exit(0)\n", ["leaves.py, line 2\n", "SystemExit: 0"]),
    "nul.py": ("x\0", ["nul.py", "null bytes"]),
}


@pytest.mark.parametrize("name", _FAULTS)
def test_a_file_that_cannot_be_used(name: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, words = _FAULTS[name]
    if text is not None:
        (folder / name).write_text(text, encoding="utf-8")
    for arguments in (["inspect"], ["compare"], ["explain"], ["convert", "out", "--to", "torch"]):
        code, out, err = run(capsys, arguments[0], "model.keras", *arguments[1:], "--custom", name)
        assert (code, out) == (2, "")
        assert err.startswith("parity: ")
        for word in words:
            assert word in err


def test_a_registered_function_that_raises_names_its_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = f"import parity\n{_REGISTERED.replace('weights[0]', 'weights[9]')}"
    (folder / "broken.py").write_text(broken, encoding="utf-8")
    line = next(number for number, text in enumerate(broken.splitlines(), 1) if "weights[9]" in text)
    code, _, err = run(capsys, "convert", "model.keras", "out", "--to", "torch", "--custom", "broken.py")
    assert code == 2
    assert f"IndexError: list index out of range (broken.py, line {line})" in err


def test_several_files_and_modules_beside_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    apart = folder / "apart"
    apart.mkdir()
    (apart / "attending.py").write_text(f"import parity\n{_REGISTERED}", encoding="utf-8")
    (apart / "keras.py").write_text("raise RuntimeError('this is not Keras')\n", encoding="utf-8")
    (apart / "first.py").write_text("import attending\nimport keras\n\nassert keras.ops\n", encoding="utf-8")
    (folder / "other.py").write_text("import parity\nparity.register('Other', lambda *_: None)\n", encoding="utf-8")
    options = ["--custom", "apart/first.py", "--custom", "other.py"]
    code, out, _ = run(capsys, "inspect", "model.keras", *options)
    sys.modules.pop("attending")
    assert code == 0
    assert f"parity compare model.keras {' '.join(options)}" in out
    code, _, err = run(capsys, "inspect", "model.keras", "--custom", "layers.py", "--custom", "both.py")
    assert code == 2
    assert re.search(r"where: +--custom, Pooled\n", err)
    assert "layers.py and both.py" in err


def test_the_option_needs_a_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "loud.py").write_text("raise RuntimeError\n", encoding="utf-8")
    code, _, err = run(capsys, "explain", "--layer", "lstm", "--custom", "loud.py")
    assert code == 2
    assert "a model that is not given" in err


def test_the_readme(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = README.read_text(encoding="utf-8")
    command = re.search(r"`parity (convert model\.keras out/ --to torch --custom layers\.py)`", text)
    block = re.search(r"```python\n(@parity\.register.*?)```", text, re.DOTALL)
    assert command is not None
    assert block is not None
    own, rest = block[1].split("words = ", 1)
    _class_of(f"{own}words = {rest.split('print(')[0]}", "model").save("model.keras")
    CUSTOM.pop("AttentionWeightedAverage")
    _forget_classes()
    (folder / "layers.py").write_text(f"import keras\nimport parity\n\n{own}", encoding="utf-8")
    code, out, _ = run(capsys, *command[1].split())
    assert code == 0
    assert "model.keras (keras) and out/model.py (torch) agree" in out
