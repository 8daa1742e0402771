"""What a transfer did, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from parity.shown import html_of

HEADS = ("source", "transform", "target", "shape", "sha256", "matched by")
"""Of `Row.cells`."""


@dataclass(frozen=True)
class Row:
    """One tensor of the target.

    Args:
        source: names of the source's tensors that it was made of, joined by " + "; "" for a constant.
        transform: what was done to them, in words.
        target: its name.
        shape: its shape.
        sha256: the first 12 digits of the hash of the bytes that the target holds now.
        how: how its layer was matched.
    """

    source: str
    transform: str
    target: str
    shape: tuple[int, ...]
    sha256: str
    how: str

    @property
    def cells(self) -> tuple[str, ...]:
        """As shown."""
        shape = " x ".join(map(str, self.shape)) or "scalar"
        return self.source or "-", self.transform, self.target, shape, self.sha256, self.how


@dataclass(frozen=True)
class Transfer:
    """What `parity.transfer` did; `print` shows it as a table, a notebook as HTML.

    Args:
        rows: every tensor that was written.
        unused: tensors of the source that went nowhere, because the user said so or because they change nothing.
        untouched: tensors of the target that kept their values, likewise.
        warnings: what changes the numbers beside the weights: options that differ, what the source does not say.
        how: for each layer of the target how it was matched.

    Example:
        >>> row = Row("gru/kernel", "transposed", "rnn.weight_ih_l0", (6, 3), "0123456789ab", "equal name")
        >>> print(Transfer((row,)))
        source      transform   target            shape  sha256        matched by
        gru/kernel  transposed  rnn.weight_ih_l0  6 x 3  0123456789ab  equal name
        1 tensor written, none unused, none untouched
    """

    rows: tuple[Row, ...]
    unused: tuple[str, ...] = ()
    untouched: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    how: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        table = [HEADS, *(row.cells for row in self.rows)]
        widths = [max(len(line[at]) for line in table) for at in range(len(HEADS))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table
        ]
        return "\n".join([*lines, self._summary, *(f"warning: {text}" for text in self.warnings)])

    @property
    def _summary(self) -> str:
        return f"{self._written}, {_names(self.unused)} unused, {_names(self.untouched)} untouched"

    @property
    def counts(self) -> str:
        """How many tensors were written, and how many are unused and untouched."""
        return f"{self._written}, {len(self.unused) or 'none'} unused, {len(self.untouched) or 'none'} untouched"

    @property
    def _written(self) -> str:
        return f"{len(self.rows)} tensor{'s' if len(self.rows) != 1 else ''} written"

    def _repr_html_(self) -> str:
        return html_of(self)


def _names(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
