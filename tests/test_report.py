"""The record, and the page drawn from it as a real browser shows it."""

from __future__ import annotations

import contextlib
import copy
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from playwright.sync_api import Browser

import parity
from parity.comparison import Comparison, compare
from parity.comparison_table import show_comparison
from parity.conventions import PADDING
from parity.errors import EngineError, FormatError, ParityError
from parity.frameworks import Settings
from parity.judge import REFERENCE
from parity.layouts import GATE_MEANINGS, LAYOUTS
from parity.network import Network, Recurrent
from parity.recurrent import RecurrentSpec, Weights
from parity.report import (
    Record,
    make_record,
    read_record,
    render_record,
    save_page,
    save_record,
    snippet,
    to_json,
    write_text,
)
from parity.report.matrix import MOST_PLACES
from parity.report.numbers import TIMES, exact
from parity.report.packing import unpacked
from parity.report.padding import mask_record
from parity.report.page import embed
from parity.report.plots import apart, shortened
from parity.report.templating import visible
from parity.running import runner
from parity.sources import Opened
from tests.browsing import LOOKS, WORDS, Shown, checked, launched, open_page
from tests.legibility import CONTRAST

ENGINES = ["torch", "onnxruntime"]
MOST_BYTES = {"disagree": 166_000}
"""Three sources of two bidirectional layers, and the diagnosis, take more than the 150 kB of an ordinary page."""
VERDICTS = ("agree", "disagree", "undecided")
MEASURES = [
    {"title": "Forecast error", "rows": [{"label": "torch", "value": 23.25}, {"label": "years", "value": "29"}]}
]

HOSTILE = {
    "LSTM 'lstm' (torch) #2": "</script><script>document.title = 'broken'; console.log('broken')</script>",
    "ModelProto 'lstm' (onnxruntime)": "שלום \u202e(torch) #2",
    "LSTM 'lstm' (torch)": "x" * 120,
    "LSTM 'lstm'": '"><img src=http://localhost/x onerror="document.title = \'broken\'">',
    "lstm_l0": "encoder/with_a_very_long_name/that_goes_on/and_on/forward_branch_0000000000000001",
    "lstm_l1": "{{ 7 * 7 }} ]]> <!-- & &lt; 'single' \"double\" \u0000 نموذج",
}


def lstm() -> torch.nn.LSTM:
    torch.manual_seed(0)
    return torch.nn.LSTM(3, 5, num_layers=2, bidirectional=True)


def disagreeing() -> Comparison:
    good = lstm()
    bad = copy.deepcopy(good)
    with torch.no_grad():
        dict(bad.named_parameters())["bias_ih_l1_reverse"][3] += 1e-3
    return compare(good, bad, parity.to_onnx(good), batch=4, time=40)


def undecided() -> Comparison:
    torch.manual_seed(0)
    chaotic = torch.nn.LSTM(3, 32)
    with torch.no_grad():
        for weight in chaotic.parameters():
            weight.mul_(30)
    return compare(chaotic, engines=ENGINES, time=120)


def not_finite() -> Comparison:
    torch.manual_seed(0)
    good = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.GRU(5, 6))
    bad = copy.deepcopy(good)
    with torch.no_grad():
        dict(bad.named_parameters())["0.weight"].mul_(3e38)  # overflows in float32 while it runs
    return compare(good, bad, time=30)


def large() -> Comparison:
    torch.manual_seed(0)
    good = torch.nn.LSTM(8, 24)
    bad = copy.deepcopy(good)
    with torch.no_grad():
        dict(bad.named_parameters())["weight_hh_l0"][:40] *= 1.001
    return compare(good, bad, batch=40, time=400)


def with_weights(layer: Any, features: int = 3) -> Any:
    """The layer, built, with weights that are all different and not zero."""
    layer.build((None, None, features))
    random = np.random.default_rng(1)
    layer.set_weights([random.normal(scale=0.5, size=weight.shape) for weight in layer.get_weights()])
    return layer


LENGTHS = [17, 9, 4, 0]


def masked() -> Comparison:
    layer = with_weights(keras.layers.LSTM(6, return_sequences=True, return_state=True, dropout=0.2, name="lstm"))
    return compare(layer, engines=["keras", *ENGINES], lengths=LENGTHS)


def masked_disagreeing() -> Comparison:
    layer = with_weights(keras.layers.LSTM(6, return_sequences=True, return_state=True, name="lstm"))
    bad = parity.to_torch(layer)
    with torch.no_grad():
        dict(bad.named_parameters())["weight_hh_l0"][7, 2] += 0.01
    return compare(layer, bad, parity.to_onnx(layer), lengths=LENGTHS[:3])


def merged() -> Comparison:
    inner = keras.layers.LSTM(6, return_sequences=True, go_backwards=False)
    return compare(with_weights(keras.layers.Bidirectional(inner, merge_mode="sum", name="both")))


def composed() -> Comparison:
    layer = keras.layers.GRU(6, return_sequences=True, reset_after=False, recurrent_dropout=0.3, name="gru")
    return compare(with_weights(layer), engines=["keras", *ENGINES])


def unlike() -> Comparison:
    forward = keras.layers.LSTM(6, return_sequences=True, name="there")
    back = keras.layers.GRU(5, return_sequences=True, go_backwards=True, name="back")
    layer = keras.layers.Bidirectional(forward, backward_layer=back, name="both")
    mask = np.random.default_rng(0).integers(0, 2, (4, 11)).astype(bool)
    return compare(with_weights(layer), engines=ENGINES, mask=mask)


