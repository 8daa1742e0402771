"""The page of whole models: the strip of layers, what stands behind each cell, the distribution of the error, decisions, the baseline."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page

from parity.baseline import since
from parity.comparison import Comparison, compare
from parity.frameworks import framework
from parity.judge import LIMIT, REFERENCE
from parity.report import Record, make_record, render_record
from parity.report.in_words import value_in_words
from parity.report.inside import weight_legend
from parity.report.numbers import MINUS, TIMES
from parity.report.record_decisions import MOST
from parity.report.record_distribution import PERCENTILES, at_percentiles
from parity.report.record_layers import owners_of
from parity.report.sections import layers_view
from parity.report.strip import score_in_words, strip_view
from parity.spelling import spell
from parity.transferring import transfer
from tests.browsing import LOOKS, Shown, checked, launched, open_page
from tests.tagger import Tagger

IDS = np.random.default_rng(0).integers(0, 30, (4, 11))
MOST_BYTES = 150_000


def changed(model: torch.nn.Module, **factors: float) -> torch.nn.Module:
    """Weights times factors, by their names with "__" for the dots."""
    with torch.no_grad():
        for name, factor in factors.items():
            model.get_parameter(name.replace("__", ".")).mul_(factor)
    return model


def wrong(end: str = "") -> torch.nn.Module:
    """The second layer and the last one are wrong, those between and before them right."""
    return changed(Tagger(end), second__weight_hh_l0=0.4, out__weight=-1.5)


def quiet(compared: Comparison) -> Comparison:
    """Without the search for the cause, which takes longer than all the rest."""
    vars(compared)["diagnosis"] = None
    return compared


@pytest.fixture(scope="module")
def comparisons() -> dict[str, Comparison]:
    engines = ["torch", "onnxruntime"]
    return {
        "wrong": compare(Tagger(), wrong(), inputs=IDS),
        "unlooked": quiet(compare(Tagger(), wrong(), inputs=IDS, layers=False)),
        "right": compare(Tagger(), inputs=IDS, engines=engines),
        "judged": compare(Tagger(), inputs=IDS, engines=engines, layers=True),
        "softmax": quiet(compare(Tagger("softmax"), wrong("softmax"), inputs=IDS)),
        "sigmoid": quiet(compare(Tagger("sigmoid"), wrong("sigmoid"), inputs=IDS)),
        "chain": compare(torch.nn.GRU(3, 5), engines=engines, lengths=[9, 4, 6]),
    }


@pytest.fixture(scope="module")
def records(comparisons: dict[str, Comparison]) -> dict[str, Record]:
    found = {name: json.loads(json.dumps(make_record(one))) for name, one in comparisons.items()}
    earlier = copy.deepcopy(found["right"])
    earlier["environment"]["packages"]["torch"] = "2.4.0"
    earlier["rows"][0] |= {"verdict": "disagree", "times_floor": 70.0}
    earlier["verdict"] = "disagree"
    found["since"] = {**found["right"], "baseline": since(earlier, found["right"]).as_json()}
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as found:
        yield found


@pytest.fixture
def show(browser: Browser, records: dict[str, Record], tmp_path: Path) -> Iterator[Any]:
    opened: list[Shown] = []

    def shown(case: str, **options: Any) -> Page:
        path = tmp_path / f"{case}.html"
        path.write_text(render_record(records[case]), encoding="utf-8")
        opened.append(open_page(browser, path, **options))
        return opened[-1].page

    yield shown
    for one in opened:
        one.context.close()


def cells(page: Page) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = page.eval_on_selector_all(
        ".strip li",
        "all => all.map(li => ({name: li.querySelector('b').textContent, score: li.querySelector('.score')?.lastChild.textContent.trim(), "
        "first: !!li.querySelector('.mark'), verdict: li.className.split(' ')[0], band: li.querySelector('.band').className, "
        "target: li.querySelector('a').hash}))",
    )
    return found


def test_every_layer_has_a_cell_in_order_with_its_number(show: Any, records: dict[str, Record]) -> None:
    found = cells(show("wrong"))
    assert [cell["name"] for cell in found] == ["embed", "first", "norm", "second", "out"]
    rows = {row["quantity"]: row for row in records["wrong"]["rows"] if row["rule"] == "layer"}
    for cell in found:
        row = rows[f"layer {cell['name']}"]
        assert cell["verdict"] == row["verdict"]
        assert cell["score"] == score_in_words(row["times_floor"])
        assert ("outside" in cell["band"]) == (row["times_floor"] > LIMIT)
    assert [cell["name"] for cell in found if cell["first"]] == ["second"]
    assert [cell["verdict"] for cell in found] == ["agree", "agree", "agree", "disagree", "disagree"]


def test_a_disagreement_looks_into_the_layers_by_itself(comparisons: dict[str, Comparison]) -> None:
    looked = {name: {row.left for row in one.table if row.rule == "layer"} for name, one in comparisons.items()}
    bad = {row.left for row in comparisons["wrong"].table if row.verdict == "disagree" and row.right == REFERENCE}
    assert looked["wrong"] == bad
    assert len(bad) == 1
    assert looked["unlooked"] == looked["right"] == set()
    assert looked["judged"] == {"torch", "onnxruntime"}
    assert "The first layer that differs" in comparisons["wrong"].sentence
    assert comparisons["wrong"].verdict == comparisons["unlooked"].verdict == "disagree"
    assert comparisons["wrong"].asked["layers"] is False


def test_an_engine_that_hides_its_layers_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    from parity.errors import EngineError
    from parity.graph.judging import Running

    def hidden(*_: object) -> Any:
        raise EngineError("the engine shows nothing", got="hooks refused")

    monkeypatch.setattr(Running, "seen", hidden)
    found = compare(Tagger(), wrong(), inputs=IDS)
    assert found.verdict == "disagree"
    assert not found.judgement.failures
    assert any("its layers could not be judged: the engine shows nothing" in note for note in found.notes)


def test_without_judged_layers_the_strip_says_how_to_get_them(show: Any) -> None:
    page = show("right")
    assert [cell["name"] for cell in cells(page)] == ["embed", "first", "norm", "second", "out"]
    assert all(cell["score"] is None and not cell["first"] for cell in cells(page))
    assert "--layers" in page.inner_text(".architecture")
    assert "--layers" not in show("judged").inner_text(".architecture")


def test_where_no_layer_was_judged_the_diagnosis_marks_the_first(records: dict[str, Record]) -> None:
    record = {**records["unlooked"], "diagnosis": {**records["wrong"]["diagnosis"], "first_layer": "norm"}}
    strip = strip_view(record, layers_view(record["sources"][0])["layers"])
    assert strip is not None
    assert not strip.judged
    assert [cell.layer["name"] for cell in strip.cells if cell.first] == ["norm"]


def test_a_chain_has_no_strip(show: Any, records: dict[str, Record]) -> None:
    assert records["chain"]["architecture"] == []
    assert show("chain").query_selector(".strip") is None


def test_a_cell_opens_its_layer_without_script(show: Any) -> None:
    page = show("wrong")
    shown = "all => all.filter(one => one.offsetParent).map(one => one.parentElement.id)"
    assert page.eval_on_selector_all(".layer-body", shown) == ["layer-4"]  # the first that differs
    page.focus(".strip li:nth-child(2) a")
    page.keyboard.press("Enter")
    assert page.url.endswith("#layer-2")
    assert page.eval_on_selector_all(".layer-body", shown) == ["layer-2", "layer-4"]
    text = page.inner_text("#layer-2")
    for part in (
        "LSTM",
        f"4 {TIMES} 11 {TIMES} 6",
        f"{TIMES} floor at batch",
        "in the reference",
        "forward.kernel",
        "(4, 6, 8)",
        "takes from",
    ):
        assert part in text, part
    assert "i 0:6 f 6:12 c 12:18 o 18:24" in text.replace("\xa0", " ")  # Keras
    assert page.eval_on_selector_all("#layer-4 dd bdi", "all => all.map(one => one.textContent)") == ["add"]


def test_the_record_holds_what_the_layers_are(records: dict[str, Record]) -> None:
    layers = {layer["name"]: layer for layer in records["wrong"]["architecture"]}
    assert layers["embed"]["takes"] == ["tokens"]
    assert layers["embed"]["shape"] == [4, 11, 8]
    assert layers["norm"]["takes"] == ["first"]
    assert layers["out"]["takes"] == ["second"]
    assert layers["second"]["kind"] == "GRU"
    assert layers["out"]["kind"] == "Dense"
    assert ["kernel", [5, 4]] in layers["out"]["weights"]
    assert layers["second"]["quantities"] == ["layer second"]


def test_whom_a_row_judges() -> None:
    names = ["gru", "value", "bed and bath", "bath"]
    assert owners_of("layer gru and value", names) == ("gru", "value")
    assert owners_of("layer bed and bath, before its activation", names) == ("bed and bath",)
    assert owners_of("layer other", names) == ()


@pytest.mark.parametrize("case", ["judged", "sigmoid"])
def test_nothing_is_wrong_with_how_it_looks(show: Any, case: str) -> None:
    for width in (1400, 390):
        assert checked(show(case, width=width), LOOKS) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_marks_are_more_than_colour(show: Any, scheme: str) -> None:
    page = show("wrong", scheme=scheme)
    assert page.inner_text(".strip .begin .mark") == "first to differ"
    assert "disagree" in page.text_content(".strip .begin .score")
    back = page.eval_on_selector("body", "one => getComputedStyle(one).backgroundColor")
    assert (back == "rgb(255, 255, 255)") == (scheme == "light")


def test_scores_are_logarithms() -> None:
    assert score_in_words(2.0) == "+0.3"
    assert score_in_words(100) == "+2.0"
    assert score_in_words(0.1) == f"{MINUS}1.0"
    assert score_in_words("inf") == score_in_words("nan") == "∞"
    assert score_in_words(0.0) == "exact"


@pytest.mark.parametrize("case", ["wrong", "right", "chain"])
def test_percentiles_are_those_of_all_elements(
    comparisons: dict[str, Comparison], records: dict[str, Record], case: str
) -> None:
    comparison, record = comparisons[case], records[case]
    assert [entry["engine"] for entry in record["distribution"]] == list(comparison.participants)
    for entry in record["distribution"]:
        result = comparison.results[entry["engine"]]
        ratios, errors = [], []
        for name, band in comparison.judgement.floor.bands.items():
            array = quantity_of(result, name)
            error = np.abs(array.astype(np.float64) - band.reference)
            valid = np.broadcast_to(True if band.padded is None else ~band.padded, error.shape)
            ratios.append(error[valid] / np.broadcast_to(band.floor, error.shape)[valid])
            errors.append(error[valid])
        pool, absolute = np.concatenate(ratios), np.concatenate(errors)
        assert entry["total"] == pool.size
        assert entry["exact"] == (absolute == 0).sum()
        for row in entry["percentiles"]:
            assert math.isclose(
                row["times_floor"], np.percentile(pool, row["percent"], method="inverted_cdf"), rel_tol=1e-5
            )
            assert math.isclose(
                row["error"], np.percentile(absolute, row["percent"], method="inverted_cdf"), rel_tol=1e-5
            )
            band = comparison.judgement.floor.bands[row["quantity"]]
            index = tuple(
                position if isinstance(position, int) else ("forward", "backward").index(position)
                for position in row["place"].values()
            )
            engine = quantity_of(result, row["quantity"])
            assert row["values"] == pytest.approx([float(engine[index]), float(band.reference[index])], rel=1e-8)
            floor = np.broadcast_to(band.floor, band.reference.shape)[index]
            assert math.isclose(abs(engine[index] - band.reference[index]) / floor, row["times_floor"], rel_tol=1e-5)
        worst = [
            row
            for row in record["rows"]
            if (row["rule"], row["left"], row["right"]) == ("run", entry["engine"], REFERENCE)
        ]
        assert math.isclose(
            entry["percentiles"][-1]["times_floor"], max(row["times_floor"] for row in worst), rel_tol=1e-5
        )


def quantity_of(result: Any, name: str) -> Any:
    if name.startswith("output "):
        return result.outputs[name.removeprefix("output ")]
    (run,) = result.layers.values()
    return run.sequence if name == "sequence" else run.final.h


def test_percentiles_are_elements_themselves() -> None:
    values = np.random.default_rng(1).exponential(size=1000)
    found = at_percentiles(values, PERCENTILES)
    assert set(found) <= set(values.tolist())
    for percent, value in zip(PERCENTILES, found, strict=True):
        below = sum(other < value for other in values.tolist())
        assert below < round(percent * 10) <= sum(other <= value for other in values.tolist())
    assert at_percentiles(np.array([1.0, np.inf, 2.0]), (50, 100)) == [2.0, math.inf]


def test_the_distribution_is_drawn_and_told(show: Any, records: dict[str, Record]) -> None:
    page = show("wrong")
    assert page.locator(".drawing.cumulative .curve").count() == 2
    assert "limit 2" in page.text_content(".drawing.cumulative")
    label = page.get_attribute(".drawing.cumulative", "aria-label")
    assert "half at most" in label
    rows = page.locator("table.percentiles tbody tr:not(.whose)").count()
    assert rows == len(PERCENTILES) * len(records["wrong"]["distribution"])
    assert show("chain").locator(".drawing.cumulative .curve").count() == 2


@pytest.mark.parametrize(("case", "by"), [("wrong", "largest"), ("softmax", "softmax"), ("sigmoid", "sigmoid")])
def test_decisions_are_those_of_the_values(
    comparisons: dict[str, Comparison], records: dict[str, Record], case: str, by: str
) -> None:
    (output,) = records[case]["decisions"]
    assert output["by"] == by
    comparison = comparisons[case]
    (band,) = comparison.judgement.floor.bands.values()
    right, bad = output["engines"]
    assert right["same"] == right["total"] == 44
    assert right["differing"] == []
    assert right["samples"] == [4, 4]

    def decided(array: Any) -> Any:
        return array[..., 0] > 0.5 if by == "sigmoid" else array.argmax(-1)

    (array,) = comparison.results[bad["engine"]].outputs.values()
    same = decided(array) == decided(band.reference)
    assert bad["same"] == same.sum() < 44
    assert bad["samples"] == [int(same.all(1).sum()), 4]
    places = [tuple(row["place"][axis] for axis in ("batch", "time")) for row in bad["differing"]]
    assert places == [tuple(place) for place in np.argwhere(~same)[:MOST].tolist()]
    for row, place in zip(bad["differing"], places, strict=True):
        assert row["decided"] == [int(decided(array)[place]), int(decided(band.reference)[place])]
        shown = [array[place], band.reference[place]]
        units = [0, 0] if by == "sigmoid" else row["decided"]
        assert row["values"] == [float(values[unit]) for values, unit in zip(shown, units, strict=True)]
        told = abs(shown[1][0] - 0.5) if by == "sigmoid" else shown[1][units[1]] - shown[1][units[0]]
        assert math.isclose(row["margin"], told)
        assert row["margin"] > 0


def test_decisions_stand_on_the_first_screen(show: Any, records: dict[str, Record]) -> None:
    assert "44 of 44, 100 %" in show("right").inner_text(".first #decisions")
    text = show("wrong").inner_text(".first #decisions")
    bad = records["wrong"]["decisions"][0]["engines"][1]
    assert f"≠ {bad['same']} of 44" in text
    assert "unit" in text
    assert "margin" in text
    assert show("chain").query_selector("#decisions") is None


def test_a_value_that_is_no_number_decides_nothing() -> None:
    found = compare(Tagger("softmax"), inputs=IDS, engines=["torch"])
    outputs = found.results["torch"].outputs
    (name,) = outputs
    outputs[name] = np.where(np.arange(11)[:, None] < 2, outputs[name], np.nan)
    (output,) = make_record(found)["decisions"]
    (engine,) = output["engines"]
    assert engine["same"] == 2 * 4
    assert engine["samples"] == [0, 4]
    assert [place["decided"][0] for place in engine["differing"]] == [None] * MOST
    assert engine["differing"][0]["place"] == {"batch": 0, "time": 2}


def test_what_changed_since_is_told(show: Any) -> None:
    page = show("since")
    text = page.inner_text("section:has(> #baseline)")
    for part in ("2.4.0", "better", "disagree", "Since the baseline"):
        assert part in text, part
    assert "What changed" in page.inner_text(".since")
    assert show("right").query_selector("#baseline") is None


def test_layers_that_were_only_looked_into_now_are_no_change(records: dict[str, Record]) -> None:
    found = since(records["unlooked"], records["wrong"])
    assert not found.rows
    assert not found.worse
    assert since(records["judged"], records["judged"]).same == len(records["judged"]["rows"])


def test_the_diagnosis_shows_hypotheses_and_probes(show: Any, records: dict[str, Record]) -> None:
    page = show("wrong")
    rows = page.locator(".evidence tbody tr")
    assert rows.count() == len(records["wrong"]["diagnosis"]["evidence"]) > 0
    assert rows.locator("td.number").count() == 4 * rows.count()
    assert page.locator("#probes").count() == bool(records["wrong"]["diagnosis"]["probes"])


@pytest.mark.parametrize("case", ["wrong", "right", "since"])
def test_ordinary_pages_are_small_and_need_no_network(records: dict[str, Record], case: str) -> None:
    page = render_record(records[case])
    assert len(page.encode()) < MOST_BYTES
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page)


class Scorer(torch.nn.Module):
    """A norm, and scores behind a function that is no module of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = torch.nn.GRU(3, 5, batch_first=True)
        self.norm = torch.nn.LayerNorm(5)
        self.out = torch.nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sequence, _ = self.rnn(x)
        return torch.softmax(self.out(self.norm(sequence)), -1)


