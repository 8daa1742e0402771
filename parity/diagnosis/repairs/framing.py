"""What a repair begins and ends with: what its names are, and how it is checked."""

from __future__ import annotations

import re
import shlex

from parity.diagnosis.repairs.writing import in_order
from parity.sources import Opened

_IMPORT = ("import ", "from ")


def framed(text: str, suspect: Opened, reference: Opened) -> str:
    """Source code with the lines that say what `suspect` and `reference` are, and a comment that says how the result is checked.

    Args:
        text: the code; it stays as it is where no line of it runs.
        suspect, reference: as they were opened; of files the paths are said as they were given.
    """
    lines = text.rstrip("\n").splitlines()
    runs = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    if not runs.strip():
        return text
    used = [(name, one, said) for name, one, said in _names(suspect, reference) if _taken(name, runs)]
    given = [f"{name} = {_given(one, name)}" for name, one, _ in used if _given(one, name)]
    told = "; ".join(f"{name}: {said}" for name, one, said in used if not _given(one, name))
    words, imports, rest = _parts(lines)
    if any("parity." in line for line in given) and "import parity" not in imports:
        imports = in_order({*imports, "import parity"})
    head = [*words, *([f"# {told}"] if told else []), *imports]
    return "\n".join([*head, *([""] if imports else []), *given, *rest, _check(suspect, reference), ""])


def _names(suspect: Opened, reference: Opened) -> tuple[tuple[str, Opened, str], ...]:
    return ("suspect", suspect, "your wrong model"), ("reference", reference, "the right one")


def _taken(name: str, runs: str) -> bool:
    """Whether code takes what a name stands for, before it says anew what that is."""
    line = next((line for line in runs.splitlines() if re.search(rf"\b{name}\b", line)), "")
    return bool(re.search(rf"\b{name}\b", line.removeprefix(f"{name} = ")))


def _given(opened: Opened, name: str) -> str:
    """Python for what was opened; "" for a live object. A suspect is opened as a file, a reference is read."""
    if opened.path is not None:
        return repr(str(opened.path))
    if opened.inside is None:
        return ""
    path, layers = repr(str(opened.inside)), opened.network.recurrent
    if name == "suspect" or len(layers) != 1:
        return path
    return f"next(one for one in parity.read({path}).recurrent if one.name == {layers[0].name!r})"


def _parts(lines: list[str]) -> tuple[list[str], list[str], list[str]]:
    """The comments at the beginning that are not about the next line, the imports, and what follows."""
    first = next((place for place, line in enumerate(lines) if line.startswith(_IMPORT)), 0)
    if any(line and not line.startswith("#") for line in lines[:first]):
        first = 0
    last = first
    while last < len(lines) and (not lines[last] or lines[last].startswith(_IMPORT)):
        last += 1
    return (
        [line for line in lines[:first] if line],
        [line for line in lines[first:last] if line],
        lines[last:],
    )


def _check(suspect: Opened, reference: Opened) -> str:
    """How it is checked that the mended suspect agrees."""
    files = [one.path or one.inside for one in (reference, suspect)]
    parts = [one for one in (reference, suspect) if one.path is None]
    if files[0] is None or files[1] is None or len(parts) == 1:
        return "# check: parity.assert_parity(reference, suspect)"
    made = files[1].with_stem(f"{files[1].stem}-mended")
    words = [
        "parity",
        "compare",
        str(files[0]),
        str(made),
        *(w for one in parts for w in ("--layer", one.network.name)),
    ]
    return f"# check: {' '.join(map(shlex.quote, words))}"


__all__ = ["framed"]
