"""Every kind of record holds to the schema that is published, and the schema is strict."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator

import parity
from parity.baseline import since
from parity.comparison import Comparison, compare
from parity.errors import EngineError
from parity.frameworks import Settings
from parity.report import Record, make_record
from parity.report.record import SCHEMA
from parity.running import runner
from parity.sources import Opened
from tests.tagger import Tagger

ENGINES = ["torch", "onnxruntime"]
PUBLISHED = json.loads((resources.files("parity") / "report" / "record.schema.json").read_text(encoding="utf-8"))
FREE = ("details", "settings", "shapes", "place", "worst", "packages", "meanings", "frameworks", "gates", "failures")
"""Objects whose keys are names of a model's or a framework's own."""


def lstm(layers: int = 1, change: float = 0.0) -> torch.nn.LSTM:
    torch.manual_seed(2)
    layer = torch.nn.LSTM(3, 5, num_layers=layers, bidirectional=layers > 1)
    with torch.no_grad():
        dict(layer.named_parameters())["weight_hh_l0"][7, 2] += change
    return layer


class Failing:
    """An engine that ends in the middle of its work."""

    engine = "onnxruntime"

    def __call__(self, *_: object, **__: object) -> Any:
        raise EngineError("the engine 'onnxruntime' ended unexpectedly", got="signal SIGABRT")


def one_layer() -> Comparison:
    return compare(lstm(), engines=ENGINES)


def stack_in_one_engine() -> Comparison:
    return compare(lstm(2), engines=["torch"], batch=1, time=1)


def several_sources() -> Comparison:
    return compare(lstm(2), parity.to_onnx(lstm(2)), parity.read(lstm(2)))


def disagreeing_with_diagnosis() -> Comparison:
    bad = lstm()
    with torch.no_grad():
        dict(bad.named_parameters())["bias_ih_l0"].add_(dict(bad.named_parameters())["bias_hh_l0"])  # one bias twice
    return compare(lstm(), bad)


def padded() -> Comparison:
    return compare(lstm(2), engines=ENGINES, lengths=[9, 4, 0, 6])


def masked_anywhere() -> Comparison:
    mask = np.random.default_rng(0).integers(0, 2, (4, 11)).astype(bool)
    return compare(torch.nn.GRU(3, 5), engines=["onnxruntime"], mask=mask)


def initial_states() -> Comparison:
    state = (torch.randn(1, 2, 5), torch.randn(1, 2, 5))
    return compare(lstm(), engines=["torch"], batch=2, initial_state=state)


def undecided() -> Comparison:
    chaotic = torch.nn.LSTM(3, 32)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in chaotic.parameters():
            weight.normal_(std=8)
    return compare(chaotic, engines=["torch"], time=60)


def not_finite() -> Comparison:
    torch.manual_seed(0)
    good = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.GRU(5, 6))
    bad = copy.deepcopy(good)
    with torch.no_grad():
        dict(bad.named_parameters())["0.weight"].mul_(3e38)
    comparison = compare(good, bad, time=6)
    vars(comparison)["diagnosis"] = None  # the numbers are meant here
    return comparison


def other_shapes() -> Comparison:
    return compare(torch.nn.LSTM(3, 5, bidirectional=True), engines=["onnxruntime"], lengths=[0, 0], time=3)


def whole_model() -> Comparison:
    return compare(
        Tagger("last"), inputs=np.random.default_rng(0).integers(0, 30, (3, 11)), engines=ENGINES, layers=True
    )


def whole_model_disagreeing() -> Comparison:
    bad = Tagger("last")
    with torch.no_grad():
        dict(bad.named_parameters())["second.weight_hh_l0"][2, 3] += 0.05
    return compare(Tagger("last"), bad, inputs=np.random.default_rng(0).integers(0, 30, (3, 11)), layers=True)


def failed() -> Comparison:
    def half(source: Opened, engine: str, settings: Settings) -> Any:
        return Failing() if engine == "onnxruntime" else runner(source, engine, settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("parity.comparison.runner", half)
        return compare(torch.nn.LSTM(3, 5), engines=ENGINES)


KINDS = [
    *(one_layer, stack_in_one_engine, several_sources, disagreeing_with_diagnosis, padded, masked_anywhere),
    *(initial_states, undecided, not_finite, other_shapes, whole_model, whole_model_disagreeing, failed),
]


@pytest.fixture(scope="module")
def records() -> dict[str, Record]:
    found = {kind.__name__: make_record(kind()) for kind in KINDS}
    one = found["one_layer"]
    worse = found["disagreeing_with_diagnosis"]
    found["with measures"] = make_record(
        one_layer(), [{"title": "Forecast error", "rows": [{"label": "torch", "value": 23.25}]}]
    )
    found["baseline"] = {**one, "baseline": since(one, one).as_json()}
    earlier = copy.deepcopy(worse)
    earlier["rows"] = [{**row, "verdict": "agree", "times_floor": 0.2} for row in earlier["rows"][1:]]
    earlier |= {"verdict": "agree", "failures": {"onnxruntime": "signal"}}
    found["worse than the baseline"] = {**worse, "baseline": since(earlier, worse).as_json()}
    found["not comparable"] = {**worse, "baseline": since(found["undecided"], worse).as_json()}
    return {name: json.loads(json.dumps(record)) for name, record in found.items()}


def problems(record: Record) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(PUBLISHED).iter_errors(record)]


def test_a_comparison_makes_its_record_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made: list[Any] = []

    def counting(findings: Any) -> Record:
        made.append(findings)
        return make_record(findings)

    monkeypatch.setattr("parity.report.make_record", counting)
    compared = compare(torch.nn.GRU(3, 5), engines=["torch"])
    paths = [compared.save_json(tmp_path / "a.json"), compared.save_html(tmp_path / "a.html")]
    paths.append(compared.save_junit(tmp_path / "a.xml"))
    assert not compared.against(paths[0]).worse
    assert made == [compared]
    assert json.loads(paths[0].read_text(encoding="utf-8")) == json.loads(json.dumps(compared.record))
    assert all(path.stat().st_size for path in paths)


def test_it_is_a_schema_of_this_version() -> None:
    Draft202012Validator.check_schema(PUBLISHED)
    assert {name: one["const"] for name, one in PUBLISHED["properties"]["schema"]["properties"].items()} == SCHEMA
    assert PUBLISHED["$id"].endswith(f":{SCHEMA['version']}")


def test_every_kind_of_record_holds_to_it(records: dict[str, Record]) -> None:
    assert {name: found for name, record in records.items() if (found := problems(record))} == {}
    assert {record["verdict"] for record in records.values()} == {"agree", "disagree", "undecided"}
    shown = {key for record in records.values() for key, value in record.items() if value}
    assert shown == set(PUBLISHED["properties"])


def test_every_field_that_is_described_occurs(records: dict[str, Record]) -> None:
    assert set(PUBLISHED["$defs"]) == {ref.rpartition("/")[2] for ref in references(PUBLISHED)}
    whole = records["worse than the baseline"]
    assert set(PUBLISHED["$defs"]["baseline"]["properties"]) == set(whole["baseline"])
    assert set(PUBLISHED["$defs"]["diagnosis"]["properties"]) == set(whole["diagnosis"])


def references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from (value["$ref"],) if "$ref" in value else ()
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def fixed_objects(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the objects of a record are whose keys parity names."""
    if isinstance(value, dict):
        own = path and (path[-1] in FREE or path[-2:-1] == ("layers",) or path[-2:-1] == ("gates",))
        if not (own or path[-2:] in (("profile", "engines"), ("profile", "times_floor"))):
            yield path
        for key, item in value.items():
            yield from fixed_objects(item, (*path, key))
    elif isinstance(value, list) and value:
        yield from fixed_objects(value[0], (*path, 0))


