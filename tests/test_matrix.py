"""The grid of configurations (scripts/matrix.py): a random sample of it is exact or refused with a reason, and every fault is caught."""

from __future__ import annotations

import doctest
import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import matrix
import numpy as np
import pytest
import typer
from grid import judging, live, page
from grid.cases import FAMILIES, FRAMEWORKS, Config, configurations
from grid.judging import CONVERTERS, EXACT, Outcome, judged, refusable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import parity
from parity.functions import Function
from parity.judge import LIMIT
from parity.layouts import SLOTS
from parity.network import Bidirectional, Embedding, Masking, Network, Recurrent
from parity.recurrent import Array, Direction, Weights
from parity.result import State
from parity.sources import Opened

CASES = [(config, target) for config in configurations() for target in config.targets]


def find(name: str) -> Config:
    """A configuration by its whole name."""
    (config,) = (config for config in configurations() if config.name == name)
    return config


def of(name: str, target: str, **options: Any) -> Outcome:
    (outcome,) = judged(find(name), (target,), **options)
    return outcome


# ---- what the grid holds


def test_the_grid_is_large_and_repeats_nothing() -> None:
    assert len({(config.name, target) for config, target in CASES}) == len(CASES) >= 1500
    directions = {(config.framework, target) for config, target in CASES}
    assert directions == {(source, target) for source in FRAMEWORKS for target in FRAMEWORKS if source != target}
    assert len({config.seed for config in configurations()}) == len(configurations())


def test_every_option_of_the_issue_is_in_the_grid() -> None:
    names = {(config.framework, name) for config in configurations() for name, _ in config.options}
    for framework, wanted in {
        "keras": "return_sequences return_state go_backwards use_bias activation recurrent_activation reset_after unroll "
        "zero_output_for_mask mask states merge_mode backward cells front padding option",
        "torch": "num_layers bidirectional bias batch_first dropout proj_size lengths states dtype nonlinearity call",
        "onnx": "direction sequence_lens initial P clip input_forget activations layout linear_before_reset B outputs opset",
    }.items():
        assert {name for source, name in names if source == framework} >= set(wanted.split())


def test_the_sizes_of_the_grid_can_tell_axes_apart() -> None:
    from grid import cases

    sizes = (cases.BATCH, cases.TIME, cases.FEATURES, cases.UNITS, cases.OTHER_UNITS, cases.PROJECTION, cases.LABELS)
    assert len(set(sizes)) == len(sizes)
    assert cases.TIME >= 2
    assert cases.BATCH >= 2


def test_little_may_be_refused() -> None:
    """Only what the frameworks themselves do not compute alike, or have no kernel for."""
    reasons = {(config.framework, target, refusable(config, target)) for config, target in CASES}
    assert {key for key in reasons if key[2]} == {
        ("keras", "torch", judging.UNROLLED),
        ("keras", "onnx", judging.UNROLLED),
        ("torch", "onnx", judging.NO_FLOAT64),
    }
    assert sum(refusable(config, target) is not None for config, target in CASES) < 0.02 * len(CASES)


# ---- a random sample of it


