"""Whether something computes what the right model computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parity.diagnosis.case import Case
from parity.diagnosis.cases import BATCH, TIME, asked_cases, is_chain, of_one_form
from parity.diagnosis.fault import Fault
from parity.diagnosis.replay import confirmed, stage_of
from parity.diagnosis.suspects import ChainSuspect, GraphSuspect
from parity.errors import ShapeError
from parity.frameworks import Settings
from parity.ports import open_port
from parity.sources import Opened, Source

ASKED = ("inputs", "initial_state", "lengths", "mask")
"""Arguments of `parity.diagnose` that say on what a suspect runs."""


def computes_the_same(
    reference: Opened, source: Source, given: Mapping[str, Any] | None = None, faults: Sequence[Fault] = ()
) -> bool:
    """Whether a source agrees with the right model to the floor.

    Args:
        reference: the right model.
        source: anything that `parity.compare` takes.
        given: on what they run, by the names in `ASKED`; random inputs where nothing is given.
        faults: made in the right model before: what the source is known to do still.

    Raises:
        ParityError: they cannot be laid beside each other.
    """
    inputs, state, lengths, mask = ((given or {}).get(name) for name in ASKED)
    example = None if isinstance(inputs, (str, Path)) else inputs
    sides = of_one_form(reference, open_port(source, reference, example))
    suspect, case = laid_beside(*sides, (inputs, state, lengths, mask, (BATCH, TIME, 0)), Settings())
    return confirmed(stage_of(case, suspect.observe(case)), tuple(faults)).fits


def laid_beside(
    first: Opened, other: Opened, asked: tuple[Any, Any, Any, Any, Any], settings: Settings
) -> tuple[ChainSuspect | GraphSuspect, Case]:
    """A suspect that can be run, and the form of the right model whose outputs are its own.

    Args:
        first, other: the right model and the suspect, of one form.
        asked: on what they run: inputs, initial state, lengths, mask and sizes, as `asked_cases` takes them.
        settings: where the suspect runs.

    Raises:
        ShapeError: its outputs are none of the right model's in any form.
    """
    chains = is_chain(first, other)
    cases = asked_cases(first, *asked, chains)
    if chains:
        return ChainSuspect(other, first.network, settings), next(cases)
    suspect = GraphSuspect(other, settings)
    refused: list[ShapeError] = []
    for case in cases:
        try:
            suspect.lay_on(case)
        except ShapeError as error:
            refused.append(error)
        else:
            return suspect, case
    raise refused[0]


__all__ = ["ASKED", "computes_the_same", "laid_beside"]
