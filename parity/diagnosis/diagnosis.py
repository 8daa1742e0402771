"""What `parity.diagnose` answers: the likely cause, where, the evidence, and the repair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.kernel import KernelAtFault
from parity.diagnosis.probes.probe import Probe, told
from parity.diagnosis.replay import Hypothesis

if TYPE_CHECKING:
    from parity.diagnosis.mending import Mending

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
        kernel: the engine that does not compute what the suspect's own weights and options say, if that is the cause.
        faults: the mistakes that explain it, made one after the other; none where nothing was found.
        alternatives: others that explain it as well on these inputs, each said as `faults` are.
        evidence: the table of hypotheses, the best first.
        first_layer: of a whole model, the first layer that gives something else on the very inputs that it got.
        first_step: the first time step at which the suspect is off; None where the outputs have no steps, or it agrees.
        tried: how many hypotheses were replayed.
        ruled_out: the kinds of mistakes that were tried and do not explain it.
        probes: of a live suspect that no single cause explains: what moves when one thing is changed. Of one that gives something else at
            every call of the same inputs, which cannot be replayed, what shows it.
        notes: what these inputs and weights cannot show, and what would tell alternatives apart.
        mending: how the suspect is mended; None where there is no suspect, or no mistake was found.
    """

    reference: str
    suspect: str
    agrees: bool
    kernel: KernelAtFault | None = None
    faults: tuple[Fault, ...] = ()
    alternatives: tuple[tuple[Fault, ...], ...] = ()
    evidence: tuple[Evidence, ...] = ()
    first_layer: str | None = None
    first_step: int | None = None
    tried: int = 0
    ruled_out: tuple[str, ...] = ()
    probes: tuple[Probe, ...] = ()
    notes: tuple[str, ...] = ()
    mending: Mending | None = None

    @property
    def found(self) -> bool:
        """Whether one cause, and one alone, explains the suspect to the floor."""
        return self.kernel is not None or (bool(self.faults) and not self.alternatives)

    @property
    def where(self) -> tuple[Place, ...]:
        """The places of the mistakes; none where no cause was found."""
        return tuple(fault.place for fault in self.faults) if self.found else ()

    @property
    def cause(self) -> str:
        """The answer in a sentence."""
        if self.agrees:
            return f"{self.suspect} computes what {self.reference} computes: there is nothing to explain."
        if self.kernel is not None:
            return f"{self.suspect} {self.kernel}."
        if self.found:
            return f"{self.suspect} {said(self.faults)}."
        if self.faults:
            ways = "; or ".join(said(one) for one in (self.faults, *self.alternatives))
            return f"Several mistakes explain {self.suspect} equally well on these inputs: it {ways}."
        telling = told(self.probes)
        if telling and not self.tried:
            return f"{self.suspect} {telling}."
        but = f"; but it {telling}" if telling else ""
        return f"No single mistake, and no pair of them, that parity knows explains {self.suspect}{but}."

    @property
    def repair(self) -> str:
        """Source code that mends what is called `suspect` there, with what is right as `reference`; "" where nothing is to be mended."""
        return self.mending.text if self.found and self.mending is not None else ""

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
