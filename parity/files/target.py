"""Files to be written: whole or not at all, and never over an existing one unasked."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from parity.errors import ParityError

_WORTH_CARRYING = 16 * 2**20
"""Bytes: fewer are not worth a call."""


def check_target(path: Path, overwrite: bool) -> None:
    """Refuse a target that cannot be written, before any work is done for it.

    Raises:
        ParityError: a folder, a file that exists and may not be replaced, a folder that does not exist or may not be written to, or a
            name that the system does not take.
    """
    there = _is_there(path)
    if path.is_dir():
        raise ParityError("a folder, not a file", str(path), "a file name", "a folder", "give a file name in it")
    if not path.parent.is_dir():
        raise ParityError(
            "no such folder", str(path), "a folder that exists", str(path.parent), "make the folder first"
        )
    if not overwrite and there:
        raise _occupied(path)
    _check_writable(path)


def _is_there(path: Path) -> bool:
    """Whether there is anything of this name.

    Raises:
        ParityError: the system does not take the name, or does not say.
    """
    with plain_errors(path, "written"):
        try:
            path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


def _check_writable(path: Path) -> None:
    """Refuse a target in a folder that may not be written to, as far as the system tells before it is tried."""
    folder = path.absolute().parent
    if not os.access(folder, os.W_OK | os.X_OK):
        got = f"{folder} is read-only"
        remedy = "check its permissions, or name another folder"
        raise ParityError("the file cannot be written", str(path), "a folder that may be written to", got, remedy)


@contextmanager
def unfinished(path: Path, overwrite: bool) -> Iterator[Path]:
    """A path beside the target to write to; it gets the target's name when the block ends well, else it is gone.

    Raises:
        ParityError: see `check_target`.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "a.txt"
        >>> with unfinished(target, overwrite=False) as path: _ = path.write_text("whole")
        >>> target.read_text()
        'whole'
    """
    check_target(path, overwrite)
    part = path.with_name(f".{path.name[:50]}.{secrets.token_hex(6)}.part")
    try:
        yield part
        _put(part, path, overwrite)
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()


@contextmanager
def early_to_the_disk(file: BinaryIO) -> Iterator[None]:
    """While a file is written, have the system carry to the disk what is written already: else all of it waits for the end.

    Linux begins to write the pages that it is told are no longer needed, and keeps those that are not yet on the disk; elsewhere, and
    for what is no file on a disk, nothing is done.

    Args:
        file: open for writing, only grows.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryFile() as file, early_to_the_disk(file): file.write(b"whole")
        5
    """
    if sys.platform != "linux":
        yield
        return
    done = threading.Event()

    def carry() -> None:
        carried = 0
        with contextlib.suppress(OSError):
            while not done.wait(0.02):
                size = os.fstat(file.fileno()).st_size
                if size - carried >= _WORTH_CARRYING:
                    os.posix_fadvise(file.fileno(), carried, size - carried, os.POSIX_FADV_DONTNEED)
                    carried = size

    carrying = threading.Thread(target=carry, name="parity-to-the-disk", daemon=True)
    carrying.start()
    try:
        yield
    finally:
        done.set()
        carrying.join()


@contextmanager
def unfinished_folder(path: Path, overwrite: bool) -> Iterator[Path]:
    """A folder beside the target to fill; it gets the target's name when the block ends well, else it is gone.

    Args:
        path: of the folder; an empty one may be there already.
        overwrite: whether files of the same names in a folder that is there may be replaced, one by one; others in it stay.

    Raises:
        ParityError: a file, or a folder that holds something and may not be changed, or a folder above that does not exist.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "out"
        >>> with unfinished_folder(target, overwrite=False) as folder: _ = (folder / "a.txt").write_text("whole")
        >>> [file.name for file in target.iterdir()]
        ['a.txt']
    """
    check_target_folder(path, overwrite)
    part = path.with_name(f".{path.name[:50]}.{secrets.token_hex(6)}.part")
    part.mkdir()
    try:
        yield part
        if path.is_dir() and any(path.iterdir()):
            for file in part.iterdir():
                file.replace(path / file.name)
        else:
            part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def check_target_folder(path: Path, overwrite: bool) -> None:
    """Refuse a folder that cannot be written, before any work is done for it.

    Raises:
        ParityError: see `unfinished_folder`.
    """
    there = _is_there(path)
    if not path.absolute().parent.is_dir():
        raise ParityError(
            "no such folder", str(path), "a folder that exists", str(path.parent), "make the folder first"
        )
    if there and not path.is_dir():
        raise ParityError("a file, not a folder", str(path), "a folder", "a file", "give the name of a new folder")
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        remedy = (
            "--overwrite (overwrite=True in Python) replaces the files in it that have the same names, or another name"
        )
        raise ParityError(
            "the folder is there already", str(path), "a new or empty folder", "a folder with files", remedy
        )
    _check_writable(path)


def _put(part: Path, path: Path, overwrite: bool) -> None:
    """Give the finished file its name; a link, unlike a rename, fails if the name was taken in the meantime."""
    if not overwrite:
        try:
            os.link(part, path)
        except FileExistsError as error:
            raise _occupied(path) from error
        except OSError:
            if os.path.lexists(path):
                raise _occupied(path) from None
        else:
            return
    part.replace(path)


def _occupied(path: Path) -> ParityError:
    return ParityError(
        "the file is there already",
        str(path),
        "a new file",
        "an existing one",
        "--overwrite (overwrite=True in Python), or another name",
    )


@contextmanager
def plain_errors(path: Path, verb: str) -> Iterator[None]:
    """No bare OSError: the system's word about this path, as a message."""
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) and "null" not in str(error):
            raise
        got = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ParityError(
            f"the file cannot be {verb}", str(path), "", got, "check permissions, space and the name"
        ) from error