def model() -> Comparison:
    """A model that makes its mask itself, in the middle, on the left and on the right."""
    layers = [
        keras.layers.Masking(name="masking"),
        keras.layers.LSTM(6, return_sequences=True, name="lstm"),
        keras.layers.Dropout(0.25, name="dropout"),
        keras.layers.SimpleRNN(4, return_sequences=True, activation="relu", name="rnn"),
        keras.layers.Dense(2, name="dense"),
    ]
    built = with_weights(keras.Sequential([keras.Input((None, 3)), *layers], name="model"))
    inputs = np.random.default_rng(0).normal(size=(4, 12, 3)).astype(np.float32)
    inputs[0, :3] = inputs[1, 5:7] = inputs[2, 4:] = 0
    return compare(built, engines=ENGINES, inputs=inputs)


class Failing:
    """An engine that ends in the middle of its work."""

    engine = "onnxruntime"

    def __call__(self, *_: object, **__: object) -> Any:
        """Raise what an engine's own process would be found to have died of."""
        raise EngineError("the engine 'onnxruntime' ended unexpectedly", got="signal SIGABRT")


def failed() -> Comparison:
    def half(source: Opened, engine: str, settings: Settings) -> Any:
        return Failing() if engine == "onnxruntime" else runner(source, engine, settings)

    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("parity.comparison.runner", half)
        return compare(torch.nn.LSTM(3, 5), engines=ENGINES)


def five() -> Comparison:
    """As many participants as there are engines, of one bidirectional layer with a mask."""
    layer = with_weights(keras.layers.Bidirectional(keras.layers.LSTM(6, return_sequences=True, return_state=True)))
    return compare(layer, engines=["keras", *ENGINES, *ENGINES], lengths=LENGTHS)


@pytest.fixture(scope="module")
def comparisons() -> dict[str, Comparison]:
    found = {"agree": compare(lstm(), engines=ENGINES), "disagree": disagreeing(), "undecided": undecided()}
    made = [masked, masked_disagreeing, merged, composed, unlike, model, failed, five]
    return found | {build.__name__.replace("_", " "): build() for build in made}


@pytest.fixture(scope="module")
def records(comparisons: dict[str, Comparison]) -> dict[str, Record]:
    """One of each verdict, and the ones that are hard to draw."""
    found = {name: make_record(comparison, MEASURES) for name, comparison in comparisons.items()}
    found["not finite"] = make_record(not_finite())
    found["large"] = make_record(large())
    found["one engine, one step"] = make_record(compare(torch.nn.GRU(4, 6), engines=["torch"], batch=1, time=1))
    found["nothing to draw"] = {**found["agree"], "profile": None, "map": None}
    found["hostile"] = hostile(found["disagree"])
    found["hostile mask"] = hostile_mask(found["masked disagreeing"])
    return found


def hostile(record: Record) -> Record:
    """The same record with names that attack the page, and a row without numbers."""
    text = json.dumps(record)
    for name, attack in HOSTILE.items():
        text = text.replace(json.dumps(name)[1:-1], json.dumps(attack)[1:-1])
    changed: Record = json.loads(text)
    changed["notes"] = ["keras left out: <b>not</b> installed"]
    changed["again"]["command"] = "parity compare '</script>' --batch 3"
    changed["rows"][0] |= {
        "note": "shape (3, 4) against (4, 3)",
        "verdict": "disagree",
        "max_error": "nan",
        "times_floor": "inf",
    }
    return changed


def hostile_mask(record: Record) -> Record:
    """The same record with names of engines and layers, reasons and failures that attack the page."""
    attacks = list(HOSTILE.values())
    names = dict(zip((engine["label"] for engine in record["engines"][:-1]), attacks[:3], strict=True))
    text = json.dumps(record)
    for name, attack in (names | {"lstm": attacks[4]}).items():
        text = text.replace(json.dumps(name), json.dumps(attack))
    changed: Record = json.loads(text)
    changed["failures"] = {attacks[0]: attacks[3], "other": attacks[5]}
    changed["engines"][0]["form"] = {"kind": "composed", "composed": [attacks[3]], "notes": [attacks[0]]}
    changed["conventions"][0]["ways"][0] |= {"call": attacks[0], "note": attacks[3]}
    changed["padding"][0]["call"] = attacks[0]
    return changed


