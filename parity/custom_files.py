"""Files of Python that register layers: what `--custom FILE.py` names, run as they are, here and wherever Keras opens the model.

Nothing is run that the user has not named. What a file registers holds until the command ends.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType

from parity.errors import ParityError
from parity.graph.custom import CUSTOM, line_of
from parity.worker import LOG

LOADED: list[Path] = []
"""The files that were run for the command that is running, in order."""

_EXAMPLE = "@parity.register('MyLayer') before a function that says what the layer computes"


@contextmanager
def registrations(files: Sequence[Path]) -> Iterator[None]:
    """Run files, and forget in the end what they registered.

    Args:
        files: in order. Each finds modules that stand beside it, after those that are installed.

    Raises:
        ParityError: a file that is not there or is no Python, raises an error, registers nothing, or a class that one before it has.

    Example:
        >>> folder = tempfile.mkdtemp()
        >>> file = Path(folder, "layers.py")
        >>> _ = file.write_text("import parity\\nparity.register('Same', lambda build, config, weights, x: x)")
        >>> with registrations([file]):
        ...     print("Same" in CUSTOM)
        True
        >>> "Same" in CUSTOM
        False
    """
    before, path, loaded = dict(CUSTOM), list(sys.path), list(LOADED)
    owners: dict[str, Path] = {}
    try:
        for file in files:
            for name in register_from(file):
                if owners.setdefault(name, file) != file:
                    got, remedy = f"{owners[name]} and {file}", "keep one of them"
                    raise ParityError("two files say what a layer computes", f"--custom, {name}", "one", got, remedy)
        yield
    finally:
        CUSTOM.clear()
        CUSTOM.update(before)
        sys.path[:], LOADED[:] = path, loaded


def register_from(file: Path) -> list[str]:
    """Run a file that registers layers.

    Returns:
        The names of the classes.

    Raises:
        ParityError: it is not there or is no Python, raises an error, or registers nothing.
    """
    code = _compiled(file)
    before = dict(CUSTOM)
    folder = str(file.absolute().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # at the end: nothing beside the file takes the place of what is installed
    LOADED.append(file)
    # Under a name of its own: `if __name__ == "__main__"` does not hold, and a file called keras.py hides nothing.
    module = ModuleType(f"custom_file_{len(LOADED)}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module
    try:
        with _without_greetings():
            exec(code, module.__dict__)
    except (Exception, SystemExit) as error:
        raise _raised(file, error) from error
    names = [name for name, function in CUSTOM.items() if before.get(name) is not function]
    if not names:
        raise ParityError("this file registers no layer", str(file), _EXAMPLE, "no call of parity.register")
    return names


def custom_words() -> str:
    """The options that name the files that were run, as the end of a command; "" for none.

    Example:
        >>> custom_words()
        ''
    """
    return "".join(f" {word}" for file in LOADED for word in ("--custom", shlex.quote(str(file))))


def _compiled(file: Path) -> CodeType:
    if file.suffix != ".py":
        raise ParityError("this is no file of Python", f"--custom {file}", "a name ending in .py", file.name)
    if not file.is_file():
        what = "a folder" if file.is_dir() else "nothing there"
        raise ParityError("no such file", f"--custom {file}", "a file of Python", what, "check the name and the folder")
    try:
        return compile(file.read_bytes(), str(file), "exec", dont_inherit=True)
    except (SyntaxError, ValueError, OSError) as error:
        raise _raised(file, error) from error


def _raised(file: Path, error: BaseException) -> ParityError:
    """What a file raised, and in which of its lines."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(file) else line_of(error, str(file))
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return ParityError(
        "the file of --custom raised an error" if not isinstance(error, OSError) or line else "this cannot be read",
        f"{file}, line {line}" if line else str(file),
        "Python that registers layers",
        f"{type(error).__name__}: {text}"[:300] if text else type(error).__name__,
        f"mend the file; python {file} shows all of it",
    )


@contextmanager
def _without_greetings() -> Iterator[None]:
    """What is written to standard error, without the lines that TensorFlow logs while it is imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            said.seek(0)
            lines = said.read().decode("utf-8", "replace").splitlines(keepends=True)
            sys.stderr.write("".join(line for line in lines if not LOG.match(line)))


__all__ = ["LOADED", "custom_words", "register_from", "registrations"]
