"""Directions and gates of layers that disagree: what the record holds of them, and what the page shows."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from importlib import resources
from typing import Any

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator

import parity
from parity.comparison import Comparison, compare
from parity.judge import REFERENCE
from parity.report import Record, make_record, read_record, render_record, to_json
from parity.report.inside import inside_view, unit_strip, weight_legend, weight_shade
from parity.report.record_inside import BINS, MOST_LAYERS

PUBLISHED = json.loads((resources.files("parity") / "report" / "record.schema.json").read_text(encoding="utf-8"))
UNITS = 7

Change = Callable[[dict[str, torch.Tensor]], Any]


def stack() -> torch.nn.LSTM:
    torch.manual_seed(3)
    return torch.nn.LSTM(3, UNITS, num_layers=2, bidirectional=True)


def changed(layer: Any, change: Change) -> Any:
    other = copy.deepcopy(layer)
    with torch.no_grad():
        change(dict(other.named_parameters()))
    return other


def quiet(comparison: Comparison) -> Comparison:
    vars(comparison)["diagnosis"] = None  # where the error sits is meant here, not why
    return comparison


def backward_bias(weights: dict[str, torch.Tensor]) -> None:
    weights["bias_ih_l1_reverse"][2 * UNITS + 4] += 0.25  # the candidate, unit 4


def both_kernels(weights: dict[str, torch.Tensor]) -> None:
    weights["weight_ih_l0"][UNITS + 2, 1] -= 0.5  # the forget gate, unit 2, input 1
    weights["weight_hh_l0"][3 * UNITS :] *= 1.5  # the output gate, every unit


@pytest.fixture(scope="module")
def comparisons() -> dict[str, Comparison]:
    return {
        name: quiet(compare(stack(), changed(stack(), change), batch=4, time=9))
        for name, change in (("bias", backward_bias), ("kernels", both_kernels))
    }


@pytest.fixture(scope="module")
def records(comparisons: dict[str, Comparison]) -> dict[str, Record]:
    return {name: make_record(comparison) for name, comparison in comparisons.items()}


def test_the_direction_that_is_off_is_told_from_the_one_that_is_not(records: dict[str, Record]) -> None:
    (layer,) = records["bias"]["inside"]
    assert (layer["layer"], layer["kind"], layer["units"]) == ("lstm_l1", "lstm", UNITS)
    by_way = {way: [row for row in layer["directions"] if row["direction"] == way] for way in ("forward", "backward")}
    assert {row["verdict"] for row in by_way["forward"]} == {"agree"}
    assert {row["verdict"] for row in by_way["backward"]} == {"disagree"}
    assert {row["quantity"] for row in layer["directions"]} == {"sequence", "h_n", "c_n"}
    assert all(row["worst"]["direction"] == row["direction"] for row in layer["directions"])
    assert all(row["worst"]["hidden"] == 4 for row in by_way["backward"] if row["quantity"] == "sequence")


def test_both_directions_together_are_the_row_of_the_table(records: dict[str, Record]) -> None:
    for record in records.values():
        for layer in record["inside"]:
            for quantity in {row["quantity"] for row in layer["directions"]}:
                own = [row for row in layer["directions"] if row["quantity"] == quantity]
                (row,) = (
                    row
                    for row in record["rows"]
                    if (row["rule"], row["quantity"], row["right"])
                    == ("run", f"{layer['layer']}.{quantity}", REFERENCE)
                    and row["left"] == own[0]["engine"]
                )
                worst = max(own, key=lambda one: float(one["times_floor"]))
                assert (worst["times_floor"], worst["worst"]) == (row["times_floor"], row["worst"])
                largest = max(own, key=lambda one: float(one["max_error"]))
                assert (largest["place"], largest["values"]) == (row["place"], row["values"])
                assert sum(one["outside"] for one in own) == row["outside"]
                assert sum(one["total"] for one in own) == row["total"]


def test_the_gate_the_tensor_and_the_unit_are_named(records: dict[str, Record]) -> None:
    (part,) = records["bias"]["inside"][0]["weights"]
    assert part["direction"] == "backward"
    assert [tensor["tensor"] for tensor in part["tensors"]] == ["kernel", "recurrent", "bias"]
    off = [(t["tensor"], g) for t in part["tensors"] for g in t["gates"] if g["different"]]
    ((tensor, gate),) = off
    assert (tensor, gate["gate"], gate["unit"], gate["column"]) == ("bias", "g", 4, None)
    assert (gate["different"], gate["total"]) == (1, UNITS)
    assert gate["difference"] == pytest.approx(0.25, rel=1e-5)
    assert abs(gate["values"][0] - gate["values"][1]) == pytest.approx(gate["difference"], rel=1e-5)
    assert [value > 0 for value in gate["units"]] == [unit == 4 for unit in range(UNITS)]


def test_several_gates_and_tensors_are_told_apart(
    comparisons: dict[str, Comparison], records: dict[str, Record]
) -> None:
    first = next(layer for layer in records["kernels"]["inside"] if layer["layer"] == "lstm_l0")
    (part,) = first["weights"]
    found = {(t["tensor"], g["gate"]): g for t in part["tensors"] for g in t["gates"] if g["different"]}
    assert set(found) == {("kernel", "f"), ("recurrent", "o")}
    assert (found["kernel", "f"]["unit"], found["kernel", "f"]["column"]) == (2, 1)
    weights = comparisons["kernels"].sources[0].network.recurrent[0].weights[0]
    apart = np.abs(weights.recurrent[3]) * 0.5
    worst = np.unravel_index(apart.argmax(), apart.shape)
    gate = found["recurrent", "o"]
    assert ((gate["unit"], gate["column"]), gate["different"]) == (tuple(map(int, worst)), apart.size)
    scales = {tensor["tensor"]: tensor["scale"] for tensor in part["tensors"]}
    assert scales["recurrent"] == pytest.approx(float(np.abs(weights.recurrent).max()), rel=1e-5)
    # The second layer gets what the first one gives: it is off, too, and its weights are equal.
    (second,) = (layer for layer in records["kernels"]["inside"] if layer["layer"] == "lstm_l1")
    assert second["weights"] == []
    assert {row["verdict"] for row in second["directions"]} == {"disagree"}


def test_the_biases_of_a_gru_are_told_apart_and_many_units_binned() -> None:
    torch.manual_seed(4)
    good = torch.nn.GRU(3, 100)

    def change(weights: dict[str, torch.Tensor]) -> None:
        weights["bias_hh_l0"][2 * 100 + 77] += 0.5

    record = make_record(quiet(compare(good, changed(good, change), batch=2, time=5)))
    (layer,) = record["inside"]
    assert layer["directions"] == []  # there is one
    (part,) = layer["weights"]
    found = {(t["tensor"], g["gate"]): g for t in part["tensors"] for g in t["gates"] if g["different"]}
    assert set(found) == {("bias_recurrent", "n")}
    gate = found["bias_recurrent", "n"]
    assert (gate["unit"], len(gate["units"])) == (77, BINS)
    assert max(gate["units"]) == pytest.approx(0.5, rel=1e-2)


def test_a_projection_and_other_sizes() -> None:
    torch.manual_seed(5)
    good = torch.nn.LSTM(3, 6, proj_size=4)

    def change(weights: dict[str, torch.Tensor]) -> None:
        weights["weight_hr_l0"][1, 5] += 0.5

    record = make_record(quiet(compare(good, changed(good, change))))
    (part,) = record["inside"][0]["weights"]
    found = {(t["tensor"], g["gate"]): g for t in part["tensors"] for g in t["gates"] if g["different"]}
    assert {key: (gate["unit"], gate["column"]) for key, gate in found.items()} == {("projection", ""): (5, 1)}
    assert "projection: largest difference 0.5 at unit 5, state 1" in render_record(record)


def test_what_agrees_has_none() -> None:
    record = make_record(compare(stack(), engines=["torch"]))
    assert "inside" not in record
    assert 'id="inside"' not in render_record(record)


def test_many_layers_are_looked_into_up_to_a_limit() -> None:
    torch.manual_seed(6)
    good = torch.nn.GRU(2, 4, num_layers=MOST_LAYERS + 3)

    def change(weights: dict[str, torch.Tensor]) -> None:
        for name, weight in weights.items():
            if name.startswith("weight_ih"):
                weight.add_(0.1)

    record = make_record(quiet(compare(good, changed(good, change), batch=1, time=4)))
    assert [layer["layer"] for layer in record["inside"]] == [f"gru_l{number}" for number in range(MOST_LAYERS)]


class Tagger(torch.nn.Module):
    """A whole model, no chain, with one layer in it that has gates."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.first = torch.nn.Linear(3, 5)
        self.gru = torch.nn.GRU(5, 5, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        given = torch.relu(self.first(x))
        found: torch.Tensor = self.gru(given)[0] + given
        return found


def test_of_a_whole_model_the_weights_are_told() -> None:
    def change(weights: dict[str, torch.Tensor]) -> None:
        weights["gru.weight_hh_l0"][5 + 3, 2] += 1.0

    inputs = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
    record = make_record(quiet(compare(Tagger(), changed(Tagger(), change), inputs=inputs)))
    (layer,) = record["inside"]
    found = {(t["tensor"], g["gate"]): g for t in layer["weights"][0]["tensors"] for g in t["gates"] if g["different"]}
    assert {key: (gate["unit"], gate["column"]) for key, gate in found.items()} == {("recurrent", "z"): (3, 2)}


def test_records_hold_to_the_schema_and_can_be_read_again(records: dict[str, Record], tmp_path: Any) -> None:
    for name, record in records.items():
        path = tmp_path / f"{name}.json"
        path.write_text(to_json(record), encoding="utf-8")
        assert list(Draft202012Validator(PUBLISHED).iter_errors(json.loads(path.read_text(encoding="utf-8")))) == []
        assert render_record(read_record(path)) == render_record(record)
        earlier = {key: value for key, value in record.items() if key != "inside"}
        assert 'id="inside"' not in render_record(earlier)


def test_a_field_of_it_that_is_not_described_is_refused(records: dict[str, Record]) -> None:
    layer = records["bias"]["inside"][0]
    for at in (layer, layer["directions"][0], layer["weights"][0], layer["weights"][0]["tensors"][0]):
        at["more"] = 1
        assert list(Draft202012Validator(PUBLISHED).iter_errors(json.loads(json.dumps(records["bias"]))))
        del at["more"]


def test_the_page_says_it_in_words_and_not_in_colour_alone(records: dict[str, Record]) -> None:
    page = render_record(records["bias"])
    section = page.partition('id="inside"')[2].partition("</section>")[0]
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", section))
    assert "unit 4" in text
    assert "largest weight" in text
    assert section.count(">equal<") == 11
    assert "backward: largest difference in each gate, and where" in text
    assert "<title>bias, candidate: largest difference 0.25 at unit 4" in section
    assert re.search(r"unit 4 \S+ and \S+ 1 of 7 differ", text)
    assert " title=" not in section
    assert '<a href="#inside">' in page
    signs = re.findall(r'<span class="unseen">(\w+)</span>', section)
    assert signs == ["agree", "disagree"] * 3


def test_hostile_names_stay_text(records: dict[str, Record]) -> None:
    text = json.dumps(records["bias"]).replace("lstm_l1", "</td><script>alert(1)</script>")
    page = render_record(json.loads(text))
    assert "<script>alert" not in page


def test_shades_and_strips() -> None:
    assert [weight_shade(10.0**power) for power in (-7, -5, -3, -1, 0, 1)] == [
        *("within-1", "within-3", "outside-0", "outside-1", "outside-2", "outside-4")
    ]
    assert [one["bound"] for one in weight_legend()][-2:] == ["≤ 1", "more"]
    strip = unit_strip([0.0, 0.5, 0.5, 0.0], 1.0, "<b>")
    assert strip.count("<path") == 1
    assert "M250 0h500v1h-500z" in strip
    assert "&lt;b&gt;" in strip
    assert unit_strip([0.5], 0.0, "").count("outside-4") == 1  # a tensor of zeros on one side
    assert inside_view({"judging": {"limit": 2.0}}) == []


def test_a_layer_of_one_direction_with_equal_weights_has_no_section() -> None:
    torch.manual_seed(8)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.GRU(4, 5))

    def change(weights: dict[str, torch.Tensor]) -> None:
        weights["0.weight"][1, 2] += 0.5

    record = make_record(quiet(compare(model, changed(model, change))))
    assert record["verdict"] == "disagree"
    assert "inside" not in record


def test_another_engine_has_no_other_weights() -> None:
    bad = changed(stack(), backward_bias)
    record = make_record(quiet(compare(stack(), bad, parity.to_onnx(stack()), batch=2, time=6)))
    (layer,) = record["inside"]
    assert [part["source"] for part in layer["weights"]] == ["LSTM 'lstm' (torch) #2"]
    assert layer["source"] == "LSTM 'lstm' (torch)"
    assert {row["engine"] for row in layer["directions"]} == {"LSTM 'lstm' (torch) #2"}