def test_the_last_layer_of_a_port_is_judged_behind_its_function() -> None:
    layers = framework("keras").keras.layers
    given = layers.Input((None, 3), name="given")
    normed = layers.LayerNormalization(name="norm")(layers.GRU(5, return_sequences=True, name="rnn")(given))
    model = framework("keras").keras.Model(given, layers.Dense(4, activation="softmax", name="out")(normed))
    port = Scorer()
    transfer(model, port)
    port.norm.eps = 1e-1
    record = make_record(compare(model, port.eval()))
    strip = strip_view(record, layers_view(record["sources"][0])["layers"])
    assert strip is not None
    assert [(cell.layer["name"], cell.verdict) for cell in strip.cells] == [
        ("rnn", "agree"),
        ("norm", "disagree"),
        ("out", "agree"),
    ]


def test_both_axes_of_time_are_said() -> None:
    layers = framework("keras").keras.layers
    asked, told = layers.Input((None, 3), name="asked"), layers.Input((None, 3), name="told")
    encoded = layers.GRU(4, return_sequences=True)(told)
    given = layers.Attention()([layers.GRU(4, return_sequences=True)(asked), encoded])
    compared = compare(framework("keras").keras.Model([asked, told], given), engines=["keras"])
    assert isinstance(compared.inputs, dict)
    lengths = [array.shape[1] for array in compared.inputs.values()]
    assert len(set(lengths)) == 2
    assert compared.size == f"3 x {lengths[0]} and {lengths[1]} steps"
    record = make_record(compared)
    assert record["inputs"]["times"] == lengths
    page = render_record(record)
    assert compared.size in page
    assert f"3 samples {TIMES} {lengths[0]} and {lengths[1]} steps" in page


