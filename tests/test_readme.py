"""The README is true: its blocks run in order, its links lead somewhere, its tables are what the code and the grid say."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import pytest

from parity.cli import main
from parity.diagnosis import faults
from parity.graph.custom import CUSTOM
from tests.readme_blocks import INSTALLING, KINDS, NOT_RUN, README, ROOT, Block, blocks, make_files

_NUMBER = re.compile(r"\d[\d.]*(e[+-]\d+)?")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The files that the README speaks of; what its blocks change in this process is put back."""
    keras.backend.clear_session()  # which counts the layers of a kind that have no name of their own
    make_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(faults, "FAMILIES", faults.FAMILIES)
    registered = dict(CUSTOM)
    yield tmp_path
    sys.modules.pop("model", None)
    own = keras.saving.get_custom_objects()
    for name in [name for name in own if name.endswith("AttentionWeightedAverage")]:
        del own[name]
    CUSTOM.clear()
    CUSTOM.update(registered)


def test_every_block_is_run_or_marked() -> None:
    found = list(blocks())
    assert len(found) >= 20
    for block in found:
        assert block.kind in KINDS, f"line {block.line}: the tests know no block of '{block.kind}'"
        installs = [command.startswith(INSTALLING) for command in block.commands if block.kind == "sh"]
        assert all(installs) if not block.run else not any(installs), f"line {block.line}: {NOT_RUN}"
        assert block.run or block.kind == "sh", f"line {block.line}: only what installs is not run"
    assert README.count(NOT_RUN) == sum(not block.run for block in found)


def test_blocks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {"__name__": "readme"}
    printed = ""
    for block in blocks():
        if not block.run:
            continue
        if block.kind == "python":
            capsys.readouterr()
            exec(compile(block.text, f"README.md, block of line {block.line}", "exec"), names)
            out = capsys.readouterr().out
            assert all(words in out for words in _printed(block.text)), f"line {block.line}: {out}"
        elif block.kind == "text":
            assert _NUMBER.sub("#", block.text) in _NUMBER.sub("#", printed), f"line {block.line}: {printed}"
        elif block.kind == "py":
            written = [path.read_text(encoding="utf-8") for path in folder.glob("*/model.py")]
            assert any(block.text in text for text in written), f"line {block.line}: in no model.py"
        for command in block.commands if block.kind in ("sh", "yaml") else []:
            printed = _run(command, block, folder, capsys)
    assert (folder / "report.html").exists()


def _printed(code: str) -> list[str]:
    """What comments say that a block prints: lines below a call of print, or behind it what ends in three dots."""
    below = re.findall(r"^print\(.*\n((?:# .*\n)+)", code, re.MULTILINE)
    behind = re.findall(r"^print\(.*\)  # (.*) \.\.\.$", code, re.MULTILINE)
    return [*behind, *(line.removeprefix("# ") for lines in below for line in lines.splitlines())]


def _run(command: str, block: Block, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command prints; its exit code is 0, or what the comment behind it says."""
    words = shlex.split(command, comments=True)
    said = re.search(r"#.*exit code (\d)", command)
    if command.startswith(INSTALLING):
        assert block.kind == "yaml"  # the step of the workflow that installs
        return ""
    if words[0] == "pytest":
        return _pytest(words[1:], folder)
    assert words[0] == "parity", f"line {block.line}: the tests cannot run '{command}'"
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(words[1:])
    out, err = capsys.readouterr()
    assert int(stop.value.code or 0) == (int(said[1]) if said else 0), (command, out, err)
    return out


def _pytest(arguments: list[str], folder: Path) -> str:
    """pytest on the test in the README, in a process of its own."""
    tests = [block.text for block in blocks() if "\ndef test_" in block.text]
    (folder / "test_port.py").write_text("import parity\n\n" + "\n".join(tests), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "compared" / "index.html").exists()
    return done.stdout


def _anchor(heading: str) -> str:
    """The address that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_links_lead_somewhere() -> None:
    anchors = [_anchor(heading) for heading in re.findall(r"^#+ (.*)$", README, re.MULTILINE)]
    text = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = link.partition("#")
        if path:
            assert "://" in link or (ROOT / path).exists(), link
        else:
            assert anchor in anchors, link


def test_tables_are_up_to_date() -> None:
    import tables

    assert tables.written(README) == README, "run scripts/tables.py"


def test_a_stale_table_is_seen() -> None:
    import tables

    assert tables.written(README.replace("configurations, each run", "configurations, some run")) == README
    with pytest.raises(SystemExit, match="once each"):
        tables.written(README.replace("<!-- end of grid -->", ""))


def test_the_how_tos_name_what_there_is() -> None:
    section = README.split("\n## How to add\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", section, re.MULTILINE)
    assert len(rows) >= 14
    for files, words in rows:
        paths = [ROOT / name for name in re.findall(r"`([\w/.]+)`", files)]
        assert paths
        assert all(path.exists() for path in paths), files
        sources = "\n".join(_source(path) for path in paths)
        for name in re.findall(r"`([\w/.]+)`", words):
            found = (ROOT / name).exists() or re.search(rf"\b{re.escape(name)}\b", sources)
            assert found, f"{name} is not in {files}"


def _source(path: Path) -> str:
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)
