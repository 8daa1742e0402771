"""What parity's objects give a notebook: small, escaped, without reading a weight, and never an error."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import parity
from parity.conversion import convert
from parity.deferred import LARGE_BYTES, Deferred
from parity.diagnosis.diagnosis import Diagnosis, Evidence
from parity.errors import Problem
from parity.explaining import explain_layer
from parity.graph import Builder
from parity.network import Bidirectional, Dense, Embedding, Network, Recurrent
from parity.network.attaching import network_of_graph
from parity.network.graph import Output
from parity.network.opaque import Opaque
from parity.notebook import drawing
from parity.recurrent import DIRECTIONS, RecurrentSpec, Weights
from parity.report import make_record
from parity.report.page import render_snippet
from parity.transferring.answer import Row

ROOT = Path(__file__).parents[1]
MOST_BYTES = 60_000


def recurrent(name: str, inputs: int = 8, units: int = 8) -> Recurrent:
    random = np.random.default_rng(units)
    sizes = (4, units, inputs), (4, units, units), (4, units)
    weights = Weights(*(random.normal(size=size).astype(np.float32) for size in sizes))
    return Recurrent(name, RecurrentSpec("lstm", inputs, units), (weights,))


def many_layers(count: int, name: str = "encoder/lstm_{}", facts: dict[str, object] | None = None) -> Network:
    layers = tuple(recurrent(name.format(k)) for k in range(count))
    opaque = tuple(Opaque(f"own_{k}", "Mine", facts=facts or {}, place=k) for k in range(count))
    return Network("deep", layers, (Output("y", layers[-1].name),), "keras", {"note": "n" * 5000}, opaque=opaque)


def test_forty_layers_are_all_shown() -> None:
    page = many_layers(40)._repr_html_()
    assert len(page.encode()) < MOST_BYTES
    assert all(f"encoder/lstm_{k}<" in page for k in range(40))
    assert "80 layers, 21,760 parameters" in page
    assert "more rows" not in page


LARGE: dict[str, tuple[Callable[[], Any], str]] = {
    "layers": (lambda: many_layers(400), r"and \d{3} more rows"),
    "hostile layers": (lambda: many_layers(100, '"<&>' * 200 + "{}"), r"and \d+ more rows"),
    "long options": (
        lambda: many_layers(40, facts={"table": list(range(5000)), "words": {str(k): k for k in range(5000)}}),
        "table=5000 values: 0, 1, 2, ..., words=5000 entries",
    ),
    "array option": (lambda: many_layers(5, facts={"table": np.ones((5000, 30))}), r"table=array \(5000, 30\)"),
    "problems": (
        lambda: replace(many_layers(2), problems=tuple(Problem(f"problem {k}") for k in range(5000))),
        r"and 49\d\d more",
    ),
    "outputs": (
        lambda: replace(many_layers(2), outputs=tuple(Output(f"y{k}", "encoder/lstm_1") for k in range(5000))),
        "and 4992 more",
    ),
    "returns": (
        lambda: replace(
            explain_layer(RecurrentSpec("gru", 4, 5), True),
            rows=("row",) * 5000,
            notes=("note",) * 5000,
            keras=explain_layer(RecurrentSpec("gru", 4, 5), True).keras * 5000,
        ),
        r"and 4\d{3} more rows",
    ),
    "hypotheses": (
        lambda: Diagnosis(
            "a", "b", False, evidence=(Evidence("has it", "there", 0.5, 0.25, 1e5, False),) * 5000, notes=("n",) * 5000
        ),
        r"and 4\d{3} more rows",
    ),
    "tensors": (
        lambda: parity.Transfer(
            (Row("a", "as it is", "b", (2,), "0" * 12, "given"),) * 5000,
            ("left",) * 5000,
            ("kept",) * 5000,
            ("w",) * 5000,
        ),
        "5000 tensors written, 5000 unused, 5000 untouched",
    ),
}


@pytest.mark.parametrize("case", LARGE)
def test_what_is_large_is_cut_and_counted(case: str) -> None:
    made, words = LARGE[case]
    page = made()._repr_html_()
    assert "<pre>" not in page[:5]
    assert len(page.encode()) < MOST_BYTES
    assert re.search(words, page)


def test_the_matrix_of_many_layers_is_cut_and_keeps_what_disagrees() -> None:
    torch.manual_seed(0)
    record = make_record(parity.compare(torch.nn.GRU(3, 5), engines=["torch"]))
    rows = [{**row, "quantity": f"{row['quantity']} {k}"} for k in range(400) for row in record["rows"]]
    rows[-1] = {**rows[-1], "verdict": "disagree"}
    page = render_snippet({**record, "rows": rows})
    assert len(page.encode()) < MOST_BYTES
    assert page.count('title="disagree: ') == 1
    assert len(re.findall(r"and \d+ more quantities, none of which disagrees", page)) == 2


class Unreadable:
    """A tensor of a file that must not be read."""

    shape, dtype = (50, 3), np.dtype(np.float32)

    def __getitem__(self, rows: Any) -> Any:
        raise AssertionError("a tensor was read")


def unread(*shape: int) -> Any:
    def read() -> Any:
        raise AssertionError("a weight was read")

    return Deferred(shape, np.dtype(np.float32), read)


def test_no_weight_is_read() -> None:
    one = Weights(unread(4, 5, 7), unread(4, 5, 5), unread(4, 5), unread(4, 5), unread(3, 5))
    layers = (
        Embedding("words", unread(30_000, 7)),
        Recurrent("lstm", RecurrentSpec("lstm", 7, 5, DIRECTIONS), (one, one)),
        Dense("out", unread(10, 2), unread(2)),
    )
    network = Network("m", layers, (Output("out", "out"),), opaque=(Opaque("own", "Mine", {"w": Unreadable()}),))
    page = network._repr_html_()
    assert "210,762 parameters" in page
    assert "integers below 30,000" in page
    assert "(batch, time, 2)" in page
    assert "bias=True" in page


def test_a_large_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    units = 1100
    source = torch.nn.GRU(3, units)
    assert 4 * 3 * units * units > LARGE_BYTES
    torch.save(source.state_dict(), tmp_path / "gru.pt")
    path = convert(tmp_path / "gru.pt", tmp_path / "gru.safetensors")
    network = parity.read(path)
    monkeypatch.setattr(Deferred, "read", lambda _: pytest.fail("a weight was read"))
    assert f"{sum(weight.numel() for weight in source.parameters()):,} parameters" in network._repr_html_()


def test_unlike_directions_and_several_outputs() -> None:
    forward, backward = recurrent("there", 4, 6), recurrent("back", 4, 3)
    both = Bidirectional("both", (forward,), (replace(backward, spec=RecurrentSpec("lstm", 4, 3)),))
    last = replace(recurrent("last", 9, 2), return_sequences=False)
    network = Network("m", (both, last), (Output("seen", "both"), Output("last", "last")), "keras", time=7)
    page = network._repr_html_()
    assert "seen (batch, 7, 9) of &#39;both&#39;, last (batch, 2)" in page
    assert ">6 and 3</td><td>forward: LSTM; backward: LSTM</td><td>merge_mode=concat</td>" in page


def test_a_graph_shows_its_inputs_and_what_has_weights() -> None:
    build = Builder("forked")
    x = build.input("<x>", ("batch", "time", 3))
    graph = build.graph({"y": build.activation("tanh", x), "z": build.activation("relu", x)})
    page = network_of_graph(graph)._repr_html_()
    assert "&lt;x&gt; (batch, time, 3) float32" in page
    assert "y, z" in page
    assert "0 layers, 0 parameters" in page
    assert "it moves as a whole, to ONNX or as code" in page
    assert "because" not in page


class Branching(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(50, 6)
        self.convolution = torch.nn.Conv1d(6, 4, 3, padding=1)
        self.rnn = torch.nn.GRU(4, 5, batch_first=True, bidirectional=True)
        self.head = torch.nn.Linear(10, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found, _ = self.rnn(self.convolution(self.words(x).transpose(1, 2)).transpose(1, 2))
        return self.head(found), found


def test_a_model_with_branches_shows_all_its_weights() -> None:
    model = Branching()
    page = parity.read(model, torch.randint(0, 50, (2, 7)))._repr_html_()
    assert f"4 layers, {sum(weight.numel() for weight in model.parameters())} parameters" in page
    assert re.search(r"layers, and \d+ operations without weights", page)
    assert "<td>Convolution</td>" in page
    assert "<td>forward and backward</td>" in page


def test_a_layer_without_outputs_of_its_own() -> None:
    page = parity.read(torch.nn.GRU(3, 5))._repr_html_()
    assert "the sequence and the final states" in page
    assert "(batch, time, 3)" in page


def test_a_disagreement_without_a_cause_and_an_agreement() -> None:
    evidence = (Evidence("has its gates swapped", "layer 'lstm'", 0.5, float("inf"), 4e5, False),)
    lost = Diagnosis("'a'", "'<b>'", False, evidence=evidence, tried=12, ruled_out=("gate order",), notes=("a note",))
    page = lost._repr_html_()
    assert "? No cause found" in page
    assert "<bdi>&#39;&lt;b&gt;&#39;</bdi>" in page
    for words in ("has its gates swapped", "∞", "4e5", "gate order", "a note", "12"):
        assert words in page
    assert "✓ Nothing to explain" in Diagnosis("a", "b", True, evidence=evidence)._repr_html_()
    assert "<table>" not in Diagnosis("a", "b", True, evidence=evidence)._repr_html_()


def test_it_never_raises() -> None:
    row = Row("a", "b", "c", None, "", "")  # type: ignore[arg-type]  # what must not happen
    transfer = parity.Transfer((row,))
    assert transfer._repr_html_().startswith("<pre>Transfer(rows=(Row(source=&#39;a&#39;")
    network = many_layers(2)
    object.__setattr__(network, "layers", None)
    assert re.fullmatch(r"<pre>&lt;parity.network.graph.Network object at \w+&gt;</pre>", network._repr_html_())
    assert parity.Comparison._repr_html_(object()).startswith("<pre>&lt;object")  # type: ignore[arg-type]
    assert Diagnosis(1, None, "", faults=3)._repr_html_().startswith("<pre>")  # type: ignore[arg-type]
    assert replace(explain_layer(RecurrentSpec("gru", 2, 3)), keras=None)._repr_html_().startswith("<pre>")  # type: ignore[arg-type]


def test_names_that_no_encoding_has_are_written_out() -> None:
    page = many_layers(2, "\ud800\x00\x1b{}")._repr_html_()
    assert page.encode().count(rb"\ud800\x00\x1b0") == 1


def test_no_framework_is_imported() -> None:
    code = """
import sys
import numpy as np
from parity import Diagnosis, Network, Transfer
from parity.explaining import explain_layer
from parity.network import Recurrent
from parity.recurrent import RecurrentSpec, Weights
spec = RecurrentSpec("gru", 2, 5)
weights = Weights(np.ones((3, 5, 2)), np.ones((3, 5, 5)))
shown = (Network("gru", (Recurrent("gru", spec, (weights,)),)), explain_layer(spec), Diagnosis("a", "b", True), Transfer(()))
assert all("parity-view" in one._repr_html_() for one in shown)
print([name for name in ("torch", "tensorflow", "keras", "onnx", "onnxruntime", "jax", "IPython") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_a_cut_keeps_the_ends() -> None:
    rows = [(f"row {k}", "text") for k in range(100)]
    found = drawing.cut(rows, 10 * 80, last=3)
    assert found.last == tuple(rows[-3:])
    assert found.first == tuple(rows[: len(found.first)])
    assert len(found.first) + found.left_out + 3 == 100
    assert drawing.cut(rows[:1], 0, last=3) == drawing.Cut((rows[0],))
