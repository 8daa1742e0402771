"""What a notebook shows: one is run in a kernel of its own, and what it gives is looked at in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from playwright.sync_api import Browser, BrowserContext, Page

from tests.browsing import launched
from tests.legibility import CONTRAST

ROOT = Path(__file__).parents[1]

SCRIPT = "</td><script>throw 'broken'</script>"
RIGHT_TO_LEFT = "שלום \u202e(torch) 'one' \"two\""

SET_UP = f"""
import copy
from collections import OrderedDict
import torch, parity

torch.set_num_threads(1)
torch.manual_seed(0)

def model(first, second):
    return torch.nn.Sequential(OrderedDict([(first, torch.nn.Linear(4, 6)), (second, torch.nn.GRU(6, 5, batch_first=True))]))

good = model({SCRIPT!r}, {RIGHT_TO_LEFT!r})
bad = copy.deepcopy(good)
with torch.no_grad():
    bad[1].weight_hh_l0.copy_(torch.cat([bad[1].weight_hh_l0[5:10], bad[1].weight_hh_l0[:5], bad[1].weight_hh_l0[10:]]))
"""
CELLS = {
    "Comparison": "parity.compare(good, bad)",
    "Network": "parity.read(good)",
    "Returns": "parity.explain(torch.nn.LSTM(20, 64, num_layers=2, bidirectional=True))",
    "Diagnosis": "parity.diagnose(good, bad)",
    "Transfer": "parity.transfer(good, model('dense', 'rnn'))",
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the cells of a notebook show, by what they give: HTML out of a kernel of its own."""
    folder = tmp_path_factory.mktemp("jupyter")
    form: Any = nbformat.v4
    notebook = form.new_notebook(cells=[form.new_code_cell(text) for text in (SET_UP, *CELLS.values())])
    with pytest.MonkeyPatch.context() as patch:
        for name in ("JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            patch.setenv(name, str(folder / name.lower()))
        patch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
        client = NotebookClient(
            notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}
        )
        client.execute()
    nbformat.validate(notebook)
    outputs = [
        [output for output in cell.outputs if output.output_type == "execute_result"] for cell in notebook.cells[1:]
    ]
    assert [len(given) for given in outputs] == [1] * len(CELLS)
    return {name: given[0].data["text/html"] for name, given in zip(CELLS, outputs, strict=True)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


# What JupyterLab says of everything that it renders, as far as it meets a table or code.
JUPYTER = """
.host { color: VAR_TEXT; font-size: 14px; line-height: 1.6; }
.host table { border-collapse: collapse; border-spacing: 0; border: none; color: VAR_TEXT; font-size: 12px; table-layout: fixed; }
.host table { margin-left: auto; margin-right: auto; margin-bottom: 1em; }
.host td, .host th, .host tr { vertical-align: middle; padding: .5em; line-height: normal; white-space: normal; max-width: none; }
.host td, .host th, .host tr { border: none; text-align: right; }
.host th { font-weight: bold; }
.host tbody tr:nth-child(odd) { background: VAR_BACK; }
.host tbody tr:nth-child(even) { background: VAR_STRIPE; }
.host pre, .host code { border: 0; background: VAR_BACK; color: VAR_TEXT; font-size: 13px; padding: 0; }
"""
LIGHT = {"VAR_TEXT": "#212121", "VAR_BACK": "#ffffff", "VAR_STRIPE": "#f5f5f5"}
DARK = {"VAR_TEXT": "#fafafa", "VAR_BACK": "#111111", "VAR_STRIPE": "#212121"}
HOSTS: dict[str, tuple[str, bool | None]] = {
    "plain": ("", None),
    "jupyter light": ('data-jp-theme-light="true"', False),
    "jupyter dark": ('data-jp-theme-light="false"', True),
    "vscode light": ('class="vscode-light"', False),
    "vscode dark": ('class="vscode-dark"', True),
    "vscode high contrast": ('class="vscode-high-contrast"', True),
}
"""What the body says where a notebook is shown, and whether it is dark; None where the system says it."""


class Shown:
    """The outputs in a page of a browser, and what it did there."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[str] = []
        self.messages: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.messages.append(message.text))
        page.on("pageerror", lambda error: self.messages.append(str(error)))


Show = Callable[..., Shown]


@pytest.fixture
def show(drawn: dict[str, str], browser: Browser, tmp_path: Path) -> Iterator[Show]:
    """The notebook has run before the browser starts: their clients each want the event loop for themselves."""
    contexts: list[BrowserContext] = []

    def shown(host: str = "plain", scheme: Any = "light", parts: dict[str, str] | None = None) -> Shown:
        says, dark = HOSTS[host]
        style = JUPYTER
        for name, colour in (DARK if dark or (dark is None and scheme == "dark") else LIGHT).items():
            style = style.replace(name, colour)
        outputs = "\n".join(f'<div class="host" data-of="{n}">{text}</div>' for n, text in (parts or drawn).items())
        path = tmp_path / f"{len(contexts)}.html"
        head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>notebook</title><style>{style}</style>'
        path.write_text(f"{head}<body {says}>{outputs}</body></html>", encoding="utf-8")
        contexts.append(browser.new_context(viewport={"width": 1400, "height": 900}, color_scheme=scheme))
        result = Shown(contexts[-1].new_page())
        result.page.goto(path.as_uri())
        result.page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true })")
        return result

    yield shown
    for context in contexts:
        context.close()


CONTRASTS = (
    f"() => {{{CONTRAST}"
    + """
    return [...document.querySelectorAll(".parity-view *")]
        .filter(element => ownText(element) && !element.closest("style") && element.getClientRects().length)
        .map(element => [contrast(getComputedStyle(element).color, behind(element)), element.textContent.trim().slice(0, 40)]);
}"""
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("host", HOSTS)
def test_it_is_quiet_alone_and_legible_in_every_theme(show: Show, host: str, scheme: str) -> None:
    shown = show(host, scheme)
    assert shown.messages == []
    assert shown.requests == [shown.page.url]
    found = shown.page.evaluate(CONTRASTS)
    assert len(found) > 150
    assert [(round(ratio, 2), text) for ratio, text in found if ratio < 4.5] == []
    dark = (scheme == "dark") if HOSTS[host][1] is None else HOSTS[host][1]
    backs = shown.page.eval_on_selector_all(
        ".parity-view", "all => [...new Set(all.map(one => getComputedStyle(one).backgroundColor))]"
    )
    assert backs == ["rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)"]
    rows = shown.page.eval_on_selector_all(
        ".parity-view tr", "all => [...new Set(all.map(one => getComputedStyle(one).backgroundColor))]"
    )
    assert rows == ["rgba(0, 0, 0, 0)"]


def test_a_dark_notebook_is_printed_dark_on_light(show: Show) -> None:
    page = show("jupyter dark", "dark").page
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.querySelector('.parity-view')).color") == "rgb(23, 26, 30)"


CUT = """() => [...document.querySelectorAll(".parity-view, .parity-view *")]
    .filter(one => one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 0 && getComputedStyle(one).display !== "inline")
    .filter(one => getComputedStyle(one).overflowX !== "auto")
    .filter(one => !one.closest(".parity-box, pre") || getComputedStyle(one).overflowX === "hidden")
    .map(one => one.outerHTML.slice(0, 80))"""


@pytest.mark.parametrize("host", ["plain", "jupyter dark"])
def test_nothing_is_cut(show: Show, host: str) -> None:
    page = show(host).page
    for width in (390, 800, 1400):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(CUT) == []
    scrolling = page.eval_on_selector_all(
        ".parity-box", "all => all.filter(one => one.scrollWidth > one.clientWidth).map(one => one.ariaLabel)"
    )
    assert scrolling == []


def test_tables_say_what_they_are(show: Show) -> None:
    page = show().page
    count = page.locator("table").count()
    assert count >= len(CELLS) + 3
    assert page.locator("table > caption").count() == count
    assert all(page.locator("table > caption").all_inner_texts())
    assert page.locator("th:not([scope])").count() == 0
    assert page.locator("th:empty, summary:empty").count() == 0
    assert page.locator("tbody tr:not(:has(th)):not(:has(td[colspan]))").count() == 0
    assert page.locator("[id], script, img, link, iframe").count() == 0
    assert page.locator(".parity-box:not([tabindex='0']), .parity-box:not([aria-label])").count() == 0


def test_each_shows_what_it_is_about(show: Show) -> None:
    page = show().page
    text = {name: page.locator(f'[data-of="{name}"]').inner_text() for name in CELLS}
    assert "✗ disagree" in text["Comparison"]
    assert "Likely cause" in text["Comparison"]
    assert "2 layers, 225 parameters" in text["Network"]
    assert re.search(r"GRU\s+6\s+5\s+5\s+forward\s", text["Network"])
    assert "(batch, time, 4)" in text["Network"]
    assert "2 stacked layers Bidirectional(LSTM(64)) return 9 values" in text["Returns"]
    assert "c_n[3]" in text["Returns"]
    assert "layer 1, backward" in text["Returns"]
    assert "Likely cause" in text["Diagnosis"]
    assert "reset gate" in text["Diagnosis"] or "gates" in text["Diagnosis"]
    assert "✓ yes" in text["Diagnosis"]
    assert "To mend it" in text["Diagnosis"]
    assert "6 tensors written, none unused, none untouched" in text["Transfer"]
    assert "rnn.weight_hh_l0" in text["Transfer"]
    assert len(re.findall(r"\b[0-9a-f]{12}\b", text["Transfer"])) == 6


@pytest.mark.parametrize("of", ["Network", "Diagnosis", "Transfer"])
def test_hostile_names_are_text(show: Show, of: str) -> None:
    part = show().page.locator(f'[data-of="{of}"]')
    assert "\\u202e(torch) 'one' \"two\"" in part.inner_text()
    assert "\u202e" not in part.inner_text()
    if of != "Diagnosis":
        assert SCRIPT in part.inner_text()
    assert part.locator("bdi").filter(has_text="שלום").count() > 0


def test_they_are_small(drawn: dict[str, str]) -> None:
    assert {name: len(text.encode()) for name, text in drawn.items() if len(text.encode()) > 20_000} == {}
