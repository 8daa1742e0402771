"""A description survives the way to another process; one from outside can be wrong, but neither run anything nor break anything."""

from __future__ import annotations

import copy
import json
import types
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import parity
from parity.errors import FormatError, ParityError
from parity.network import Dense, Embedding, Network, Output
from parity.result import LayerRun, Result, Returned, State
from parity.serialized import _hints, from_data, known_classes, to_data, value_from_data

TEXT = st.text(max_size=8)
NUMBERS = st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.int32, np.bool_])


def through_json(data: Any) -> Any:
    """What comes out at the other end of the pipe; strict, so nothing but JSON gets in."""
    return json.loads(json.dumps(data, allow_nan=False))


def same(left: Any, right: Any) -> bool:
    """Whether two values are equal to the last bit and the last type."""
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray):
        return bool(left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes())
    if is_dataclass(left):
        return all(same(getattr(left, field.name), getattr(right, field.name)) for field in fields(left))
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (tuple, list)):
        return len(left) == len(right) and all(map(same, left, right))
    return bool(repr(left) == repr(right))  # which also holds for NaN


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Anything that an annotation allows."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return st.one_of([values(other) for other in inner])
    if origin is Literal:
        return st.sampled_from(inner)
    if origin is tuple:
        if inner[1:] == (Ellipsis,):
            return st.lists(values(inner[0]), max_size=2).map(tuple)
        return st.tuples(*map(values, inner))
    if origin in (dict, Mapping):
        return st.dictionaries(values(inner[0]), values(inner[1]), max_size=2)
    if origin is np.ndarray:
        return NUMBERS.flatmap(lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_dims=3, max_side=3)))
    if isinstance(hint, type) and is_dataclass(hint):
        return instances(hint)
    plain: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(),
        float: st.floats(),
        str: TEXT,
        type(None): st.none(),
    }
    return plain[hint]