@pytest.mark.parametrize(("source", "examples"), [("keras", 24), ("torch", 12), ("onnx", 12)])
def test_a_sample_is_exact_or_refused_with_a_reason(source: str, examples: int) -> None:
    """Shrinks to the plainest configuration that fails: the grid lists those of few options first; scripts/matrix.py runs all."""
    own = [case for case in CASES if case[0].framework == source]

    @settings(
        max_examples=examples, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(st.sampled_from(own), st.booleans())
    def check(case: tuple[Config, str], thorough: bool) -> None:
        config, target = case
        (outcome,) = judged(config, (target,), thorough=thorough)
        assert outcome.status in (*EXACT, "refused"), f"{config.name} to {target}: {outcome}"
        assert outcome.reason or outcome.status == "native"

    check()


# ---- mutants: a fault in a conversion, and the case's judge must call it wrong

Change: TypeAlias = Callable[[Recurrent], Recurrent]


def every_layer(change: Change) -> Callable[[Network], Network]:
    """The network with all its recurrent layers changed."""

    def changed(network: Network) -> Network:
        return replace(network, layers=tuple(_changed(layer, change) for layer in network.layers))

    return changed


def _changed(layer: Any, change: Change) -> Any:
    if isinstance(layer, Bidirectional):
        return replace(layer, forward=tuple(map(change, layer.forward)), backward=tuple(map(change, layer.backward)))
    return change(layer) if isinstance(layer, Recurrent) else layer


def weights(change: Callable[[Weights], Weights]) -> Callable[[Network], Network]:
    return every_layer(lambda layer: replace(layer, weights=tuple(map(change, layer.weights))))


def cells(**options: Any) -> Callable[[Network], Network]:
    return every_layer(lambda layer: replace(layer, cells=tuple(replace(cell, **options) for cell in layer.cells)))


def functions(slot: str, function: Function) -> Callable[[Network], Network]:
    """Another function in one slot."""

    def change(layer: Recurrent) -> Recurrent:
        at = SLOTS[layer.spec.kind].index(slot)
        new = tuple(
            replace(cell, functions=(*cell.functions[:at], function, *cell.functions[at + 1 :])) for cell in layer.cells
        )
        return replace(layer, cells=new)

    return every_layer(change)


def option(**options: Any) -> Callable[[Network], Network]:
    return every_layer(lambda layer: replace(layer, **options))


def merge(mode: Any) -> Callable[[Network], Network]:
    def changed(network: Network) -> Network:
        layers = tuple(
            replace(layer, merge_mode=mode) if isinstance(layer, (Recurrent, Bidirectional)) else layer
            for layer in network.layers
        )
        return replace(network, layers=layers)

    return changed


def unmasked(network: Network) -> Network:
    """The layers that make masks, without them."""
    layers = [
        replace(layer, mask_zero=False) if isinstance(layer, Embedding) else layer
        for layer in network.layers
        if not isinstance(layer, Masking)
    ]
    return replace(network, layers=tuple(layers))


def other_mask_value(network: Network) -> Network:
    layers = [replace(layer, mask_value=7.0) if isinstance(layer, Masking) else layer for layer in network.layers]
    return replace(network, layers=tuple(layers))


def other_direction(layer: Recurrent) -> Recurrent:
    if layer.bidirectional:
        return replace(layer, weights=layer.weights[::-1])
    (only,) = layer.spec.directions
    other: Direction = "backward" if only == "forward" else "forward"
    return replace(layer, spec=replace(layer.spec, directions=(other,)))


def first_units(one: Weights) -> Weights:
    """The projection dropped: the first units themselves in its place."""
    assert one.projection is not None
    return replace(one, projection=np.eye(*one.projection.shape, dtype=one.projection.dtype))


def rounded(one: Weights) -> Weights:
    """float64 weights that lost their last bits on the way."""

    def half(array: Array | None) -> Array | None:
        return None if array is None else array.astype(np.float32).astype(array.dtype)

    return Weights(
        one.kernel.astype(np.float32).astype(one.kernel.dtype),
        one.recurrent.astype(np.float32).astype(one.recurrent.dtype),
        half(one.bias_input),
        half(one.bias_recurrent),
    )


@dataclass(frozen=True)
class Mutant:
    """A fault in the conversion of one configuration to one target."""

    fault: str
    name: str
    target: str
    change: Callable[[Network], Network]

    def __str__(self) -> str:
        return f"{self.fault}, {self.name} to {self.target}"


KERAS = "keras layer: {} return_sequences=True return_state=True".format
BOTH = "keras bidirectional: LSTM states=given merge_mode={} return_sequences=True".format
MASKED = "keras model: GRU front={} padding={} body=stack".format

MUTANTS = [
    *(
        Mutant("wrong reset order", name, target, cells(reset_after=after))
        for name, after in (
            ("keras layer: GRU reset_after=False states=given return_sequences=True", True),
            ("keras layer: GRU states=given return_sequences=True", False),
        )
        for target in ("torch", "onnx")
    ),
    Mutant("wrong reset order", "torch layer: GRU states=given", "keras", cells(reset_after=False)),
    Mutant("wrong reset order", "onnx node: GRU direction=forward", "torch", cells(reset_after=True)),
    *(
        Mutant("wrong merge", BOTH(right), target, merge(wrong))
        for right, wrong in (("sum", "ave"), ("mul", "sum"), ("ave", "sum"))
        for target in ("torch", "onnx")
    ),
    *(
        Mutant("mask ignored", MASKED(front, padding), target, unmasked)
        for front, padding in (("Masking", "right"), ("Embedding mask_zero", "middle"))
        for target in ("torch", "onnx")
    ),
    *(
        Mutant("another mask value", MASKED("Masking", "right"), target, other_mask_value)
        for target in ("torch", "onnx")
    ),
    *(
        Mutant("wrong fill", "keras model: LSTM front=Masking padding=right body=sequence", target, option(fill="zero"))
        for target in ("torch", "onnx")
    ),
    *(
        Mutant("projection dropped", "torch layer: LSTM proj_size=2 states=given", t, weights(first_units))
        for t in ("keras", "onnx")
    ),
    *(
        Mutant("directions mistaken", name, target, every_layer(other_direction))
        for name, target in (
            ("keras layer: LSTM states=given return_sequences=True go_backwards=True", "torch"),
            ("keras layer: LSTM states=given return_sequences=True go_backwards=True", "onnx"),
            (BOTH("concat"), "onnx"),
            ("torch layer: GRU states=given bidirectional=True", "keras"),
            ("onnx node: RNN direction=reverse", "keras"),
        )
    ),
    Mutant(
        "peepholes dropped",
        "onnx node: LSTM P=True direction=forward",
        "torch",
        weights(lambda w: replace(w, peepholes=None)),
    ),
    Mutant(
        "peepholes dropped",
        "onnx node: LSTM P=True direction=forward",
        "keras",
        weights(lambda w: replace(w, peepholes=None)),
    ),
    *(
        Mutant("clip dropped", "onnx node: GRU initial=h clip=0.5 direction=forward", t, cells(clip=None))
        for t in ("keras", "torch")
    ),
    *(
        Mutant(
            "input_forget dropped",
            "onnx node: LSTM input_forget=1 direction=forward opset=22",
            t,
            cells(input_forget=False),
        )
        for t in ("keras", "torch")
    ),
    *(
        Mutant(
            "hard_sigmoid of Keras 2", KERAS("LSTM") + " activation=tanh recurrent_activation=hard_sigmoid", t, change
        )
        for t in ("torch", "onnx")
        for change in (functions("gate", Function("hard_sigmoid", 0.2, 0.5)),)
    ),
    Mutant(
        "alpha left at its default",
        "onnx activations: RNN activations=Elu",
        "torch",
        functions("candidate", Function("elu", 1.0)),
    ),
    Mutant(
        "relu taken for tanh",
        "torch layer: RNN nonlinearity=relu states=given",
        "onnx",
        functions("candidate", Function("tanh")),
    ),
    Mutant("rounded to float32", "torch layer: LSTM states=given dtype=float64", "keras", weights(rounded)),
]


def faulty(mutant: Mutant) -> dict[str, Callable[[Any], Any]]:
    def convert(source: Opened) -> Any:
        return CONVERTERS[mutant.target](mutant.change(source.network))

    return {**CONVERTERS, mutant.target: convert}


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_faulty_conversion_is_called_wrong(mutant: Mutant) -> None:
    assert of(mutant.name, mutant.target).status in EXACT
    outcome = of(mutant.name, mutant.target, converters=faulty(mutant))
    assert outcome.status == "wrong", str(outcome)
    assert outcome.times_floor is None or outcome.times_floor > 2 * LIMIT


def swapped(states: dict[str, State], mask: Array | None) -> tuple[dict[str, State], Array | None]:
    """h and c taken for each other."""
    return {name: State(*state.arrays()[::-1]) for name, state in states.items()}, mask


def forgotten(_: dict[str, State], mask: Array | None) -> tuple[None, Array | None]:
    return None, mask


def ignored(states: dict[str, State], _: Array | None) -> tuple[dict[str, State], None]:
    return states, None


def one_longer(states: dict[str, State], mask: Array | None) -> tuple[dict[str, State], Array]:
    """Lengths off by one."""
    assert mask is not None
    return states, np.concatenate([np.ones((len(mask), 1), bool), mask[:, :-1]], axis=1)


RUNS = [
    *(
        (fault, name, target)
        for fault in (swapped, forgotten)
        for name, target in (
            ("keras layer: LSTM states=given return_sequences=True", "torch"),
            ("keras layer: LSTM states=given return_sequences=True", "onnx"),
            ("torch layer: LSTM states=given bidirectional=True", "keras"),
            ("onnx node: LSTM direction=forward initial=h c", "torch"),
        )
    ),
    *(
        (fault, name, target)
        for fault in (ignored, one_longer)
        for name, target in (
            ("keras layer: GRU return_sequences=True return_state=True states=given mask=right", "torch"),
            ("keras layer: GRU return_sequences=True return_state=True states=given mask=right", "onnx"),
            ("torch packed: LSTM states=given lengths=unsorted bidirectional=True", "keras"),
            ("torch packed: LSTM states=given lengths=unsorted bidirectional=True", "onnx"),
            ("onnx node: RNN direction=reverse sequence_lens=unsorted initial=h", "torch"),
            ("onnx node: RNN direction=reverse sequence_lens=unsorted initial=h", "keras"),
        )
    ),
]


@pytest.mark.parametrize(("fault", "name", "target"), RUNS)
def test_states_and_masks_given_wrongly_are_called_wrong(
    fault: Callable[..., Any], name: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert of(name, target, thorough=True).status in EXACT
    honest = parity.run

    def run(source: Any, inputs: Any, initial_state: Any, mask: Any, **options: Any) -> Any:
        states, given_mask = fault(initial_state, mask)
        return honest(source, inputs, initial_state=states, mask=given_mask, **options)

    monkeypatch.setattr(parity, "run", run)
    outcome = of(name, target, thorough=True)
    assert outcome.status == "wrong", str(outcome)


def test_a_crash_and_a_refusal_are_told_apart() -> None:
    def crash(_: Opened) -> Any:
        raise ValueError("broken")

    def refuse(_: Opened) -> Any:
        raise parity.UnsupportedError("no such thing", got="this")

    name = "torch layer: GRU states=given"
    assert of(name, "onnx", converters={**CONVERTERS, "onnx": crash}).status == "crashed"
    refused = of(name, "onnx", converters={**CONVERTERS, "onnx": refuse})
    assert (refused.status, refused.reason) == ("needless", "no such thing")


# ---- the script around it


def test_the_script_writes_a_record_and_a_page(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    app = typer.Typer()
    app.command()(matrix.main)
    with pytest.raises(SystemExit) as stop:
        app(["--only", "torch cell", "--jobs", "1", "--reports", str(tmp_path)])
    assert stop.value.code == 0, capsys.readouterr().out
    record = json.loads((tmp_path / "matrix.json").read_text(encoding="utf-8"))
    assert record["schema"] == matrix.SCHEMA
    assert record["cases"] == 2 * len(record["configurations"]) > 20
    assert sum(record["counts"]["torch"]["keras"].values()) == len(record["configurations"])
    text = (tmp_path / "matrix.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "http" not in text.replace("http-equiv", "").replace("xmlns='http://www.w3.org/2000/svg'", "")
    assert all(row["title"] in text for row in record["configurations"])


def test_the_page_escapes_what_it_shows() -> None:
    outcome = {"target": "torch", "status": "wrong", "reason": "<b>bad</b>", "times_floor": 9.0, "padding": False}
    row = {"framework": "keras", "family": "layer", "title": "<i>", "outcomes": [outcome]}
    counts = {"keras": {"torch": dict.fromkeys(matrix.STATUSES, 0) | {"wrong": 1}}}
    text = page.render({"environment": {}, "thorough": False, "cases": 1, "counts": counts, "configurations": [row]})
    assert "<b>bad</b>" not in text
    assert "&lt;b&gt;bad" in text
    assert "1 bad case in" in text


def test_a_choice_can_be_repeated() -> None:
    assert matrix.chosen(None, 10, 3) == matrix.chosen(None, 10, 3) != matrix.chosen(None, 10, 4)
    assert all(
        "keras" in config.name and "mask=left" in config.name for config in matrix.chosen("keras mask=left", None, 0)
    )
    assert set(FAMILIES) == set(FRAMEWORKS)


@pytest.mark.parametrize("module", [judging, live, page, importlib.import_module("grid.cases")])
def test_examples_run(module: Any) -> None:
    assert doctest.testmod(module).failed == 0
