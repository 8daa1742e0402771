"""The gallery in reports/ (scripts/make_reports.py): made twice it is the same, and what is committed is what is made today."""

from __future__ import annotations

import json
import os
import platform
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
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
from gallery.differing import FLOORS, ROUNDING, differing, differing_pages
from gallery.index import INDEX, MATRIX, drawn_of, record_of
from gallery.old_file import write_old_model
from gallery.stories import PICTURED, STORIES, named
from gallery.story import GAIN, TRANSFERRED, Story, built, filled, torch_filled
from playwright.sync_api import Browser
from typer.testing import CliRunner

from parity.comparison import Comparison, compare
from parity.errors import REFUSED
from parity.frameworks import KERAS_BACKENDS
from parity.report import Record, make_record
from tests.browsing import LOOKS, WORDS, checked, inaccessible, launched, open_page, unreachable

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "reports"
SCRIPT = ROOT / "scripts" / "make_reports.py"
AGAIN = "run scripts/make_reports.py"

MADE = (PICTURED, "old-file", "transfer", "refused")
"""The reports that are made again: one with a diagnosis, one with a file, and those in which no engine has a part."""

MOST_BYTES, MOST_IN_ALL, MOST_OF_PICTURE = 150_000, 2_000_000, 120_000

PAGES = [INDEX, *(story.page for story in STORIES)]


