"""What `parity.diagnose` answers: the likely cause, where, the evidence, and the repair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from parity.diagnosis.fault import Fault, Place
from parity.diagnosis.kernel import KernelAtFault
from parity.diagnosis.probes.probe import Probe, told
from parity.diagnosis.replay import Hypothesis
from parity.errors import ParityError
from parity.judge import LIMIT
from parity.shown import html_of
from parity.spelling import spell_ascii

if TYPE_CHECKING:
    from parity.diagnosis.mending import Mending

_SHOWN = 4
"""So many hypotheses are told where none fits."""


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
        faults: what was replayed.
    """

    hypothesis: str
    place: str
    before: float
    after: float
    floors: float
    fits: bool
    faults: tuple[Fault, ...] = field(default=(), repr=False, compare=False)

    def told_for(self, framework: str) -> Evidence:
        """The same with what was replayed as people of a framework say it."""
        faults = tuple(fault.told_for(framework) for fault in self.faults)
        return replace(self, hypothesis=_words(faults), faults=faults) if faults else self


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
        first_layer: of a whole model, the first layer that gives something else on the very inputs that it got; several, where the suspect
            shows what the last of them gives alone.
        first_step: the first time step at which the suspect is off; None where the outputs have no steps, or it agrees.
        tried: how many hypotheses were replayed.
        ruled_out: the kinds of mistakes that were tried and do not explain it.
        probes: of a live suspect that no single cause explains: what moves when one thing is changed. Of one that gives something else at
            every call of the same inputs, which cannot be replayed, what shows it.
        paired: whether pairs of mistakes were among them.
        notes: what these inputs and weights cannot show, and what would tell alternatives apart.
        left_out: what was not compared, in words; "" where everything was.
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
    paired: bool = True
    probes: tuple[Probe, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: str = ""
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
            but = f"; not compared: {self.left_out}" if self.left_out else ""
            return f"{self.suspect} computes what {self.reference} computes: there is nothing to explain{but}."
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
        pairs = ", and none of the pairs that were tried," if self.paired else ""
        return f"No single mistake that parity knows{pairs} explains {self.suspect}{but}."

    @property
    def repair(self) -> str:
        """Source code that mends what is called `suspect` there, with what is right as `reference`; "" where nothing is to be mended."""
        return self.mending.text if self.found and self.mending is not None else ""

    @property
    def replaces(self) -> bool:
        """Whether `repair` ends with another model in the place of the suspect, for it cannot be patched where it is; else it is a patch,
        or words where nothing runs."""
        return self.found and self.mending is not None and self.mending.replaces

    def repaired(self) -> Any:
        """The suspect mended, which then agrees with the reference: a copy of a live object, or a description for a file.

        Raises:
            ParityError: no cause was found, or it cannot be mended without the suspect's own code; says what to do.
        """
        if not self.found:
            raise ParityError("nothing to repair", self.suspect, "a cause that was found", self.cause)
        if self.mending is None:
            expected = "a model with a mistake of its own"
            remedy = "give the suspect itself: a live object or its file; of recorded outputs nothing can be mended"
            raise ParityError("there is nothing that could be mended", self.suspect, expected, remedy=remedy)
        return self.mending.made()

    def told_for(self, framework: str) -> Diagnosis:
        """The same with the letters and orders of a framework's own arrays.

        Args:
            framework: of the suspect: "torch", "keras" or "onnx"; "" for one that is not known.
        """

        def told(faults: tuple[Fault, ...]) -> tuple[Fault, ...]:
            return tuple(fault.told_for(framework) for fault in faults)

        return replace(
            self,
            faults=told(self.faults),
            alternatives=tuple(map(told, self.alternatives)),
            evidence=tuple(row.told_for(framework) for row in self.evidence),
        )

    def __repr__(self) -> str:
        return f"<Diagnosis: {self.cause}>"

    def __str__(self) -> str:
        return _in_words(self)

    def _repr_html_(self) -> str:
        return html_of(self)


def said(faults: tuple[Fault, ...]) -> str:
    """Mistakes made together, as a clause that follows the suspect's name; more than a few are counted."""
    clauses = [f"{fault.cause} ({fault.place})" for fault in faults]
    if len(clauses) <= _FEW:
        return ", and ".join(clauses)
    return f"has {len(clauses)} mistakes: " + "; ".join(f"({n}) it {clause}" for n, clause in enumerate(clauses, 1))


_FEW = 3


def evidence_of(hypothesis: Hypothesis, before: float) -> Evidence:
    """A hypothesis as a row."""
    faults = hypothesis.faults
    places = "; ".join(dict.fromkeys(str(fault.place) for fault in faults))
    return Evidence(_words(faults), places, before, hypothesis.error, hypothesis.floors, hypothesis.fits, faults)


def _words(faults: tuple[Fault, ...]) -> str:
    return ", and ".join(fault.cause for fault in faults) or "no mistake"


def _in_words(diagnosis: Diagnosis) -> str:
    """The cause, where, the evidence and the repair.

    Args:
        diagnosis: what `parity.diagnose` gave.
    """
    lines = [diagnosis.cause]
    if diagnosis.agrees:
        return "\n".join([*lines, *(f"note: {note}" for note in diagnosis.notes)])
    lines += [f"  {line}" for line in _evidence(diagnosis)]
    if diagnosis.first_step is not None:
        lines.append(f"  The first step that is off: {diagnosis.first_step}.")
    lines += [f"  {line}" for line in probes_in_words(diagnosis)]
    if diagnosis.repair:
        lines += ["", "To mend it:", "", diagnosis.repair.rstrip(), ""]
    if not diagnosis.faults and diagnosis.ruled_out:
        where = "wherever parity can make them in the reference"
        lines.append(f"  Ruled out, {where}, {diagnosis.tried} hypotheses: {', '.join(diagnosis.ruled_out)}.")
    return "\n".join([*lines, *(f"note: {note}" for note in diagnosis.notes)])


def _evidence(diagnosis: Diagnosis) -> list[str]:
    rows = diagnosis.evidence
    if not rows:
        return []
    if not diagnosis.found:
        head = "Equally good:" if diagnosis.faults else "The nearest ones:"
        return [head, *(f"  {row_in_words(row)}" for row in rows[:_SHOWN])]
    return cause_in_words(rows, spell_ascii)


def cause_in_words(rows: Sequence[Evidence], spelled: Callable[[float, int], str]) -> list[str]:
    """How much nearer a cause that was found brings the reference, and how far the next best explanation is: a sentence each.

    Args:
        rows: the hypotheses, the cause first.
        spelled: writes a number with so many significant digits.

    Example:
        >>> cause_in_words([Evidence("has its biases doubled", "layer 'lstm'", 0.5, 1e-7, 0.25, True)], spell_ascii)[1]
        'No other mistake that was tried brings it nearer.'
    """
    best, others = rows[0], [row for row in rows[1:] if not row.fits]
    before, after = spelled(best.before, 3), spelled(best.after, 3)
    if best.floors > LIMIT:
        return [f"The largest difference is {before}; beside a run with such rounding it is {after}."]
    lines = [
        f"With this mistake made in the reference the largest difference falls from {before} to {after}, "
        f"{spelled(best.floors, 2)} times the float32 floor, where {spelled(LIMIT, 3)} is allowed."
    ]
    if others and best.after > 0:
        apart = spelled(others[0].after / best.after, 1)
        next_best = f"it {others[0].hypothesis} ({others[0].place})"
        lines.append(f"The next best explanation is {apart} times further away: {next_best}.")
    if not rows[1:]:
        lines.append("No other mistake that was tried brings it nearer.")
    return lines


def probes_in_words(diagnosis: Diagnosis) -> list[str]:
    """The probes that differ from the right model's, with what they tell, a line each."""
    differing = [probe for probe in diagnosis.probes if probe.differs]
    return ["Probes of the suspect:", *(f"  {probe}: it {probe.meaning}" for probe in differing)] if differing else []


def row_in_words(row: Evidence) -> str:
    """A row of the table of hypotheses in a line.

    Example:
        >>> row_in_words(Evidence("has its biases doubled", "layer 'lstm'", 0.5, 0.25, 4e5, False))
        "0.25 left of 0.5 (4e5 floors): it has its biases doubled (layer 'lstm')"
    """
    after, before, floors = spell_ascii(row.after), spell_ascii(row.before), spell_ascii(row.floors, 2)
    return f"{after} left of {before} ({floors} floors): it {row.hypothesis} ({row.place})"


__all__ = ["Diagnosis", "Evidence", "cause_in_words", "evidence_of", "probes_in_words", "row_in_words", "said"]
