"""A diagnosis in words, for the terminal and for messages of tests."""

from __future__ import annotations

from parity.diagnosis.diagnosis import Diagnosis, Evidence
from parity.judge import LIMIT

_SHOWN = 4


def in_words(diagnosis: Diagnosis) -> str:
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
        lines.append(f"  Ruled out, {diagnosis.tried} hypotheses: {', '.join(diagnosis.ruled_out)}.")
    return "\n".join([*lines, *(f"note: {note}" for note in diagnosis.notes)])


def _evidence(diagnosis: Diagnosis) -> list[str]:
    rows = diagnosis.evidence
    if not rows:
        return []
    if not diagnosis.found:
        head = "Equally good:" if diagnosis.faults else "The nearest ones:"
        return [head, *(f"  {row_in_words(row)}" for row in rows[:_SHOWN])]
    best, others = rows[0], [row for row in rows[1:] if not row.fits]
    if best.floors > LIMIT:
        return [f"The largest difference is {best.before:.3g}; beside a run with such rounding it is {best.after:.3g}."]
    lines = [
        f"With this mistake made in the reference the largest difference falls from {best.before:.3g} to {best.after:.3g}, "
        f"{best.floors:.2g} times the float32 floor, where 2 is allowed."
    ]
    if others and best.after > 0:
        apart = others[0].after / best.after
        lines.append(f"The next best explanation is {apart:.1g} times further away: it {others[0].hypothesis}.")
    return lines


def probes_in_words(diagnosis: Diagnosis) -> list[str]:
    """The probes that differ from the right model's, with what they tell, a line each."""
    differing = [probe for probe in diagnosis.probes if probe.differs]
    return ["Probes of the suspect:", *(f"  {probe}: it {probe.meaning}" for probe in differing)] if differing else []


def row_in_words(row: Evidence) -> str:
    """A row of the table of hypotheses in a line.

    Example:
        >>> row_in_words(Evidence("has its biases doubled", "layer 'lstm'", 0.5, 0.25, 4e5, False))
        "0.25 left of 0.5 (4e+05 floors): it has its biases doubled (layer 'lstm')"
    """
    return f"{row.after:.3g} left of {row.before:.3g} ({row.floors:.2g} floors): it {row.hypothesis} ({row.place})"


__all__ = ["in_words", "probes_in_words", "row_in_words"]