OTHERS = ["masked", "masked disagreeing", "merged", "composed", "unlike", "model", "failed", "five", "hostile mask"]
CASES = [*VERDICTS, *OTHERS, "not finite", "large", "one engine, one step", "nothing to draw", "hostile"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as found:
        yield found


@pytest.fixture
def show(browser: Browser, records: dict[str, Record], tmp_path: Path) -> Iterator[Any]:
    opened: list[Shown] = []

    def shown(case: str, **options: Any) -> Shown:
        path = write_text(tmp_path / f"{len(opened)}.html", render_record(records[case]))
        opened.append(open_page(browser, path, **options))
        return opened[-1]

    yield shown
    for result in opened:
        result.context.close()


@pytest.mark.parametrize("case", CASES)
def test_a_page_is_whole_quiet_and_alone(show: Any, records: dict[str, Record], case: str) -> None:
    record, shown = records[case], show(case)
    assert shown.messages == []
    assert shown.foreign == []
    assert shown.page.title().startswith(f"{record['verdict']}: ")
    assert visible(record["title"]) in shown.page.title().replace("\ufffd", "\u0000")
    embedded = json.loads(shown.page.locator("#record").text_content() or "")
    mapping = [{**table, "rows": unpacked(table["rows"])} for table in embedded["mapping"]]
    assert {**embedded, "rows": unpacked(embedded["rows"]), "mapping": mapping} == record
    kinds = shown.page.eval_on_selector_all("script", "all => all.map(one => one.type)")
    assert kinds == ["application/json"]


@pytest.mark.parametrize("case", [case for case in CASES if "hostile" not in case])
def test_an_ordinary_page_is_small(records: dict[str, Record], case: str) -> None:
    assert len(render_record(records[case]).encode()) <= MOST_BYTES.get(case, 150_000)


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_wrong_with_how_it_looks(show: Any, case: str) -> None:
    page = show(case).page
    assert checked(page, WORDS) == []
    for width, scheme in ((390, "light"), (800, "dark"), (1400, "light")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        assert checked(page, LOOKS) == []


@pytest.mark.parametrize("case", [*VERDICTS, "composed"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_letters_of_the_gates_are_legible(show: Any, case: str, scheme: str) -> None:
    """Before the colour of each gate, which is drawn and thus not seen as what is behind a text."""
    found = show(case, scheme=scheme).page.evaluate(
        f"""() => {{ {CONTRAST}
            const fill = element => getComputedStyle(element).fill, ink = fill(document.querySelector(".letter"));
            return [...document.querySelectorAll("rect.gate:not(.pattern)")].map(box => contrast(ink, fill(box)));
        }}"""
    )
    assert len(found) >= 9
    assert min(found) > 4.5


def test_light_and_dark_differ(show: Any) -> None:
    backs = [
        show("agree", scheme=scheme).page.evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]
    assert backs == ["rgb(255, 255, 255)", "rgb(20, 23, 27)"]


def test_hostile_names_are_text(show: Any) -> None:
    page = show("hostile").page
    body = page.locator("body").inner_text()
    for attack in HOSTILE.values():
        assert visible(attack).replace("\u0000", "\ufffd") in body
    assert page.locator("img, b b, script:not(#record)").count() == 0
    assert "<b>not</b>" in body
    assert "parity compare '</script>' --batch 3" in body
    assert "shape (3, 4) against (4, 3)" in body


@pytest.mark.parametrize("case", VERDICTS)
def test_the_first_screen_says_it(show: Any, records: dict[str, Record], case: str) -> None:
    record, page = records[case], show(case, script=False).page
    assert page.locator("h1").inner_text().strip().lower() == case
    assert page.locator(".sentence").inner_text() == record["sentence"]
    assert page.locator(".ratio").count() == len(record["rows"])
    assert page.locator(".ratio.disagree").count() == sum(row["verdict"] == "disagree" for row in record["rows"])
    ran = page.locator(".ran").inner_text()
    assert f"{record['inputs']['batch']} samples {TIMES} {record['inputs']['time']} steps {TIMES} 3 features" in ran
    assert f"torch {torch.__version__}" in ran
    assert "seed 0" in ran
    assert page.locator(".measures").inner_text().split("\n") == ["Forecast error", "torch\t23.25", "years\t29"]


def test_a_sign_is_never_colour_alone(show: Any) -> None:
    """Each verdict has a shape and a word of its own."""
    page = show("disagree").page
    cells = page.eval_on_selector_all(
        ".ratio",
        """all => all.map(one => [
            one.className.split(" ").at(-1), one.querySelector("use").getAttribute("href"), one.querySelector(".unseen").textContent
        ])""",
    )
    assert {tuple(cell) for cell in cells} == {(word, f"#sign-{word}", word) for word in ("agree", "disagree")}
    shapes = page.eval_on_selector_all("symbol", "all => all.map(one => one.innerHTML)")
    assert len(set(shapes)) == len(VERDICTS)


def test_decimal_points_stand_one_below_the_other(show: Any) -> None:
    places = show("disagree").page.evaluate(
        """() => [...document.querySelectorAll(".matrix tbody")].flatMap(body => {
            const columns = {}, box = element => element.getBoundingClientRect();
            body.querySelectorAll("td.ratio, td.difference").forEach(cell =>
                (columns[Math.round(box(cell).right)] ??= []).push(box(cell.querySelector("i")).left));
            return Object.values(columns).map(column => Math.max(...column) - Math.min(...column));
        })"""
    )
    assert len(places) == 18
    assert max(places) < 1


def test_every_difference_of_the_matrix_has_its_place_and_its_values(show: Any, records: dict[str, Record]) -> None:
    """What disagrees is in sight, everything else unfolds; nothing has to be pointed at."""
    record, page = records["disagree"], show("disagree").page
    assert page.locator("[title]").count() == 0
    shown, folded = (
        page.locator(f"section:has(#rows) {part} tbody tr:not(.whose)") for part in ("> .scroll", "details")
    )
    bad = [row for row in record["rows"] if row["verdict"] == "disagree"]
    assert shown.count() == len(bad) > 0
    others = [row for row in record["rows"] if row not in bad]
    if len(others) > MOST_PLACES:
        others = [row for row in others if row["right"] == REFERENCE]
    assert folded.count() == len(others)
    lines = page.eval_on_selector_all(
        "section:has(#rows) tbody",
        """all => all.flatMap(body => [...body.querySelectorAll("tr:not(.whose)")]
            .map(row => [body.querySelector(".whose").textContent, row.querySelector("th").textContent.trim(), row.textContent]))""",
    )
    for row in (*bad, *others):
        values = f"{row['outside']} of {row['total']}"
        place = ", ".join(f"{axis} {position}" for axis, position in row["worst"].items())
        own = [
            text
            for head, name, text in lines
            if f"{row['left']} against {row['right']}" in head and name == row["quantity"]
        ]
        assert any(place in text and values in text for text in own), row


@pytest.mark.parametrize(("case", "kind"), [("agree", "lstm"), ("not finite", "gru")])
def test_the_gates_are_those_of_the_table(show: Any, case: str, kind: Any) -> None:
    page = show(case).page
    rows = [row for row in LAYOUTS.values() if row.kind == kind]
    assert page.locator(".framework").all_text_contents() == [row.framework for row in rows]
    assert page.locator(".letter").all_text_contents() == [letter for row in rows for letter in row.own_gates]
    meanings = GATE_MEANINGS[rows[0].kind]
    assert page.locator(".meaning").all_text_contents() == [meanings[gate] for row in rows for gate in row.gates]
    styles = page.eval_on_selector_all("rect.gate:not(.pattern)", "all => all.map(one => one.classList[1])")
    assert styles == [f"gate-{list(meanings).index(gate)}" for row in rows for gate in row.gates]
    tensors = page.locator(".tensors").inner_text()
    usual = [tensor for row in rows for tensor in row.tensors if not {"peepholes", "projection"} & {*tensor.members}]
    assert all(tensor.name in tensors and tensor.axes in tensors for tensor in usual)


def test_the_chart_draws_every_engine_and_marks_the_wrong_one(show: Any, records: dict[str, Record]) -> None:
    page, profile = show("disagree").page, records["disagree"]["profile"]
    assert page.locator(".profile .curve").count() == len(profile["engines"]) == 3
    assert page.locator(".profile .rug").count() >= 1
    assert set(page.eval_on_selector_all(".rug", "all => all.map(one => one.classList[1])")) == {"line-1"}
    text = page.locator(".profile").get_attribute("aria-label") or ""
    assert "Largest absolute error in each of 40 steps" in text
    assert page.locator(".lost").count() == 1  # behind the map
    assert page.locator("rect.padding").count() == 0


def test_the_numbers_of_a_drawing_are_a_table_too(show: Any, records: dict[str, Record]) -> None:
    """Whatever is told below the pointer can be opened by the keyboard, and stands on paper."""
    profile, where = records["agree"]["profile"], records["agree"]["map"]
    page = show("agree").page
    page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true })")
    rows = page.locator(".chart-section .exact tbody tr")
    assert rows.count() == page.locator(".tips rect").count() == len(profile["steps"])
    for at in (0, len(profile["steps"]) - 1):
        numbers = [profile["floor"][at]]
        numbers += [
            side[at]
            for label in profile["engines"]
            for side in (profile["engines"][label], profile["times_floor"][label])
        ]
        assert rows.nth(at).locator("td").all_inner_texts() == [exact(value) for value in numbers]
    cells = page.locator("section:has(#where) .exact tbody td").all_inner_texts()
    assert cells == [exact(line[step], 2) for step in range(len(where["steps"])) for line in where["times_floor"]]


def test_lines_are_named_where_they_end(show: Any, records: dict[str, Record]) -> None:
    """In the order of the lines' ends; where there is no room for it, above the drawing."""
    profile = records["disagree"]["profile"]
    page = show("disagree").page
    lasts = {shortened(label): values[-1] for label, values in profile["engines"].items()}
    lasts |= {"float32 floor": profile["floor"][-1], f"limit, 2 {TIMES} floor": 2 * profile["floor"][-1]}
    named = page.locator(".profile .end")
    heights = {text: named.nth(at).bounding_box()["y"] for at, text in enumerate(named.all_text_contents())}
    assert sorted(heights, key=lambda text: heights[text]) == sorted(lasts, key=lambda text: -lasts[text])
    legend = page.locator(".chart-section .at-lines")
    assert named.first.is_visible()
    assert not legend.is_visible()
    page.set_viewport_size({"width": 390, "height": 900})
    assert not named.first.is_visible()
    assert all(label in legend.inner_text() for label in profile["engines"])


def test_labels_are_moved_apart_no_further_than_they_must() -> None:
    random = np.random.default_rng(0)
    for count in range(1, 9):
        wanted = sorted(random.uniform(0, 200, count).tolist())
        places = apart(wanted, 15, 200)
        gaps = np.diff(places)
        assert (gaps >= 15 - 1e-9).all()
        assert min(places) >= 0
        assert max(places) <= 200
        if (np.diff(wanted) >= 15).all():
            assert places == wanted
    assert apart([100, 100, 100], 10, 200) == [90, 100, 110]


def test_the_horizon_is_marked(show: Any, records: dict[str, Record]) -> None:
    page, horizon = show("undecided").page, records["undecided"]["judging"]["horizon"]
    assert page.locator(".horizon-text").text_content() == f"horizon: step {horizon}"
    assert page.locator(".profile .lost").count() >= 1
    assert page.locator(".map .not-comparable").count() == 1
    assert f"At step {horizon} of 120" in page.locator("body").inner_text()


def test_the_profile_rests_on_what_is_judged(records: dict[str, Record]) -> None:
    """Beyond the horizon a difference is drawn but not counted; a value that is not finite always is."""
    undecided_profile, broken = records["undecided"]["profile"], records["not finite"]
    assert undecided_profile["times_floor"]["torch"][-1] is None
    assert undecided_profile["engines"]["torch"][-1] > 0.01
    assert undecided_profile["comparable"][0] == 1
    assert undecided_profile["comparable"][-1] == 0
    assert {row["verdict"] for row in broken["rows"] if row["left"].endswith("#2")} == {"disagree"}
    (other,) = [label for label in broken["profile"]["times_floor"] if label.endswith("#2")]
    assert "inf" in broken["profile"]["times_floor"][other]
    assert any("inf" in line for line in broken["map"]["times_floor"])


def test_a_large_map_is_drawn_in_bulk(show: Any, records: dict[str, Record]) -> None:
    where, page = records["large"]["map"], show("large").page
    assert len(where["rows"]) * len(where["steps"]) > 1000
    assert 0 < page.locator(".map path").count() < 12
    assert page.locator(".map .ring").count() == 1


def test_saving_and_rendering_again_gives_the_same_page(comparisons: dict[str, Comparison], tmp_path: Path) -> None:
    comparison = comparisons["disagree"]
    page = save_page(comparison, tmp_path / "r.html", measures=MEASURES)
    record = save_record(comparison, tmp_path / "r.json", measures=MEASURES)
    assert render_record(read_record(record)) == page.read_text(encoding="utf-8")
    assert comparison.save_html(tmp_path / "s.html").stat().st_size > 10_000
    assert read_record(comparison.save_json(tmp_path / "s.json"))["measures"] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.html", "r.json", "s.html", "s.json"]


def test_an_existing_file_is_kept(comparisons: dict[str, Comparison], tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    path.write_text("mine")
    for save in (save_page, save_record):
        with pytest.raises(ParityError, match=r"--overwrite \(overwrite=True in Python\), or another name"):
            save(comparisons["agree"], path)
    assert path.read_text() == "mine"
    save_page(comparisons["agree"], path, overwrite=True)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParityError, match="no such folder"):
        write_text(tmp_path / "no" / "r.html", "x")
    with pytest.raises(ParityError, match="a folder, not a file"):
        write_text(tmp_path, "x", overwrite=True)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    kept = write_text(tmp_path / "r.html", "before")
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ParityError, match="No space left on device"):
        write_text(kept, "after", overwrite=True)
    assert kept.read_text() == "before"
    assert list(tmp_path.iterdir()) == [kept]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "this is no record"),
        (b"{", "this is no record"),
        (b"\xff\xfe", "this is no record"),
        (b"[]", "version known here"),
        (b'{"schema": {"name": "parity.comparison", "version": 99}}', "version known here"),
        (b"[" * 100_000, "this is no record"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message):
        read_record(path)


