"""Whole models over time: the error by step and the map of batch x time, valid and padded steps apart, in record, page and terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator
from playwright.sync_api import Browser
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import parity
from parity.comparison import Comparison, compare
from parity.comparison_table import error_lines
from parity.graph import Builder
from parity.graph.graph import Graph, Wire
from parity.graph.judging import Running, judge_graph
from parity.graph.padding import made_by, shared_mask
from parity.graph.steps import steps_of
from parity.judge import LIMIT
from parity.network import Dense, Recurrent
from parity.recurrent import Array, RecurrentSpec, Weights
from parity.report import Record, render_record
from parity.sources import open_source
from parity.sparkline import marks_for
from tests.browsing import LOOKS, checked, inaccessible, launched, open_page
from tests.tagger import Tagger

IDS = np.random.default_rng(0).integers(0, 30, (4, 11))
SLIP = (1, 4, 2)
"""The element that is wrong: sample, step, unit."""

VALID = np.array([9, 3, 6, 1])
SHORT = np.array([6, 3, 6, 1])
"""So that everything behind the sixth step is padding of the packed layer."""
STEPS = np.random.default_rng(1).standard_normal((4, 9, 4)).astype(np.float32)


class Slipped(Tagger):
    """Wrong in one element of its output."""

    def __init__(self, end: str = "") -> None:
        super().__init__(end)
        self.slip = torch.zeros(4, 11, 4)
        self.slip[SLIP] = 0.01

    def forward(self, tokens: Tensor) -> Tensor:
        scores: Tensor = super().forward(tokens) + self.slip
        return scores


class Packed(nn.Module):
    """No chain: packed sequences in both directions beside a way around them.

    Args:
        repeated: whether padded steps hold the last output again, and not zero.
        slip: added to the element at `SLIP`.
        mixed: whether a convolution carries what stands at padded steps into valid ones.
        beside: whether a layer without lengths stands beside the packed one: "dense", or "gru", or "lost", which is one that loses its
            inputs after six steps.
    """

    def __init__(self, repeated: bool = False, slip: float = 0.0, mixed: bool = False, beside: str = "") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(4, 6)
        self.rnn = nn.LSTM(6, 5, batch_first=True, bidirectional=True)
        self.out = nn.Linear(10, 3)
        self.around = nn.Linear(6, 3)
        self.conv = nn.Conv1d(10, 10, 3, padding=1)
        self.gru = nn.GRU(6, 3, batch_first=True)
        self.repeated, self.slip, self.mixed, self.beside = repeated, slip, mixed, beside

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        hidden = self.first(x)
        packed = pack_padded_sequence(hidden, lengths, batch_first=True, enforce_sorted=False)
        sequence, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=x.shape[1])
        if self.repeated:
            steps = torch.minimum(torch.arange(x.shape[1]), (lengths - 1)[:, None])
            sequence = sequence.gather(1, steps[..., None].expand(-1, -1, sequence.shape[2]))
        if self.mixed:
            sequence = self.conv(sequence.transpose(1, 2)).transpose(1, 2)
        scores: Tensor = self.out(sequence)
        if self.beside == "dense":
            scores = scores + self.around(hidden)
        elif self.beside == "gru":
            scores = torch.cat([scores, self.gru(hidden)[0]], 2)
        elif self.beside == "lost":
            begun = (torch.arange(x.shape[1]) < 6)[:, None]
            scores = torch.cat([scores, self.gru(hidden * begun)[0]], 2)
        if self.slip:
            scores[0, 4, 2] += self.slip
        return scores


def masked() -> keras.Model:
    """Masking, both directions, a dense layer for every step, beside an input without steps."""
    keras.utils.set_random_seed(1)
    x, speaker = keras.Input((None, 4), name="x"), keras.Input((3,), name="speaker")
    sequence = keras.layers.Bidirectional(keras.layers.LSTM(5, return_sequences=True), name="both")(
        keras.layers.Masking(name="masking")(x)
    )
    scores = keras.layers.TimeDistributed(keras.layers.Dense(3), name="scores")(sequence)
    last = keras.layers.LSTM(4, name="last")(sequence)
    whole = keras.layers.Dense(2, name="whole")(keras.layers.Concatenate()([last, speaker]))
    model = keras.Model([x, speaker], [scores, whole])
    for weight in model.weights:
        weight.assign(np.random.default_rng(2).uniform(-0.6, 0.6, weight.shape))
    return model


def quiet(compared: Comparison) -> Comparison:
    """Without the search for the cause, which takes longer than all the rest."""
    vars(compared)["diagnosis"] = None
    return compared


@pytest.fixture(scope="module")
def comparisons() -> dict[str, Comparison]:
    engines = ["torch", "onnxruntime"]
    lengths: Any = [STEPS, VALID]
    return {
        "right": compare(Tagger(), inputs=IDS, engines=engines),
        "slipped": quiet(compare(Tagger(), Slipped(), inputs=IDS, layers=False)),
        "last": compare(Tagger("last"), inputs=IDS, engines=engines),
        "last judged": compare(Tagger("last"), inputs=IDS, engines=engines, layers=True),
        "packed": compare(Packed(), inputs=lengths, engines=engines),
        "repeated": compare(Packed(), Packed(repeated=True), inputs=lengths, layers=False),
        "repeated and wrong": quiet(compare(Packed(), Packed(repeated=True, slip=0.01), inputs=lengths, layers=False)),
        "mixed": quiet(compare(Packed(mixed=True), Packed(True, mixed=True), inputs=lengths, layers=False)),
        "beside": quiet(compare(Packed(beside="dense"), Packed(True, beside="dense"), inputs=lengths, layers=False)),
        "lost": quiet(compare(Packed(beside="gru"), Packed(beside="lost"), inputs=[STEPS, SHORT], layers=False)),
        "masked": compare(masked(), engines=["keras", "torch", "onnxruntime"]),
    }


@pytest.fixture(scope="module")
def records(comparisons: dict[str, Comparison]) -> dict[str, Record]:
    return {name: json.loads(json.dumps(one.record)) for name, one in comparisons.items()}


def test_these_records_hold_to_the_published_schema(records: dict[str, Record]) -> None:
    published = json.loads((resources.files("parity") / "report" / "record.schema.json").read_text(encoding="utf-8"))
    validator = Draft202012Validator(published)
    assert {name: [error.message for error in validator.iter_errors(one)] for name, one in records.items()} == {
        name: [] for name in records
    }


def outside(profile: Mapping[str, Any], label: str) -> list[int]:
    ratios = profile["times_floor"][label]
    return [step for step, ratio in enumerate(ratios) if ratio is not None and float(ratio) > LIMIT]


def cells(where: Mapping[str, Any]) -> list[tuple[int, int]]:
    """The cells of a map that are outside the limit."""
    return [
        (row, column)
        for row, line in enumerate(where["times_floor"])
        for column, value in enumerate(line)
        if value not in (None, "padding") and float(value) > LIMIT
    ]


def test_an_error_at_one_step_of_one_sample_shows_there_and_nowhere_else(records: dict[str, Record]) -> None:
    profile, where = records["slipped"]["profile"], records["slipped"]["map"]
    right, wrong = profile["engines"]
    sample, step, unit = SLIP
    assert (profile["quantity"], profile["time"]) == ("output output", 11)
    assert outside(profile, wrong) == [step]
    assert outside(profile, right) == []
    assert math.isclose(profile["engines"][wrong][step], 0.01, rel_tol=1e-3)
    assert where["engine"] == wrong
    assert cells(where) == [(sample, step)]
    assert (where["batch"], where["time"]) == (4, 11)
    peak = where["peaks"][0]
    assert peak["place"] == {"batch": sample, "time": step, "unit": unit}
    assert math.isclose(abs(peak["values"][0] - peak["values"][1]), 0.01, rel_tol=1e-3)


def test_every_step_is_as_far_off_as_the_values_say(comparisons: dict[str, Comparison]) -> None:
    compared = comparisons["right"]
    band = compared.judgement.floor.bands["output output"]
    profile, where = compared.record["profile"], compared.record["map"]
    for label, result in compared.judgement.results.items():
        error = np.abs(result.outputs["output"].astype(np.float64) - band.reference)
        np.testing.assert_allclose(profile["engines"][label], error.max(axis=(0, 2)), rtol=1e-3)
        np.testing.assert_allclose(profile["times_floor"][label], (error / band.floor).max(axis=(0, 2)), rtol=1e-3)
        if label == where["engine"]:
            np.testing.assert_allclose(where["times_floor"], (error / band.floor).max(axis=2), rtol=1e-3)
    np.testing.assert_allclose(profile["floor"], band.floor.max(axis=(0, 2)), rtol=1e-3)


def test_block_by_block_it_is_the_same(comparisons: dict[str, Comparison], monkeypatch: pytest.MonkeyPatch) -> None:
    from parity.report.record_over_time import over_time

    whole = over_time(comparisons["slipped"])
    monkeypatch.setattr("parity.in_blocks.BLOCK_SIZE", 7)
    assert over_time(comparisons["slipped"]) == whole


def test_where_no_output_has_steps_it_is_a_layer_that_was_judged(records: dict[str, Record]) -> None:
    assert records["last"]["profile"] is None
    assert records["last"]["map"] is None
    profile = records["last judged"]["profile"]
    assert profile["quantity"] == "layer second"
    assert list(profile["engines"]) == ["torch", "onnxruntime"]
    assert all(0 < value <= LIMIT for values in profile["times_floor"].values() for value in values)


def test_a_layer_that_is_off_is_shown_at_the_step_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Running.seen

    def off(self: Running, inputs: Mapping[str, Array]) -> dict[Wire, Array]:
        found = seen(self, inputs)
        if self.engine == "onnxruntime":
            wire = next(wire for wire in found if wire.node == "first")
            found[wire] = found[wire].copy()
            found[wire][2, 5, 1] += 0.01
        return found

    monkeypatch.setattr(Running, "seen", off)
    record = quiet(compare(Tagger("last"), inputs=IDS, engines=["torch", "onnxruntime"], layers=True)).record
    assert record["profile"]["quantity"] == "layer first"  # the first that disagrees, not the last one
    assert {label: outside(record["profile"], label) for label in ("torch", "onnxruntime")} == {
        "torch": [],
        "onnxruntime": [5],
    }
    assert cells(record["map"]) == [(2, 5)]
    assert record["map"]["peaks"][0]["place"] == {"batch": 2, "time": 5, "unit": 1}


def sequence(build: Builder, x: Wire, units: int = 6, whole: bool = True) -> Wire:
    spec = RecurrentSpec("gru", 6, units)
    weights = Weights(np.ones(spec.shape("kernel")), np.ones(spec.shape("recurrent")))
    return build.call(Recurrent("gru", spec, (weights,), whole), x)


def with_time_elsewhere() -> dict[str, tuple[Graph, int | None]]:
    """Graphs with an output y, and which of its axes is time."""
    found: dict[str, tuple[Graph, int | None]] = {}
    build = Builder("first")
    found["time first"] = (
        build.graph({"y": build.transpose(sequence(build, build.input("x", ("batch", "time", 6))), (1, 0, 2))}),
        0,
    )
    build = Builder("named")
    found["called otherwise"] = (build.graph({"y": sequence(build, build.input("x", ("batch", "width", 6)))}), 1)
    build = Builder("cut")
    cut = build.slice(sequence(build, build.input("x", ("batch", "width", 6))), 1, 1)
    found["called otherwise, without its first step"] = (build.graph({"y": cut}), 1)
    build = Builder("turned")
    turned = build.transpose(sequence(build, build.input("x", ("batch", 6, 6))), (1, 0, 2))
    found["first, of a fixed length"] = (build.graph({"y": turned}), 0)
    build = Builder("fixed")
    dense = Dense("dense", np.ones((6, 6)))
    found["of a fixed length"] = (
        build.graph({"y": build.call(dense, sequence(build, build.input("x", ("batch", 6, 6))))}),
        1,
    )
    build = Builder("none")
    found["without steps"] = (
        build.graph({"y": sequence(build, build.input("x", ("batch", "time", 6)), whole=False)}),
        None,
    )
    build = Builder("flat")
    x = build.input("x", ("batch", 6, 6))
    found["of equal sizes and no recurrent layer"] = (build.graph({"y": build.activation("tanh", x)}), None)
    build = Builder("image")
    x = build.input("x", ("batch", "height", "width", 6))
    found["of an image"] = (build.graph({"y": build.activation("tanh", x)}), None)
    return found


@pytest.mark.parametrize("name", list(with_time_elsewhere()))
def test_which_axis_is_time_is_known_or_there_is_none(name: str) -> None:
    graph, axis = with_time_elsewhere()[name]
    assert steps_of(graph).get(graph.outputs["y"]) == axis


def test_padded_steps_are_apart(records: dict[str, Record]) -> None:
    record = records["packed"]
    mask, profile, where = record["mask"], record["profile"], record["map"]
    assert (mask["valid"], mask["total"], mask["lengths"], mask["made"]) == (19, 36, [9, 3, 6, 1], ["lengths"])
    assert [entry["engine"] for entry in mask["engines"]] == ["torch", "onnxruntime", "reference"]
    padded = np.arange(9) >= VALID[:, None]
    assert (np.array(where["times_floor"]) == "padding").tolist() == padded.tolist()
    np.testing.assert_allclose(profile["padded"], padded.mean(axis=0), atol=1e-3)
    assert {row["padded"] for row in record["rows"] if row["rule"] == "run"} == {int(padded.sum()) * 3}


def test_another_filling_of_padded_steps_is_a_convention(
    comparisons: dict[str, Comparison], records: dict[str, Record]
) -> None:
    assert comparisons["packed"].padding == ()
    compared = comparisons["repeated"]
    assert compared.verdict == "agree", str(compared)
    assert len(compared.padding) == 2  # against the reference, and of each other
    assert set(compared.padding) <= set(compared.notes)
    assert "They differ only in padding, by convention." in compared.sentence
    wrong = records["repeated and wrong"]
    assert wrong["verdict"] == "disagree"
    assert cells(wrong["map"]) == [(0, 4)]
    assert outside(wrong["profile"], wrong["map"]["engine"]) == [4]


def test_what_valid_steps_make_of_padding_is_judged(records: dict[str, Record]) -> None:
    record = records["mixed"]
    assert record["verdict"] == "disagree"
    assert {row["padded"] for row in record["rows"]} == {0}
    assert record["mask"]["engines"] == []
    assert "padding" not in {value for line in record["map"]["times_floor"] for value in line}
    last_valid = [(sample, int(count) - 1) for sample, count in enumerate(VALID) if count < 9]
    assert set(last_valid) <= set(cells(record["map"]))


@pytest.mark.parametrize("name", ["beside", "lost"])
def test_what_reaches_padded_steps_beside_the_masked_layer_is_judged(name: str, records: dict[str, Record]) -> None:
    record = records[name]
    assert record["verdict"] == "disagree"
    assert {row["padded"] for row in record["rows"]} == {0}
    assert (record["mask"] is None) == (name == "lost")  # a recurrent layer without a mask has no padding


def test_an_output_without_a_valid_step_is_judged() -> None:
    """Keras's model and a port whose only fault is at masked steps, which are all that there is."""
    keras.utils.set_random_seed(1)
    x, y = keras.Input((None, 4), name="x"), keras.Input((None, 4), name="y")
    first = keras.layers.LSTM(3, return_sequences=True, name="first")(keras.layers.Masking()(x))
    second = keras.layers.GRU(2, return_sequences=True, name="second")(y)
    model = keras.Model([x, y], [first, second])
    port = parity.to_torch(model)

    class Port(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.port = port

        def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            first, second = self.port(x, y)
            return first + 3, second

    inputs = {"x": np.zeros((2, 5, 4), np.float32), "y": STEPS[:2, :5]}
    compared = quiet(compare(model, Port(), inputs=inputs, layers=False))
    assert compared.verdict == "disagree"
    assert {row.quantity for row in compared.table if row.verdict == "disagree"} == {"output first"}


@pytest.mark.parametrize("together", [False, True])
def test_a_layer_that_goes_backwards_gives_its_padded_steps_first(together: bool) -> None:
    """Beside one that goes forwards on the same mask no step is padding of both, so all are judged."""
    keras.utils.set_random_seed(1)
    x = keras.Input((None, 4), name="x")
    steps = keras.layers.Masking()(x)
    values = [keras.layers.LSTM(3, return_sequences=True, go_backwards=True, name="back")(steps)]
    values += [keras.layers.LSTM(3, return_sequences=True, name="on")(steps)] if together else []
    model = keras.Model(
        x, keras.layers.Dense(2, name="y")(keras.layers.Concatenate()(values) if together else values[0])
    )
    given = STEPS[:3].copy()
    given[0, 3:] = given[1, 6:] = 0
    opened = open_source(model, partial=True)
    floor = judge_graph(opened.graph, {}, {"x": given}).floor
    padded = floor.bands["output y"].padded
    if together:
        assert padded is None
    else:
        assert padded is not None
        assert padded[..., 0].tolist() == (np.arange(9) < np.array([[6], [3], [0]])).tolist()


def test_a_mask_of_the_model_itself(comparisons: dict[str, Comparison], records: dict[str, Record]) -> None:
    record, inputs = records["masked"], comparisons["masked"].inputs
    assert isinstance(inputs, dict)
    valid = inputs["x"].any(axis=2)
    assert not valid.all()
    assert (record["mask"]["valid"], record["mask"]["total"]) == (int(valid.sum()), valid.size)
    assert record["mask"]["made"] == ["the model itself"]
    steps = {entry["steps"] for entry in record["mask"]["engines"]}
    assert steps == {"other"}  # what the dense layer makes of zeros: its bias
    assert {name for entry in record["mask"]["engines"] for name in entry["layers"]} == {"output scores"}
    graph = comparisons["masked"].sources[0].graph
    shared = shared_mask(graph, inputs)
    assert shared is not None
    assert shared.tolist() == valid.tolist()
    assert made_by(graph) == ["the model itself"]


def test_the_terminal_draws_a_line_for_every_engine(records: dict[str, Record]) -> None:
    for name in ("slipped", "last judged", "packed"):
        record = records[name]
        text = "\n".join(error_lines(record, 120, marks_for("utf-8")))
        assert "error over time" in text
        assert record["profile"]["quantity"] in text
        assert all(label[:20] in text for label in record["profile"]["engines"])
    assert "error over time" not in "\n".join(error_lines(records["last"], 120, marks_for("utf-8")))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as found:
        yield found


@pytest.mark.parametrize("name", ["slipped", "last judged", "masked", "mixed"])
def test_the_page_shows_it(name: str, browser: Browser, records: dict[str, Record], tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(render_record(records[name]), encoding="utf-8")
    shown = open_page(browser, path)
    page, record = shown.page, records[name]
    try:
        assert record["profile"]["quantity"] in page.inner_text(".chart-section .axis-title")
        assert page.query_selector("svg.profile") is not None
        assert page.query_selector("svg.map") is not None
        text = page.inner_text("main")
        assert ("steps are valid" in text) == (record["mask"] is not None)
        assert ("every value of the outputs is judged" in text) == (name == "mixed")
        assert "No map of batch and time" not in text
        assert (len(page.query_selector_all("svg.map .padding")) > 0) == (name == "masked")
        assert checked(page, LOOKS) == []
        assert inaccessible(page) == []
        assert shown.foreign == shown.messages == []
    finally:
        shown.context.close()


def test_without_steps_the_page_says_so(records: dict[str, Record]) -> None:
    html = render_record(records["last"])
    assert "no output of the model has steps of time" in html
    assert 'id="error"' not in html
