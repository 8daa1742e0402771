"""A Comparison, Returns, a Diagnosis and a Transfer as a notebook shows them."""

from __future__ import annotations

from parity.diagnosis.diagnosis import Diagnosis, Evidence
from parity.findings import Findings
from parity.notebook.drawing import cut, never_raising, rendered
from parity.report import snippet
from parity.report.numbers import spell
from parity.returns import PADDING_TITLES, Returns
from parity.transferring.answer import HEADS, Transfer

_TABLE, _LIST, _CODE = 24_000, 6_000, 12_000
"""Bytes of HTML that a table, a list and source code may take."""


@never_raising
def comparison_html(comparison: Findings) -> str:
    """The verdict in a sentence, and the matrix of differences."""
    return snippet(comparison)


@never_raising
def returns_html(returns: Returns) -> str:
    """Keras's values in their order with where each is in torch and in ONNX; what those return, and how they are called.

    Example:
        >>> from parity.explaining import explain_layer
        >>> from parity.recurrent import RecurrentSpec
        >>> "<b>LSTM(64) returns 1 value: (batch, 64)</b>" in returns_html(explain_layer(RecurrentSpec("lstm", 20, 64)))
        True
    """
    calls = (("torch", returns.torch_call, returns.torch), ("ONNX", returns.onnx_call, returns.onnx))
    return rendered(
        "notebook_returns.html",
        headline=returns.headline,
        values=cut(((place or "itself", *row) for place, *row in returns.value_rows()), _TABLE, last=2),
        calls=[(name, _values(values), cut(call, _LIST)) for name, call, values in calls if values],
        rows=cut(((str(index), row) for index, row in enumerate(returns.rows)), _LIST, last=2),
        has_cell=len(returns.torch) > 2,
        notes=cut(returns.notes, _LIST),
        ways=cut((tuple(row) for row in returns.way_rows()), _LIST),
        padding=cut((tuple(row) for row in returns.padding_rows()), _LIST),
        padding_heads=PADDING_TITLES,
    )


def _values(values: tuple[tuple[str, tuple[int | str, ...]], ...]) -> str:
    return ", ".join(f"{name} ({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})" for name, shape in values)


@never_raising
def diagnosis_html(diagnosis: Diagnosis) -> str:
    """The cause, where it is, the hypotheses with what each leaves of the difference, the repair, and notes.

    Example:
        >>> "agree" in diagnosis_html(Diagnosis("a", "b", True))
        True
    """
    verdict = "agree" if diagnosis.agrees else "disagree" if diagnosis.found else "undecided"
    titles = {
        "agree": "✓ Nothing to explain",
        "disagree": "✗ Likely cause",
        "undecided": "? Several causes" if diagnosis.faults else "? No cause found",
    }
    ruled_out = ", ".join(diagnosis.ruled_out) if not diagnosis.faults else ""
    first_step = "" if diagnosis.first_step is None else str(diagnosis.first_step)
    facts = {
        "first layer that differs by itself": diagnosis.first_layer or "",
        "first step that is off": first_step,
        "hypotheses replayed": str(diagnosis.tried or ""),
        "ruled out": ruled_out,
    }
    return rendered(
        "notebook_diagnosis.html",
        verdict=verdict,
        title=titles[verdict],
        cause=diagnosis.cause,
        names=[diagnosis.reference, diagnosis.suspect],
        places=cut((str(place) for place in diagnosis.where), _LIST),
        facts=[(name, text) for name, text in facts.items() if text],
        evidence=cut(map(_evidence, () if diagnosis.agrees else diagnosis.evidence), _TABLE),
        probes=cut((f"{one}: it {one.meaning}" for one in diagnosis.probes if one.differs), _LIST),
        repair=cut(diagnosis.repair.rstrip().splitlines(), _CODE),
        notes=cut(diagnosis.notes, _LIST),
    )


def _evidence(row: Evidence) -> tuple[str, ...]:
    numbers = (spell(row.before), spell(row.after), spell(row.floors))
    return f"it {row.hypothesis}", row.place, *numbers, "✓ yes" if row.fits else "no"


@never_raising
def transfer_html(transfer: Transfer) -> str:
    """Every tensor that was written with where it came from, what was done to it, and its hash; what is unused and unwritten.

    Example:
        >>> from parity.transferring.answer import Row
        >>> row = Row("gru/kernel", "transposed", "rnn.weight_ih_l0", (6, 3), "0123456789ab", "equal name")
        >>> "rnn.weight_ih_l0" in transfer_html(Transfer((row,)))
        True
    """
    return rendered(
        "notebook_transfer.html",
        count=transfer.counts,
        heads=HEADS,
        rows=cut((row.cells for row in transfer.rows), _TABLE, last=3),
        unused=cut(transfer.unused, _LIST),
        untouched=cut(transfer.untouched, _LIST),
        warnings=cut(transfer.warnings, _LIST),
    )


__all__ = ["comparison_html", "diagnosis_html", "returns_html", "transfer_html"]
