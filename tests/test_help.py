"""`parity --help` and the help of every command: pages with examples that work, groups of options, exit codes."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from parity.cli import app, main
from parity.cli.page import examples, parts
from parity.cli.pages import PAGES, WHOLE
from tests.readme_blocks import make_files

ALL = {"": WHOLE, **PAGES}
WRONG = ("port.onnx", "recorded.npz", "checkpoint.pt --layer")
"""Files that differ from model.keras: what compares them ends with exit code 1."""


def _shown(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    assert not stop.value.code
    return capsys.readouterr().out


@pytest.mark.parametrize("command", ALL)
@pytest.mark.parametrize("columns", [80, 120])
def test_a_page(
    command: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    page = _shown(command, capsys)
    usage, sentence, *_ = page.split("\n\n")
    assert usage.startswith(f"Usage: parity {command}".rstrip())
    assert re.match(r"[A-Z][^.]*\.( |$)", sentence.replace("\n", " "))
    assert max(map(len, page.splitlines())) <= columns
    assert page.isascii(), "no frames, and no colours where the output is no terminal"
    titles = re.findall(r"^(\w.*):\n  ", page, re.MULTILINE)
    assert titles[0] == "Examples"
    assert titles[-1] == "Exit codes"
    assert len(titles) == len(set(titles))


def test_a_wide_page_has_fewer_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = []
    for columns in (80, 120):
        monkeypatch.setenv("COLUMNS", str(columns))
        lines.append(len(_shown("compare", capsys).splitlines()))
    assert lines[1] < lines[0]


def test_every_command_has_a_page_with_two_to_five_examples() -> None:
    commands = getattr(get_command(app), "commands", {})
    assert list(commands) == list(PAGES)
    for name, text in PAGES.items():
        assert 2 <= len(examples(text)) <= 5
        assert any(example.startswith(f"parity {name} ") for example in examples(text))
        assert set(parts(text)[1]) == {"Examples", "Exit codes"}


def test_every_option_is_in_a_group_and_said() -> None:
    for command in getattr(get_command(app), "commands", {}).values():
        for parameter in command.params:
            assert parameter.help, (command.name, parameter.name)
            if parameter.param_type_name == "option":
                assert isinstance(parameter.rich_help_panel, str), (command.name, parameter.name)


def test_the_examples_work(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    make_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    done: set[str] = set()
    for text in ALL.values():
        for command in examples(text):
            if command in done:
                continue
            words = shlex.split(command)
            before = {path.name for path in tmp_path.iterdir()}
            with pytest.raises(SystemExit) as stop:
                main([*words[1:], *_over(words, before)])
            out, err = capsys.readouterr()
            assert words[0] == "parity"
            assert int(stop.value.code or 0) == any(file in command for file in WRONG), (command, out, err)
            done.add(command)


def _over(words: list[str], there: set[str]) -> list[str]:
    """Another page's example may have written the same file."""
    places = [3] if words[1] == "convert" else []
    places += [
        place + 1 for place, word in enumerate(words) if word in ("--json", "--report", "-o") and words[1] != "inspect"
    ]
    return ["--overwrite"] if any(words[place] in there for place in places) else []


def test_a_wrong_option_shows_how_to_call(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["explain", "--nope"])
    err = capsys.readouterr().err
    assert err.startswith("Usage: parity explain [OPTIONS] [SOURCE]\n")
    assert "parity explain --help" in err


def test_help_imports_neither_numpy_nor_rich() -> None:
    code = (
        "import sys\nfrom parity.cli import main\ntry:\n    main(['compare', '--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit(', '.join({'numpy', 'rich.panel', 'rich.table'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
