"""Probes of a live suspect that need no weights: one thing is changed, and the pattern of what moves is compared with the right model's."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from parity.diagnosis.case import Case
from parity.diagnosis.probes.asking import Asked, asked
from parity.diagnosis.probes.modes import notes_of_mode
from parity.diagnosis.probes.padding import padded_steps
from parity.diagnosis.probes.probe import Probe, told
from parity.diagnosis.probes.probing import alone, one_sample, one_step, shapes, shortened, which_steps, zeros
from parity.diagnosis.probes.repeating import cause_of, repeated
from parity.diagnosis.replay import stage_of
from parity.diagnosis.suspects import Suspect

PROBES: tuple[Callable[[Asked], Iterator[Probe]], ...] = (
    shapes,
    one_sample,
    one_step,
    which_steps,
    padded_steps,
    alone,
    shortened,
    zeros,
)
"""Every probe but that of the same inputs again, in the order in which they are told."""

_REPLICAS = 4


def probed(suspect: Suspect, case: Case) -> tuple[Probe, ...]:
    """What a suspect does when one thing is changed, beside what the right model does.

    Args:
        suspect: what is to be explained.
        case: the right model on the inputs asked about, of which a few samples and steps are taken.

    Returns:
        Every probe that could be made. Nothing for a recording; of a suspect that gives something else at every call that alone, as nothing
        more can be told of it.
    """
    if not suspect.live:
        return ()
    first = repeated(suspect, stage_of(case, suspect.observe(case), _REPLICAS))
    if first is None or first.differs:
        return () if first is None else (first,)
    both = asked(suspect, case)
    return (first,) if both is None else (first, *(probe for ask in PROBES for probe in ask(both)))


__all__ = ["Probe", "cause_of", "notes_of_mode", "probed", "repeated", "told"]
