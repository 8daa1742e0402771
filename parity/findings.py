"""What a comparison found, in numbers and in words: everything the report and the terminal show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity.forms import TARGETS, Form, form_in
from parity.frameworks import ENGINES, family
from parity.judge import REFERENCE, Judgement, Row, Verdict
from parity.recurrent import Array
from parity.result import Result, State
from parity.sources import Opened
from parity.spelling import named_apart, spell, spell_ascii


@dataclass(frozen=True, eq=False, repr=False)
class Findings:
    """What was compared, how, and what came out.

    Args:
        sources: what was given, the first being what the reference computes.
        participants: label -> (source, engine), in order.
        inputs: what every engine got: one array, batch first; of a whole model that is no chain of layers, arrays by name.
        judgement: the rows and what they rest on.
        asked: the options of the call, for the record.
        notes: what a reader should know: engines left out or failed, blind spots of these inputs.
        mask: (batch, time) of bool, True where a step is valid; None where all are.
        states: the initial states of the first source's layers; None for a whole model.
    """

    sources: tuple[Opened, ...]
    participants: dict[str, tuple[Opened, str]]
    inputs: Array | dict[str, Array]
    judgement: Judgement
    asked: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    mask: Array | None = None
    states: Mapping[str, State] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What each source is called: its label, and where several have one label, the framework that it belongs to, too."""
        return _told_apart(self.sources)

    @property
    def verdict(self) -> Verdict:
        """agree, disagree or undecided."""
        return self.judgement.verdict

    @property
    def ok(self) -> bool:
        """Whether everything agrees."""
        return self.verdict == "agree"

    @property
    def table(self) -> tuple[Row, ...]:
        """One row per quantity, pair and rule."""
        return self.judgement.rows

    @property
    def results(self) -> dict[str, Result]:
        """What each participant that did not fail computed, by label, and the reference."""
        return {**self.judgement.results, REFERENCE: self.judgement.floor.result}

    @property
    def forms(self) -> dict[str, Form]:
        """How each participant that runs a conversion of a chain of layers says it: native or composed. Others have none."""
        return {
            label: form_in(source.network, next(target for target in TARGETS if target == ENGINES[family(engine)]))
            for label, (source, engine) in self.participants.items()
            if engine != REFERENCE and family(engine) != source.engine and source.network.graph is None
        }

    @property
    def padding(self) -> tuple[str, ...]:
        """Which engines put other things at padded steps than others, in words: a difference of convention, which is not judged."""
        differing: dict[tuple[str, str], list[Row]] = {}
        for row in self.table:
            if row.padding_outside:
                differing.setdefault((row.left, row.right), []).append(row)
        return tuple(
            f"{left} and {right} differ in what padding holds, a convention that is not judged: "
            + ", ".join(f"{row.quantity} by up to {spell_ascii(row.padding_error)}" for row in rows)
            for (left, right), rows in differing.items()
        )

    @property
    def sizes(self) -> tuple[int, int | None]:
        """Samples and steps of the inputs; None for a model without steps."""
        if not isinstance(self.inputs, dict):
            return self.inputs.shape[0], self.inputs.shape[1]
        found: dict[str, int] = {}
        for one in self.sources[0].graph.inputs:
            found |= {
                word: n for word, n in zip(one.shape, self.inputs[one.name].shape, strict=True) if isinstance(word, str)
            }
        return found.get("batch", 1), found.get("time")

    @property
    def times(self) -> tuple[int, ...]:
        """The steps of every time axis that the inputs have, each length once, in their order; none for a model without steps."""
        if not isinstance(self.inputs, dict):
            return self.inputs.shape[1:2]
        graph = self.sources[0].graph
        found = [
            int(n)
            for one in graph.inputs
            for word, n in zip(one.shape, self.inputs[one.name].shape, strict=True)
            if isinstance(word, str) and f"_{word}".endswith("_time")
        ]
        return tuple(dict.fromkeys(found))

    @property
    def size(self) -> str:
        """Samples and steps in words."""
        batch, times = self.sizes[0], self.times
        if not times:
            return f"{batch} sample{'s' if batch > 1 else ''}"
        return f"{batch} x {' and '.join(map(str, times))} step{'s' if max(times) > 1 else ''}"

    @property
    def sentence(self) -> str:
        """The verdict in a sentence."""
        return _sentence(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.sentence}>"

    def __str__(self) -> str:
        bad = [row for row in self.table if row.verdict == "disagree"]
        against = [row for row in bad if row.right == REFERENCE] or bad
        lines = [self.sentence, *(f"  {describe(row)}" for row in against)]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def _told_apart(sources: Sequence[Opened]) -> tuple[str, ...]:
    labels = [source.label for source in sources]
    found: list[str] = []
    for source in sources:
        engine = source.engine or REFERENCE
        name = f"{source.label} ({engine})" if labels.count(source.label) > 1 else source.label
        found.append(named_apart(name, found))
    return tuple(found)


