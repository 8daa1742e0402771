"""What lines can change of a suspect, where the rest takes its own code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby

from parity.diagnosis.repair import CallRepair, OptionRepair
from parity.diagnosis.repairs.resolving import Resolved

Around = tuple[OptionRepair | CallRepair, ...]


def parts(resolved: Resolved, is_said: Callable[[Resolved], bool]) -> Iterator[tuple[Resolved, Around]]:
    """The parts of a repair that lines can make, the largest first, each with what is left.

    Args:
        resolved: all that is to be done.
        is_said: whether lines make a part.
    """
    weights = replace(resolved, around=(), unsaid=(), own_code=())
    groups = [tuple(one) for _, one in groupby(resolved.around, lambda one: one.layer)]
    alone = replace(weights, steps=(), weights={})
    said = [group for group in groups if is_said(replace(alone, around=group))]
    left = tuple(one for group in groups if group not in said for one in group)
    if said and (left or resolved.unsaid):
        yield replace(weights, around=tuple(one for group in said for one in group)), left
    if resolved.steps:
        yield weights, resolved.around


__all__ = ["Around", "parts"]
