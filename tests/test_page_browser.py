"""Every kind of page in a real browser: quiet, alone, quick, accessible, whole at every width, in light, in dark and on paper."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from grid import page as grid_page
from playwright.sync_api import Browser, Page

import parity
from parity.baseline import since
from parity.comparison import Comparison, compare
from parity.errors import EngineError
from parity.frameworks import Settings
from parity.pytest_plugin.recording import Entry
from parity.pytest_plugin.session import render as render_index
from parity.report import Record, make_record, read_record, render_record
from parity.report.templating import style, visible
from parity.running import runner
from parity.sources import Opened
from tests.browsing import (
    A4,
    A4_LANDSCAPE,
    LOOKS,
    WORDS,
    Shown,
    checked,
    inaccessible,
    launched,
    open_page,
    unreachable,
)
from tests.tagger import Tagger

ENGINES = ["torch", "onnxruntime"]
WIDTHS = (1400, 800, 390)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
MOST_BYTES_OF_FORTY = 180_000
REPORTS = Path(__file__).parents[1] / "reports"
FIRST_SCREEN = 900
"""Pixels that are seen without scrolling."""
MOST_PAINT = 1000.0
"""Milliseconds until something is seen."""
PATIENCE = 3
"""So many times a page may be opened to be that quick: other processes of the machine may be in the way."""

HOSTILE = {
    "second": "<script>alert(1)</script>\"'><img src=http://localhost/x onerror=alert(1)>&amp;{{ 7 * 7 }}",
    "first": "שלום/כיתה_ראשונה \N{RIGHT-TO-LEFT OVERRIDE}txt.exe",
    "norm": "نموذج \N{ARABIC LETTER ALEF}\"'",
    "embed": "encoder/with_a_very_long_name/that_goes_on/and_on/forward_branch_0000000000000001",
    "Tagger": "\N{RIGHT-TO-LEFT OVERRIDE}<b>מודל</b>",
}


LABELS = {
    "GRU 'gru' (torch) #2": HOSTILE["second"],
    "ModelProto 'gru' (onnxruntime)": HOSTILE["first"],
    "GRU 'gru' (torch)": "x" * 120,
    "layer 'gru'": f"layer '{HOSTILE['norm']}'",
}
"""Other names for what the case "disagreeing" compares."""


class Deep(torch.nn.Module):
    """Forty layers in a row."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(6, 6) for _ in range(39))
        self.last = torch.nn.GRU(6, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = x + torch.tanh(layer(x))
        found: torch.Tensor = self.last(x)[0]
        return found


def scaled(model: torch.nn.Module, **factors: float) -> torch.nn.Module:
    """Weights times factors, by their names with "__" for the dots."""
    with torch.no_grad():
        for name, factor in factors.items():
            model.get_parameter(name.replace("__", ".")).mul_(factor)
    return model


def lstm() -> torch.nn.LSTM:
    torch.manual_seed(0)
    return torch.nn.LSTM(3, 5, num_layers=2, bidirectional=True)


def agreeing() -> Comparison:
    return compare(lstm(), engines=ENGINES, batch=4, time=24)


def disagreeing() -> Comparison:
    """With the cause, four columns and a command to mend it."""
    torch.manual_seed(0)
    good = torch.nn.GRU(3, 5)
    bad = copy.deepcopy(good)
    with torch.no_grad():
        bad.get_parameter("bias_ih_l0")[3] += 1e-2
    return compare(good, bad, parity.to_onnx(good), batch=4, time=24)


def undecided() -> Comparison:
    torch.manual_seed(0)
    chaotic = torch.nn.LSTM(3, 24)
    return compare(scaled(chaotic, **dict.fromkeys(dict(chaotic.named_parameters()), 30)), engines=ENGINES, time=80)


class Failing:
    """An engine that ends in the middle of its work."""

    engine = "onnxruntime"

    def __call__(self, *_: object, **__: object) -> Any:
        """Raise what an engine's own process would be found to have died of."""
        raise EngineError("the engine 'onnxruntime' ended unexpectedly", got="signal SIGABRT")


def failed() -> Comparison:
    def half(source: Opened, engine: str, settings: Settings) -> Any:
        return Failing() if engine == "onnxruntime" else runner(source, engine, settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("parity.comparison.runner", half)
        return compare(lstm(), engines=ENGINES, time=9)


def padded() -> Comparison:
    torch.manual_seed(0)
    layer = torch.nn.GRU(3, 5, bidirectional=True, batch_first=True)
    return compare(layer, engines=ENGINES, lengths=[17, 9, 4, 0])


def whole() -> Comparison:
    """Two layers are wrong, those between and before them right."""
    ids = np.random.default_rng(0).integers(0, 30, (3, 7))
    return compare(Tagger(), scaled(Tagger(), second__weight_hh_l0=0.4, out__weight=-1.5), inputs=ids)


def deep() -> Comparison:
    x = np.random.default_rng(0).normal(size=(2, 3, 6)).astype(np.float32)
    found = compare(Deep(), scaled(Deep(), layers__20__weight=1.01), inputs=x)
    vars(found)["diagnosis"] = None  # the search takes longer than all the rest
    return found


COMPARISONS: dict[str, Callable[[], Comparison]] = {
    "agreeing": agreeing,
    "disagreeing": disagreeing,
    "undecided": undecided,
    "failed": failed,
    "padded": padded,
    "whole": whole,
    "deep": deep,
}
OTHERS = ("hostile layer", "hostile model", "since", "session", "grid")
CASES = (*COMPARISONS, *OTHERS)


def renamed(record: Record, names: dict[str, str]) -> Record:
    """The record with other names, wherever they stand as words."""
    text = json.dumps(record)
    for name, attack in names.items():
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", json.dumps(attack)[1:-1].replace("\\", r"\\"), text)
    found: Record = json.loads(text)
    return found


def session_index() -> str:
    """The index that the pytest plugin writes: every verdict, with ordinary and hostile names."""
    tests = ["tests/test_port.py::test_encoder", *(f"test_it.py::test[{name}]" for name in HOSTILE.values())]
    verdicts = ("disagree", "refused", "undecided", "agree")
    entries = [
        Entry(
            test,
            1,
            verdicts[n % 4],
            f"{test} differs",
            "GRU 'gru'",
            test,
            10.0**n,
            2.0,
            "h_n",
            "a.html",
            "a.json",
            "failed",
        )
        for n, test in enumerate(tests)
    ]
    return render_index(entries, {"disagree": 2, "refused": 2, "undecided": 1, "agree": 1}, "pytest tests")


def grid() -> str:
    """The page of the grid, of some configurations of every family."""
    record = json.loads((Path(__file__).parents[1] / "reports" / "matrix.json").read_text(encoding="utf-8"))
    return grid_page.render({**record, "configurations": record["configurations"][::12]})


@pytest.fixture(scope="module")
def records() -> dict[str, Record]:
    found = {name: make_record(build()) for name, build in COMPARISONS.items()}
    found["hostile layer"] = renamed(found["disagreeing"], LABELS)
    for layer in (layer for source in found["hostile layer"]["sources"] for layer in source["layers"]):
        layer["name"] = HOSTILE["norm"]
    for engine in found["hostile layer"]["engines"]:
        engine["returned"] = [{**one, "name": HOSTILE["first"] + "n" * 300} for one in engine["returned"]]
    found["hostile model"] = renamed(found["whole"], HOSTILE)
    earlier = copy.deepcopy(found["agreeing"])
    earlier["environment"]["packages"]["torch"] = "2.4.0"
    earlier["rows"][1] |= {"verdict": "disagree", "times_floor": 70.0}
    earlier["verdict"] = "disagree"
    found["since"] = {**found["agreeing"], "baseline": since(earlier, found["agreeing"]).as_json()}
    return found


@pytest.fixture(scope="module")
def files(records: dict[str, Record], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    pages = {name: render_record(record) for name, record in records.items()}
    pages |= {"session": session_index(), "grid": grid()}
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in pages}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as found:
        yield found


@pytest.fixture
def show(browser: Browser, files: dict[str, Path]) -> Iterator[Callable[..., Shown]]:
    opened: list[Shown] = []

    def shown(case: str, **options: Any) -> Shown:
        opened.append(open_page(browser, files[case], **options))
        return opened[-1]

    yield shown
    for one in opened:
        one.context.close()


@pytest.mark.parametrize("case", CASES)
def test_a_page_is_quiet_and_alone_and_quick(show: Callable[..., Shown], case: str) -> None:
    paints = []
    for _ in range(PATIENCE):
        shown = show(case)
        assert shown.messages == []
        assert shown.foreign == []
        paints.append(painted(shown))
        if paints[-1] < MOST_PAINT:
            break
    assert min(paints) < MOST_PAINT
    assert checked(shown.page, WORDS) == []


def painted(shown: Shown) -> float:
    """Milliseconds from the start of the navigation until the browser painted the first text."""
    time: float = shown.page.evaluate(
        """() => new Promise(told => new PerformanceObserver(list => {
            const first = list.getEntriesByName("first-contentful-paint")[0];
            if (first) told(first.startTime);
        }).observe({ type: "paint", buffered: true }))"""
    )
    return time


@pytest.mark.parametrize("case", CASES)
def test_nothing_overlaps_and_nothing_is_cut(show: Callable[..., Shown], case: str) -> None:
    page = show(case).page
    wrong: dict[str, list[str]] = {}
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            wrong[f"{width}, {scheme}"] = checked(page, LOOKS)
    unfold(page)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        wrong[f"{width}, unfolded"] = checked(page, LOOKS)
    assert {where: found for where, found in wrong.items() if found} == {}


@pytest.mark.parametrize("case", CASES)
def test_every_rule_of_accessibility_holds(show: Callable[..., Shown], case: str) -> None:
    """At every width, and the contrast of colours, which takes longer than all other rules, once in each scheme."""
    page = show(case).page
    wrong = {}
    for width, scheme, contrast in ((1400, "light", True), (800, "light", False), (390, "dark", True)):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        wrong[f"{width}, {scheme}"] = inaccessible(page, contrast)
    unfold(page)
    wrong["unfolded"] = inaccessible(page, contrast=False)
    assert {where: found for where, found in wrong.items() if found} == {}


def unfold(page: Page) -> None:
    page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true })")