def at(record: Record, path: tuple[Any, ...]) -> Any:
    for key in path:
        record = record[key]
    return record


@pytest.mark.parametrize("name", ["padded", "whole_model_disagreeing", "worse than the baseline", "with measures"])
def test_a_field_that_is_not_described_is_refused_wherever_it_stands(records: dict[str, Record], name: str) -> None:
    paths = list(fixed_objects(records[name]))
    assert len(paths) > 15
    for path in paths:
        changed = copy.deepcopy(records[name])
        at(changed, path)["more"] = 1
        assert problems(changed), path


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("verdict",), "maybe"),
        (("rows", 0, "times_floor"), "many"),
        (("rows", 0, "times_floor"), None),
        (("rows", 0, "values"), [1.0]),
        (("rows", 0, "verdict"), "ok"),
        (("inputs", "sha256"), "12"),
        (("sources",), []),
        (("sources", 0, "weights"), "none"),
        (("mask", "engines", 0, "steps"), "nothing"),
        (("schema", "version"), 99),
        (("profile", "floor", 0), "nan"),
    ],
)
def test_a_value_of_another_kind_is_refused(records: dict[str, Record], path: tuple[Any, ...], value: Any) -> None:
    changed = copy.deepcopy(records["padded"])
    at(changed, path[:-1])[path[-1]] = value
    assert problems(changed)


def test_a_field_that_is_missing_is_refused(records: dict[str, Record]) -> None:
    record = records["padded"]
    for key in record:
        assert bool(problems({name: value for name, value in record.items() if name != key})) == (key != "baseline")
