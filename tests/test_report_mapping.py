"""Which tensor became which, on the page of a comparison and of a transfer; addresses of parts; names that turn text around."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from playwright.sync_api import Browser

import parity
from parity.comparison import Comparison, compare
from parity.errors import ParityError
from parity.pytest_plugin.recording import Entry
from parity.pytest_plugin.session import render as render_index
from parity.report import Record, make_record, read_record, render_record, snippet, to_json
from parity.report.cause import cause_view
from parity.report.mapping import transfer_page
from parity.report.record_mapping import converted
from parity.report.templating import visible
from parity.sources import Opened, open_source
from parity.transferring.answer import Row, Transfer
from tests.browsing import launched

MOST_BYTES = 150_000
NASTY = "enc\u202e<script>document.title='broken'</script>\"'\u2066"
SEEN = "enc\\u202e<script>document.title='broken'</script>\"'\\u2066"


def weighted(model: Any) -> Any:
    """The model with weights that are all different and not zero."""
    random = np.random.default_rng(4)
    model.set_weights([random.normal(scale=0.4, size=weight.shape) for weight in model.get_weights()])
    return model


def tagger() -> Any:
    """A chain of every kind of layer with weights; no two sizes are equal."""
    layers = keras.layers
    return weighted(
        keras.Sequential(
            [
                keras.Input((7,)),
                layers.Embedding(11, 3, name="words"),
                layers.LSTM(5, name="reader", return_sequences=True),
                layers.GRU(4, name="gru", return_sequences=True),
                layers.Bidirectional(layers.SimpleRNN(6, return_sequences=True), name="both"),
                layers.Dense(2, name="tags"),
            ]
        )
    )


def composed() -> Any:
    """Layers that other frameworks say only by several parts."""
    layers = keras.layers
    return weighted(
        keras.Sequential(
            [
                keras.Input((7, 3)),
                layers.Bidirectional(layers.GRU(4, reset_after=False, return_sequences=True), name="before"),
                layers.Bidirectional(
                    layers.LSTM(5, recurrent_activation="hard_sigmoid"),
                    backward_layer=layers.LSTM(6, go_backwards=True),
                    name="unlike",
                ),
            ]
        )
    )


def layer(one: Any) -> Any:
    """A layer by itself, built."""
    one.build((None, None, 3))
    return weighted(one)


def stack(seed: int = 0) -> torch.nn.LSTM:
    torch.manual_seed(seed)
    return torch.nn.LSTM(3, 5, num_layers=2, bidirectional=True)


SOURCES: dict[str, tuple[str, Callable[[], Any]]] = {
    "tagger": ("keras", tagger),
    "composed": ("keras", composed),
    "reset before": ("keras", lambda: layer(keras.layers.GRU(5, reset_after=False, name="gru"))),
    "merged": ("keras", lambda: layer(keras.layers.Bidirectional(keras.layers.LSTM(5), merge_mode="sum", name="both"))),
    "cells": (
        "keras",
        lambda: layer(keras.layers.RNN([keras.layers.LSTMCell(4), keras.layers.GRUCell(5)], name="cells")),
    ),
    "stack": ("torch", stack),
    "projected": ("torch", lambda: torch.nn.LSTM(3, 5, proj_size=2)),
    "gru": ("torch", lambda: torch.nn.GRU(3, 5)),
    "sequence": ("torch", lambda: torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.GRU(4, 5, batch_first=True))),
    "onnx": ("onnx", lambda: parity.to_onnx(stack())),
}
"""A source of each framework, and how it is made."""

CONVERSIONS = [(name, to) for name, (own, _) in SOURCES.items() for to in ("keras", "torch", "onnx") if to != own]


def opened(source: Any, **options: Any) -> Opened:
    return open_source(source, partial=True, **options)


def tensor(module: torch.nn.Module, name: str) -> torch.Tensor:
    """A parameter of a module, to be changed in place."""
    return dict(module.named_parameters())[name].detach()


def held(source: Any, target: str) -> dict[str, Any]:
    """The tensors of the real conversion by their names."""
    if target == "torch":
        return {name: tensor.numpy() for name, tensor in parity.to_torch(source).state_dict().items()}
    if target == "onnx":
        model: onnx.ModelProto = parity.to_onnx(source)
        return {
            one.name: numpy_helper.to_array(one)
            for one in model.graph.initializer
            if one.data_type == onnx.TensorProto.FLOAT
        }
    return {str(at): np.asarray(weight) for at, weight in enumerate(parity.to_keras(source).get_weights())}


def digest(array: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@pytest.mark.parametrize(("name", "target"), CONVERSIONS)
def test_a_conversion_holds_what_the_table_says(name: str, target: str) -> None:
    source = SOURCES[name][1]()
    table = converted(opened(source), target)
    assert table is not None
    assert not table.unused
    assert not table.unwritten
    real = held(source, target)
    # Keras numbers its variables: there the hashes alone are compared, with their shapes.
    said = {row.target: (row.shape, row.sha256) for row in table.rows}
    if target == "keras":
        assert sorted(said.values()) == sorted((array.shape, digest(array)) for array in real.values())
    else:
        assert said == {name: (array.shape, digest(array)) for name, array in real.items()}


def test_transforms_are_said_in_the_frameworks_own_letters() -> None:
    table = converted(opened(tagger()), "torch")
    assert table is not None
    said = {row.target: (row.source, row.transform) for row in table.rows}
    assert said["gru.weight_ih_l0"] == ("gru/kernel", "transposed, gates z r h -> r z n")
    assert said["reader.bias_hh_l0"] == ("", "zeros: the source has no such bias")
    assert said["both.weight_hh_l0_reverse"] == ("both/backward/recurrent_kernel", "transposed")
    back = converted(opened(stack()), "onnx")
    assert back is not None
    assert {row.transform for row in back.rows if row.target == "lstm_l0.W"} == {
        "gates i f g o -> i o f c, both directions in one"
    }


def test_what_a_whole_model_becomes() -> None:
    given = keras.Input((12, 3))
    wide = keras.layers.BatchNormalization(name="norm")(keras.layers.Conv1D(6, 5, padding="same", name="conv")(given))
    states = keras.layers.LSTM(4, return_sequences=True, name="reader")(wide)
    model = weighted(keras.Model(given, keras.layers.Dense(2, name="out")(keras.layers.Concatenate()([wide, states]))))
    table = converted(opened(model), "torch")
    assert table is not None
    said = {row.target: (row.source, row.transform) for row in table.rows}
    assert said["conv.weight"] == ("conv/kernel", "axes width input output -> output input width")
    assert said["norm.running_var"] == ("norm/moving_variance", "as it is")
    assert not table.unused
    assert table.unwritten == ("norm.num_batches_tracked",)


# ---- two sources


def beside(first: Any, other: Any) -> tuple[dict[str, str], Record]:
    """How the tensors of the other lie beside the first's, by name, and the whole table."""
    (table,) = make_record(compare(first, other, batch=2, time=5))["mapping"]
    return {row["target"]: row["same"] for row in table["rows"]}, table


