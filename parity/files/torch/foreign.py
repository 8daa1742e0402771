"""What a file under torch's suffix is, where torch did not write it: said by name, with the suffix to give."""

from __future__ import annotations

import io
from pathlib import Path

from parity.errors import FormatError, ParityError, UnsupportedError
from parity.files.archive import FETCH_ANEW, Archive
from parity.files.kinds import ZIP, kind_of_members, kind_of_start
from parity.files.torch.rebuild import SAVE_STATE
from parity.files.torch.unpickling import Interpreter, placed

_EXPECTED = "a file of torch.save, torch.jit.save or torch.export.save"
_MOST_PICKLE = 1 << 22


def foreign_bytes(path: Path, start: bytes) -> ParityError | None:
    """What is wrong with a file that starts so and is no zip of torch; None for a zip.

    Args:
        path: of the file.
        start: its first 512 bytes.

    Example:
        >>> print(foreign_bytes(Path("a.pt"), b"\\x89HDF\\r\\n\\x1a\\n").problems[0].got)
        an HDF5 file, as Keras writes them
    """
    if start.startswith(ZIP):
        return None
    if start[257:262] == b"ustar":
        remedy = f"if torch 0.1 wrote it, load it in torch, weights_only=False, and {SAVE_STATE}; else unpack it first"
        return UnsupportedError(
            "the tar format of torch 0.1 is not read", str(path), _EXPECTED, "a tar archive", remedy
        )
    kind = kind_of_start(start)
    if kind is not None:
        return _other(path, kind.what, kind.remedy)
    if start[:1] == b"\x80" and start[1:2] in b"\2\3\4\5":
        return _bare_pickle(path)
    return _other(path, "of no known kind, or not a zip archive because it is cut at the front", FETCH_ANEW)


def foreign_members(archive: Archive) -> FormatError | None:
    """What is wrong with a zip that torch did not write; None where nothing is seen."""
    kind = kind_of_members(archive.names)
    if kind is None or ".pt" in kind.suffixes:
        return None
    return _other(archive.path, kind.what, kind.remedy)


def _other(path: Path, what: str, remedy: str) -> FormatError:
    return FormatError(f"{path.name} is not a file of torch", str(path), _EXPECTED, what, remedy)


def _bare_pickle(path: Path) -> ParityError:
    """A pickle that torch.save did not write: what it wants to call, if it does."""
    with path.open("rb") as file:
        content = file.read(min(path.stat().st_size, _MOST_PICKLE))
    try:
        Interpreter(io.BytesIO(content)).load()
    except UnsupportedError as error:
        return placed(error, path)
    except FormatError as error:
        if "not run" in str(error) or "not made" in str(error):
            return placed(error, path)
    return _other(path, "a pickle that torch.save did not write", f"load it in Python and {SAVE_STATE}")
