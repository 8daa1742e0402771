"""Whether something computes what the right model computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parity.diagnosis.cases import BATCH, TIME, asked_cases, is_chain, of_one_form
from parity.diagnosis.fault import Fault
from parity.diagnosis.replay import confirmed, stage_of
from parity.diagnosis.suspects import ChainSuspect, GraphSuspect, Suspect
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
    first, other = of_one_form(reference, open_port(source, reference, example))
    chains = is_chain(first, other)
    suspect: Suspect = ChainSuspect(other, first.network, Settings()) if chains else GraphSuspect(other, Settings())
    refused: list[ShapeError] = []
    for case in asked_cases(first, inputs, state, lengths, mask, (BATCH, TIME, 0), chains):
        try:
            return confirmed(stage_of(case, suspect.observe(case)), tuple(faults)).fits
        except ShapeError as error:  # of the other form of a layer
            refused.append(error)
    raise refused[0]


__all__ = ["ASKED", "computes_the_same"]