def _times(row: Row) -> str:
    """How far off, in floors; without measure where rounding makes no difference, or where a side is no number."""
    if np.isfinite(row.times_floor):
        return f"{spell_ascii(row.times_floor)} times the float32 floor"
    return f"a difference of {spell_ascii(row.max_error)}, beyond any multiple of the float32 floor"


_HOW = {"run": "over the run", "one step": "after one step", "layer": "on the inputs that it got"}


def describe(row: Row) -> str:
    """A row in words."""
    pair = f"{row.left} and {row.right}"
    if row.note:
        return f"{row.quantity}: {pair}: {row.note}"
    place = ", ".join(f"{axis} {position}" for axis, position in row.place.items())
    worst = ", ".join(f"{axis} {position}" for axis, position in row.worst.items())
    since = "" if row.first_step is None else f", from step {row.first_step} on"
    values = " and ".join(spell_ascii(value, 6) for value in row.values)
    return (
        f"{row.quantity} of {pair} {_HOW[row.rule]}: largest difference {spell_ascii(row.max_error)} at {place} ({values}); "
        f"largest against the floor {spell_ascii(row.times_floor)}x at {worst}, where {spell(row.limit)}x is allowed{since}"
    )


def _sentence(findings: Findings) -> str:
    failures = findings.judgement.failures
    names = [name for name in findings.participants if name not in failures]
    if not failures:
        return _judged(findings, names)
    failed = "; ".join(f"{name} failed ({text})" for name, text in failures.items())
    if not findings.table:
        return f"Undecided: {failed}."
    if findings.judgement.rows_verdict == "disagree":
        return f"{_judged(findings, names)} Besides, {failed}."
    rest = f" {_judged(findings, names)}" if names else ""
    return f"Undecided: {failed}.{rest}"


def _judged(findings: Findings, names: list[str]) -> str:
    """What the rows say of the engines that ran."""
    verdict = findings.judgement.rows_verdict
    who = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    verb = "agree" if len(names) > 1 else "agrees"
    size, (_, time) = findings.size, findings.sizes
    if findings.mask is not None:
        size += f", {int((~findings.mask).sum())} of them padding"
    rows = findings.table
    bad = [row for row in rows if row.verdict == "disagree"]
    if bad:
        worst = max(bad, key=lambda row: row.times_floor / row.limit)
        against = sorted({row.left for row in bad if row.right == REFERENCE}) or sorted({row.left for row in bad})
        detail = worst.note or f"{_times(worst)} in {worst.quantity}, where {spell(worst.limit)} is allowed"
        basis = f"the reference of {findings.names[0]}"
        judged = {row.left for row in rows if row.rule == "layer"}
        first = _first_layers(bad, [label for label in against if label in judged])
        return f"{', '.join(against)} {'disagrees' if len(against) == 1 else 'disagree'} with {basis}: {detail}.{first}"
    if all(row.rule != "run" for row in rows):
        return f"Undecided: all of {size} is padding, so there is nothing to compare."
    most = max((row.times_floor for row in rows if row.right == REFERENCE), default=0.0)
    measured = f"at most {spell_ascii(most, 2)} times the float32 floor, where {spell(rows[0].limit)} is allowed"
    if verdict == "agree":
        padding = " They differ only in padding, by convention." if findings.padding else ""
        return f"{who} {verb} with the float64 reference on {size}: {measured}.{padding}"
    horizon = findings.judgement.floor.horizon
    if not findings.judgement.informative:
        return "Undecided: on these inputs everything computed is zero, which a wrong model could compute as well."
    if not horizon:
        return (
            f"Undecided: rounding alone is as large as the signal from the first step on ({measured} in single steps)."
        )
    return (
        f"Undecided: {who} {verb} with the float64 reference up to step {horizon} of {time} and in every single step ({measured}); "
        "beyond it rounding alone grows to the size of the signal."
    )


def _first_layers(bad: list[Row], healthy: list[str]) -> str:
    """The first layer, in the order of the data, at which each engine differs, where layers were judged."""
    firsts: dict[str, str] = {}
    for row in bad:
        if row.rule == "layer":
            firsts.setdefault(row.left, row.quantity.removeprefix("layer "))
    found = "".join(f" The first layer that differs in {label}: {name}." for label, name in firsts.items())
    return found or "".join(
        f" Every layer of {label} that was judged agrees by itself: look between and behind them." for label in healthy
    )
