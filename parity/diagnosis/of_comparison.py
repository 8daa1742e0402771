"""The diagnosis of a comparison that disagrees: of the first source, or engine, that does."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from parity.diagnosis.case import Case, chain_case
from parity.diagnosis.cases import is_chain, of_one_form, shorter
from parity.diagnosis.diagnosing import with_repair
from parity.diagnosis.diagnosis import Diagnosis
from parity.diagnosis.investigating import investigate
from parity.diagnosis.suspects import ChainSuspect, GraphSuspect, Suspect
from parity.errors import ParityError
from parity.frameworks import Settings
from parity.judge import REFERENCE
from parity.result import check_states

if TYPE_CHECKING:
    from parity.findings import Findings


def diagnosis_of(findings: Findings) -> Diagnosis | None:
    """Why a comparison disagrees, on its own inputs; single mistakes alone, for that is quick.

    Args:
        findings: of the comparison.

    Returns:
        None where it does not disagree, or where the sides cannot be laid beside each other.
    """
    if findings.verdict != "disagree":
        return None
    wrong = [row for row in findings.table if row.verdict == "disagree" and row.right == REFERENCE]
    labels = [label for label in findings.participants if any(row.left == label for row in wrong)]
    with contextlib.suppress(ParityError):
        return _diagnosed(findings, labels[0]) if labels else None
    return None


def _diagnosed(findings: Findings, label: str) -> Diagnosis:
    source, engine = findings.participants[label]
    first = findings.sources[0]
    if not isinstance(findings.inputs, dict):
        first, source = of_one_form(first, source)
    settings = Settings(findings.asked["device"], "float32", findings.asked["tf32"])
    suspect: Suspect
    if isinstance(findings.inputs, dict):
        case = Case(first.graph, findings.inputs)
        suspect = GraphSuspect(source, settings, engine)
    elif is_chain(first, source):
        states = findings.states or check_states(first.network.specs, None, len(findings.inputs))
        case = chain_case(first.network, findings.inputs, states, findings.mask)
        suspect = ChainSuspect(source, first.network, settings, engine)
    else:
        case = Case(first.graph, {first.graph.inputs[0].name: findings.inputs})
        suspect = GraphSuspect(source, settings, engine)
    found = investigate(first.label, suspect, [*shorter(case), case], pairs=False)
    return with_repair(found, first, source, _given(findings))


def _given(findings: Findings) -> dict[str, Any]:
    """On what the sources were compared, where that was given, by the names of `parity.diagnose`."""
    asked, found = findings.asked, {}
    if asked.get("inputs", "random") != "random":
        found["inputs"] = findings.inputs if asked["inputs"] == "given" else asked["inputs"]
    if asked.get("initial_state") == "given":
        found["initial_state"] = findings.states
    if asked.get("lengths") is not None:
        found["lengths"] = asked["lengths"]
    elif asked.get("mask") is not None:
        found["mask"] = findings.mask
    return found


__all__ = ["diagnosis_of"]