def test_a_record_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParityError, match=re.escape(str(tmp_path / "r.json"))):
        read_record(tmp_path / "r.json")


def test_a_record_that_contradicts_itself_is_refused(records: dict[str, Record], tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(to_json({**records["disagree"], "verdict": "agree"}), encoding="utf-8")
    with pytest.raises(FormatError, match="contradicts itself"):
        read_record(path)


@pytest.mark.parametrize("broken", [None, "text"])
def test_a_damaged_record_is_a_clear_error(records: dict[str, Record], broken: object) -> None:
    """Whatever stands in the place of any part: a page or a FormatError, nothing else."""
    record = records["agree"]
    for key in record:
        for damaged in ({**record, key: broken}, {name: part for name, part in record.items() if name != key}):
            with contextlib.suppress(FormatError):
                assert render_record(damaged).startswith("<!doctype html>")
    with pytest.raises(FormatError, match="does not hold what a page needs"):
        render_record({"schema": record["schema"]})


def test_a_name_that_is_not_utf8_is_written(comparisons: dict[str, Comparison], records: dict[str, Record]) -> None:
    assert "\ud800" not in to_json(make_record(comparisons["agree"], [{"title": "\ud800", "rows": []}]))
    page = render_record({**records["agree"], "title": "model \ud800"})
    assert "model ?" in page.encode("utf-8").decode("utf-8")


def test_the_embedded_record_cannot_close_its_element() -> None:
    record = {"</script>": "<!-- & --> \u2028 \ud800"}
    assert "<" not in embed(record)
    assert json.loads(embed(record)) == record


def test_a_notebook_shows_the_sentence_and_the_matrix(
    comparisons: dict[str, Comparison], records: dict[str, Record]
) -> None:
    fragment = snippet(comparisons["disagree"])
    assert fragment == comparisons["disagree"]._repr_html_()
    assert "<b>✗ disagree</b>" in fragment
    assert len(re.findall('title="(?:agree|disagree): ', fragment)) == len(records["disagree"]["rows"])
    assert "<script" not in fragment
    assert " id=" not in fragment
    assert len(fragment) < 30_000


def test_hostile_names_around_a_mask_are_text(show: Any) -> None:
    page = show("hostile mask").page
    page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true })")
    body = page.locator("body").inner_text()
    for attack in HOSTILE.values():
        assert visible(attack).replace("\u0000", "\ufffd") in body
    assert page.locator("img, b b, script:not(#record)").count() == 0


