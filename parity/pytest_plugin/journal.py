"""Comparisons on the disk as soon as they are made: those of a process that dies, or made when their test is over, are found there."""

from __future__ import annotations

import json
import os
import re
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_NAME = re.compile(r"\.session-([0-9a-f]{16})-\d+\.jsonl")


def new_token() -> str:
    """A name for a session, that its processes share."""
    return secrets.token_hex(8)


class Journal:
    """A line for every comparison of a session, in one file for each of its processes.

    Args:
        folder: of the report.
        token: of the session.

    Example:
        >>> import tempfile
        >>> journal = Journal(Path(tempfile.mkdtemp()), new_token())
        >>> journal.write({"test": "test_port.py::test_gru"})
        >>> list(journal.read())
        [{'test': 'test_port.py::test_gru'}]
    """

    def __init__(self, folder: Path, token: str) -> None:
        self._folder = folder
        self._token = token
        self._lock = threading.Lock()

    def write(self, entry: dict[str, Any]) -> None:
        """Add a line.

        Raises:
            ParityError: the folder is gone, or the system refuses.
        """
        from parity.files.target import plain_errors

        path = self._folder / f".session-{self._token}-{os.getpid()}.jsonl"
        with self._lock, plain_errors(path, "written"), path.open("a", encoding="ascii") as file:
            file.write(json.dumps(entry) + "\n")

    def read(self) -> Iterator[dict[str, Any]]:
        """What all processes of the session have written."""
        for path in self._files(own=True):
            yield from _lines(path)

    def of_others(self) -> Iterator[dict[str, Any]]:
        """What earlier sessions have written that did not come to their end."""
        for path in self._files(own=False):
            yield from _lines(path)

    def remove(self, own: bool) -> None:
        """Remove the files.

        Args:
            own: those of this session; else those of all others.
        """
        for path in self._files(own):
            path.unlink(missing_ok=True)

    def _files(self, own: bool) -> list[Path]:
        if not self._folder.is_dir():
            return []
        found = ((path, _NAME.fullmatch(path.name)) for path in sorted(self._folder.iterdir()))
        return [path for path, name in found if name is not None and (name[1] == self._token) == own]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file; where a process died as it wrote one, that is passed over."""
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return
    for line in text.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            yield found


__all__ = ["Journal", "new_token"]
