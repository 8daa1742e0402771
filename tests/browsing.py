"""A real browser for the tests: pages as people see them, and what is wrong with how they look."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, sync_playwright

from tests.legibility import CONTRAST

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
LOOKS = ("overlaps", "cuts", "leaks", "faint", "ragged", "stuck")
"""Checks of tests/browsing.js that depend on how wide a page is and on its colours."""
WORDS = ("addresses", "turning", "typefaces", "sizes")
"""Checks that do not."""
A4 = 703
"""How wide the text of an A4 page is, in CSS pixels: 210 mm less the margins of the style sheet."""
A4_LANDSCAPE = 1031

_SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
_RULES = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "reporter": "no-passes",
    "preload": False,  # no style sheet comes from elsewhere
}


@contextmanager
def launched() -> Iterator[Browser]:
    """The browser of this machine; skips where there is none, and fails in CI."""
    executable = next((path for name in NAMES if (path := shutil.which(name))), None)
    if executable is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no browser: none of {', '.join(NAMES)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu", *QUIET])
        yield browser
        browser.close()


@dataclass
class Shown:
    """A page in the browser, and what it did there."""

    page: Page
    context: BrowserContext
    requests: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    @property
    def foreign(self) -> list[str]:
        """Requests for anything but the page itself."""
        own = self.page.url.partition("#")[0]
        return [url for url in self.requests if url != own and not url.startswith("data:")]


def open_page(browser: Browser, path: Path, width: int = 1400, scheme: Any = "light", script: bool = True) -> Shown:
    """A page in a context of its own, watched from the start."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        java_script_enabled=script,
        reduced_motion="reduce",
    )
    shown = Shown(context.new_page(), context)

    def refuse(dialog: Dialog) -> None:
        shown.messages.append(dialog.message)
        dialog.dismiss()

    shown.page.on("request", lambda request: shown.requests.append(request.url))
    shown.page.on("console", lambda message: shown.messages.append(message.text))
    shown.page.on("pageerror", lambda error: shown.messages.append(str(error)))
    shown.page.on("dialog", refuse)
    shown.page.goto(path.as_uri())
    return shown


def checked(page: Page, names: Sequence[str]) -> list[str]:
    """What checks of tests/browsing.js find: sentences, none where all is well."""
    calls = ", ".join(f"...{name}()" for name in names)
    found: list[str] = page.evaluate(f"() => {{ {CONTRAST} {_SCRIPT} return [{calls}]; }}")
    return found


def inaccessible(page: Page, contrast: bool = True) -> list[str]:
    """The rules of accessibility that axe-core finds broken.

    Args:
        page: as it is laid out now.
        contrast: also the contrast of colours, which takes longer than all the other rules.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(Axe().axe_script)
    options = {**_RULES, "rules": {"color-contrast": {"enabled": contrast}}}
    violations = page.evaluate("options => axe.run(options).then(found => found.violations)", options)
    return [
        f"{rule['id']}: {', '.join(' '.join(map(str, node['target'])) for node in rule['nodes'])}"
        for rule in violations
    ]


def unreachable(page: Page) -> list[str]:
    """Controls that the Tab key does not reach one after the other, or that do not show that it has reached them."""
    count: int = page.evaluate(f"() => {{ {CONTRAST} {_SCRIPT} return controls().length; }}")
    page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    reached, wrong = [], []
    for _ in range(count):
        page.keyboard.press("Tab")
        place, problems = page.evaluate(f"() => {{ {CONTRAST} {_SCRIPT} return focused(); }}")
        reached.append(place)
        wrong += problems
    if reached != list(range(count)):
        wrong.append(f"Tab goes to {reached}, of {count} controls")
    return wrong


__all__ = [
    "A4",
    "A4_LANDSCAPE",
    "LOOKS",
    "WORDS",
    "Shown",
    "checked",
    "inaccessible",
    "launched",
    "open_page",
    "unreachable",
]