@pytest.mark.parametrize("case", ["masked", "masked disagreeing", "unlike", "model"])
def test_the_first_screen_says_the_mask(show: Any, records: dict[str, Record], case: str) -> None:
    record, page = records[case], show(case, script=False).page
    mask = record["mask"]
    text = page.locator(".masked").inner_text()
    assert text.startswith(f"{mask['valid']} of {mask['total']} steps are valid, {mask['total'] - mask['valid']} are")
    assert ("lengths 17, 9, 4" in text) == case.startswith("masked")
    assert "scored separately" in text
    differing = [row for row in record["rows"] if row["padding_outside"]]
    assert bool(differing) == case.startswith("masked")
    assert ("by convention, which is no disagreement" in text) == bool(differing)
    assert page.locator(".masked").bounding_box()["y"] < 300


def test_no_mask_is_not_mentioned(show: Any, records: dict[str, Record]) -> None:
    page = show("agree").page
    assert records["agree"]["mask"] is None
    assert page.locator(".masked, #padding, tr.padded, rect.padding, .legend .swatch.padding").count() == 0


@pytest.mark.parametrize("case", ["masked", "masked disagreeing", "unlike", "model"])
def test_padded_steps_are_scored_by_themselves(show: Any, records: dict[str, Record], case: str) -> None:
    """Under every quantity with padding a line of its own, with the number of every pair that differs there."""
    rows = [row for row in records[case]["rows"] if row["padded"]]
    page = show(case).page
    cells = page.locator("tr.padded .differs").all_inner_texts()
    assert len(cells) == len(rows) > 0
    differing = [row["padding_error"] for row in rows if row["padding_outside"]]
    assert sorted(cell for cell in cells if cell != "alike") == sorted(f"differ by {x:.3g}" for x in differing)
    words = page.locator("tr.padded .verdict-column").all_inner_texts()
    assert set(words) == ({"convention", "alike"} if case == "masked" else {"convention"} if differing else {"alike"})
    assert page.locator("tr.padded").locator(".disagree, .sign").count() == 0


