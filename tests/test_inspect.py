"""`parity inspect`: what it shows of a file, as data, as text and on a terminal."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import struct
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import rich.console
import safetensors.numpy
import torch

from parity import inspection, terminal
from parity.cell import plain_cell
from parity.cli import main
from parity.deferred import Deferred
from parity.errors import Problem
from parity.functions import Function
from parity.inspection import tables
from parity.network import Bidirectional, Dense, Masking, Network, Output, Recurrent
from parity.network.opaque import Opaque
from parity.recurrent import DIRECTIONS, RecurrentSpec, Weights
from parity.sources import Opened, open_source

SHARED = Path(__file__).parents[2] / "shared" / "models"
HOSTILE = "[red]x[/]\x1b[31m\u202e\nb\x9b"


def recurrent(name: str = "lstm", kind: Any = "lstm", units: int = 5, **options: Any) -> Recurrent:
    spec = RecurrentSpec(kind, 3, units, options.pop("directions", DIRECTIONS[:1]))
    random = np.random.default_rng(3)

    def drawn(member: str) -> Any:
        return random.uniform(-0.7, 0.7, spec.shape(member)).astype("f4")

    own = [Weights(drawn("kernel"), drawn("recurrent"), drawn("bias_input")) for _ in spec.directions]
    return Recurrent(name, spec, tuple(own), **options)


def opened(*layers: Any, **more: Any) -> Opened:
    """A source without a file."""
    details, origin = more.pop("details", {}), more.pop("origin", "keras")
    return Opened("m", Network("m", layers, (), origin, details, **more), None)


def text_of(source: Opened, monkeypatch: pytest.MonkeyPatch, width: int = 200, color: bool = False) -> str:
    """What is printed, on paper of some width."""
    out = io.StringIO()
    system: Any = "truecolor" if color else None
    made = rich.console.Console(file=out, width=width, highlight=False, force_terminal=color, color_system=system)
    monkeypatch.setattr(tables, "console", lambda: made)
    tables.show(source)
    return out.getvalue()


def strictly(text: str) -> Any:
    """JSON without NaN and Infinity."""

    def refused(word: str) -> None:
        raise AssertionError(word)

    return json.loads(text, parse_constant=refused)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


# ---- JSON


def test_the_json_has_the_keys_that_its_description_lists() -> None:
    listed = re.findall(r"^ {4}([a-z_]+(?:, [a-z_]+)*) {2,}\w", str(inspection.__doc__), re.MULTILINE)
    keys = {key for group in listed for key in group.split(", ")} | {"age", "saved", "problems", "returned"}
    assert set(inspection.description(opened(recurrent()))) == keys


def test_the_json_round_trips_and_is_strict(capsys: pytest.CaptureFixture[str]) -> None:
    facts = {
        "rate": float("nan"),
        "size": (1, 2),
        "deep": {"a": [float("inf"), None]},
        "surrogate": "\udc80",
        "raw": b"x",
    }
    tensors = {HOSTILE: np.ones((2, 3), np.float16)}
    source = opened(
        recurrent(HOSTILE),
        opaque=(Opaque(HOSTILE, "C", tensors, facts),),
        problems=(Problem("no", HOSTILE),),
        details={"k": HOSTILE},
    )
    shown = inspection.description(source)
    terminal.show_json(shown)
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    again = strictly(out)
    assert again == shown
    assert again["layers"][0]["name"] == again["opaque"][0]["name"] == HOSTILE
    assert again["opaque"][0]["options"]["rate"] == "nan"
    assert again["opaque"][0]["options"]["surrogate"] == "\udc80"
    assert again["opaque"][0]["tensors"][HOSTILE] == {"shape": [2, 3], "dtype": "float16"}


def test_the_json_says_everything_of_a_recurrent_layer() -> None:
    cell = replace(
        plain_cell("gru"), functions=(Function("hard_sigmoid", 0.2, 0.5), Function("tanh")), reset_after=False
    )
    layer = recurrent("gru", "gru", directions=DIRECTIONS, cells=(cell, cell), merge_mode="ave", stateful=True)
    shown = inspection.description(opened(layer))["layers"][0]
    (own,) = shown["recurrent"]
    assert shown["weights"]["backward.kernel"] == [3, 5, 3]
    assert (own["kind"], own["units"], own["directions"]) == ("gru", 5, ["forward", "backward"])
    assert own["reset_after"] == [False, False]
    assert own["functions"][1]["gate"]["alpha"] == 0.2
    assert (own["merge_mode"], own["stateful"], own["biases"]) == ("ave", True, 1)
    assert [tensor["shape"] for tensor in own["stored"]["tensors"]] == [[3, 15], [5, 15], [15]] * 2
    assert [tensor["direction"] for tensor in own["stored"]["tensors"][::3]] == ["forward", "backward"]


def test_a_live_source_has_no_file() -> None:
    shown = inspection.description(open_source(torch.nn.GRU(3, 5)))
    assert (shown["path"], shown["bytes"], shown["format"]) == (None, None, "a live object")


@pytest.mark.parametrize(
    ("producer", "age"),
    [
        ("Keras 1.2.2, theano backend", "of the age of Keras 1"),
        ("Keras 2.2.4-tf", "before Keras 2.3"),
        ("Keras 2.3.1", "before Keras 3"),
        ("Keras 3.15.1", ""),
        ("pytorch 2.3.1", ""),
    ],
)
def test_the_age_of_a_file(producer: str, age: str) -> None:
    assert age in inspection.age_of(producer)
    assert bool(age) == bool(inspection.age_of(producer))


# ---- files


def state_dict(blocks: int = 1) -> dict[str, Any]:
    """Norms and LSTMs by turns, as large models have them."""
    found: dict[str, Any] = {}
    for number in range(blocks):
        found |= {f"blocks.{number}.norm.{k}": v for k, v in torch.nn.BatchNorm1d(3).state_dict().items()}
        found |= {f"blocks.{number}.rnn.{k}": v for k, v in torch.nn.LSTM(3, 5).state_dict().items()}
    return found


def test_a_state_dict_of_500_layers_stays_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(state_dict(500), tmp_path / "many.pt")
    source = open_source(tmp_path / "many.pt", partial=True)
    lines = text_of(source, monkeypatch, 100).splitlines()
    assert len(lines) < 80
    text = "\n".join(lines)
    assert "these 2 lines 499 times more, up to 'blocks.499.rnn'" in text
    assert "blocks.0.rnn, blocks.1.rnn, blocks.2.rnn and 497 more: LSTM, 3 features in, 5 units" in text
    shown = strictly(json.dumps(inspection.description(source)))
    assert (len(shown["layers"]), len(shown["opaque"]), len(shown["alone"])) == (500, 500, 500)
    assert shown["layers"][-1]["recurrent"][0]["stored"]["tensors"][0]["in_file"] == "blocks.499.rnn.weight_ih_l0"


def test_many_unlike_layers_are_counted_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    unlike = tuple(Opaque(f"conv{n}", "Conv1D", {"kernel": np.ones((n + 1, 2))}) for n in range(100))
    text = text_of(opened(recurrent(), opaque=unlike, problems=(Problem("no"),)), monkeypatch)
    assert "conv0 " in text
    assert "... 61 more" in text
    assert "61 Conv1D; --json lists them" in text


def test_the_names_of_the_weights_are_those_in_the_state_dict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack, cell = torch.nn.GRU(3, 5, num_layers=2, bidirectional=True), torch.nn.LSTMCell(4, 6)
    for name, tensors in (
        ("bare", stack.state_dict()),
        ("inner", {f"encoder.gru.{k}": v for k, v in stack.state_dict().items()}),
        (
            "both",
            {
                **{f"a.{k}": v for k, v in stack.state_dict().items()},
                **{f"b.{k}": v for k, v in cell.state_dict().items()},
            },
        ),
    ):
        torch.save(tensors, tmp_path / f"{name}.pt")
        source = open_source(tmp_path / f"{name}.pt", partial=True)
        layers = inspection.description(source)["layers"]
        found = {t["in_file"]: t["shape"] for each in layers for t in each["recurrent"][0]["stored"]["tensors"]}
        assert found == {key: list(value.shape) for key, value in tensors.items()}
        assert all(key in text_of(source, monkeypatch) for key in tensors)


def test_a_file_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    tensors, place = {}, 0
    for name, shape in {
        "weight_ih_l0": (16384, 8192),
        "weight_hh_l0": (16384, 4096),
        "bias_ih_l0": (16384,),
        "bias_hh_l0": (16384,),
    }.items():
        size = 4 * int(np.prod(shape))
        tensors[name] = {"dtype": "F32", "shape": shape, "data_offsets": [place, place + size]}
        place += size
    head = json.dumps(tensors).encode()
    path = tmp_path / "big.safetensors"
    path.write_bytes(struct.pack("<Q", len(head)) + head)
    os.truncate(path, 8 + len(head) + place)
    tracemalloc.start()
    start = time.perf_counter()
    shown = inspection.description(open_source(path, partial=True))
    took, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert shown["bytes"] > 7e8
    assert shown["layers"][0]["recurrent"][0]["stored"]["tensors"][0]["shape"] == [16384, 8192]
    assert peak < 5e6
    assert took < 2  # milliseconds; but machines are shared


class _Unread:
    """A tensor that must not be read."""

    def __init__(self, *shape: int) -> None:
        self.shape, self.dtype = shape, np.dtype("f4")

    def __getitem__(self, rows: Any) -> Any:
        raise AssertionError("it was read")


def test_nothing_large_is_read_of_any_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    def deferred(*shape: int) -> Any:
        return Deferred(shape, np.dtype("f4"), lambda: _Unread(*shape)[()])

    spec = RecurrentSpec("lstm", 2000, 1000)
    lstm = Recurrent("lstm", spec, (Weights(deferred(4, 1000, 2000), deferred(4, 1000, 1000)),))
    dense = Dense("dense", deferred(1000, 2000))
    other = Opaque("conv", "Conv1D", {"kernel": _Unread(3, 2000, 2000)})
    text = text_of(opened(lstm, dense, opaque=(other,), problems=(Problem("no"),)), monkeypatch)
    assert "(3, 2000, 2000)" in text
    assert "(2000, 4000)" in text


# ---- partial networks


def test_known_and_unknown_layers_stand_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [
        Opaque(f"conv{place}", "Conv1D", {"kernel": np.ones((3, 2))}, {"filters": 2}, place) for place in (0, 1, 2)
    ]
    source = opened(
        recurrent("first"), recurrent("second", units=6), opaque=tuple(others), problems=(Problem("no", "here"),)
    )
    text = text_of(source, monkeypatch)
    table = text[text.index("options") : text.index("\n\nfirst:")]
    assert re.findall(r"^\w+", table, re.MULTILINE)[1:] == ["conv0", "first", "conv1", "second", "conv2"]
    assert "kernel (3, 2); filters=2" in table
    assert "cannot be converted as a whole, because\n  -  no (here)" in text
    assert "can be taken one by one: first, second" in text


def test_problems_of_one_kind_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    problems = [
        Problem("this class is not converted", f"layer {n}", got=f"Conv{n}", remedy="leave it out") for n in range(20)
    ]
    text = text_of(opened(recurrent(), problems=tuple(problems)), monkeypatch)
    assert text.count("this class is not converted") == 1
    assert "Conv0, Conv1, Conv2, Conv3, Conv4, Conv5, Conv6, Conv7 and 12 more (layer 0 and 19 more)" in text
    assert text.count("leave it out") == 1


def test_a_network_without_a_recurrent_layer_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    source = opened(opaque=(Opaque("cell", "GRUCell", {"kernel": np.ones((3, 2))}),), problems=(Problem("not read"),))
    text = text_of(source, monkeypatch)
    assert "GRUCell" in text
    assert "no recurrent layer of it could be read" in text
    assert "--layer" not in text
    assert inspection.description(source)["returns"] == []


def test_the_commands_that_are_shown_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("my rnn", "-rnn", "it's;$x", "a\x1bb"):
        tensors = {f"{name}.{k}": v.numpy() for k, v in torch.nn.GRU(3, 5).state_dict().items()}
        tensors["head.weight"] = np.ones((2, 5), np.float32)
        safetensors.numpy.save_file(tensors, "a file.safetensors")
        code, out, _ = run(capsys, "inspect", "a file.safetensors")
        assert code == 0
        commands = [shlex.split(line) for line in out.splitlines() if line.startswith("  parity ")]
        assert [command[1] for command in commands] == ["convert", "compare"]
        code, _, err = run(capsys, *commands[0][1:], "--no-verify")
        assert (code, err) == (0, "")
        Path(commands[0][3]).unlink()
        code, _, err = run(capsys, *commands[1][1:], "--engines", "torch", "--time", "3")
        assert (code, err) == (0, "")


def test_layers_of_a_partial_network_are_not_a_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = recurrent("one"), recurrent("two", "gru")
    whole, partial = opened(*layers, origin="torch"), opened(*layers, origin="torch", problems=(Problem("no"),))
    assert [one["layers"] for one in inspection.description(whole)["returned"]] == [["one", "two"]]
    assert [one["layers"] for one in inspection.description(partial)["returned"]] == [["one"], ["two"]]
    assert "all of them together" in text_of(whole, monkeypatch)
    assert "all of them together" not in text_of(partial, monkeypatch)


# ---- the terminal


def _sources() -> Iterator[Opened]:
    backward = recurrent("back", "gru", directions=DIRECTIONS[1:], reverse=True)
    unlike = Bidirectional("unlike", (recurrent("f"),), (backward,), None)
    yield opened(recurrent(), details={"producer": "Keras 2.1.5, tensorflow backend", "assumed": "a long story " * 80})
    yield opened(Masking("mask", 3), unlike)
    yield opened(recurrent(directions=DIRECTIONS, return_sequences=False), Dense("dense", np.ones((10, 2))))
    long = Opaque("x" * 200, "y" * 200, {"z" * 200: np.ones(3)}, {"w" * 200: "v" * 500})
    yield opened(recurrent("n" * 150), opaque=(long,), problems=(Problem("why " * 200, "where", remedy="mend it"),))


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("number", range(4))
def test_lines_fit_and_nothing_is_cut_without_a_sign(number: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    source = list(_sources())[number]
    text = text_of(source, monkeypatch, width)
    lines = text.splitlines()
    # Commands stand on one line each, to be copied.
    assert max(len(line) for line in lines if not line.startswith("  parity ")) <= width
    assert all(line == line.rstrip() for line in lines)
    assert "\u2026" not in text
    assert "\n\n\n" not in text
    for caution in inspection.description(source)["cautions"]:
        assert " ".join(caution["remedy"].split()) in " ".join(text.split())
    if "assumed" in source.network.details:
        assert f"... (+{len(source.network.details['assumed']) - 400} characters)" in " ".join(text.split())


def test_color_is_only_decoration(monkeypatch: pytest.MonkeyPatch) -> None:
    for source in _sources():
        plain, colored = text_of(source, monkeypatch, 100), text_of(source, monkeypatch, 100, color=True)
        assert "\x1b[" in colored
        assert re.sub(r"\x1b\[[0-9;]*m", "", colored) == plain


def test_names_of_a_file_are_no_markup_and_no_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    source = opened(
        recurrent(HOSTILE),
        opaque=(Opaque(HOSTILE, HOSTILE, {HOSTILE: np.ones(2)}, {HOSTILE: HOSTILE}),),
        details={HOSTILE: HOSTILE, "producer": HOSTILE, "layer x": HOSTILE, f"layer {HOSTILE}": HOSTILE},
        problems=(Problem(HOSTILE, HOSTILE, got=HOSTILE, remedy=HOSTILE),),
    )
    text = text_of(replace(source, label=HOSTILE), monkeypatch)
    assert text.count("[red]x[/]") > 8
    assert all(one.isprintable() or one == "\n" for one in text)
    assert "\\x1b[31m\\u202e b\\x9b" in text


def test_the_two_definitions_of_hard_sigmoid_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    for alpha, words in ((0.2, "0.2 x + 0.5"), (1 / 6, "x / 6 + 0.5")):
        plain = plain_cell("lstm")
        cell = replace(plain, functions=(Function("hard_sigmoid", alpha, 0.5), *plain.functions[1:]))
        text = text_of(opened(recurrent(cells=(cell,))), monkeypatch)
        (line,) = [line for line in text.splitlines() if "activations  gates" in line]
        assert words in line


def test_the_reset_order_is_said_in_the_words_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    before = (replace(plain_cell("gru"), reset_after=False),)
    for origin, cells, words in (
        ("keras", before, "before the matrix product (reset_after=False)"),
        ("keras", (), "after the matrix product (reset_after=True)"),
        ("onnxruntime", before, "before the matrix product (linear_before_reset=0)"),
        ("onnxruntime", (), "after the matrix product (linear_before_reset=1)"),
        ("torch", (), "after the matrix product\n"),
    ):
        assert words in text_of(opened(recurrent("g", "gru", cells=cells), origin=origin), monkeypatch)


def test_what_a_layer_returns_is_said_in_every_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    text = text_of(opened(recurrent(return_sequences=False), origin="keras"), monkeypatch)
    assert "returns      in Keras: (batch, 5)\n" in text
    assert "in torch with batch_first=True: output (batch, time, 5), h_n (1, batch, 5), c_n (1, batch, 5)\n" in text
    assert "in ONNX: Y (time, 1, batch, 5), Y_h (1, batch, 5), Y_c (1, batch, 5)\n" in text
    assert "returns      in torch with" in text_of(opened(recurrent(), origin="torch"), monkeypatch)


# ---- real files


def test_a_keras_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(5, name="lstm"), keras.layers.Dense(2)])
    model.save(tmp_path / "model.keras")
    code, out, _ = run(capsys, "inspect", tmp_path / "model.keras", "--json")
    shown = strictly(out)
    assert code == 0
    assert (shown["format"], shown["producer"]) == ("Keras 3 file (.keras)", f"Keras {keras.__version__}")
    assert (shown["partial"], shown["problems"], shown["opaque"]) == (False, [], [])
    assert [layer["family"] for layer in shown["layers"]] == ["Recurrent", "Dense"]
    assert [one["pitfall"] for one in shown["cautions"]][:2] == ["P03", "P04"]


EXPECTED = {
    "census2010_ln_lstm.h5": ("Keras 2.5.0", ["lstm"], ["today's Keras does not open files like this one"]),
    "textgenrnn_weights.hdf5": ("Keras 2.1.5", ["rnn_1", "rnn_2"], ["CuDNNLSTM or CuDNNGRU saved these weights"]),
    "silero_vad_16k.safetensors": ("lstm_cell.weight_hh", ["lstm_cell"], ["its states are handed over"]),
    "silero_vad_16k_op15.onnx": ("pytorch 2.3.1", ["/model/decoder/rnn/LSTM"], ["gives this layer an initial state"]),
}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real models lie beside the project, not in it")
@pytest.mark.parametrize("name", EXPECTED)
def test_real_models(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    said, names, spoken = EXPECTED[name]
    code, out, err = run(capsys, "inspect", SHARED / name)
    assert (code, err) == (0, "")
    assert all(words in out for words in (said, *spoken))
    assert len(out.splitlines()) < 90
    shown = strictly(run(capsys, "inspect", SHARED / name, "--json")[1])
    assert shown["alone"] == names
    assert shown["partial"] is (name != "census2010_ln_lstm.h5")
    assert shown["bytes"] == (SHARED / name).stat().st_size


def test_outputs_and_steps_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network("m", (recurrent(),), (Output("result", "lstm"),), "keras", {}, 20)
    text = text_of(Opened("m", network, None), monkeypatch)
    assert "outputs  result" in text
    assert "20, no other number" in text