def test_one_bit_is_another_hash_and_other_numbers() -> None:
    good = stack()
    bad = copy.deepcopy(good)
    same, healthy = beside(good, copy.deepcopy(good))
    assert set(same.values()) == {"equal"}
    tensor(bad, "weight_hh_l1").view(torch.int32)[3, 2] ^= 1 << 22
    found, table = beside(good, bad)
    assert {name for name, word in found.items() if word != "equal"} == {"weight_hh_l1"}
    assert found["weight_hh_l1"] == "other numbers"
    assert table["differing"] == 1
    hashes, own = ({row["target"]: row["sha256"] for row in one["rows"]} for one in (table, healthy))
    assert {name for name in hashes if hashes[name] != own[name]} == {"weight_hh_l1"}


def test_a_last_bit_is_a_rounding_with_another_hash() -> None:
    good = stack()
    near = copy.deepcopy(good)
    tensor(near, "weight_ih_l0").view(torch.int32)[0, 0] ^= 1
    found, table = beside(good, near)
    assert {name: word for name, word in found.items() if word != "equal"} == {"weight_ih_l0": "equal to a rounding"}
    own = {row["target"]: row["sha256"] for row in table["rows"]}["weight_ih_l0"]
    assert own == digest(tensor(near, "weight_ih_l0")) != digest(tensor(good, "weight_ih_l0"))