# ---- made again


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the script makes in a process of its own, whose sets have an order of their own."""
    folder = tmp_path_factory.mktemp("deep") / "er"
    only = [word for name in MADE for word in ("--only", name)]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--out", str(folder), "--picture", *only],
        cwd=folder.parent,
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_script_makes_its_own_files_and_no_others(made: Path) -> None:
    files = {name for story in named(list(MADE)) for name in (story.page, *story.files)}
    assert {path.name for path in made.iterdir()} == {INDEX, make_reports.PICTURE, *files}


@pytest.mark.parametrize("name", [PICTURED, "old-file"])
def test_made_twice_the_bytes_are_the_same(made: Path, tmp_path: Path, name: str) -> None:
    (story,) = named([name])
    assert make_reports.make(story, tmp_path) == story.verdict
    assert [
        file for file in (story.page, *story.files) if (tmp_path / file).read_bytes() != (made / file).read_bytes()
    ] == []


def test_nothing_of_the_machine_stands_there(made: Path) -> None:
    words = [re.escape(str(folder)) for folder in (made.parent, ROOT)] + [rf"\b{re.escape(platform.node())}\b"]
    for path in made.iterdir():
        if path.suffix == ".png":
            continue
        content = path.read_bytes()
        for word in (*words, r"\b20\d\d-\d\d-\d\d\b", r"\d\d:\d\d:\d\d"):
            assert not re.search(word.encode(), content), (path.name, word)


@pytest.mark.parametrize("name", MADE)
def test_what_is_committed_is_what_is_made(made: Path, name: str) -> None:
    (story,) = named([name])
    assert differing_pages(REPORTS / story.page, made / story.page) == [], AGAIN
    for file in story.files:
        assert (REPORTS / file).read_bytes() == (made / file).read_bytes(), AGAIN


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_a_committed_page_is_what_is_drawn_of_its_record(story: Story) -> None:
    page = REPORTS / story.page
    record = record_of(page)
    if record is None:
        assert (story.verdict, story.name in MADE) == (TRANSFERRED, True), (
            "what has no record is made again, to the byte"
        )
        return
    same = drawn_of(record) == page.read_text(encoding="utf-8")
    assert same, f"{AGAIN} --redraw"


def test_the_committed_index_is_what_is_drawn(tmp_path: Path) -> None:
    for name in [*PAGES, MATRIX]:
        (tmp_path / name).symlink_to(REPORTS / name)
    (tmp_path / INDEX).unlink()
    make_reports.draw_index(tmp_path)
    same = (tmp_path / INDEX).read_text(encoding="utf-8") == (REPORTS / INDEX).read_text(encoding="utf-8")
    assert same, f"{AGAIN} --redraw"


# ---- what counts as different


def at(*place: Any) -> Callable[[Record, Any], None]:
    """What puts a value at a place of a record."""

    def put(record: Any, value: Any) -> None:
        for key in place[:-1]:
            record = record[key]
        record[place[-1]] = value(record[place[-1]]) if callable(value) else value

    return put


CHANGES: dict[str, tuple[str, Callable[[Record, Any], None], Any]] = {
    "a verdict": ("keras-to-torch", at("rows", 0, "verdict"), "disagree"),
    "the verdict": ("undecided", at("verdict"), "agree"),
    "a shape": ("keras-to-torch", at("engines", 0, "returned", 0, "shape", 0), 5),
    "a name": ("keras-to-torch", at("sources", 0, "layers", 0, "name"), "letters"),
    "a row": ("keras-to-torch", at("rows"), lambda rows: rows[:-1]),
    "a key": ("keras-to-torch", at("inputs"), lambda inputs: {**inputs, "more": 1}),
    "weights": ("keras-to-torch", at("sources", 0, "weights"), lambda digits: digits[::-1]),
    "inputs": ("undecided", at("inputs", "sha256"), lambda digits: digits[::-1]),
    "a tensor's hash": (PICTURED, at("mapping", 0, "rows", 0, "sha256"), lambda digits: digits[::-1]),
    "the floor": ("keras-to-torch", at("profile", "floor", 3), lambda floor: floor * 1.001),
    "the floor in chaos": ("undecided", at("profile", "floor", 50), lambda floor: floor * 1.001),
    "the limit": ("keras-to-torch", at("rows", 0, "limit"), 2.1),
    "the horizon": ("undecided", at("judging", "horizon"), lambda step: step + 1),
    "an error in floors": ("keras-to-torch", at("rows", 0, "times_floor"), lambda ratio: ratio + 1.1 * FLOORS),
    "an error in floors of a step": (
        "undecided",
        at("profile", "times_floor", "torch", 20),
        lambda ratio: ratio + 1.1 * FLOORS,
    ),
    "an error": ("keras-to-torch", at("rows", 0, "max_error"), lambda error: error + 2 * ROUNDING),
    "a large error": (PICTURED, at("rows", 1, "max_error"), lambda error: error * 1.01),
    "the place of a large error": (PICTURED, at("rows", 1, "place", "time"), 30),
    "what the reference has there": (PICTURED, at("rows", 1, "values", 1), lambda value: value + 1e-2),
    "the first wrong step": (PICTURED, at("rows", 1, "first_step"), 1),
    "a cause": (PICTURED, at("diagnosis", "cause"), lambda text: text.replace("z r n", "r n z")),
    "a count in a sentence": ("keras-to-torch", at("sentence"), lambda text: text.replace("x 24 steps", "x 25 steps")),
    "a number in a sentence": (
        "keras-to-torch",
        at("sentence"),
        lambda text: re.sub(r"0\.\d+ times", "1.99 times", text),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_told(change: str) -> None:
    name, put, value = CHANGES[change]
    kept = record_of(REPORTS / f"{name}.html")
    assert kept is not None
    changed = json.loads(json.dumps(kept))  # equal parts are one object in a record that is read
    put(changed, value)
    assert differing(kept, kept) == []
    assert len(differing(kept, changed)) == 1
    assert len(differing(changed, kept)) == 1


ROUNDED: dict[str, tuple[str, Callable[[Record, Any], None], Any]] = {
    "torch of another version": ("keras-to-torch", at("environment", "packages", "torch"), "9.9"),
    "the threads": ("keras-to-torch", at("engines", 1, "settings", "threads"), "2"),
    "an error in floors": ("keras-to-torch", at("rows", 0, "times_floor"), lambda ratio: ratio + 0.2),
    "an error": ("keras-to-torch", at("rows", 0, "max_error"), lambda error: error + 1e-7),
    "an error in chaos": ("undecided", at("rows", 0, "max_error"), lambda error: error + 0.3),
    "where rounding is largest": ("keras-to-torch", at("rows", 0, "worst"), {"batch": 0, "unit": 1}),
    "the sentence": ("keras-to-torch", at("sentence"), lambda text: re.sub(r"0\.\d+ times", "0.41 times", text)),
}


@pytest.mark.parametrize("change", ROUNDED)
def test_what_other_kernels_do_is_no_difference(change: str) -> None:
    name, put, value = ROUNDED[change]
    kept = record_of(REPORTS / f"{name}.html")
    assert kept is not None
    changed = json.loads(json.dumps(kept))  # equal parts are one object in a record that is read
    put(changed, value)
    assert changed != kept
    assert differing(kept, changed) == []


# ---- what the stories tell


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_a_report_says_what_its_story_tells(story: Story) -> None:
    assert 2 <= len(re.findall(r"[.?](?: |$)", story.text)) <= 4
    record = record_of(REPORTS / story.page)
    if record is None:
        assert story.verdict == TRANSFERRED
        return
    assert record["verdict"] == story.verdict
    if story.verdict != REFUSED:
        assert {engine["engine"] for engine in record["engines"]} >= {"torch", "reference"}
        assert not record["failures"]


def told(name: str) -> Any:
    """The record of a committed report."""
    record = record_of(REPORTS / f"{name}.html")
    assert record is not None
    return record


def test_the_cause_is_named_with_its_repair() -> None:
    port, layer = (told(name)["diagnosis"] for name in ("wrong-port", "one-wrong-layer"))
    assert "in the order z r n" in port["cause"]
    assert "torch.cat([r, z, n]" in port["repair"]
    assert layer["first_layer"] == "norm"
    assert "epsilon" in layer["cause"]
    assert port["found"]
    assert layer["found"]


def test_probes_tell_what_no_hypothesis_explains() -> None:
    found = told("looks-ahead")["diagnosis"]
    assert not found["found"]
    assert "state carried over" in found["ruled_out"]
    assert sum(probe["differs"] for probe in found["probes"]) == 3
    assert any("behind a step" in probe["meaning"] for probe in found["probes"])


def test_every_backend_of_keras_stands_beside_the_others() -> None:
    engines = {engine["engine"]: engine["settings"] for engine in told("backends")["engines"]}
    backends = {name: engines[name]["backend"].split()[0] for name in KERAS_BACKENDS}
    assert backends == KERAS_BACKENDS
    assert "torch" in engines


def test_the_layers_of_a_whole_model_are_no_stack() -> None:
    returned = told("whole-model")["conventions"]
    assert [layer["names"] for layer in returned] == [["encoder"], ["decoder"]]
    assert all(value["shape"][1:2] in (["time"], [8]) for layer in returned for value in layer["keras"])


def test_a_transfer_tells_what_is_left() -> None:
    page = (REPORTS / "transfer.html").read_text(encoding="utf-8")
    assert "<h1" in page
    for name in ("next_word/kernel", "next_word/bias", "tag.weight", "tag.bias"):
        assert name in page
    assert (page.count("unused</b>"), page.count("unwritten</b>")) >= (2, 2)


def test_all_that_is_refused_is_told_at_once() -> None:
    problems = told("refused")["problems"]
    assert [problem["where"] for problem in problems] == ["layer 'emphasis' (Emphasis)", "layer 'last' (Lambda)"]
    assert all(problem["remedy"] for problem in problems)


def test_no_keras_of_today_loads_the_old_file(tmp_path: Path) -> None:
    path = write_old_model(tmp_path / "old.h5")
    with pytest.raises(TypeError, match="pop"):  # it expects a dict where Keras 1 had a list
        keras.models.load_model(path)


def test_weights_are_of_a_seed_and_none_is_zero() -> None:
    layer, again, other = (built(keras.layers.GRU(4), 3, seed) for seed in (1, 1, 2))
    for one, same, another in zip(layer.get_weights(), again.get_weights(), other.get_weights(), strict=True):
        assert np.array_equal(one, same)
        assert not np.isin(one, another).any()
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
def test_a_page_is_quiet_whole_and_reachable(browser: Browser, name: str) -> None:
    shown = open_page(browser, REPORTS / name)
    assert "parity" in shown.page.title()
    assert checked(shown.page, (*LOOKS, *WORDS)) == []
    assert unreachable(shown.page) == []
    assert inaccessible(shown.page, contrast=False) == []  # LOOKS has the contrast of every text
    shown.page.set_viewport_size({"width": 390, "height": 900})
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert shown.messages == []
    assert shown.foreign == []
    shown.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", [INDEX, "returns-lstm.html", f"{PICTURED}.html", "undecided.html", "refused.html"])
def test_every_verdict_is_legible_at_every_width(browser: Browser, name: str, scheme: str) -> None:
    shown = open_page(browser, REPORTS / name, scheme=scheme)
    for width in (1400, 800, 390):
        shown.page.set_viewport_size({"width": width, "height": 900})
        assert checked(shown.page, LOOKS) == [], width
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
    compared = stories.STORIES[0].make()
    assert isinstance(compared, Comparison)
    assert made == json.loads(json.dumps(make_record(compared)))
    page.write_text(text.replace("<h1", "<h1 class='old'"), encoding="utf-8")
    done = run("--out", tmp_path, "--redraw")
    assert done.exit_code == 0, done.stderr
    assert page.read_text(encoding="utf-8") == text
    assert {path.name for path in tmp_path.iterdir()} == {INDEX, "padding.html"}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.usefixtures("quick")
def test_a_gallery_is_checked_and_nothing_is_written(tmp_path: Path) -> None:
    only = ("--only", "padding", "--out", tmp_path)
    assert run(*only).exit_code == 0
    before = contents(tmp_path)
    done = run(*only, "--check")
    assert (done.exit_code, done.stdout.splitlines()) == (0, ["padding.html: same", "index.html: same"])
    assert contents(tmp_path) == before

    page = tmp_path / "padding.html"
    text = page.read_text(encoding="utf-8")
    for tampered, said in (
        (text.replace('"time":17', '"time":18'), "time: 18, made again 17"),
        (text.replace("<h1", "<h1 class='mine'"), "is not what is drawn of the record in it"),
    ):
        assert tampered != text
        page.write_text(tampered, encoding="utf-8")
        done = run(*only, "--check")
        assert (done.exit_code, "padding.html: differs" in done.stdout, said in done.stdout) == (1, True, True), (
            done.stdout
        )
        assert page.read_text(encoding="utf-8") == tampered
    page.unlink()
    done = run(*only, "--check")
    assert (done.exit_code, "is not there" in done.stdout, "index.html: differs" in done.stdout) == (1, True, True)


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


def test_the_picture_is_taken_anew(made: Path) -> None:
    content = (made / make_reports.PICTURE).read_bytes()
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
