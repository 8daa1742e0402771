"""Whether something computes what the right model computes, on random inputs."""

from __future__ import annotations

from parity.diagnosis.cases import BATCH, TIME, asked_case, is_chain, of_one_form
from parity.diagnosis.replay import confirmed, stage_of
from parity.diagnosis.suspects import ChainSuspect, GraphSuspect, Suspect
from parity.frameworks import Settings
from parity.ports import open_port
from parity.sources import Opened, Source


def computes_the_same(reference: Opened, source: Source) -> bool:
    """Whether a source agrees with the right model to the floor.

    Args:
        reference: the right model.
        source: anything that `parity.compare` takes.

    Raises:
        ParityError: they cannot be laid beside each other.
    """
    first, other = of_one_form(reference, open_port(source, reference, None))
    chains = is_chain(first, other)
    case = asked_case(first, None, None, None, None, (BATCH, TIME, 0), chains)
    suspect: Suspect = ChainSuspect(other, first.network, Settings()) if chains else GraphSuspect(other, Settings())
    return confirmed(stage_of(case, suspect.observe(case)), ()).fits


__all__ = ["computes_the_same"]