@st.composite
def instances(draw: Any, kind: type) -> Any:
    """A dataclass with anything in its fields that its own checks let through."""
    drawn = {name: draw(values(hint)) for name, hint in _hints(kind).items()}
    try:
        return kind(**drawn)
    except (ParityError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        assume(False)


@pytest.mark.parametrize("name", sorted(set(known_classes()) - {"Network"}))
def test_every_field_of_every_class_comes_back(name: str) -> None:
    @given(instances(known_classes()[name]))
    @settings(max_examples=20, deadline=None)
    def check(value: Any) -> None:
        data, found = to_data(value)
        assert same(value_from_data(through_json(data), found), value)

    check()


def test_no_two_classes_share_a_name() -> None:
    """A second one would be taken for the first; writing it is refused, so this shows before a user sees it."""
    for kind in known_classes().values():
        for hint in _hints(kind).values():
            waiting = [hint]
            while waiting:
                one = waiting.pop()
                waiting += get_args(one)
                assert not is_dataclass(one) or known_classes()[one.__name__] is one  # type: ignore[union-attr]


def networks() -> dict[str, Network]:
    """Different in every way that a description can differ without a framework's file."""
    stack = parity.read(torch.nn.LSTM(3, 5, num_layers=2, bidirectional=True))
    bare = parity.read(torch.nn.GRU(4, 6, bias=False))
    (layer,) = bare.recurrent
    random = np.random.default_rng(2)
    table, kernel = random.standard_normal((11, 4)).astype(np.float16), random.standard_normal((6, 2))
    layers = (Embedding("tokens", table), layer, Dense("classes", kernel, random.standard_normal(2), "softmax"))
    outputs = (Output("classes", "classes"), Output("state", layer.name, layer.given[0]))
    model = Network("a ☃ model", layers, outputs, "keras", {"version": "3", "": "empty"}, 7)
    return {"stack": stack, "bare": bare, "model": model, "tied": replace(stack, layers=(*stack.layers, *stack.layers))}


@pytest.mark.parametrize("name", list(networks()))
def test_networks_come_back(name: str) -> None:
    network = networks()[name]
    data, found = to_data(network)
    assert same(from_data(through_json(data), found), network)


def test_arrays_are_named_once_and_not_copied() -> None:
    network = networks()["tied"]
    _, found = to_data(network)
    own = [array for layer in networks()["stack"].layers for array in layer.arrays.values()]
    assert len(found) == len(own)
    assert any(array is network.recurrent[0].weights[0].kernel for array in found.values())


def test_the_same_network_computes_the_same(random: np.random.Generator) -> None:
    network = networks()["stack"]
    data, found = to_data(network)
    x = random.standard_normal((2, 6, 3))
    left, right = (parity.run(n, x, "reference") for n in (network, from_data(through_json(data), found)))
    np.testing.assert_array_equal(left.sequence, right.sequence)


def test_results_come_back(random: np.random.Generator) -> None:
    run = LayerRun(State(random.standard_normal((1, 2, 5)).astype(np.float32)), random.standard_normal((2, 3, 1, 5)))
    result = Result("torch", {"y": np.arange(3)}, {"gru": run}, (Returned("y", (3,), "int64"),), {"torch": "2"})
    data, found = to_data(result)
    assert same(value_from_data(through_json(data), found), result)


@pytest.mark.parametrize(
    "value",
    [print, {1: 2}, {"a": {2, 3}}, (object(),), np.array(["x"]), np.array([None]), b"bytes", 1j, Exception("x")],
)
def test_what_is_no_description_is_not_written(value: Any) -> None:
    with pytest.raises(FormatError, match="cannot be written down"):
        to_data(value)


def changed(path: str, value: Any) -> Any:
    """The description of a bare layer with one thing in it changed, by a path of keys and numbers."""
    data = to_data(networks()["bare"])[0]
    *way, last = path.split("/")
    place = data
    for key in way:
        place = place[int(key)] if isinstance(place, list) else place[key]
    if value is KeyError:
        del place[last]
    else:
        place[last if isinstance(place, dict) else int(last)] = value
    return data


LAYER = "fields/layers/0"
HOSTILE: list[tuple[Any, str]] = [
    (None, "this describes something else"),
    ("import os", "this describes something else"),
    (changed(LAYER, 5), "another type than the field's"),
    ([], "this describes something else"),
    ({}, "unknown form of a value"),
    ({"pickle": "gASV"}, "unknown form of a value"),
    ({"class": "Network"}, "unknown form of a value"),
    ({"class": "Network", "fields": {}, "more": 1}, "unknown form of a value"),
    ({"class": "os.system", "fields": {"command": "true"}}, "unknown class"),
    ({"class": "Popen", "fields": {"args": ["true"]}}, "unknown class"),
    ({"class": ["Network"], "fields": {}}, "unknown class"),
    ({"class": "__init__", "fields": {}}, "unknown class"),
    ({"class": "Network", "fields": []}, "the fields are no dict"),
    ({"class": "Network", "fields": {}}, "missing fields of Network"),
    (changed("fields/__class__", "x"), "unknown fields of Network"),
    (changed("fields/name", KeyError), "missing fields of Network"),
    (changed("fields/name", 3), "another type than the field's"),
    (changed("fields/layers", []), "no recurrent layer"),
    (changed("fields/layers", {"list": []}), "another type than the field's"),
    (changed("fields/layers", "lstm"), "another type than the field's"),
    (changed("fields/layers", {"class": "State", "fields": {"h": {"array": "0"}}}), "another type than the field's"),
    (changed(f"{LAYER}/fields/spec/fields/kind", "transformer"), "another type than the field's"),
    (changed(f"{LAYER}/fields/spec/fields/input_size", 2.5), "another type than the field's"),
    (changed(f"{LAYER}/fields/spec/fields/input_size", True), "another type than the field's"),
    (changed(f"{LAYER}/fields/weights/0/fields/kernel", {"array": "9"}), "an array of numbers is missing"),
    (changed(f"{LAYER}/fields/weights/0/fields/kernel", {"array": ["0"]}), "an array of numbers is missing"),
    (changed(f"{LAYER}/fields/weights/0/fields/kernel", None), "another type than the field's"),
    (changed(f"{LAYER}/fields/weights/0/fields/kernel", {"float": "1e999"}), "no such number"),
    (changed("fields/details", {"dict": []}), "no dict by name"),
    (changed("fields/details", {"list": "abc"}), "this is no list"),
]


@pytest.mark.parametrize(("data", "message"), HOSTILE)
def test_hostile_descriptions_are_refused(data: Any, message: str) -> None:
    _, found = to_data(networks()["bare"])
    with pytest.raises(ParityError, match=message):
        from_data(data, found)


def test_nesting_without_end_is_refused() -> None:
    data: Any = []
    for _ in range(100_000):
        data = [data]
    with pytest.raises(FormatError, match="nested too deeply"):
        from_data(data, {})


def test_an_array_of_objects_is_not_taken() -> None:
    data, found = to_data(networks()["bare"])
    with pytest.raises(FormatError, match="an array of numbers is missing"):
        from_data(data, dict.fromkeys(found, np.array([print], object)))


def test_missing_fields_take_their_defaults() -> None:
    network = networks()["bare"]
    data, found = to_data(replace(network, origin=""))
    for name in ("outputs", "origin", "time"):
        del data["fields"][name]
    assert same(from_data(data, found), replace(network, origin=""))


def nodes(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(deeper for key, value in inside for deeper in nodes(value, (*path, key)))]


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_is_changed_nothing_but_parity_errors_come_out(data: st.DataObject) -> None:
    network = networks()["model"]
    description, found = to_data(network)
    description = copy.deepcopy(description)
    *way, last = data.draw(st.sampled_from(nodes(description)[1:]))
    place = description
    for key in way:
        place = place[key]
    leaf = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False),
        TEXT,
        st.sampled_from(list(known_classes())),
    )
    place[last] = data.draw(
        st.recursive(leaf, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=5)
    )
    with suppress(ParityError):
        assert isinstance(from_data(description, found), Network)
