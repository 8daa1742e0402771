"""The named faults, family by family. Adding a fault is one function in a family; adding a family is one line here."""

from __future__ import annotations

from collections.abc import Iterator

from parity.diagnosis.case import Case
from parity.diagnosis.fault import Family, Fault
from parity.diagnosis.faults.answers import answer_faults
from parity.diagnosis.faults.attention import attention_faults
from parity.diagnosis.faults.beginnings import beginning_faults
from parity.diagnosis.faults.biases import bias_faults
from parity.diagnosis.faults.cells import cell_faults
from parity.diagnosis.faults.connections import connection_faults
from parity.diagnosis.faults.convolutions import convolution_faults
from parity.diagnosis.faults.dense import dense_faults
from parity.diagnosis.faults.directions import direction_faults
from parity.diagnosis.faults.embeddings import embedding_faults
from parity.diagnosis.faults.flattening import flattening_faults
from parity.diagnosis.faults.forget import forget_faults
from parity.diagnosis.faults.gates import gate_faults
from parity.diagnosis.faults.masks import mask_faults
from parity.diagnosis.faults.matrices import matrix_faults
from parity.diagnosis.faults.norms import norm_faults
from parity.diagnosis.faults.placing import placing_faults
from parity.diagnosis.faults.precision import precision_faults
from parity.diagnosis.faults.resets import reset_faults
from parity.diagnosis.faults.sequences import sequence_faults
from parity.diagnosis.faults.states import state_faults

FAMILIES: tuple[Family, ...] = (
    gate_faults,
    reset_faults,
    bias_faults,
    cell_faults,
    forget_faults,
    matrix_faults,
    placing_faults,
    direction_faults,
    mask_faults,
    sequence_faults,
    state_faults,
    beginning_faults,
    answer_faults,
    precision_faults,
    norm_faults,
    dense_faults,
    convolution_faults,
    flattening_faults,
    embedding_faults,
    connection_faults,
    attention_faults,
)
"""Every family, the most frequent ones first."""


def faults_of(case: Case) -> Iterator[Fault]:
    """Every fault that could be made in a model, the most frequent ones first.

    Args:
        case: the right model.
    """
    found = [fault for family in FAMILIES for fault in family(case)]
    return iter(sorted(found, key=lambda fault: fault.rank))


__all__ = ["FAMILIES", "faults_of"]