def test_two_sources_of_one_name_are_told_apart() -> None:
    layer = framework("keras").keras.layers.GRU(5, return_sequences=True, name="gru")
    layer.build((None, None, 3))
    compared = compare(layer, torch.nn.GRU(3, 5))
    names = ["GRU 'gru' (keras)", "GRU 'gru' (torch)"]
    record = make_record(compared)
    assert record["title"] == " and ".join(names)
    assert [source["label"] for source in record["sources"]] == names
    assert [engine["source"] for engine in record["engines"][:2]] == names == list(compared.participants)
    assert (record["mapping"][0]["source"], record["mapping"][0]["target"]) == tuple(names)
    told = record["again"]["python"].splitlines()
    assert told[:2] == [
        f"# source_1 is {names[0]}, the first that was given",
        f"# source_2 is {names[1]}, the second that was given",
    ]
    compile(record["again"]["python"], "again", "exec")


def test_sentences_and_tables_say_numbers_alike() -> None:
    torch.manual_seed(5)
    one, two = torch.nn.GRU(3, 5), torch.nn.GRU(3, 5)
    compared = compare(one, two)
    worst = max(
        (row for row in compared.table if row.verdict == "disagree"), key=lambda row: row.times_floor / row.limit
    )
    assert f"{spell(worst.times_floor)} times the float32 floor" in compared.sentence
    assert not re.search(r"\de[+-]?0\d|\de[+]", str(compared))
    assert value_in_words(0.001) == "0.001"
    assert value_in_words(1e-5) == "1e-5"
    assert [one["bound"] for one in weight_legend()][:2] == [
        "\N{LESS-THAN OR EQUAL TO} 1e-6",
        "\N{LESS-THAN OR EQUAL TO} 0.0001",
    ]
