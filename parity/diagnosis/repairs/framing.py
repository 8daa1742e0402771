"""What a repair begins and ends with: what its names are, and how it is checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parity.diagnosis.repairs.writing import in_order
from parity.sources import Opened

_IMPORT = ("import ", "from ")


def framed(
    text: str, suspect: Opened, reference: Opened, given: Mapping[str, Any] | None = None, anew: bool = False
) -> str:
    """Source code with the lines that say what `suspect` and `reference` are, and a comment that says how the result is checked.

    Args:
        text: the code; it stays as it is where no line of it runs.
        suspect, reference: as they were opened; of files the paths are said as they were given.
        given: on what they ran, by the names of `parity.diagnose`.
        anew: whether the code makes another `suspect` of the reference.
    """
    lines = text.rstrip("\n").splitlines()
    runs = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    if not runs.strip():
        return text
    used = [(name, one, said) for name, one, said in _names(suspect, reference) if _taken(name, runs)]
    start = [f"{name} = {_given(one, name)}" for name, one, _ in used if _given(one, name)]
    told = "; ".join(f"{name}: {said}" for name, one, said in used if not _given(one, name))
    words, imports, rest = _parts(lines)
    if any("parity." in line for line in start) and "import parity" not in imports:
        imports = in_order({*imports, "import parity"})
    head = [*words, *([f"# {told}"] if told else []), *imports]
    right = "reference" if _taken("reference", runs) else _given(reference, "reference") or "reference"
    check = _check(right, _part(suspect, anew), given or {})
    return "\n".join([*head, *([""] if imports else []), *start, *rest, check, ""])


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


def gathered(*sections: str) -> str:
    """Sections of source code as one, with their imports at the beginning.

    Example:
        >>> print(gathered("# first:\\nimport b\\n\\nb.c()", "import a\\n\\na.d()"))
        import a
        import b
        <BLANKLINE>
        # first:
        b.c()
        <BLANKLINE>
        a.d()
    """
    imports: set[str] = set()
    texts = []
    for section in sections:
        imports |= {line for line in section.splitlines() if line.startswith(_IMPORT)}
        kept: list[str] = []
        for line in section.splitlines():
            if line not in imports and (line or (kept and not kept[-1].startswith("#"))):
                kept.append(line)
        texts.append("\n".join(kept).strip("\n"))
    return "\n\n".join(["\n".join(in_order(imports)), *filter(None, texts)])


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


def _part(suspect: Opened, anew: bool) -> str:
    """Python for what was mended: of a file, the one layer of it that is asked about."""
    layers = suspect.network.recurrent
    if suspect.inside is None or anew or len(layers) != 1:
        return "suspect"
    return f"next(one for one in parity.read(suspect).recurrent if one.name == {layers[0].name!r})"


def _check(reference: str, suspect: str, given: Mapping[str, Any]) -> str:
    """How it is checked that the mended suspect agrees: the question that was asked, again."""
    said = [f"{name}={str(one)!r}" if isinstance(one, (str, Path)) else f"{name}={name}" for name, one in given.items()]
    names = [name for name, one in given.items() if not isinstance(one, (str, Path))]
    words = f"  # with the {' and '.join(names)} that you gave".replace("_", " ") if names else ""
    return f"# check: assert parity.diagnose({', '.join([reference, suspect, *said])}).agrees{words}"


__all__ = ["framed", "gathered"]
