"""A comparison as JUnit XML, which Jenkins, GitLab and most other CI servers show as tests.

One test case per quantity, pair and rule. What disagrees is a failure; an engine that failed is an error; what is undecided is skipped,
for it is neither proved nor refuted: whoever wants to stop there has the exit code 3 of the command. What could not be compared at all is
one test case, an error with every problem and its remedy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

from parity.errors import REFUSED, Problem
from parity.record_words import cause_in_words, pair_name, row_name
from parity.report.numbers import spell

_FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 does not allow, and the controls that it discourages."""


def junit(record: Mapping[str, Any]) -> str:
    """A record as JUnit XML.

    Args:
        record: from `parity.report.make_record` or `read_record`, or of a refusal: one test case, which is an error.

    Returns:
        The document; the same for the same record: it has no times and no name of a host.

    Example:
        >>> import torch
        >>> from parity.comparison import compare
        >>> from parity.report.record import make_record
        >>> text = junit(make_record(compare(torch.nn.GRU(3, 5), engines=["torch"])))
        >>> text.count("<testcase "), 'torch against the float64 reference" name="h_n after one step"' in text
        (4, True)
    """
    cases = [_refused(record)] if record["verdict"] == REFUSED else [*_cases(record)]
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": str(sum(case.find("error") is not None for case in cases)),
    }
    skipped = str(sum(case.find("skipped") is not None for case in cases))
    root = _element("testsuites", name="parity", **counts)
    suite = _element("testsuite", name=f"parity: {record['title']}", **counts, skipped=skipped)
    root.append(suite)
    properties = _element("properties")
    properties.extend(_element("property", name=name, value=value) for name, value in _properties(record))
    suite.append(properties)
    suite.extend(cases)
    ElementTree.indent(root, " ")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _refused(record: Mapping[str, Any]) -> ElementTree.Element:
    """What could not be compared, as the one test case there is."""
    command = record["again"]["command"]
    lines = [
        *(str(Problem(**problem)) for problem in record["problems"]),
        *([f"run it again: {command}"] if command else []),
    ]
    case = _element("testcase", classname=_class(record, "the comparison as a whole"), name="can be made")
    case.append(_element("error", "\n".join(lines), message=record["sentence"], type=REFUSED))
    return case


def _cases(record: Mapping[str, Any]) -> Iterator[ElementTree.Element]:
    """One per row; one per engine that failed; one of the whole where no other says why it is undecided."""
    shown = {"agree"}
    for row in record["rows"]:
        case = _element("testcase", classname=_class(record, pair_name(row)), name=row_name(row))
        shown.add(row["verdict"])
        if row["verdict"] == "undecided":
            case.append(_element("skipped", _details(record, row), message=_message(row), type="undecided"))
        elif row["verdict"] != "agree":
            case.append(_element("failure", _details(record, row), message=_message(row), type="disagree"))
        yield case
    if record.get("baseline") is not None:
        yield _since(record, record["baseline"])
    for label, text in record["failures"].items():
        case = _element("testcase", classname=_class(record, label), name="runs to the end")
        case.append(_element("error", f"{text}\n{_again(record)}", message=f"{label} failed: {text}", type="engine"))
        yield case
    if record["verdict"] not in shown and not record["failures"]:
        case = _element("testcase", classname=_class(record, "the comparison as a whole"), name="can be decided")
        notes = "\n".join([*record["notes"], _again(record)])
        case.append(_element("skipped", notes, message=record["sentence"], type="undecided"))
        yield case


def _since(record: Mapping[str, Any], since: Mapping[str, Any]) -> ElementTree.Element:
    """Whether anything got worse since a baseline: a failure where the command was asked to fail on it, else what it is in words."""
    case = _element("testcase", classname=_class(record, "the baseline"), name="nothing got worse")
    asked, rows = since.get("fail_on_worse", False), [row["text"] for row in since["rows"]]
    text = "\n".join([since["sentence"], *rows, _again(record)])
    if since["worse"] and asked:
        case.append(_element("failure", text, message=since["sentence"], type="worse"))
    elif since.get("open"):
        reasons = "; ".join(since["open"])
        case.append(_element("error" if asked else "skipped", text, message=f"cannot be told: {reasons}", type="open"))
    else:
        case.append(_element("system-out", text))
    return case


def _class(record: Mapping[str, Any], last: str) -> str:
    """Servers cut class names into packages at dots, so that a name may have none of its own."""
    return ".".join(["parity", *(part.replace(".", "_") for part in (record["title"], last))])


def _message(row: Mapping[str, Any]) -> str:
    if row["note"]:
        return f"{row['verdict']}: {row['note']}"
    return (
        f"{row['verdict']}: {spell(row['times_floor'])} times the float32 floor, where {spell(row['limit'])} is allowed"
    )


def _details(record: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """What stands where, why, and how to run it again."""
    lines = [row["text"]]
    if row["total"] and not row["note"]:
        lines.append(f"{row['outside']} of {row['total']} elements outside the limit")
    sign, cause = cause_in_words(record)
    if cause and row["verdict"] == "disagree":
        lines.append(f"{sign}: {cause}")
    return "\n".join([*lines, _again(record)])


def _again(record: Mapping[str, Any]) -> str:
    again = record["again"]["command"] or record["again"]["python"]
    separator = "\n" if "\n" in again else " "
    return f"run it again:{separator}{again}"


def _properties(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    environment, inputs = record["environment"], record.get("inputs", {})
    yield "verdict", record["verdict"]
    yield "sentence", record["sentence"]
    yield "record", f"{record['schema']['name']} {record['schema']['version']}"
    for name in ("inputs", "batch", "time", "seed", "device", "sha256"):
        if inputs.get(name) is not None:
            yield f"inputs.{name}", str(inputs[name])
    yield "version.python", environment["python"]
    for name, version in environment["packages"].items():
        yield f"version.{name}", version
    yield "platform", environment["platform"]


def _element(tag: str, text: str | None = None, /, **attributes: str) -> ElementTree.Element:
    found = ElementTree.Element(tag, {name: allowed(value) for name, value in attributes.items()})
    found.text = None if text is None else allowed(text)
    return found


def allowed(text: str) -> str:
    r"""A text with every character that XML does not allow written as its code.

    Example:
        >>> allowed("a\x1b[31m\ud800")
        'a#x1B[31m#xD800'
    """
    return _FORBIDDEN.sub(lambda found: f"#x{ord(found.group()):02X}", text)


__all__ = ["allowed", "junit"]
