"""One probe of a suspect that needs no weights: what moves when one thing is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["repeated", "shapes", "samples", "steps", "padding", "lengths", "zeros"]
"""What a probe is about."""


@dataclass(frozen=True)
class Probe:
    """What the right model and the suspect do when one thing is changed.

    Args:
        name: what was changed and looked at.
        expected: what the right model does, in a few words or as a pattern: `x` for what moves, `.` for what does not, `~` for what
            moves by too little to tell.
        found: the same of the suspect.
        differs: whether they contradict each other.
        meaning: where they differ, what it tells, as a clause that follows "the suspect".
        kind: what it is about.
    """

    name: str
    expected: str
    found: str
    differs: bool
    meaning: str = ""
    kind: Kind = "steps"

    def __str__(self) -> str:
        return f"{self.name}: {self.found}, expected {self.expected}"


_MOST = 2
"""So many probes of the samples are told together: that they are mixed, and how."""


def told(probes: Sequence[Probe]) -> str:
    """What probes that differ tell, as a clause that follows the suspect's name: of those that one mistake makes differ, the most telling.

    Args:
        probes: in the order in which they were made, those behind mostly following from those before.

    Example:
        >>> told([Probe("twice", "the same", "the same", False), Probe("a sample", ".x..", ".xxx", True, "mixes the samples")])
        'mixes the samples'
    """
    differing = [probe for probe in probes if probe.differs]
    mixing = [probe for probe in differing if probe.kind == "samples"]
    return "; it ".join(probe.meaning for probe in (mixing[:_MOST] or differing[:1]))


__all__ = ["Kind", "Probe", "told"]