@pytest.mark.parametrize("case", CASES)
def test_every_control_is_reached_by_the_keyboard(show: Callable[..., Shown], case: str) -> None:
    assert unreachable(show(case, width=390).page) == []


@pytest.mark.parametrize("case", CASES)
def test_on_paper_nothing_is_missing(show: Callable[..., Shown], case: str) -> None:
    """Printed on A4 by someone whose screen is dark: within the page, unfolded, dark on white."""
    page = show(case, scheme="dark").page
    page.emulate_media(media="print", color_scheme="dark")
    landscape = page.evaluate("getComputedStyle(document.body).page !== 'auto'")
    page.set_viewport_size({"width": A4_LANDSCAPE if landscape else A4, "height": 1000})
    assert checked(page, LOOKS) == []
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    if case != "grid":  # its reasons and configurations would fill a book
        folded = "all => all.filter(one => !one.checkVisibility()).map(one => one.textContent)"
        assert page.eval_on_selector_all("details > :not(summary), .layer-body", folded) == []
    assert page.pdf(format="A4", prefer_css_page_size=True).startswith(b"%PDF")


@pytest.mark.parametrize("case", ["hostile layer", "hostile model"])
def test_hostile_names_are_text(show: Callable[..., Shown], records: dict[str, Record], case: str) -> None:
    page = show(case).page
    unfold(page)
    body = page.text_content("body") or ""
    shown = body.partition('{"schema"')[0]
    for name in (LABELS if case == "hostile layer" else HOSTILE).values():
        assert visible(name) in shown
    assert page.locator("img, b b, script:not(#record)").count() == 0
    assert visible(records[case]["title"]) in page.title()