def test_how_many_elements_are_padding(records: dict[str, Record]) -> None:
    padded = {
        (row["rule"], row["quantity"]): row["padded"] for row in records["masked"]["rows"] if row["left"] == "torch"
    }
    steps = sum(17 - length for length in LENGTHS)
    assert padded == {
        ("run", "sequence"): 6 * steps,
        ("run", "h_n"): 6,
        ("run", "c_n"): 6,
        **{("one step", name): 0 for name in ("sequence", "h_n", "c_n")},
    }


def test_what_every_engine_puts_at_padded_steps(show: Any, records: dict[str, Record]) -> None:
    mask = records["masked"]["mask"]
    assert (mask["valid"], mask["total"], mask["lengths"], mask["made"]) == (30, 68, LENGTHS, ["lengths"])
    found = {entry["engine"]: (entry["steps"], entry["state"], entry["empty"]) for entry in mask["engines"]}
    assert found == {
        "keras": ("repeat", "last valid step", "zero"),
        "torch": ("zero", "last valid step", "zero"),
        "onnxruntime": ("zero", "last valid step", "zero"),
        REFERENCE: ("repeat", "last valid step", "zero"),
    }
    page = show("masked").page
    table = page.locator("section:has(#padding) tbody tr").all_inner_texts()
    assert "the output of the last valid step, repeated\tthe last valid step\tzero\talike" in table[0]
    assert "zero\tthe last valid step\tzero\tdiffers by convention: sequence by up to 0.345" in table[1]


def test_an_engine_that_ignores_the_mask_is_seen_to_go_on_computing(comparisons: dict[str, Comparison]) -> None:
    given = comparisons["masked"]
    unmasked = parity.run(given.sources[0], given.inputs, engine="torch")
    kept = given.judgement.results["keras"]
    moved = replace(
        kept, layers={name: replace(run, final=unmasked.layers[name].final) for name, run in kept.layers.items()}
    )
    results = {"torch": unmasked, "keras": moved}
    mask = mask_record(replace(given, judgement=replace(given.judgement, results=results)))
    assert mask is not None
    found = {entry["engine"]: (entry["steps"], entry["state"], entry["empty"]) for entry in mask["engines"]}
    assert found["torch"] == ("other", "last step of all", "other")
    assert found["keras"] == ("repeat", "other", "other")
    assert next(entry["largest"] for entry in mask["engines"]) > 0.1


def test_padding_is_told_in_the_order_of_processing(records: dict[str, Record]) -> None:
    """Both directions of a mask with gaps; a mask of the model's own; every engine as the reference, layer by layer."""
    for case, made, steps in (("unlike", ["mask"], {"zero"}), ("model", ["the model itself"], {"repeat"})):
        mask = records[case]["mask"]
        assert mask["made"] == made
        assert mask["lengths"] is None
        assert {entry["steps"] for entry in mask["engines"]} == steps
        assert {entry["state"] for entry in mask["engines"]} == {"last valid step"}
        assert len(mask["engines"]) == 3
        assert all(len(entry["layers"]) == 2 for entry in mask["engines"])


def test_the_drawings_do_not_colour_padding(show: Any, records: dict[str, Record]) -> None:
    where, profile = records["masked disagreeing"]["map"], records["masked disagreeing"]["profile"]
    lengths = LENGTHS[:3]
    expected = [[step >= length for step in range(17)] for length in lengths]
    assert [[value == "padding" for value in line] for line in where["times_floor"]] == expected
    assert profile["padded"] == [round(sum(step >= length for length in lengths) / 3, 4) for step in range(17)]
    page = show("masked disagreeing").page
    assert page.locator(".map rect.padding").count() == 2  # one for each sample that is padded
    assert page.locator(".map .cell path").count() == 30
    assert page.locator(".profile rect.padding").count() == 2
    assert page.locator(".map .not-comparable").count() == 0
    assert page.locator(".map-legend .swatch.padding").count() == 1
    box, drawing = (page.locator(f".map {name}").last.bounding_box() for name in ("rect.padding", "rect.lost"))
    assert box["width"] == pytest.approx(drawing["width"] * 13 / 17, abs=1)
    assert box["y"] + box["height"] == pytest.approx(drawing["y"] + drawing["height"], abs=1)


def test_steps_that_are_padding_in_every_sample_are_not_drawn() -> None:
    torch.manual_seed(0)
    record = make_record(compare(torch.nn.GRU(3, 5), engines=["torch"], lengths=[6, 4], time=9, batch=2))
    assert [value is None for value in record["profile"]["engines"]["torch"]] == [False] * 6 + [True] * 3
    page = render_record(record)
    assert "torch: padding" in page
    assert "nan" not in page.split('id="record"')[0].split("</style>")[1]


def test_a_large_map_leaves_gaps_for_padding() -> None:
    """Cells drawn in bulk do not run through the padding between them."""
    torch.manual_seed(0)
    mask = np.ones((20, 60), bool)
    mask[:, 20:30] = False
    page = render_record(make_record(compare(torch.nn.GRU(3, 5), engines=["torch"], mask=mask)))
    cells = re.findall(r'<path class="cell within-\d" d="([^"]*)"', page)
    spans = [(int(x), int(x) + int(width)) for d in cells for x, width in re.findall(r"M(\d+) \d+h(\d+)", d)]
    assert sum(right - left for left, right in spans) == 20 * 50
    assert not any(left < 30 and right > 20 for left, right in spans)


