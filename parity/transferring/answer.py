"""What a transfer did, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from parity.shown import html_of, save_page

HEADS = ("source", "transform", "target", "shape", "sha256", "matched by")
"""Of `Row.cells`."""

DIGITS = 12
"""So many digits of a hash are shown."""


@dataclass(frozen=True)
class Row:
    """One tensor of the target.

    Args:
        source: names of the source's tensors that it was made of, joined by " + "; "" for a constant.
        transform: what was done to them, in words.
        target: its name.
        shape: its shape.
        sha256: of the bytes that the target holds now, 64 hexadecimal digits.
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
        return self.source or "-", self.transform, self.target, shape, self.sha256[:DIGITS], self.how


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
    def sentence(self) -> str:
        """What went over and what did not, in a sentence.

        Example:
            >>> Transfer((), ("gru/bias",), ("rnn.extra",)).sentence
            'Of the source gru/bias is unused; of the target rnn.extra is unwritten.'
        """
        parts = (("source", self.unused, "unused"), ("target", self.untouched, "unwritten"))
        said = [
            f"of the {side} {_few(names)} {'is' if len(names) == 1 else 'are'} {word}"
            for side, names, word in parts
            if names
        ]
        if not said:
            return "Every tensor of the source is used, and every tensor of the target is written."
        text = "; ".join(said)
        return f"{text[0].upper()}{text[1:]}."

    @property
    def _written(self) -> str:
        return f"{len(self.rows)} tensor{'s' if len(self.rows) != 1 else ''} written"

    def save_html(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write the table as a page: one HTML file that needs no network.

        Args:
            path: of the file.
            overwrite: whether an existing file may be replaced.

        Raises:
            ParityError: the file exists and `overwrite` is False, or cannot be written.

        Example:
            >>> import tempfile
            >>> row = Row("gru/kernel", "transposed", "rnn.weight_ih_l0", (6, 3), "0123456789ab", "equal name")
            >>> Transfer((row,)).save_html(Path(tempfile.mkdtemp()) / "transfer.html").name
            'transfer.html'
        """
        return save_page(self, Path(path), overwrite)

    def _repr_html_(self) -> str:
        return html_of(self)


_FEW = 3


def _few(names: tuple[str, ...]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return f"{', '.join(names[:_FEW])}{more}"


def _names(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