def test_orders_and_sums_are_told_apart() -> None:
    good = stack()
    moved = copy.deepcopy(good)
    tensor(moved, "weight_hh_l1").copy_(tensor(moved, "weight_hh_l1").flip(0))
    tensor(moved, "bias_ih_l0").add_(0.5)
    tensor(moved, "bias_hh_l0").sub_(0.5)
    found, table = beside(good, moved)
    assert {name: word for name, word in found.items() if word != "equal"} == {
        "weight_hh_l1": "other order",
        "bias_ih_l0": "equal in sum",
        "bias_hh_l0": "equal in sum",
    }
    assert table["differing"] == 1


def test_a_port_with_names_of_its_own_is_found() -> None:
    source = weighted(
        keras.Sequential(
            [
                keras.Input((5, 3)),
                keras.layers.GRU(4, name="gru", return_sequences=True),
                keras.layers.GRU(4, name="top"),
            ]
        )
    )

    class Port(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.upper = torch.nn.GRU(4, 4, batch_first=True)
            self.lower = torch.nn.GRU(3, 4, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.upper(self.lower(x)[0])[0][:, -1]
            return out

    port = Port()
    parity.transfer(source, port, {"gru": "lower", "top": "upper"})
    found, table = beside(source, port)
    assert set(found.values()) == {"equal"}
    assert {(row["source"], row["target"]) for row in table["rows"] if "kernel" in row["source"]} >= {
        ("gru/kernel", "lower.weight_ih_l0"),
        ("top/kernel", "upper.weight_ih_l0"),
    }
    assert not table["unused"]
    assert not table["unwritten"]


# ---- the page


def disagreeing() -> Comparison:
    good, bad = stack(), stack()
    first, second, *rest = tensor(bad, "weight_hh_l0").chunk(4)
    tensor(bad, "weight_hh_l0").copy_(torch.cat([second, first, *rest]))
    return compare(good, bad, parity.to_onnx(good), batch=3, time=9)


@pytest.fixture(scope="module")
def comparisons() -> dict[str, Comparison]:
    torch.manual_seed(5)
    deep = torch.nn.LSTM(3, 4, num_layers=16, bidirectional=True)
    return {
        "tagger": compare(tagger(), engines=["keras", "torch", "onnxruntime"], batch=2, time=7),
        "disagreeing": disagreeing(),
        "deep": compare(deep, engines=["torch", "onnxruntime"], batch=2, time=5),
        "deep port": compare(deep, copy.deepcopy(deep), batch=2, time=5),
    }


@pytest.fixture(scope="module")
def records(comparisons: dict[str, Comparison]) -> dict[str, Record]:
    return {name: make_record(comparison) for name, comparison in comparisons.items()}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as found:
        yield found


def ids_of(page: str) -> list[str]:
    return re.findall(r'\sid="([^"]+)"', page)


def test_the_tables_of_a_page_are_those_of_the_record(
    records: dict[str, Record], browser: Browser, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    path.write_text(render_record(records["disagreeing"]), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    shown = page.locator(".mapping tbody tr").all_inner_texts()
    rows = [row for table in records["disagreeing"]["mapping"] for row in table["rows"]]
    assert len(shown) == len(rows)
    for text, row in zip(shown, rows, strict=True):
        assert row["target"] in text
        assert row["sha256"][:12] in text
        assert row["same"] in text
    assert page.locator(".mapping code").first.text_content() == rows[0]["sha256"]
    assert "15 of 16 tensors hold the same numbers, 1 does not." in page.locator(".mapping").inner_text()
    assert (
        page.locator("td.differs").all_inner_texts() == [" other order"]
        or "other order" in page.locator("td.differs").inner_text()
    )
    page.close()


@pytest.mark.parametrize("case", ["deep", "deep port"])
def test_many_tensors_are_folded_and_the_page_stays_small(records: dict[str, Record], case: str) -> None:
    page = render_record(records[case])
    section = page.partition('id="mapping"')[2].partition("</section>")[0]
    assert "<details>" in section
    assert len(section.encode()) <= MOST_BYTES / 6
    assert len(json.dumps(records[case]["mapping"])) <= MOST_BYTES / 6
    tables = records[case]["mapping"]
    assert sum(len(table["rows"]) for table in tables) <= 60
    assert all(len(table["rows"]) + table["left_out"] + len(table["unwritten"]) == table["tensors"] for table in tables)
    (left_out,) = (table["left_out"] for table in tables)
    assert left_out == (68 if case == "deep port" else 0)
    assert (f"{left_out} more are left out" in section) == bool(left_out)


def test_what_differs_is_shown_however_many_there_are() -> None:
    torch.manual_seed(5)
    deep = torch.nn.LSTM(3, 4, num_layers=16, bidirectional=True)
    bad = copy.deepcopy(deep)
    tensor(bad, "bias_hh_l15_reverse")[2] += 1
    record = make_record(compare(deep, bad, batch=2, time=5))
    page = render_record(record)
    before = page.partition('id="mapping"')[2].partition("<details>")[0]
    assert "bias_hh_l15_reverse" in before
    assert "other numbers" in before
    assert "bias_hh_l14_reverse" not in before


@pytest.mark.parametrize("case", ["tagger", "disagreeing", "deep"])
def test_every_part_has_an_address_of_its_own(records: dict[str, Record], case: str) -> None:
    page = render_record(records[case])
    ids = ids_of(page)
    assert len(ids) == len(set(ids))
    assert ids_of(render_record(copy.deepcopy(records[case]))) == ids
    links = set(re.findall(r'class="anchor" href="#([^"]+)"', page))
    assert links <= set(ids)
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
    assert set(re.findall(r'<h2 id="([^"]+)"', page)) <= links
    assert page.count("<h2") == len(re.findall(r'<h2 id="[^"]+"', page))
    parts = {"mapping", "mapping-1"} | ({"cause", "hypotheses", "repair"} if case == "disagreeing" else set())
    assert parts <= links


def test_all_digits_of_a_hash_are_shown_to_keyboards_and_on_paper(
    records: dict[str, Record], browser: Browser, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    path.write_text(render_record(records["disagreeing"]), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    table = records["disagreeing"]["mapping"][0]
    first, whole = page.locator(".tensors-of code").first, table["rows"][0]["sha256"]
    assert len(whole) == 64
    assert first.inner_text() == whole[:12]
    page.locator(".all-digits input").focus()
    page.keyboard.press("Space")
    assert first.inner_text() == whole
    page.keyboard.press("Space")
    assert first.inner_text() == whole[:12]
    page.emulate_media(media="print")
    assert first.inner_text() == whole
    page.close()


def test_addresses_are_seen_by_pointer_and_by_keyboard(
    records: dict[str, Record], browser: Browser, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    path.write_text(render_record(records["disagreeing"]), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    for part in ("#mapping", "#mapping-1", "#cause > p", "#hypotheses th", "#repair"):
        sign = page.locator(f"{part} .anchor").first
        assert float(sign.evaluate("node => getComputedStyle(node).opacity")) == 0
        page.locator(part).first.hover()
        assert float(sign.evaluate("node => getComputedStyle(node).opacity")) == 1
        page.mouse.move(0, 0)
        sign.focus()
        assert float(sign.evaluate("node => getComputedStyle(node).opacity")) == 1
    page.close()


def test_a_record_without_the_tables_is_read(records: dict[str, Record], tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(to_json({key: value for key, value in records["deep"].items() if key != "mapping"}))
    assert read_record(path)["mapping"] == []
    page = render_record(records["deep"])
    path.write_text(page.partition('id="record">')[2].partition("</script>")[0])
    assert read_record(path) == records["deep"]


# ---- the cause


def test_the_page_says_what_the_diagnosis_prints(
    comparisons: dict[str, Comparison], browser: Browser, tmp_path: Path
) -> None:
    found = comparisons["disagreeing"].diagnosis
    assert found is not None
    path = comparisons["disagreeing"].save_html(tmp_path / "page.html")
    page = browser.new_page()
    page.goto(path.as_uri())
    text = re.sub(r"\s+", " ", page.locator("#cause").inner_text() + page.locator(".why").inner_text())
    assert found.cause in text
    assert f"The first step that is off: {found.first_step}." in text
    assert "With this mistake made in the reference the largest difference falls from" in text
    assert "The next best explanation is" in text
    assert re.sub(r"\s+", " ", found.repair.strip()) in text
    for note in found.notes:
        assert note in text
    assert page.locator("#hypotheses tbody tr").count() == len(found.evidence)
    page.close()


def cause(**changes: Any) -> Record:
    row = {
        "hypothesis": "has its biases doubled",
        "place": "layer 'a'",
        "before": 0.5,
        "after": 0.25,
        "floors": 4e4,
        "fits": False,
    }
    probe = {
        "name": "step 2 is changed",
        "expected": "..xxx",
        "found": "xxxxx",
        "differs": True,
        "meaning": "looks ahead",
        "kind": "steps",
    }
    return {
        "schema": {"name": "parity.diagnosis", "version": 1},
        "reference": "a",
        "suspect": "b",
        "agrees": False,
        "found": False,
        "several": False,
        "cause": "No single mistake explains b.",
        "where": [],
        "first_layer": None,
        "first_step": 3,
        "evidence": [row, {**row, "hypothesis": "is halved", "after": 0.125}],
        "tried": 20,
        "ruled_out": ["another order of the gates"],
        "probes": [{**probe, "name": "the same twice", "differs": False, "meaning": ""}, probe],
        "repair": "",
        "notes": ["a wrong forget bias cannot show on one step"],
    } | changes


def test_where_nothing_fits_the_near_misses_and_what_was_ruled_out_are_told(
    records: dict[str, Record], browser: Browser, tmp_path: Path
) -> None:
    path = tmp_path / "page.html"
    path.write_text(render_record({**records["disagreeing"], "diagnosis": cause()}), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    rows = page.locator("#hypotheses tbody tr").all_inner_texts()
    assert "is halved" in rows[0]
    assert "25 %" in rows[0]
    assert "50 %" in rows[1]
    text = page.locator("#cause").inner_text() + page.locator(".why").inner_text()
    assert "The nearest ones" in text
    assert "Ruled out: another order of the gates." in text
    assert "The first step that is off: 3." in text
    assert "a wrong forget bias cannot show on one step" in text
    probes = page.locator(".why details tbody tr").all_inner_texts()
    assert "step 2 is changed" in probes[0]
    assert "differs" in probes[0]
    assert "it looks ahead" in probes[0]
    assert "as it should" in probes[1]
    page.close()


def test_numbers_that_are_none_are_no_near_miss() -> None:
    rows = cause()["evidence"]
    view = cause_view(cause(evidence=[{**rows[0], "after": None, "floors": None}, rows[1]]))
    assert view is not None
    assert [row["left"] for row in view["evidence"]] == ["25 %", "∞"]


# ---- a transfer


class Port(torch.nn.Module):
    """A model of its own names, with a tensor that no source has."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = torch.nn.GRU(3, 5, batch_first=True)
        self.scale = torch.nn.Parameter(torch.ones(7))
        self.head = torch.nn.Linear(5, 2)


def transferred(name: str = "gru") -> tuple[Transfer, Port]:
    layers = keras.layers
    source = weighted(
        keras.Sequential(
            [keras.Input((7, 3)), layers.GRU(5, name=name), layers.Dense(2, name="out"), layers.Dense(4, name="spare")]
        )
    )
    port = Port()
    return parity.transfer(source, port, {name: "rnn", "out": "head", "spare": None, "scale": None}), port


def test_a_transfer_as_a_page(browser: Browser, tmp_path: Path) -> None:
    done, port = transferred()
    page = browser.new_page()
    requests: list[str] = []
    messages: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: messages.append(message.text))
    path = done.save_html(tmp_path / "transfer.html")
    page.goto(path.as_uri())
    assert page.title() == f"{done.counts} · parity"
    rows = [re.sub(r"\s+", " ", text) for text in page.locator(".tensors-of tbody tr").all_inner_texts()]
    assert len(rows) == len(done.rows) + 3
    state = port.state_dict()
    for row, text in zip(done.rows, rows, strict=False):
        assert row.sha256 == digest(state[row.target].numpy())
        assert row.sha256[:12] in text
        assert row.transform in text
        assert row.target in text
    unused = [text for text in rows if " unused " in text]
    assert [text.split()[0] for text in unused] == ["spare/kernel", "spare/bias"]
    (unwritten,) = (text for text in rows if " unwritten " in text)
    assert "scale" in unwritten
    assert page.locator("tr.unused .sign, tr.unwritten .sign").count() == 3
    assert (
        "Of the source spare/kernel, spare/bias are unused; of the target scale is unwritten."
        in page.locator("header").inner_text()
    )
    assert not messages
    assert requests == [path.as_uri()]
    ids = ids_of(path.read_text())
    assert len(ids) == len(set(ids))
    assert {"tensors", "layers"} <= set(re.findall(r'class="anchor" href="#([^"]+)"', path.read_text()))
    page.close()


def test_one_bit_of_a_transferred_tensor_is_another_hash() -> None:
    done, port = transferred()
    row = next(one for one in done.rows if one.target == "rnn.weight_hh_l0")
    assert len(row.sha256) == 64
    assert row.sha256[:12] in str(done)
    assert row.sha256 not in str(done)
    tensor = port.state_dict()["rnn.weight_hh_l0"]
    tensor.view(torch.int32)[4, 1] ^= 1
    assert digest(tensor.numpy()) != row.sha256


def test_a_page_of_a_transfer_is_not_written_over(tmp_path: Path) -> None:
    done, _ = transferred()
    path = tmp_path / "transfer.html"
    path.write_text("mine")
    with pytest.raises(ParityError):
        done.save_html(path)
    assert path.read_text() == "mine"
    done.save_html(path, overwrite=True)
    assert path.read_text().startswith("<!doctype html>")


def test_a_large_transfer_stays_small(tmp_path: Path) -> None:
    rows = tuple(
        Row(
            f"encoder/{at}/kernel", "transposed, gates z r h -> r z n", f"layers.{at}.weight", (8, 3), "0" * 64, "given"
        )
        for at in range(3000)
    )
    how = {f"layers.{at}": "order of their numbers" for at in range(3000)}
    path = Transfer(rows, ("left",), ("kept",), ("first",), how).save_html(tmp_path / "transfer.html")
    page = path.read_text()
    assert len(page.encode()) <= MOST_BYTES
    assert "<details>" in page
    assert page.index("left") < page.index("<details>")
    assert "2762 more rows are left out" in page


# ---- names


def test_what_turns_text_around_is_written_out() -> None:
    assert visible("a\u202eb\u2066c\u200fd\u061ce") == "a\\u202eb\\u2066c\\u200fd\\u061ce"
    assert visible("שלום") == "שלום"


def hostile(record: Record) -> Record:
    """The record with a name that turns text around and closes elements in every place where names stand."""
    text = json.dumps(record)
    first = record["sources"][0]["label"]
    for name in (first, "reader", "gru/kernel"):
        text = text.replace(json.dumps(name)[1:-1], json.dumps(NASTY)[1:-1])
    changed: Record = json.loads(text)
    return changed


def test_names_are_text_on_the_page(records: dict[str, Record], browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(render_record(hostile(records["tagger"])), encoding="utf-8")
    content = path.read_text(encoding="utf-8")
    assert "\u202e" not in content
    assert "\u2066" not in content
    page = browser.new_page()
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.goto(path.as_uri())
    assert "broken" not in page.title().partition(":")[0]
    assert SEEN in page.locator(".mapping").inner_text()
    assert SEEN in page.locator("header").inner_text()
    assert page.evaluate("document.scripts.length") == 1
    assert not messages
    page.close()


def test_names_are_text_in_a_notebook_an_index_and_a_transfer() -> None:
    named = parity.read(torch.nn.GRU(3, 5, num_layers=2))
    shown = snippet(
        compare(
            replace(named, layers=(replace(named.recurrent[0], name=NASTY), named.recurrent[1])),
            engines=["torch"],
            batch=2,
            time=4,
        )
    )
    index = render_index(
        [Entry(f"tests/{NASTY}", 1, "disagree", NASTY, NASTY, NASTY, 3.0, 2.0, NASTY, "", "", "failed")],
        {"disagree": 1},
        NASTY,
    )
    table = Transfer(
        (Row(NASTY, "as it is", NASTY, (3,), "0" * 64, "given"),), (NASTY,), (NASTY,), (NASTY,), {NASTY: "given"}
    )
    for page in (shown, index, transfer_page(table)):
        assert "\u202e" not in page
        assert "\u2066" not in page
        assert "\\u202e" in page
        assert "<script>" not in page.replace('<script type="application/json"', "")


def test_the_pages_have_one_frame(records: dict[str, Record]) -> None:
    done, _ = transferred()
    index = render_index([], {}, "")
    heads = [
        re.sub(r"<title>.*?</title>|<link[^>]*>|<style>.*", "", page, flags=re.DOTALL)
        for page in (render_record(records["tagger"]), transfer_page(done), index)
    ]
    assert len(set(heads)) == 1
    assert "default-src 'none'" in heads[0]