@pytest.mark.parametrize("case", ["masked", "merged", "composed", "failed"])
def test_every_participant_is_native_composed_or_the_source(show: Any, records: dict[str, Record], case: str) -> None:
    engines = {engine["label"]: engine["form"] for engine in records[case]["engines"]}
    kinds = {label: form["kind"] for label, form in engines.items()}
    expected = {
        "masked": {"keras": "source", "torch": "native", "onnxruntime": "native"},
        "merged": {"keras": "source", "torch": "composed", "onnxruntime": "composed"},
        "composed": {"keras": "source", "torch": "composed", "onnxruntime": "native"},
        "failed": {"torch": "source", "onnxruntime": "native"},
    }[case]
    assert kinds == {**expected, REFERENCE: "reference"}
    page = show(case).page
    text = page.locator("section:has(#returned)").inner_text()
    for form in engines.values():
        assert all(line in text for line in (*form["composed"], *form["notes"]))
    assert "the source itself" in text
    ran = page.locator(".ran").inner_text()
    for kind in ("native", "composed"):
        labels = [label for label, own in kinds.items() if own == kind]
        assert (f"{kind} in {', '.join(labels)}" in ran) == bool(labels)


def test_reasons_and_options_that_were_left_out_stand_there(records: dict[str, Record]) -> None:
    forms = {engine["label"]: engine["form"] for engine in records["composed"]["engines"]}
    assert forms["torch"]["composed"] == ["layer 'gru': torch.nn.GRU has no reset_after=False"]
    assert forms["onnxruntime"]["notes"] == ["layer 'gru': recurrent_dropout=0.3 is inert at inference"]
    forms = {engine["label"]: engine["form"] for engine in records["masked"]["engines"]}
    assert forms["torch"]["notes"] == ["layer 'lstm': dropout=0.2 is inert at inference"]
    bias = records["composed"]["gates"]["gru"]["frameworks"]["keras"]["tensors"][-1]
    assert (bias["name"], bias["axes"]) == ("bias", "(gate hidden)")


def test_a_failed_engine_is_on_the_first_screen(show: Any, records: dict[str, Record]) -> None:
    record, page = records["failed"], show("failed", script=False).page
    assert record["verdict"] == "undecided"
    assert record["failures"] == {"onnxruntime": "the engine 'onnxruntime' ended unexpectedly: signal SIGABRT"}
    box = page.locator(".failures")
    assert "1 of 2 engines failed" in box.inner_text()
    assert "onnxruntime the engine 'onnxruntime' ended unexpectedly: signal SIGABRT" in box.inner_text()
    assert box.bounding_box()["y"] < 400
    assert box.locator(".sign.undecided").count() == 1
    backs = [
        page.locator(name).evaluate("one => getComputedStyle(one).backgroundColor") for name in (".failures", "body")
    ]
    assert backs[0] != backs[1]
    assert not any(note.startswith("onnxruntime failed") for note in record["notes"])
    assert [engine["label"] for engine in record["engines"]] == ["torch", "onnxruntime", REFERENCE]
    assert "failed: the engine 'onnxruntime'" in page.locator("section:has(#returned)").inner_text()
    assert page.locator(".chart-section .caption").inner_text().count("No line for") == 0


@pytest.mark.parametrize(
    ("case", "names", "layer", "count"),
    [
        ("masked", ["lstm"], "LSTM(6, return_sequences=True, return_state=True)", 3),
        ("agree", ["lstm_l0", "lstm_l1"], "2 stacked layers Bidirectional(LSTM(5))", 9),
        ("unlike", ["both"], "Bidirectional(LSTM(6), backward_layer=GRU(5), merge_mode='concat')", 4),
    ],
)
def test_a_layer_is_explained_as_what_it_is(
    show: Any, records: dict[str, Record], case: str, names: list[str], layer: str, count: int
) -> None:
    (returns,) = records[case]["conventions"]
    assert (returns["names"], returns["layer"], len(returns["keras"])) == (names, layer, count)
    page = show(case).page
    page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true })")
    text = page.locator("section:has(#returned)").inner_text()
    assert f"{', '.join(names)} in Keras's words, returning all it has: {layer}" in text
    for value in returns["keras"]:
        assert f"{value['place']} {value['name']}" in text
        assert value["torch"] in text
    assert ("torch, batch first, returns" in text) == bool(returns["torch"]) == (case != "unlike")
    assert ("ONNX returns" in text.replace("ONNX, returns", "ONNX returns")) == bool(returns["onnx"])
    for row in returns["rows"]:
        assert row in text
    assert ("Rows of h_n and c_n" in text) == (case == "agree")
    for way in returns["ways"]:
        assert way["call"] in text
    assert page.locator("summary", has_text="Called in another way").count() == bool(returns["ways"])
    assert page.locator("summary", has_text="Padded steps, by framework and call").count() == 1
    assert len(records[case]["padding"]) == len(PADDING)
    assert all(padding.call in text for padding in PADDING)


def test_a_merge_mode_is_explained(show: Any, records: dict[str, Record]) -> None:
    (returns,) = records["merged"]["conventions"]
    assert "merge_mode='sum'" in returns["layer"]
    assert "both directions added" in show("merged").page.locator("section:has(#returned)").inner_text()


def test_ways_to_call_are_folded_away(show: Any) -> None:
    page = show("agree").page
    assert page.locator("section:has(#returned) details").count() == 2
    assert page.locator("section:has(#returned) details[open]").count() == 0
    calls = page.locator("details:has-text('Called in another way') td:nth-child(2)").all_text_contents()
    assert {"batch_first=False", "(time, features), one sample", "PackedSequence"} <= set(calls)


