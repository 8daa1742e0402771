"""What every engine returns for a recurrent layer: the findings as data, and as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from parity.conventions import PADDING, Padding
from parity.shown import html_of

Shape = tuple[int | str, ...]
Returned = tuple[tuple[str, Shape], ...]
"""Values by the framework's own names, with their shapes."""

_WIDE = 140
"""Columns that a line of text may have."""

_VALUE_TITLES = ["", "value", "shape", "what it is", "in torch", "in ONNX"]
PADDING_TITLES = ["framework", "called with", "padded steps hold", "final state from", "without a valid step"]
"""Of `Returns.padding_rows`."""


@dataclass(frozen=True)
class Explained:
    """One value of Keras's return, and where it is in the other frameworks.

    Args:
        name: what it is.
        shape: with numbers where they are known.
        meaning: in a sentence.
        torch: an expression over what `Returns.torch_call` gives.
        onnx: an expression over `Y`, `Y_h` and `Y_c` as NumPy arrays; empty where ONNX has no such layer.
        group: index of the nested list that holds it (Keras nests the states of a list of cells), None if it stands by itself.
    """

    name: str
    shape: Shape
    meaning: str
    torch: str
    onnx: str
    group: int | None = None


@dataclass(frozen=True)
class Way:
    """Another way to call a framework's layer, and what it returns then.

    Args:
        framework: "torch" or "onnx".
        call: in the framework's own words.
        values: by name and shape.
        note: what else to know.
    """

    framework: str
    call: str
    values: Returned
    note: str = ""


