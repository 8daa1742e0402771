"""The gallery in reports/ (scripts/make_reports.py): made twice it is the same, and what is committed is what is made today."""

from __future__ import annotations

import json
import os
import platform
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import make_reports
import numpy as np
import pytest
import torch
import typer
from gallery import picture, stories
from gallery.index import INDEX, MATRIX, record_of
from gallery.old_file import write_old_model
from gallery.stories import PICTURED, STORIES, named
from gallery.story import GAIN, Story, built, filled, torch_filled
from playwright.sync_api import Browser
from typer.testing import CliRunner

from parity.comparison import compare
from parity.report import make_record, render_record
from tests.browsing import LOOKS, WORDS, checked, inaccessible, launched, open_page, unreachable

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "reports"
SCRIPT = ROOT / "scripts" / "make_reports.py"
AGAIN = "run scripts/make_reports.py"

MADE = (PICTURED, "old-file")
"""The reports that are made again: one with a diagnosis, one with a file."""

MOST_BYTES, MOST_IN_ALL, MOST_OF_PICTURE = 150_000, 2_000_000, 120_000

PAGES = [INDEX, *(story.page for story in STORIES)]


# ---- made again


def made_in(folder: Path, seed: int) -> subprocess.Popen[str]:
    """The script in a process of its own, whose sets have an order of their own."""
    only = [word for name in MADE for word in ("--only", name)]
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), "--out", str(folder), "--picture", *only],
        cwd=folder.parent,
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same reports from two processes in two folders."""
    folders = tmp_path_factory.mktemp("one") / "gallery", tmp_path_factory.mktemp("another") / "deep" / "er"
    folders[1].parent.mkdir()
    processes = [made_in(folder, seed) for seed, folder in enumerate(folders, 1)]
    said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    return folders


def test_made_twice_the_bytes_are_the_same(made: tuple[Path, Path]) -> None:
    own = {path.name: path.read_bytes() for path in made[0].iterdir()}
    again = {path.name: path.read_bytes() for path in made[1].iterdir()}
    files = {name for story in named(list(MADE)) for name in (story.page, *story.files)}
    assert set(own) == set(again) == {INDEX, make_reports.PICTURE, *files}
    assert [name for name in own if own[name] != again[name]] == []


def test_nothing_of_the_machine_stands_there(made: tuple[Path, Path]) -> None:
    words = [re.escape(str(folder)) for folder in (made[1].parent, ROOT)] + [rf"\b{re.escape(platform.node())}\b"]
    for path in made[1].iterdir():
        if path.suffix == ".png":
            continue
        content = path.read_bytes()
        for word in (*words, r"\b20\d\d-\d\d-\d\d\b", r"\d\d:\d\d:\d\d"):
            assert not re.search(word.encode(), content), (path.name, word)


ENVIRONMENT = {"environment", "settings", "details"}
MEASURED = {"profile", "map", "distribution", "place", "worst", "values", "outside", "first_step", "evidence"}
NUMBER = re.compile(r"\d[\d.]*(?:e[+-]?\d+)?")


def known(value: Any) -> Any:
    """What a record says but for the environment and for what was measured, which other machines may round in another way."""
    if isinstance(value, dict):
        return {key: known(item) for key, item in value.items() if key not in ENVIRONMENT | MEASURED}
    if isinstance(value, list):
        return [known(item) for item in value]
    if isinstance(value, str):
        # Hashes of weights and inputs are no measurements.
        return value if re.fullmatch("[0-9a-f]{32,}", value) else NUMBER.sub("#", value)
    return "measured" if isinstance(value, float) else value


@pytest.mark.parametrize("name", MADE)
def test_what_is_committed_is_what_is_made(made: tuple[Path, Path], name: str) -> None:
    (story,) = named([name])
    committed, now = (record_of(folder / story.page) for folder in (REPORTS, made[0]))
    assert known(committed) == known(now), AGAIN
    assert len(str(known(now))) > 0.3 * len(str(now)), "what is left says hardly anything"
    for one, other in zip(committed["rows"], now["rows"], strict=True):
        assert (one["verdict"], one["limit"]) == (other["verdict"], other["limit"])
    for file in story.files:
        assert (REPORTS / file).read_bytes() == (made[0] / file).read_bytes(), AGAIN


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_a_committed_page_is_what_is_drawn_of_its_record(story: Story) -> None:
    page = REPORTS / story.page
    same = render_record(record_of(page)) == page.read_text(encoding="utf-8")
    assert same, f"{AGAIN} --redraw"


def test_the_committed_index_is_what_is_drawn(tmp_path: Path) -> None:
    for name in [*PAGES, MATRIX]:
        (tmp_path / name).symlink_to(REPORTS / name)
    (tmp_path / INDEX).unlink()
    make_reports.draw_index(tmp_path)
    same = (tmp_path / INDEX).read_text(encoding="utf-8") == (REPORTS / INDEX).read_text(encoding="utf-8")
    assert same, f"{AGAIN} --redraw"


# ---- what the stories tell


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_a_report_says_what_its_story_tells(story: Story) -> None:
    record = record_of(REPORTS / story.page)
    assert record["verdict"] == story.verdict
    assert {engine["engine"] for engine in record["engines"]} >= {"keras", "torch", "reference"}
    assert not record["failures"]
    assert 2 <= len(re.findall(r"[.?](?: |$)", story.text)) <= 4


def test_the_cause_is_named_with_its_repair() -> None:
    port, layer = (record_of(REPORTS / f"{name}.html")["diagnosis"] for name in ("wrong-port", "one-wrong-layer"))
    assert "in the order z r n" in port["cause"]
    assert "torch.cat([r, z, n]" in port["repair"]
    assert layer["first_layer"] == "norm"
    assert "epsilon" in layer["cause"]
    assert port["found"]
    assert layer["found"]


def test_no_keras_of_today_loads_the_old_file(tmp_path: Path) -> None:
    path = write_old_model(tmp_path / "old.h5")
    with pytest.raises(TypeError, match="pop"):  # it expects a dict where Keras 1 had a list
        keras.models.load_model(path)


def test_weights_are_of_a_seed_and_none_is_zero() -> None:
    layer, again, other = (built(keras.layers.GRU(4), 3, seed) for seed in (1, 1, 2))
    for one, same, differing in zip(layer.get_weights(), again.get_weights(), other.get_weights(), strict=True):
        assert np.array_equal(one, same)
        assert not np.isin(one, differing).any()
        assert one.all()
    norm = filled(built(keras.layers.BatchNormalization(), 3, 1), 5)
    assert (norm.gamma.numpy() > 0).all()
    assert (norm.moving_variance.numpy() > 0).all()
    module, spread = torch_filled(torch.nn.LSTM(3, 40), 1), torch_filled(torch.nn.LSTM(3, 40), 1, gain=8.0)
    assert all(parameter.all() for parameter in module.parameters())
    torch.testing.assert_close(spread.weight_hh_l0 * GAIN, module.weight_hh_l0 * 8)
    assert torch.equal(spread.weight_ih_l0, module.weight_ih_l0)


# ---- the index


def links(page: Path) -> list[str]:
    return re.findall(r'href="([^"#:]+)(?:#[^"]*)?"', page.read_text(encoding="utf-8"))


def test_the_index_lists_every_file_and_every_file_is_there() -> None:
    listed = set(links(REPORTS / INDEX))
    assert listed == {MATRIX, *(name for story in STORIES for name in (story.page, *story.files))}
    assert [name for name in listed if not (REPORTS / name).is_file()] == []
    demo = {path.name for path in REPORTS.glob("sunspots.*")}
    own = {INDEX, "README.md", "matrix.json", make_reports.PICTURE}
    assert {path.name for path in REPORTS.iterdir()} - demo == listed | own


def test_every_address_in_the_index_is_there() -> None:
    for name, part in re.findall(r'href="([^"#:]+)#([^"]+)"', (REPORTS / INDEX).read_text(encoding="utf-8")):
        assert f'id="{part}"' in (REPORTS / name).read_text(encoding="utf-8"), (name, part)


def test_the_gallery_is_small() -> None:
    sizes = {name: (REPORTS / name).stat().st_size for name in PAGES}
    assert {name: size for name, size in sizes.items() if size > MOST_BYTES} == {}
    assert sum(sizes.values()) + (REPORTS / make_reports.PICTURE).stat().st_size < MOST_IN_ALL


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as found:
        yield found


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_quiet_and_alone(browser: Browser, name: str) -> None:
    shown = open_page(browser, REPORTS / name)
    assert shown.messages == []
    assert shown.foreign == []
    assert "parity" in shown.page.title()
    for width in (1400, 390):
        shown.page.set_viewport_size({"width": width, "height": 900})
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
    shown.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_index_is_legible_and_reachable(browser: Browser, scheme: str) -> None:
    shown = open_page(browser, REPORTS / INDEX, scheme=scheme)
    for width in (1400, 800, 390):
        shown.page.set_viewport_size({"width": width, "height": 900})
        assert checked(shown.page, LOOKS) == []
    assert checked(shown.page, WORDS) == []
    assert unreachable(shown.page) == []
    assert inaccessible(shown.page) == []
    shown.context.close()


# ---- the script


def run(*arguments: object) -> Any:
    app = typer.Typer()
    app.command()(make_reports.main)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stories whose comparison is the same small one, made in a moment."""

    def small() -> Any:
        torch.manual_seed(0)
        return compare(torch.nn.GRU(2, 3), engines=["torch"])

    changed = tuple(replace(story, make=small, files=(), verdict="agree") for story in STORIES)
    monkeypatch.setattr(stories, "STORIES", changed)
    monkeypatch.setattr(make_reports, "STORIES", changed)


