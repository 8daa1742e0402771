"""The named faults, family by family. Adding a fault is one function in a family; adding a family is one line here."""

from __future__ import annotations

from collections.abc import Iterator

from parity.diagnosis.case import Case
from parity.diagnosis.fault import Family, Fault
from parity.diagnosis.faults.gates import gate_faults

FAMILIES: tuple[Family, ...] = (gate_faults,)
"""Every family, the most frequent ones first."""


def faults_of(case: Case) -> Iterator[Fault]:
    """Every fault that could be made in a model, the most frequent ones first.

    Args:
        case: the right model.
    """
    found = [fault for family in FAMILIES for fault in family(case)]
    return iter(sorted(found, key=lambda fault: fault.rank))


__all__ = ["FAMILIES", "faults_of"]
