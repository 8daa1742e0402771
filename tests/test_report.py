"""The record, and the page drawn from it as a real browser shows it."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

import parity
from parity.comparison import Comparison, compare
from parity.errors import FormatError, ParityError
from parity.layouts import GATE_MEANINGS, LAYOUTS
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
from parity.report.numbers import TIMES
from parity.report.page import embed

ENGINES = ["torch", "onnxruntime"]
MOST_BYTES = 150_000
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


@pytest.fixture(scope="module")
def comparisons() -> dict[str, Comparison]:
    return {"agree": compare(lstm(), engines=ENGINES), "disagree": disagreeing(), "undecided": undecided()}


@pytest.fixture(scope="module")
def records(comparisons: dict[str, Comparison]) -> dict[str, Record]:
    """One of each verdict, and the ones that are hard to draw."""
    found = {name: make_record(comparison, MEASURES) for name, comparison in comparisons.items()}
    found["not finite"] = make_record(not_finite())
    found["large"] = make_record(large())
    found["one engine, one step"] = make_record(compare(torch.nn.GRU(4, 6), engines=["torch"], batch=1, time=1))
    found["nothing to draw"] = {**found["agree"], "profile": None, "map": None}
    found["hostile"] = hostile(found["disagree"])
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


CASES = [*VERDICTS, "not finite", "large", "one engine, one step", "nothing to draw", "hostile"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    executable = next((path for name in names if (path := shutil.which(name))), None)
    if executable is None:
        if os.environ.get("CI"):
            pytest.fail(f"no browser: none of {', '.join(names)}")
        pytest.skip(f"no browser: none of {', '.join(names)}")
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu", *quiet]
        )
        yield launched
        launched.close()


@dataclass
class Shown:
    """A page in the browser, and what it did there."""

    page: Page
    context: BrowserContext
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)


@pytest.fixture
def show(browser: Browser, records: dict[str, Record], tmp_path: Path) -> Iterator[Any]:
    opened: list[Shown] = []

    def shown(case: str, scheme: Any = "light", script: bool = True) -> Shown:
        path = write_text(tmp_path / f"{len(opened)}.html", render_record(records[case]))
        context = browser.new_context(
            viewport={"width": 1400, "height": 900}, color_scheme=scheme, java_script_enabled=script
        )
        result = Shown(context.new_page(), context)
        result.page.on("request", lambda request: result.requests.append(request.url))
        result.page.on("console", lambda message: result.messages.append(message.text))
        result.page.on("pageerror", lambda error: result.messages.append(str(error)))
        result.page.goto(path.as_uri())
        opened.append(result)
        return result

    yield shown
    for result in opened:
        result.context.close()


@pytest.mark.parametrize("case", CASES)
def test_a_page_is_whole_quiet_and_alone(show: Any, records: dict[str, Record], case: str) -> None:
    record, shown = records[case], show(case)
    assert shown.messages == []
    assert [url for url in shown.requests if not url.startswith("data:")] == [shown.page.url]
    assert shown.page.title().startswith(f"{record['verdict']}: ")
    assert record["title"] in shown.page.title().replace("\ufffd", "\u0000")
    assert json.loads(shown.page.locator("#record").text_content() or "") == record
    kinds = shown.page.eval_on_selector_all("script", "all => all.map(one => one.type)")
    assert kinds == ["application/json"]


@pytest.mark.parametrize("case", [case for case in CASES if case != "hostile"])
def test_an_ordinary_page_is_small(records: dict[str, Record], case: str) -> None:
    assert len(render_record(records[case]).encode()) <= MOST_BYTES


@pytest.mark.parametrize("case", CASES)
def test_nothing_overflows(show: Any, case: str) -> None:
    page = show(case).page
    for width in (390, 800, 1400):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


CONTRASTS = """() => {
    const parse = colour => colour.match(/[\\d.]+/g).map(Number);
    const light = colour => parse(colour).slice(0, 3)
        .map(part => part / 255)
        .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
        .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
    const contrast = (one, other) => {
        const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
        return (high + 0.05) / (low + 0.05);
    };
    const behind = element => {
        for (let at = element; at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            if ((parse(colour)[3] ?? 1) > 0) return colour;
        }
    };
    const ownText = element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    const texts = [...document.querySelectorAll("body *")].filter(element =>
        ownText(element) && !element.closest("script, .unseen, .anchor, title, desc") && element.getClientRects().length);
    const found = texts.map(element => {
        const style = getComputedStyle(element);
        return [contrast(element.closest("svg") ? style.fill : style.color, behind(element)), element.textContent.trim().slice(0, 40)];
    });
    const fill = element => getComputedStyle(element).fill;
    const ink = fill(document.querySelector(".letter"));
    document.querySelectorAll("rect.gate:not(.pattern)").forEach(box => found.push([contrast(ink, fill(box)), "gate"]));
    return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("case", VERDICTS)
def test_every_text_is_legible(show: Any, case: str, scheme: str) -> None:
    found = show(case, scheme=scheme).page.evaluate(CONTRASTS)
    assert len(found) > 100
    assert [(round(ratio, 2), text) for ratio, text in found if ratio < 4.5] == []


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
        assert attack.replace("\u0000", "\ufffd") in body
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


def test_every_disagreement_stands_there_in_words(show: Any, records: dict[str, Record]) -> None:
    texts = [row["text"] for row in records["disagree"]["rows"] if row["verdict"] == "disagree"]
    shown = show("disagree").page.locator(".words li").all_inner_texts()
    assert len(shown) == len(texts) > 0
    assert all(any(text in line for line in shown) for text in texts)


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
    assert all(tensor.name in tensors and tensor.axes in tensors for row in rows for tensor in row.tensors)


def test_the_chart_draws_every_engine_and_marks_the_wrong_one(show: Any, records: dict[str, Record]) -> None:
    page, profile = show("disagree").page, records["disagree"]["profile"]
    assert page.locator(".profile .curve").count() == len(profile["engines"]) == 3
    assert page.locator(".profile .rug").count() >= 1
    assert set(page.eval_on_selector_all(".rug", "all => all.map(one => one.classList[1])")) == {"line-1"}
    text = page.locator(".profile").get_attribute("aria-label") or ""
    assert "Largest absolute error in each of 40 steps" in text
    assert page.locator(".lost").count() == 1  # behind the map


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