@pytest.mark.usefixtures("quick")
def test_one_report_is_made_and_the_index_lists_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    assert run("--only", "padding", "--out", folder).exit_code == 0
    assert {path.name for path in folder.iterdir()} == {INDEX, "padding.html"}
    assert set(links(folder / INDEX)) == {"padding.html"}
    done = run("--only", "undecided", "--only", "padding", "--out", folder)
    assert (done.exit_code, "undecided.html" in done.stdout) == (0, True)
    assert links(folder / INDEX)[0] == "padding.html"
    assert set(links(folder / INDEX)) == {"padding.html", "undecided.html"}


@pytest.mark.usefixtures("quick")
def test_what_the_script_did_not_write_is_kept(tmp_path: Path) -> None:
    for name in (INDEX, "padding.html", "mine.html"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    done = run("--out", tmp_path)
    assert done.exit_code == 2
    assert "index.html, padding.html" in " ".join(done.stderr.split())
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == {
        name: name for name in (INDEX, "padding.html", "mine.html")
    }
    (tmp_path / INDEX).unlink()
    (tmp_path / "padding.html").unlink()
    assert run("--out", tmp_path, "--only", "padding").exit_code == 0
    assert (tmp_path / "mine.html").read_text(encoding="utf-8") == "mine.html"
    assert run("--out", tmp_path, "--only", "padding").exit_code == 0, "its own files are made anew"


@pytest.mark.usefixtures("quick")
def test_pages_are_drawn_anew_without_a_run(tmp_path: Path) -> None:
    assert run("--out", tmp_path, "--only", "padding").exit_code == 0
    page = tmp_path / "padding.html"
    text = page.read_text(encoding="utf-8")
    made = record_of(page)
    assert made == json.loads(json.dumps(make_record(stories.STORIES[0].make())))
    page.write_text(text.replace("<h1", "<h1 class='old'"), encoding="utf-8")
    done = run("--out", tmp_path, "--redraw")
    assert done.exit_code == 0, done.stderr
    assert page.read_text(encoding="utf-8") == text
    assert {path.name for path in tmp_path.iterdir()} == {INDEX, "padding.html"}


@pytest.mark.usefixtures("quick")
def test_another_verdict_than_told_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = tuple(replace(story, verdict="disagree") for story in stories.STORIES)
    monkeypatch.setattr(stories, "STORIES", wrong)
    done = run("--only", "padding", "--out", tmp_path / "new")
    assert (done.exit_code, "agree, not disagree" in done.stdout) == (1, True)


def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    done = run("--only", "nothing", "--out", tmp_path / "new")
    assert done.exit_code == 2
    assert "wrong-port" in done.stderr
    assert not (tmp_path / "new").exists()


# ---- the picture


def size_of(png: bytes) -> tuple[int, int]:
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_the_picture_is_as_wide_as_a_window_and_small() -> None:
    content = (REPORTS / make_reports.PICTURE).read_bytes()
    width, height = size_of(content)
    assert width == picture.WIDTH
    assert 600 < height < 1600, "the first part of a report, and no more"
    assert len(content) <= MOST_OF_PICTURE


def test_the_picture_is_taken_anew(made: tuple[Path, Path]) -> None:
    content = (made[0] / make_reports.PICTURE).read_bytes()
    assert content.startswith(b"\x89PNG")
    start = content.index(b"PLTE") + 4
    (length,) = struct.unpack(">I", content[start - 8 : start - 4])
    palette = {content[place : place + 3].hex() for place in range(start, start + length, 3)}
    assert {"ffffff", "b3201f"} <= palette, "the page is white, and its verdict red"


def test_colours_that_are_seen_most_are_kept() -> None:
    random = np.random.default_rng(1)
    pixels = random.integers(0, 256, (60, 70, 3)).astype(np.uint8)
    pixels[20:] = (12, 34, 56)
    png = picture.with_palette(pixels)
    assert bytes([12, 34, 56]) in png
    assert size_of(png) == (70, 60)
