"""What changed since an earlier record of the same comparison, as after an upgrade of a framework."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from parity.baseline_differences import (
    Moved,
    differing,
    engines_now,
    other_inputs,
    other_settings,
    other_sources,
    other_versions,
    unknown_inputs,
    unknown_weights,
)
from parity.errors import FormatError
from parity.record_words import pair_name, row_name
from parity.report.reading import read_record
from parity.report.record import Record
from parity.spelling import number, spell_ascii

Kind = Literal["better", "worse", "new", "gone", "padding"]

FACTOR, FLOORS = 2.0, 0.5
"""An error has moved when it is more than so many times another one and by more than so many floors.

Correct engines differ by fractions of a floor: another release, kernel or number of threads adds the same numbers in another order, and
another seed estimates the floor anew. Measured over eight models, from three steps of two units to a lively GRU of 64 units, each run in
PyTorch and ONNX Runtime with six seeds and two numbers of threads: in 1056 pairs of runs on the same inputs no error moved by more than
0.094 floors. Between the two engines, whose kernels have nothing in common, no error of 40 random layers moved by more than 0.18 floors.
"""

_KINDS: dict[Kind, str] = {
    "worse": "worse",
    "better": "better",
    "gone": "gone",
    "new": "new",
    "padding": "with other padding",
}
_RANKS = {"agree": 0, "undecided": 1, "disagree": 2}
_MOST_NAMED = 6
"""Versions and settings that the sentence names."""


@dataclass(frozen=True)
class Measured:
    """What a row of a record says."""

    verdict: str
    times_floor: float | str
    max_error: float | str


@dataclass(frozen=True)
class Change:
    """One quantity of one pair that is not what it was.

    Args:
        change: "better" or "worse" where its verdict changed or its error moved, "new" or "gone", "padding" where engines now differ (or no
            longer do) in what padded steps hold, which is a convention and not judged.
        rule, quantity, left, right: as in the record's rows.
        then, now: what the two records say; None where it was not there.
        text: the same in a sentence.
    """

    change: Kind
    rule: str
    quantity: str
    left: str
    right: str
    then: Measured | None
    now: Measured | None
    text: str


@dataclass(frozen=True)
class Since:
    """What changed since an earlier record.

    Args:
        sentence: all of it in a sentence.
        comparable: whether both records are of the same inputs, so that their quantities can be laid beside each other.
        reasons: why they are not.
        alike: whether both records are, as far as they say, of the same models and inputs: only then is better or worse a statement about
            what else changed, such as a version.
        notes: what is not known.
        then, now: the verdicts.
        rows: what changed, the worst first; none where the records are not comparable.
        same: how many rows of the record stayed what they were.
        versions: of Python, the packages and the platform.
        settings: of the run and of every engine.
        sources: what is known to differ in them: their weights, their layers.
        engines: that are new or gone.
        failures: of engines, with what they said; one that failed then and fails now in other words is not worse.

    Example:
        >>> import torch
        >>> from parity.comparison import compare
        >>> from parity.report.record import make_record
        >>> record = make_record(compare(torch.nn.GRU(3, 5), engines=["torch"]))
        >>> print(since(record, record))
        Since the baseline nothing changed: agree then and now, 4 quantities compared.
    """

    sentence: str
    comparable: bool
    reasons: tuple[str, ...]
    alike: bool
    notes: tuple[str, ...]
    then: str
    now: str
    rows: tuple[Change, ...]
    same: int
    versions: tuple[Moved, ...]
    settings: tuple[Moved, ...]
    sources: tuple[Moved, ...]
    engines: tuple[Moved, ...]
    failures: tuple[Moved, ...]

    @property
    def worse(self) -> bool:
        """Whether anything got worse: a verdict, an error, an engine that fails now. Never where the models or inputs are other ones."""
        verdict = _RANKS[self.now] > _RANKS[self.then]
        return self.alike and (
            verdict
            or any(row.change == "worse" for row in self.rows)
            or any(failure.now and not failure.then for failure in self.failures)
        )

    @property
    def open(self) -> tuple[str, ...]:
        """Why it cannot be told that nothing got worse: other models or inputs, and what was measured then and is not now."""
        gone = [row.text for row in self.rows if row.change == "gone"]
        return (
            *self.reasons,
            *map(_source_in_words, self.sources),
            *(f"engine {one.name} is gone" for one in self.engines if one.then),
            *gone,
        )

    def as_json(self, fail_on_worse: bool = False) -> dict[str, Any]:
        """The same as plain values, for the record's field "baseline".

        Args:
            fail_on_worse: whether a command is to fail where anything got worse, or where that cannot be told.
        """
        return {"worse": self.worse, "fail_on_worse": fail_on_worse, "open": list(self.open), **asdict(self)}

    def lines(self) -> Iterator[str]:
        """What stands below the sentence: what is other than before, then a line for each change."""
        yield from self.reasons
        for moved in (self.sources, self.engines, self.versions, self.settings):
            yield from map(str, moved)
        yield from self.notes
        yield from (row.text for row in self.rows)
        yield from (f"{one.name} failed then: {one.then}" for one in self.failures if one.then and not one.now)
        yield from (f"{one.name} fails now: {one.now}" for one in self.failures if one.now)

    def __str__(self) -> str:
        return "\n".join([self.sentence, *(f"  {line}" for line in self.lines())])


def read_baseline(path: Path) -> Record:
    """Read a record to compare with, and make sure that it can be.

    Raises:
        ParityError: no such file.
        FormatError: no record, or one that lacks what is compared.
    """
    record = read_record(path)
    try:
        since(record, record)
    except FormatError as error:
        raise FormatError(error.problems[0].what, str(path), got=error.problems[0].got, remedy=_REMEDY) from error
    return record


_REMEDY = "give a record as parity compare --json writes it"


def since(earlier: Record, record: Record) -> Since:
    """Compare a record with an earlier one.

    Rows are matched by rule, quantity and engines; engines by their labels, else by engine and source. A row got better or worse if its
    verdict did, or if its error in floors moved by more than `FACTOR` times and by more than `FLOORS` floors. Records of other inputs are
    not comparable, and their rows are not compared; those of other models are, and nothing in them counts as worse for an upgrade.

    Args:
        earlier, record: from `parity.report.make_record` or `read_record`.

    Raises:
        FormatError: one of them lacks something, as a file changed by hand may.
    """
    try:
        return _since(earlier, record)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        got = f"{type(error).__name__}: {error}"
        raise FormatError(
            "this record does not hold what a comparison with it needs", got=got, remedy=_REMEDY
        ) from error


def _since(earlier: Record, record: Record) -> Since:
    labels = engines_now(earlier, record)
    reasons = tuple(other_inputs(earlier, record))
    then = [{**row, "left": labels.get(row["left"]), "right": labels.get(row["right"])} for row in earlier["rows"]]
    failures = tuple(differing(_failures(earlier, labels), record["failures"]))
    rows, same = ([], 0) if reasons else _changes(then, record["rows"], set(labels.values()), failures)
    if rows and not same and all(row.change in ("new", "gone") for row in rows):
        reasons, rows = ("no quantity that both have: it is of other models",), []
    sources = tuple(other_sources(earlier["sources"], record["sources"]))
    here = {engine["label"] for engine in record["engines"]} - set(labels.values())
    gone = {engine["label"] for engine in earlier["engines"]} - set(labels)
    engines = [*(Moved(name, "", "new") for name in sorted(here)), *(Moved(name, "gone", "") for name in sorted(gone))]
    found = Since(
        "",
        not reasons,
        reasons,
        not reasons and not sources,
        (*unknown_weights(earlier["sources"], record["sources"]), *unknown_inputs(earlier, record)),
        _verdict(earlier),
        _verdict(record),
        tuple(rows),
        same,
        tuple(other_versions(earlier, record)),
        tuple(other_settings(earlier, record, labels)),
        sources,
        tuple(engines),
        failures,
    )
    return Since(**{**vars(found), "sentence": _sentence(found)})


def _verdict(record: Record) -> str:
    if record["verdict"] not in _RANKS:
        raise ValueError(f"verdict {record['verdict']!r}")
    return str(record["verdict"])


def _changes(
    then: list[Record], now: list[Record], engines: set[str], failures: tuple[Moved, ...]
) -> tuple[list[Change], int]:
    """The rows that changed, the worst first, and how many did not. Of engines that are new, gone or failed there are no rows."""
    # A run that disagrees looks into its layers by itself: that an earlier one had no reason to is no change.
    looked = all(any(row["rule"] == "layer" for row in rows) for rows in (then, now))
    kept = ([row for row in rows if looked or row["rule"] != "layer"] for rows in (then, now))
    before, after = ({_key(row): row for row in rows if _among(row, engines)} for rows in kept)
    failing = {failure.name for failure in failures}
    found, same = [], 0
    for key in dict.fromkeys((*after, *before)):
        old, new = before.get(key), after.get(key)
        if (old is None or new is None) and failing & {key[2], key[3]}:
            continue
        change = _change(old, new)
        if change is None:
            same += 1
        else:
            found.append(_told(change, old, new))
    order = list(_KINDS)
    return sorted(found, key=lambda row: (order.index(row.change), -_size(row))), same


def _among(row: Record, engines: set[str]) -> bool:
    return {row["left"], row["right"]} <= engines


def _key(row: Record) -> tuple[str, str, str, str]:
    return row["rule"], row["quantity"], row["left"], row["right"]


def _size(row: Change) -> float:
    return max((_floors(one.times_floor) for one in (row.then, row.now) if one is not None), default=0.0)


def _change(then: Record | None, now: Record | None) -> Kind | None:
    if then is None or now is None:
        return "gone" if now is None else "new"
    ranks = _RANKS[then["verdict"]], _RANKS[now["verdict"]]
    if ranks[0] != ranks[1]:
        return "worse" if ranks[1] > ranks[0] else "better"
    before, after = _floors(then["times_floor"]), _floors(now["times_floor"])
    if moved(before, after):
        return "worse" if after > before else "better"
    return "padding" if bool(then["padding_outside"]) != bool(now["padding_outside"]) else None


def moved(before: float, after: float) -> bool:
    """Whether an error in floors moved by more than rounding explains: by more than `FACTOR` times and more than `FLOORS` floors.

    Example:
        >>> moved(0.1, 0.4), moved(0.3, 1.1), moved(40.0, 60.0), moved(60.0, 25.0)
        (False, True, False, True)
    """
    low, high = sorted((before, after))
    return low != high and high - low > FLOORS and high > FACTOR * low


def _floors(value: Any) -> float:
    """A number of floors, where what is no number counts as beyond all."""
    found = number(value)
    return math.inf if math.isnan(found) else found


def _told(change: Kind, then: Record | None, now: Record | None) -> Change:
    row: Record = now or then or {}
    old, new = (
        None if one is None else Measured(one["verdict"], one["times_floor"], one["max_error"]) for one in (then, now)
    )
    words = {"new": "new", "gone": "gone", "padding": "padded steps, whose values are a convention, "}
    if old is None or new is None:
        what = words[change]
    elif change == "padding":
        what = words[change] + ("differ now" if (now or {})["padding_outside"] else "no longer differ")
    else:
        verdicts = (
            f"{old.verdict} then, {new.verdict} now"
            if old.verdict != new.verdict
            else f"{change}, {new.verdict} as before"
        )
        floors = [spell_ascii(value) for value in (old.times_floor, new.times_floor, row["limit"])]
        what = f"{verdicts}: {floors[0]} floors then, {floors[1]} now, {floors[2]} allowed"
    text = f"{row_name(row)}, {pair_name(row)}: {what}"
    return Change(change, row["rule"], row["quantity"], row["left"], row["right"], old, new, text)


def _failures(record: Record, labels: Mapping[str, str]) -> dict[str, str]:
    return {labels.get(name, name): text for name, text in record["failures"].items()}


def _sentence(found: Since) -> str:
    """What is other than before, first; then the verdicts, what got better or worse, and how much was compared."""
    models = ", ".join(_source_in_words(one) for one in found.sources)
    verdict = f"{found.now} then and now" if found.then == found.now else f"{found.then} then, {found.now} now"
    if not found.comparable:
        besides = f"; {models}" if models else ""
        return f"Not comparable with the baseline ({found.then} then, {found.now} now): {'; '.join(found.reasons)}{besides}."
    counts = {kind: sum(row.change == kind for row in found.rows) for kind in _KINDS}
    said = [f"{count} {_KINDS[kind]}" for kind, count in counts.items() if count]
    said += [f"{one.name} {_failing(one)}" for one in found.failures]
    said += [f"engine {one.name} {one.now or one.then}" for one in found.engines]
    moved = [*map(str, found.versions), *map(str, found.settings)]
    named = [*moved[:_MOST_NAMED], *([f"{len(moved) - _MOST_NAMED} more"] if moved[_MOST_NAMED:] else [])]
    after = f" ({', '.join(named)})" if named else ""
    compared = _quantities(found.same + counts["worse"] + counts["better"] + counts["padding"])
    if models:
        what = ", ".join([models, *named])
        other = f"The baseline is of another model ({what}): better or worse is no statement about an upgrade."
        told = "; ".join([*(said or ["no error moved"]), f"{compared} compared"])
        return f"{other} {verdict[0].upper()}{verdict[1:]}; {told}."
    if not said and found.then == found.now:
        return f"Since the baseline{after} nothing changed: {verdict}, {compared} compared."
    return f"Since the baseline{after}: {verdict}; " + "; ".join([*said, f"{compared} compared"]) + "."


def _failing(one: Moved) -> str:
    """What became of an engine's failure.

    Example:
        >>> [_failing(Moved("torch", *texts)) for texts in (("", "no memory"), ("no memory", ""), ("no memory", "SIGSEGV"))]
        ['fails now', 'no longer fails', 'fails as before, in other words']
    """
    return ("fails as before, in other words" if one.then else "fails now") if one.now else "no longer fails"


def _source_in_words(one: Moved) -> str:
    """How a source differs.

    Example:
        >>> _source_in_words(Moved("weights of m.pt", "12", "ab")), _source_in_words(Moved("source m.pt", "none", "new"))
        ('other weights of m.pt', 'source m.pt new')
    """
    return f"{one.name} {one.now}" if one.name.startswith("source ") else f"other {one.name}"


def _quantities(count: int) -> str:
    return f"{count} {'quantity' if count == 1 else 'quantities'}"


__all__ = ["FACTOR", "FLOORS", "Change", "Measured", "Moved", "Since", "moved", "read_baseline", "since"]
