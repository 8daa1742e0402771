"""The process that opens mutants: it says what became of each, and ends if one crashes it."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
import tracemalloc
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fuzzing.mutations import mutated

_FORBIDDEN = (
    "os.system",
    "subprocess.Popen",
    "os.exec",
    "os.posix_spawn",
    "socket.connect",
    "ctypes.dlopen",
    "os.remove",
    "os.rename",
)
_WRITE_MODES = set("wax+")
_MEASURED = 16
"""Memory is measured for one mutant in so many: it takes time."""
_MARGIN = 4 << 20
"""Python's own objects: messages, a parsed header of a small file, modules that are imported on the way."""


def serve(pipe: Connection, samples: dict[str, bytes], folder: str) -> None:
    """Open mutants until told to stop; answers None, or what is wrong."""
    from parity.files import read_file

    watched: list[str] = []
    sys.addaudithook(lambda event, arguments: _note(event, arguments, watched, folder))
    for name, content in samples.items():  # imports and caches, so that they are not counted below
        path = Path(folder) / name
        path.write_bytes(content)
        with contextlib.suppress(Exception):
            read_file(path)
    while (asked := pipe.recv()) is not None:
        name, seed = asked
        path = Path(folder) / name
        content = mutated(samples[name], seed)
        path.write_bytes(content)
        watched.clear()
        pipe.send(_opened(path, len(content), watched, measured=seed % _MEASURED == 0))


def _opened(path: Path, size: int, watched: list[str], measured: bool) -> str | None:
    from parity.errors import ParityError
    from parity.files import read_file

    if measured:
        tracemalloc.start()
    try:
        network = read_file(path)
        for layer in network.layers:  # what is read late must fail as well as what is read at once
            for name in layer.arrays:
                layer.arrays[name]
    except ParityError as error:
        if not str(error).strip() or any(len(problem.what) > 400 for problem in error.problems):
            return f"a message that nobody can use: {str(error)[:500]!r}"
    except MemoryError:
        return "out of memory"
    except BaseException:
        return traceback.format_exc()
    finally:
        peak = tracemalloc.get_traced_memory()[1] if measured else 0
        tracemalloc.stop()
    if peak > 2 * size + _MARGIN:
        return f"took {peak} bytes of memory for a file of {size}"
    return f"touched: {', '.join(watched)}" if watched else None


def _note(event: str, arguments: tuple[Any, ...], watched: list[str], folder: str) -> None:
    """Note what no reading of a file may do: run something, connect, write, open a file elsewhere."""
    if event in _FORBIDDEN:
        watched.append(f"{event}{arguments!r:.200}")
    elif event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        path, mode = os.fsdecode(arguments[0]), str(arguments[1] or "r")
        inside = path.startswith(folder)
        library = path.endswith((".py", ".pyc", ".so")) or path.startswith(
            (sys.prefix, sys.base_prefix, "/proc", "/sys")
        )
        if (not inside and not library) or (_WRITE_MODES & set(mode) and not inside):
            watched.append(f"open {path} {mode}")
