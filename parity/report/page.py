"""The page drawn from a record: one HTML file that needs no network and no script."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, UndefinedError
from markupsafe import Markup

from parity.errors import FormatError
from parity.report.cause import cause_view
from parity.report.decisions import decisions_view
from parity.report.distribution import distribution_view
from parity.report.in_words import breakable, isolated, place_in_words, shape_in_words, turns, value_in_words
from parity.report.inside import inside_view, weight_legend
from parity.report.map_chart import can_be_told, map_chart, map_legend, pooled_peaks
from parity.report.mapping import mapping_view
from parity.report.matrix import Record, columns_of, limits_of, places_of, tables_of
from parity.report.numbers import aligned, exact, spell
from parity.report.packing import TABLES, packed
from parity.report.plots import STYLES
from parity.report.sections import (
    FILLS,
    FORMS,
    conventions_view,
    forms_view,
    gates_view,
    inputs_view,
    layers_view,
    mask_view,
    what_ran,
)
from parity.report.strip import strip_view
from parity.report.templating import environment_with, page_of, style
from parity.report.time_chart import numbers_of, profile_chart
from parity.transferring.answer import DIGITS


def render(record: Record) -> str:
    """The page of a record.

    Args:
        record: from `parity.report.make_record` or `read_record`; everything on the page comes from it.

    Returns:
        HTML with its style, drawings and the record itself inside.

    Raises:
        FormatError: the record lacks something or holds it in another form, as a file changed by hand may.

    Example:
        >>> import torch
        >>> from parity.comparison import compare
        >>> from parity.report.record import make_record
        >>> page = render(make_record(compare(torch.nn.GRU(3, 5), engines=["torch"])))
        >>> page[:15], "<title>agree" in page
        ('<!doctype html>', True)
    """
    return _render("page.html", record)


def render_snippet(record: Record) -> str:
    """The sentence and the matrix of a record as a fragment for notebooks.

    Args:
        record: as for `render`.

    Raises:
        FormatError: as for `render`.
    """
    return _render("snippet.html", record)


def embed(record: Record) -> Markup:
    r"""A record as JSON that can stand inside a script element: nothing in it can close the element. Its tables are packed.

    Example:
        >>> embed({"title": "</script>"})
        Markup('{"title":"\\u003c/script\\u003e"}')
    """
    compact = {**record, **{key: packed(record[key]) for key in TABLES if key in record}}
    if "mapping" in record:
        compact["mapping"] = [{**table, "rows": packed(table["rows"])} for table in record["mapping"]]
    text = json.dumps(compact, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


@cache
def _environment() -> Environment:
    return environment_with(
        aligned=aligned,
        exact=exact,
        spell=spell,
        breakable=breakable,
        shape=shape_in_words,
        place=place_in_words,
        value=value_in_words,
    )


def _render(template: str, record: Record) -> str:
    try:
        layers = [
            layer["name"] for source in record["sources"] for layer in (*source["layers"], *record["architecture"])
        ]
        labels = [part["label"] for part in (*record["engines"], *record["sources"])] + list(filter(turns, layers))
        labels += [cause[side] for cause in (record["diagnosis"],) if cause for side in ("reference", "suspect")]
        return page_of(_environment(), template, {**_view(record), "labels": labels})
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, UndefinedError) as error:
        raise FormatError(
            "this record does not hold what a page needs", got=f"{type(error).__name__}: {error}"
        ) from error


def _view(record: Record) -> dict[str, Any]:
    """What the template shows, beside the record itself."""
    styles = _styles(record)
    columns = columns_of(record["rows"], styles)
    sources = [layers_view(source) for source in record["sources"]]
    strip = strip_view(record, sources[0]["layers"])
    others = [row for row in record["rows"] if row["rule"] != "layer"] if strip else record["rows"]
    return {
        "record": record,
        "css": style(
            "style.css",
            "whole.css",
            "mapping.css",
            *(["strip.css"] if strip else []),
            *(["inside.css"] if record.get("inside") else []),
        ),
        "embedded": embed(record),
        "styles": styles,
        "tables": tables_of(record, columns),
        "strip": strip,
        "run_tables": tables_of({**record, "rows": others}, columns_of(others, styles)),
        "distribution": distribution_view(record, styles),
        "decisions": decisions_view(record),
        "limits": limits_of(record["rows"], columns),
        "ran": what_ran(record),
        "chart": _profile(record, styles),
        "missing_lines": [
            label
            for label in styles
            if label not in {**(record["profile"] or {"engines": styles})["engines"], **record["failures"]}
        ],
        "chart_numbers_of": [] if record["profile"] is None else numbers_of(record["profile"]),
        "map": _map(record),
        "map_is_small": can_be_told(record["map"]),
        "map_legend": map_legend(record["judging"]["limit"]),
        "places": places_of(others, columns),
        "peaks": pooled_peaks(record["map"], record["judging"]["limit"]),
        "gates": [gates_view(record, kind) for kind in record["gates"]],
        "forms": forms_view(record),
        "form_words": FORMS,
        "mask": mask_view(record, columns),
        "padding": [{**row, "steps": FILLS.get(row["steps"], row["steps"])} for row in record["padding"]],
        "conventions": conventions_view(record),
        "sources": sources,
        "inputs": inputs_view(record),
        "failures": record["failures"],
        "cause": cause_view(record.get("diagnosis")),
        "mapping": mapping_view(record),
        "inside": inside_view(record),
        "weight_legend": weight_legend(),
        "digits": DIGITS,
        "pattern_count": STYLES,
    }


def _styles(record: Record) -> dict[str, int]:
    """A line style for every participant, in order; the reference, which stands last, has none."""
    return {engine["label"]: index % STYLES for index, engine in enumerate(record["engines"][:-1])}


def _profile(record: Record, styles: Mapping[str, int]) -> Markup | None:
    profile, judging = record["profile"], record["judging"]
    if profile is None:
        return None
    directions: list[str] = next(
        (layer["directions"] for layer in reversed(record["sources"][0]["layers"]) if "directions" in layer), []
    )
    # The horizon counts in processing order, which is the order of the axis for the forward direction alone.
    horizon = judging["horizon"] if directions == ["forward"] else None
    return profile_chart(profile, judging["limit"], horizon, styles)


def _map(record: Record) -> Markup | None:
    where = record["map"]
    if where is None:
        return None
    rows = [
        r
        for r in record["rows"]
        if r["rule"] != "one step" and (r["left"], r["quantity"]) == (where["engine"], where["quantity"])
    ]
    return map_chart(where, record["judging"]["limit"], rows[0]["worst"] if rows else None)


__all__ = ["Record", "embed", "isolated", "render", "render_snippet"]