@dataclass(frozen=True)
class Returns:
    """What a recurrent layer, or a stack of them, returns in each framework.

    Args:
        layer: the Keras layer in words.
        keras: Keras's values in order, each with its equivalents.
        torch: torch's values by name and shape, from `(output, (h_n, c_n))`.
        onnx: ONNX's values by name and shape; none where ONNX has no such layer.
        notes: what people trip over here.
        torch_call: lines of Python that give the names in the torch expressions, x being batch first.
        onnx_call: the same for ONNX, x being a batch-first NumPy array.
        rows: what each row of a stacked h_n and c_n is, in order; none where there is one.
        ways: what other ways to call the layer return.
        padding: what padded steps hold and where the final state is taken, in each framework.
    """

    layer: str
    keras: tuple[Explained, ...]
    torch: Returned
    onnx: Returned
    notes: tuple[str, ...]
    torch_call: tuple[str, ...] = ()
    onnx_call: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    ways: tuple[Way, ...] = ()
    padding: tuple[Padding, ...] = PADDING

    @property
    def shapes(self) -> str:
        """Keras's return as one would see it: a shape, or a list of them, nested where Keras nests.

        Example:
            >>> from parity.explaining import explain_layer
            >>> from parity.recurrent import RecurrentSpec
            >>> explain_layer(RecurrentSpec("lstm", 20, 64), batch=32, time=10).shapes
            '(32, 64)'
            >>> cells = [RecurrentSpec("gru", 20, 64), RecurrentSpec("rnn", 64, 8)]
            >>> explain_layer(cells, return_state=True, batch=32).shapes
            '[(32, 8), [(32, 64)], [(32, 8)]]'
        """
        texts: list[str] = []
        for position, members in self._positions():
            inner = ", ".join(shape_text(value.shape) for value in members)
            texts.append(f"[{inner}]" if self.keras[position].group is not None else inner)
        return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"

    @property
    def places(self) -> tuple[str, ...]:
        """Where each value stands in what Keras returns: "[1]", or "[1][0]" in a nested list; empty for a single value."""
        if len(self.keras) == 1:
            return ("",)
        return tuple(
            f"[{index}]" + (f"[{inner}]" if value.group is not None else "")
            for index, (_, members) in enumerate(self._positions())
            for inner, value in enumerate(members)
        )

    def _positions(self) -> list[tuple[int, list[Explained]]]:
        """Keras's items: the position of the first value of each, and its values."""
        items: list[tuple[int, list[Explained]]] = []
        for position, value in enumerate(self.keras):
            if items and value.group is not None and items[-1][1][-1].group == value.group:
                items[-1][1].append(value)
            else:
                items.append((position, [value]))
        return items

    def text(self, context: bool = True) -> str:
        """The whole in words, aligned.

        Args:
            context: whether to add what is the same for every layer: other ways to call it, and padding.
        """
        lines = [self.headline, "", *self._values()]
        for name, call, values in (("torch", self.torch_call, self.torch), ("onnx", self.onnx_call, self.onnx)):
            if values:
                lines += ["", f"{name} returns {_listed(values)}", *(f"  {line}" for line in call)]
        if self.rows:
            lines += ["", "rows of h_n" + (" and c_n" if len(self.torch) > 2 else "")]
            lines += _aligned((f"[{index}]", row) for index, row in enumerate(self.rows))
        lines += ["", *self.notes] if self.notes else []
        return "\n".join([*lines, *(["", *self.context()] if context else [])])

    @property
    def headline(self) -> str:
        """How many values, and their shapes, in a sentence."""
        count = len(self.keras)
        returns = "return" if self.layer.endswith("s") or "stacked" in self.layer else "returns"
        return f"{self.layer} {returns} {count} value{'s' if count > 1 else ''}: {self.shapes}"

    def value_rows(self) -> list[list[str]]:
        """Keras's values: place, name, shape, meaning, the expression in torch, that in ONNX."""
        return [
            [place, value.name, shape_text(value.shape), value.meaning, value.torch, value.onnx]
            for place, value in zip(self.places, self.keras, strict=True)
        ]

    def _values(self) -> list[str]:
        """Keras's values: one line each where there is room, else three."""
        cells = self.value_rows()
        table = _aligned([_VALUE_TITLES, *cells])
        if max(map(len, table)) <= _WIDE:
            return table
        heads = _aligned(row[:4] for row in cells)
        lines: list[str] = []
        for head, (*_, torch, onnx) in zip(heads, cells, strict=True):
            lines += [head, f"      torch  {torch}", *([f"      onnx   {onnx}"] if onnx else [])]
        return lines

    def context(self) -> list[str]:
        """Other ways to call the layer, and padding, line by line."""
        lines = ["called in another way", *_aligned(self.way_rows())] if self.ways else []
        if self.padding:
            rows = [PADDING_TITLES, *self.padding_rows()]
            lines += [*([""] if lines else []), "padded steps", *_aligned(rows)]
        return lines

    def way_rows(self) -> list[list[str]]:
        """Other ways to call the layer: framework, call, what it returns then."""
        return [self._way(way) for way in self.ways]

    def padding_rows(self) -> list[list[str]]:
        """What padded steps hold, and where the final state is taken, under `PADDING_TITLES`."""
        return [_padding_row(row) for row in self.padding]

    def _way(self, way: Way) -> list[str]:
        """A way in words, without the values that are the same as in the usual one."""
        usual = self.torch if way.framework == "torch" else self.onnx
        other = tuple(value for value in way.values if value not in usual)
        same = ["the rest as above"] if len(other) < len(way.values) else []
        return [way.framework, way.call, "; ".join([_listed(other), *same, *([way.note] if way.note else [])])]

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return html_of(self)


def shape_text(shape: Sequence[int | str]) -> str:
    """A shape as Python prints it, names unquoted.

    Example:
        >>> shape_text(("batch", 10, 64))
        '(batch, 10, 64)'
    """
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


_FILLS = {"zero": "0", "repeat": "the last output again", None: "what it computes there"}


def _padding_row(row: Padding) -> list[str]:
    return [row.engine, row.call, _FILLS[row.steps], row.state, row.empty]


def _listed(values: Returned) -> str:
    return ", ".join(f"{name} {shape_text(shape)}" for name, shape in values)


def _aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows of a table, indented, every column but the last padded to its width."""
    table = [list(row) for row in rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))] if table else []
    return ["  " + "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in table]