def test_what_no_framework_has_is_compared_and_not_explained() -> None:
    random = np.random.default_rng(0)
    spec = RecurrentSpec("lstm", 3, 4, projection_size=4)
    sizes = {"kernel": (4, 4, 3), "recurrent": (4, 4, 4), "projection": (4, 4)}
    weights = Weights(**{name: random.normal(scale=0.5, size=size).astype(np.float32) for name, size in sizes.items()})
    network = Network("wide", (Recurrent("wide", spec, (weights,)),))
    record = make_record(compare(network, engines=["torch"]))
    (returns,) = record["conventions"]
    assert returns["notes"] == ["no framework has this projection"]
    assert "no framework has this projection" in render_record(record)
    names = [tensor["name"] for tensor in record["gates"]["lstm"]["frameworks"]["torch"]["tensors"]]
    assert "weight_hr" in names
    assert "weight_hr" not in json.dumps(make_record(compare(lstm(), engines=["torch"]))["gates"])


def test_every_layer_and_option_stands_in_the_table(show: Any) -> None:
    def table(case: str) -> list[list[str]]:
        rows = show(case).page.locator("section:has(#layers) table tbody tr").all()
        return [row.locator("th, td").all_inner_texts() for row in rows]

    assert table("model") == [
        ["masking", "Masking", "3", "3", "", "", "mask_value 0"],
        ["lstm", "LSTM", "3", "6", "6", "forward", "bias, return_sequences"],
        ["dropout", "Dropout", "6", "6", "", "", "rate 0.25"],
        ["rnn", "RNN", "6", "4", "4", "forward", "bias, return_sequences, cell relu as its candidate function"],
        ["dense", "Dense", "4", "2", "", "", "activation linear, bias"],
    ]
    assert [row[:2] + row[4:] for row in table("unlike")] == [
        ["both", "Bidirectional", "", "", "merge_mode concat"],
        ["both.forward_there", "LSTM", "6", "forward", "bias, return_sequences"],
        ["both.back", "GRU", "5", "backward", "bias, return_sequences"],
    ]
    assert table("composed")[0][-1] == "bias, return_sequences, cell reset_after=False, recurrent_dropout 0.3"


def first_version(record: Record) -> Record:
    """A record as version 1 was."""
    old = {key: value for key, value in record.items() if key not in ("mask", "padding", "failures")}
    new = ("padding_error", "padding_outside", "padded")
    (returns,) = record["conventions"]
    keras_values = [
        {name: value[name] for name in ("name", "shape", "meaning", "torch", "onnx")} for value in returns["keras"]
    ]
    kept = {key: returns[key] for key in ("layer", "torch", "onnx", "notes")}
    return {
        **old,
        "schema": {**record["schema"], "version": 1},
        "rows": [{key: value for key, value in row.items() if key not in new} for row in record["rows"]],
        "engines": [{key: value for key, value in engine.items() if key != "form"} for engine in record["engines"]],
        "conventions": [{"name": "lstm", "keras": keras_values, **kept}],
        "profile": {key: value for key, value in record["profile"].items() if key != "padded"},
    }


def test_a_record_of_the_first_version_is_still_read(records: dict[str, Record], tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(to_json(first_version(records["agree"])), encoding="utf-8")
    record = read_record(path)
    assert [row["verdict"] for row in record["rows"]] == [row["verdict"] for row in records["agree"]["rows"]]
    page = render_record(record)
    assert "[1] layer_0_forward_state_h" in page
    assert "version 1" in page


def test_the_record_in_a_page_can_be_read_again(records: dict[str, Record], tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(str(embed(records["masked"])), encoding="utf-8")
    assert read_record(path) == records["masked"]
    assert len(embed(records["five"])) < 0.8 * len(json.dumps(records["five"], separators=(",", ":")))
    broken = json.loads(str(embed(records["masked"])))
    broken["rows"]["rows"][0].pop()
    path.write_text(json.dumps(broken), encoding="utf-8")
    with pytest.raises(FormatError, match="rows are no table"):
        read_record(path)


def test_a_notebook_says_padding_and_failures(comparisons: dict[str, Comparison]) -> None:
    fragment = snippet(comparisons["masked"])
    assert "30 of 68 steps are valid, 38 are padding (lengths 17, 9, 4, 0), scored separately" in fragment
    rows = make_record(comparisons["masked"])["rows"]
    row = next(row for row in rows if row["left"] == "torch" and row["padding_outside"])
    there = f"sequence by up to 0.345 in {row['padding_outside']} of {row['padded']}"
    assert f"<bdi>torch</bdi> differs there from the reference in <bdi>{there}" in fragment
    assert "a difference of convention" in fragment
    assert "onnxruntime failed" in snippet(comparisons["failed"]).replace("<bdi>", "").replace("</bdi>", "")


def test_the_terminal_says_what_is_composed(
    comparisons: dict[str, Comparison], capsys: pytest.CaptureFixture[str]
) -> None:
    show_comparison(comparisons["composed"])
    out = capsys.readouterr().out
    assert "composed in torch: layer 'gru': torch.nn.GRU has no reset_after=False" in out
    assert "composed in onnxruntime" not in out


def test_where_all_is_padding_nothing_is_called_alike() -> None:
    torch.manual_seed(0)
    comparison = compare(torch.nn.LSTM(3, 5), engines=ENGINES, lengths=[0, 0], time=5)
    record = make_record(comparison)
    page = render_record(record)
    assert {entry["state"] for entry in record["mask"]["engines"]} == {"none"}
    assert "0 of 10 steps are valid, 10 are padding" in page
    assert "no step, as none is valid" in page
    assert "alike" not in page.split('id="record"')[0]
    assert "alike" not in snippet(comparison)
