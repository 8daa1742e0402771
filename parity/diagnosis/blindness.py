"""What a run cannot show: mistakes that would change no output on these inputs and weights. A model that agrees may have made them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from parity.diagnosis.case import Case
from parity.diagnosis.fault import TENSORS, Fault
from parity.diagnosis.faults.wiring import mask_of, recurrent_calls
from parity.diagnosis.repair import WeightRepair
from parity.diagnosis.replay import Stage, outputs_of, replayed
from parity.graph.chains import MASK
from parity.judge import LIMIT

_ENOUGH = 2
"""Of mistakes of one kind in the same weights (twenty-three orders of gates) so many are tried."""

_MOST = 400
"""So many groups of mistakes are tried, the most frequent ones first."""

_NAMED = 5


def invisible(stages: Sequence[Stage], faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """The faults that change no output of any run by more than its floor: one or two for each kind and each place.

    Args:
        stages: runs of the right model, short ones first, each the beginning of the last, which is the one asked about; a fault that shows
            in a short one need not be made in the next.
        faults: all that could be, the most frequent ones first.
    """
    groups = _alike(faults)[:_MOST]
    rights = [replace(stage, observed=outputs) for stage in stages if (outputs := outputs_of(stage.case)) is not None]
    return tuple(fault for group in groups if all(_hidden(rights, fault) for fault in group) for fault in group)


def blindness(stages: Sequence[Stage], faults: Sequence[Fault]) -> tuple[str, ...]:
    """What is to be noted of faults that cannot show; nothing where all do.

    Args:
        stages: as for `invisible`.
        faults: all that could be.
    """
    last = stages[-1].case
    hidden = [fault for fault in invisible(stages, faults) if _is_likely(last, fault)]
    return (in_words(hidden, faults),) if hidden else ()


def in_words(hidden: Sequence[Fault], faults: Iterable[Fault]) -> str:
    """The faults that cannot show in a sentence, those with one remedy together.

    Args:
        hidden: what `invisible` gave.
        faults: all that could be.
    """
    groups: dict[str, list[Fault]] = {}
    for fault in hidden:
        groups.setdefault(fault.shows, []).append(fault)
    everywhere = {(fault.name, fault.place) for fault in faults}
    hidden_places = {(fault.name, fault.place) for fault in hidden}
    shown = {name for name, _ in everywhere - hidden_places}
    parts = [f"{_listed(group, shown)}{_remedy(shows)}" for shows, group in groups.items()]
    return f"on these inputs and weights these mistakes would not show: {'; '.join(parts)}"


def _alike(faults: Iterable[Fault]) -> list[list[Fault]]:
    """Faults of one kind in the same weights, no more than enough of each."""
    groups: dict[object, list[Fault]] = {}
    for fault in faults:
        weights = tuple(
            (step.layer, step.direction, step.member) for step in fault.repair or () if isinstance(step, WeightRepair)
        )
        groups.setdefault((fault.name, fault.place, weights), []).append(fault)
    return [group[:_ENOUGH] for group in groups.values()]


def _hidden(rights: Sequence[Stage], fault: Fault) -> bool:
    """Whether a fault can be made and changes nothing; the outputs of the right model stand as what was observed."""
    for stage in rights:
        outputs = outputs_of(replayed(stage.case, (fault,)))
        if outputs is None or stage.floors(outputs) > LIMIT:
            return False
    return bool(rights)


def _is_likely(case: Case, fault: Fault) -> bool:
    """Whether a fault is worth a word: padding that is left out by its value where no mask is, and tokens that are rounded, are not."""
    data = [one for one in case.graph.inputs if ".initial_" not in one.name and one.name != MASK]
    if fault.name == "inputs rounded":
        return any(case.inputs[one.name].dtype.kind == "f" for one in data)
    if fault.name != "masked by value":
        return True
    tokens = any(case.inputs[one.name].dtype.kind in "iu" for one in data)
    masked = MASK in case.inputs or any(mask_of(node) is not None for node, _ in recurrent_calls(case))
    return tokens or masked


def _listed(group: Sequence[Fault], shown: set[str]) -> str:
    """The kinds of some faults; where a kind shows elsewhere, with the places in which it does not."""
    places: dict[str, list[str]] = {}
    for fault in group:
        words = places.setdefault(fault.name, [])
        if fault.name in shown:
            tensor = TENSORS.get(fault.place.tensor, fault.place.tensor)
            layer = f"layer '{fault.place.layer}'" if fault.place.layer else ""
            words.append(" of ".join(filter(None, (tensor, layer))))
    named = [
        f"{name} in {' and '.join(where)}" if (where := list(dict.fromkeys(filter(None, words)))) else name
        for name, words in places.items()
    ]
    more = len(named) - _NAMED
    return ", ".join(named[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _remedy(shows: str) -> str:
    return f" ({shows})" if shows else " (other inputs or other weights may show them)"


__all__ = ["blindness", "in_words", "invisible"]
