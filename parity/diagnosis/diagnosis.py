"""What `parity.diagnose` answers: the likely cause, where, the evidence, and the repair."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.replay import Hypothesis

_CLOSE, _NEAREST = 1e-3, 3
"""Errors are told as factors where they are far apart; so many hypotheses are shown where none fits."""


@dataclass(frozen=True)
class Evidence:
    """One row of the table of hypotheses.

    Args:
        hypothesis: what was replayed, in words.
        place: where.
        before: the largest absolute difference between the reference and the suspect.
        after: the same with this mistake made in the reference.
        floors: `after` in float32 floors; 2 are allowed.
        fits: whether it explains the suspect to the floor.
    """

    hypothesis: str
    place: str
    before: float
    after: float
    floors: float
    fits: bool


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    """Why a suspect does not compute what the reference computes.

    Args:
        reference, suspect: what they are called.
        agrees: whether there is nothing to explain: the suspect computes what the reference computes.
        faults: the mistakes that explain it, made one after the other; none where nothing was found.
        alternatives: others that explain it as well on these inputs, each said as `faults` are.
        evidence: the table of hypotheses, the best first.
        first_step: the first time step at which the suspect is off; None where the outputs have no steps, or it agrees.
        tried: how many hypotheses were replayed.
        ruled_out: the kinds of mistakes that were tried and do not explain it.
        notes: what these inputs and weights cannot show, and what would tell alternatives apart.
        repair: lines of code that mend the suspect, in its own framework; "" where there are none.
        mended: gives the suspect mended; see `repaired`.
    """

    reference: str
    suspect: str
    agrees: bool
    faults: tuple[Fault, ...] = ()
    alternatives: tuple[tuple[Fault, ...], ...] = ()
    evidence: tuple[Evidence, ...] = ()
    first_step: int | None = None
    tried: int = 0
    ruled_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    repair: str = ""
    mended: Any = field(default=None)

    @property
    def found(self) -> bool:
        """Whether one cause, and one alone, explains the suspect to the floor."""
        return bool(self.faults) and not self.alternatives

    @property
    def where(self) -> tuple[Place, ...]:
        """The places of the mistakes; none where no cause was found."""
        return tuple(fault.place for fault in self.faults) if self.found else ()

    @property
    def cause(self) -> str:
        """The answer in a sentence."""
        if self.agrees:
            return f"{self.suspect} computes what {self.reference} computes: there is nothing to explain."
        if self.found:
            return f"{self.suspect} {said(self.faults)}."
        if self.faults:
            ways = "; or ".join(said(one) for one in (self.faults, *self.alternatives))
            return f"Several mistakes explain {self.suspect} equally well on these inputs: it {ways}."
        return f"No single mistake, and no pair of them, that parity knows explains {self.suspect}."

    def repaired(self) -> Any:
        """The suspect mended, which then agrees with the reference: a copy of a live object, or a description for a file.

        Raises:
            ParityError: no cause was found, or it cannot be mended without the suspect's own code; says what to do.
        """
        from parity.diagnosis.mending import mend

        return mend(self)

    def __repr__(self) -> str:
        return f"<Diagnosis: {self.cause}>"

    def __str__(self) -> str:
        from parity.diagnosis.words import in_words

        return in_words(self)


def said(faults: tuple[Fault, ...]) -> str:
    """Mistakes made together, as a clause that follows the suspect's name."""
    return ", and ".join(f"{fault.cause} ({fault.place})" for fault in faults)


def evidence_of(hypothesis: Hypothesis, before: float) -> Evidence:
    """A hypothesis as a row."""
    faults = hypothesis.faults
    words = ", and ".join(fault.cause for fault in faults) or "no mistake"
    places = "; ".join(dict.fromkeys(str(fault.place) for fault in faults))
    return Evidence(words, places, before, hypothesis.error, hypothesis.floors, hypothesis.fits)


__all__ = ["Diagnosis", "Evidence", "evidence_of", "said"]