def test_the_strip_of_forty_layers_is_small(show: Callable[..., Shown], files: dict[str, Path]) -> None:
    assert files["deep"].stat().st_size < MOST_BYTES_OF_FORTY
    for width in WIDTHS:
        page = show("deep", width=width).page
        boxes = page.eval_on_selector_all(
            ".strip li", "all => all.map(one => one.getBoundingClientRect()).map(box => [box.left, box.right])"
        )
        assert len(boxes) == 40
        assert min(right - left for left, right in boxes) > 90
    assert page.locator(".strip .begin b").all_inner_texts() == ["layers.20"]


def record_of(page: Path, folder: Path) -> Record:
    """The record that a page holds."""
    text = page.read_text(encoding="utf-8").partition('id="record">')[2].partition("</script>")[0]
    (folder / "r.json").write_text(text, encoding="utf-8")
    return read_record(folder / "r.json")


STORIES = sorted(path for path in REPORTS.glob("*.html") if '"parity.comparison"' in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("story", STORIES, ids=lambda path: path.stem)
def test_the_first_screen_holds_the_verdict_the_matrix_and_the_chart(
    browser: Browser, tmp_path: Path, story: Path
) -> None:
    """As it is drawn today, with a baseline where something disagrees; a matrix of more than three pairs of engines fills it alone."""
    record = record_of(story, tmp_path)
    if record["verdict"] == "disagree":
        record = {**record, "baseline": since(record, record).as_json()}
    (tmp_path / "r.html").write_text(render_record(record), encoding="utf-8")
    shown = open_page(browser, tmp_path / "r.html")
    bottoms = shown.page.eval_on_selector_all(
        ".sentence, .ran, .cause, .since, table.matrix",
        "all => all.map(one => [one.className, one.getBoundingClientRect().bottom])",
    )
    chart = shown.page.locator(".chart-section .drawing").bounding_box()
    shown.context.close()
    assert [bottom for bottom in bottoms if bottom[1] > FIRST_SCREEN] == []
    names = {name for name, _ in bottoms}
    assert {"sentence", "ran", "matrix"} <= names
    assert ({"cause", "since"} <= names) == (record["verdict"] == "disagree")
    assert chart is not None
    assert chart["y"] + chart["height"] / 2 <= FIRST_SCREEN or len(record["engines"]) > 4


def test_an_edge_behind_which_a_table_goes_on_is_shaded(browser: Browser, tmp_path: Path) -> None:
    """On the side on which there is more, and only there."""
    boxes = "<div class='scroll' tabindex='0' role='region' aria-label='a'><div style='width:900px;height:40px'></div></div>"
    page_style = f"{style('style.css')} body {{ padding: 0; width: 300px; margin: 0 }} h1 {{ display: none }} :focus {{ outline: 0 }}"
    (tmp_path / "page.html").write_text(broken(page_style, boxes), encoding="utf-8")
    shown = open_page(browser, tmp_path / "page.html")

    def edges() -> list[bool]:
        taken = [shown.page.screenshot(clip={"x": left, "y": 5, "width": 6, "height": 20}) for left in (0, 294, 147)]
        return [one != taken[-1] for one in taken[:2]]

    found = [edges()]
    for place in (300, 600):
        shown.page.eval_on_selector(".scroll", "(one, place) => { one.scrollLeft = place }", place)
        found.append(edges())
    shown.context.close()
    assert found == [[False, True], [True, True], [True, False]]


def test_what_fits_does_not_scroll(show: Callable[..., Shown]) -> None:
    page = show("disagreeing", width=800).page
    wide = page.eval_on_selector_all(
        ".scroll", "all => all.filter(one => one.scrollWidth > one.clientWidth).map(one => one.ariaLabel)"
    )
    assert not {"hypotheses", "differences: one step at a time"} & set(wide)


def broken(css: str, body: str) -> str:
    """A small page with one fault."""
    head = f'<!doctype html><html lang="en"><head><title>t</title><style>{css}</style></head>'
    return f"{head}<body><main><h1>one</h1>{body}</main></body></html>"


TWINS = [
    (
        "overlaps",
        "p { margin: 0 } p.b { margin-top: -1em }",
        "<p>first text</p><p class='b'>second text</p>",
        "overlap",
    ),
    (
        "overlaps",
        "",
        "<svg width='90' height='40'><text x='5' y='20'>1e-3</text><text x='20' y='22'>1e-4</text></svg>",
        "overlap",
    ),
    (
        "cuts",
        "td { overflow: hidden; max-width: 30px }",
        "<table><tr><td>nowhere_to_break_it</td></tr></table>",
        "is cut",
    ),
    ("cuts", "p { height: 9px; overflow: hidden }", "<p>one line</p>", "is cut"),
    ("cuts", "p { width: 3000px }", "<p>wide</p>", "pixels wide"),
    ("cuts", "p { position: relative; left: -90px }", "<p>gone</p>", "leaves the page"),
    (
        "cuts",
        "b { display: block; width: 60px; overflow: hidden; -webkit-line-clamp: 1 }",
        "<b>nowhere_to_break_it</b>",
        "is cut",
    ),
    (
        "leaks",
        "td { max-width: 30px; display: block }",
        "<table><tr><td>nowhere_to_break_it</td></tr></table>",
        "wider than",
    ),
    ("faint", "p { color: #999 }", "<p>pale</p>", "contrast of 2.85"),
    (
        "ragged",
        "td { text-align: right; font-variant-numeric: tabular-nums }",
        "<table><tr><td>1.25</td></tr><tr><td>10.5</td></tr></table>",
        "aligned",
    ),
    ("ragged", "", "<table><tr><td>1.25</td></tr><tr><td>1.50</td></tr></table>", "tabular"),
    ("addresses", "", "<p id='a'></p><p id='a'></p>", "twice"),
    ("addresses", "", "<a href='#b'>b</a>", "leads nowhere"),
    ("addresses", "", "<section>text</section>", "no address"),
    ("turning", "", "<p><b>first</b> \u202eevil 'second'</p>", "not isolated"),
    ("typefaces", "p + p { font-family: monospace }", "<p>text</p><p>text</p>", "more than one typeface"),
    (
        "typefaces",
        "pre + pre { font-family: serif }",
        "<pre>code</pre><pre>code</pre>",
        "more than one typeface of code",
    ),
    ("sizes", "b { font-size: 90% }", "<b>1<b>2<b>3<b>4<b>5<b>6</b></b></b></b></b></b>", "7 sizes"),
    (
        "stuck",
        "div { overflow: auto; width: 40px }",
        "<div tabindex='0' role='region' aria-label='a'>nowhere_to_break_it</div>",
        "does not show it",
    ),
    ("stuck", "div { overflow: auto; width: 40px }", "<div>nowhere_to_break_it</div>", "no focus"),
    (
        "stuck",
        "div { overflow: auto }",
        "<div aria-label='a'>one</div><div aria-label='a'>two</div>",
        "the name of two regions",
    ),
]


@pytest.mark.parametrize(("check", "style", "body", "found"), TWINS)
def test_a_check_sees_what_is_broken(
    browser: Browser, tmp_path: Path, check: str, style: str, body: str, found: str
) -> None:
    (tmp_path / "page.html").write_text(broken(style, body), encoding="utf-8")
    shown = open_page(browser, tmp_path / "page.html")
    assert found in " ".join(checked(shown.page, [check]))
    shown.context.close()


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("<svg role='img'><rect width='9' height='9'/></svg>", "svg-img-alt"),
        ("<input>", "label"),
        ("<p style='color: #999'>pale</p>", "color-contrast"),
        (
            "<div style='overflow: auto; width: 40px; height: 20px'><p>a_long_text_without_a_link</p></div>",
            "scrollable-region-focusable",
        ),
    ],
)
def test_axe_sees_what_is_broken(browser: Browser, tmp_path: Path, body: str, rule: str) -> None:
    (tmp_path / "page.html").write_text(broken("", body), encoding="utf-8")
    shown = open_page(browser, tmp_path / "page.html")
    assert [found.partition(":")[0] for found in inaccessible(shown.page)] == [rule]
    shown.context.close()


def test_requests_messages_and_lost_controls_are_seen(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "seen.css").write_text("a:focus-visible { outline: none }")
    body = "<link rel='stylesheet' href='seen.css'><a href='#'>one</a><a href='#' tabindex='2'>two</a><script>console.log('three')</script>"
    (tmp_path / "page.html").write_text(broken("", body), encoding="utf-8")
    shown = open_page(browser, tmp_path / "page.html")
    assert shown.foreign == [(tmp_path / "seen.css").as_uri()]
    assert shown.messages == ["three"]
    wrong = unreachable(shown.page)
    assert "'one' has no outline" in wrong
    assert "Tab goes to [1, 0], of 2 controls" in wrong
    shown.context.close()
