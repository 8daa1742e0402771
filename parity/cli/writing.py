"""The files that a command was asked for: one that cannot be written loses none of the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity.errors import ParityError, Problem

if TYPE_CHECKING:
    from parity.report import Record


def written(
    record: Record, targets: Mapping[str, Path], texts: Mapping[str, Callable[[Any], str]], overwrite: bool = False
) -> list[Problem]:
    """Write all that can be written, and say where it stands.

    Args:
        record: of a comparison, or of one that was refused.
        targets: files, by what each holds.
        texts: what makes the text of each from the record.
        overwrite: whether existing files may be replaced.

    Returns:
        Why the others could not be written.
    """
    from parity import terminal
    from parity.report import write_text

    problems: list[Problem] = []
    for what, target in targets.items():
        try:
            terminal.say(f"{what}: {write_text(target, texts[what](record), overwrite)}")
        except ParityError as error:
            problems += error.problems
    return problems


__all__ = ["written"]
