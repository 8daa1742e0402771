"""Records read again: a saved file, or what was copied out of a page, held to the schema that is published before anything is drawn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity.errors import FormatError, ParityError, Problem
from parity.report.packing import TABLES, unpacked
from parity.report.record import SCHEMA, Record
from parity.report.refusal import SCHEMA as REFUSAL

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator, ValidationError

_FIRST, _SECOND = ({**SCHEMA, "version": version} for version in (1, 2))
_MOST_BYTES = 1 << 26
"""Records of the largest comparisons have a few hundred kilobytes; what is a hundred times larger is no record."""
_MOST_TOLD = 8
_MOST_SHOWN = 120
_ANEW = "compare again with --json, or take the record as it was written"


def read_record(path: Path) -> Record:
    """Read a record that was saved, or copied out of a page.

    Raises:
        FormatError: not JSON, not a record of a version known here, or one that does not hold to its schema or contradicts itself: all
            that is wrong at once, each with its place.
    """
    return _of_comparison(_loaded(path), path)


def read_any(path: Path) -> Record:
    """Read the record of a comparison, or of one that was refused.

    Raises:
        FormatError: as for `read_record`.
    """
    record = _loaded(path)
    if isinstance(record, dict) and record.get("schema") == REFUSAL:
        _check_schema(record, path, "refusal.schema.json")
        return record
    return _of_comparison(record, path)


def _of_comparison(record: Any, path: Path) -> Record:
    schema = record.get("schema") if isinstance(record, dict) else None
    if schema not in (SCHEMA, _FIRST, _SECOND):
        raise FormatError(
            "this is no record of a version known here", str(path), json.dumps(SCHEMA), _shortened(schema)
        )
    try:
        record = {**record, **{key: unpacked(record.get(key, [])) for key in TABLES}}
        record["mapping"] = [{**table, "rows": unpacked(table["rows"])} for table in record.get("mapping", [])]
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise FormatError(
            "the record's rows are no table", str(path), got=f"{type(error).__name__}: {error}"
        ) from error
    if schema == _FIRST:
        record = _upgraded(record)
    record.setdefault("diagnosis", None)
    record.setdefault("baseline", None)
    for key in ("architecture", "distribution", "decisions"):
        record.setdefault(key, [])
    if schema == SCHEMA:
        _check_schema(record, path)
    _check_verdict(record, path)
    return dict(record)


def _loaded(path: Path) -> Any:
    if not path.is_file():
        raise ParityError("no such file", str(path), "a record", "nothing there", "check the name and the folder")
    try:
        if (size := path.stat().st_size) > _MOST_BYTES:
            raise FormatError("this is no record", str(path), f"at most {_MOST_BYTES} bytes", f"{size} bytes")
        # Editors and shells on Windows put a byte order mark before the text.
        return json.loads(path.read_text(encoding="utf-8-sig"), parse_constant=_no_number)
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(
            "this is no record", str(path), "JSON written by parity compare --json", str(error)
        ) from error


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not JSON: numbers that are not finite are strings in a record")


@cache
def _validator(name: str) -> Draft202012Validator:
    from jsonschema import Draft202012Validator  # only those who read a record wait for it

    published = resources.files("parity") / "report" / name
    return Draft202012Validator(json.loads(published.read_text(encoding="utf-8")))


def _check_schema(record: Record, path: Path, schema: str = "record.schema.json") -> None:
    found = list(islice(_validator(schema).iter_errors(record), _MOST_TOLD + 1))
    if found:
        problems = [
            Problem("the record does not hold to its schema", f"{path}: {error.json_path}", *_said(error), _ANEW)
            for error in map(_deepest, found[:_MOST_TOLD])
        ]
        more = [Problem(f"more than {_MOST_TOLD} such places", str(path))] if len(found) > _MOST_TOLD else []
        raise FormatError([*problems, *more])


def _deepest(error: ValidationError) -> ValidationError:
    """What is wrong inside, where one of several forms was meant: the form that fits furthest says the place."""
    while error.context:
        error = max(error.context, key=lambda inner: len(inner.absolute_path))
    return error


def _said(error: ValidationError) -> tuple[str, str]:
    """What a schema expects at a place, and what stands there."""
    rule, value = error.validator, error.validator_value
    if rule == "required":
        missing = ", ".join(key for key in value if key not in error.instance)
        return "the fields " + ", ".join(map(str, value)), f"no {missing}"
    if rule == "additionalProperties":
        return "no other fields than " + ", ".join(error.schema.get("properties", {})), ", ".join(_others(error))
    wanted = value if rule == "type" else _shortened(value)
    return f"{'one of ' if rule == 'enum' else ''}{wanted}", _shortened(error.instance)


def _others(error: ValidationError) -> Iterator[str]:
    known = error.schema.get("properties", {})
    return (_shortened(key) for key in error.instance if key not in known)


def _shortened(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]} …"


def _check_verdict(record: Record, path: Path) -> None:
    """Whether the verdict is what the rows say, and each row what its numbers say.

    Raises:
        FormatError: it is not, or there are no rows.
    """
    rows = record.get("rows")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise FormatError("the record's rows are no table", str(path), "a list of rows", _shortened(rows), _ANEW)
    wrong = [row for row in rows if row.get("outside") and row.get("verdict") != "disagree"]
    if wrong:
        row = wrong[0]
        got = f"{row.get('outside')} values outside the limit in {row.get('quantity')}, called {row.get('verdict')!r}"
        raise FormatError("the record contradicts itself", str(path), "'disagree'", got, _ANEW)
    verdicts = {row.get("verdict") for row in rows}
    if record.get("failures") or not any(row.get("rule") == "run" for row in rows):
        verdicts.add("undecided")
    derived = next((verdict for verdict in ("disagree", "undecided") if verdict in verdicts), "agree")
    # Where nothing but zeros or padding was computed the rows agree, and the verdict is undecided nevertheless.
    if record.get("verdict") not in (derived, "undecided" if derived == "agree" else derived):
        got = f"verdict {record.get('verdict')!r}, but rows that {derived}"
        raise FormatError("the record contradicts itself", str(path), f"verdict {derived!r}", got, _ANEW)


def _upgraded(record: Record) -> Record:
    """A record of version 1, which knew no masks, no forms and each recurrent layer by itself, as one of this version."""
    rows, engines, conventions = (
        [part for part in parts if isinstance(part, dict)] if isinstance(parts := record.get(key), list) else []
        for key in ("rows", "engines", "conventions")
    )
    layers = [
        {
            **{key: value for key, value in returns.items() if key != "name"},
            "names": [returns.get("name")],
            "keras": [{"place": f"[{index}]", **value} for index, value in enumerate(returns.get("keras") or ())],
            **{key: [] for key in ("torch_call", "onnx_call", "rows", "ways")},
        }
        for returns in conventions
    ]
    return {
        **record,
        "rows": [{"padding_error": 0.0, "padding_outside": 0, "padded": 0, **row} for row in rows],
        "engines": [{**engine, "form": {"kind": "", "composed": [], "notes": []}} for engine in engines],
        "conventions": layers,
        "failures": record.get("failures", {}),
        "mask": None,
        "padding": [],
    }


__all__ = ["read_any", "read_record"]
