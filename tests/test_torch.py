"""torch: every layer it has is read, every layer parity knows is built, and with a fault in either the judge says so."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence

import parity
from parity import conventions
from parity.cell import Cell, plain_cell
from parity.conventions import MERGE_MODES, torch_cell_returns, torch_returns
from parity.errors import ShapeError, UnsupportedError
from parity.forms import form_in
from parity.frameworks import Settings
from parity.frameworks import torch as own
from parity.frameworks.torch import building as torch_build
from parity.frameworks.torch import cells as torch_cells
from parity.frameworks.torch import layers as torch_layers
from parity.frameworks.torch.cells import GENERAL_CELLS, GeneralCell, apply
from parity.frameworks.torch.chain import Chain
from parity.frameworks.torch.layers import Loop, on_valid_steps
from parity.functions import FUNCTIONS, Function
from parity.judge import Judgement, judge
from parity.layouts import KERAS_GRU_RESET_BEFORE, KINDS, LAYOUTS, PEEPHOLES, STATES, Kind
from parity.network import Bidirectional, Dense, Dropout, Embedding, Layer, Masking, Network, Output, Recurrent
from parity.recurrent import DIRECTIONS, Array, Direction, RecurrentSpec, Weights, pack, unpack
from parity.reference import Mask
from parity.result import LayerRun, Result, State
from tests.combinations import covering
from tests.whole_checks import assert_whole

BATCH, TIME, FEATURES, UNITS, PROJECTED = 4, 7, 3, 5, 2
FORWARD, BACKWARD = DIRECTIONS[:1], DIRECTIONS[1:]

# torch says so once in a process, to whoever comes first.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")


def from_lengths(*lengths: int) -> Mask:
    return np.arange(TIME) < np.array(lengths)[:, None]


MIDDLE: Mask = np.array(
    [[0, 1, 1, 0, 1, 0, 1], [1, 0, 0, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 0, 1, 1]], dtype=bool
)

MASKS: dict[str, Mask | None] = {
    "none": None,
    "right, sorted": from_lengths(7, 5, 2, 1),
    "right, unsorted": from_lengths(3, 7, 1, 5),
    "right, one empty": from_lengths(3, 0, 7, 5),
    "left": ~from_lengths(1, 4, 0, 6),
    "middle": MIDDLE,
}


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)


def uniform(random: np.random.Generator, shape: Sequence[int]) -> Array:
    """No number near zero."""
    values: Array = random.uniform(0.1, 0.7, shape) * random.choice([-1.0, 1.0], shape)
    return values.astype(np.float32)


def filled(module: Any, random: np.random.Generator) -> Any:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.from_numpy(uniform(random, parameter.shape)))
    return module


def weights(random: np.random.Generator, spec: RecurrentSpec, peepholes: bool = False, bias: bool = True) -> Weights:
    def made(member: str) -> Array:
        return uniform(random, spec.shape(member))

    return Weights(
        made("kernel"),
        made("recurrent"),
        made("bias_input") if bias else None,
        made("bias_recurrent") if bias else None,
        made("peepholes") if peepholes else None,
        made("projection") if spec.projection_size else None,
    )


def recurrent(
    random: np.random.Generator,
    kind: Kind,
    directions: tuple[Direction, ...] = FORWARD,
    cell: Cell | None = None,
    peepholes: bool = False,
    projection: int | None = None,
    features: int = FEATURES,
    name: str = "layer",
    units: int = UNITS,
    **options: Any,
) -> Recurrent:
    """A layer of random weights; the two directions of it have cells alike."""
    spec = RecurrentSpec(kind, features, units, directions, projection)
    own_weights = tuple(weights(random, spec, peepholes) for _ in directions)
    return Recurrent(name, spec, own_weights, cells=(cell or plain_cell(kind),) * len(directions), **options)


def bare(*layers: Layer) -> Network:
    return Network("network", layers)


def given(network: Network, seed: int = 1) -> tuple[Array, dict[str, State]]:
    random = np.random.default_rng(seed)
    if network.tokens:
        x: Array = random.integers(0, network.tokens, (BATCH, TIME))
    else:
        x = random.standard_normal((BATCH, TIME, FEATURES)).astype(np.float32)
    states = {
        name: State(*(uniform(random, spec.state_shape(state, BATCH)) for state in spec.states))
        for name, spec in network.specs.items()
    }
    return x, states


def judged(network: Network, module: Any = None, mask: Mask | None = None, x: Array | None = None) -> Judgement:
    """The module, by default the network's own conversion, in the light of the float64 reference of the network."""
    usual, states = given(network)
    module = own.build(network) if module is None else module
    runner = own.runner(module, network, Settings())
    return judge(network, {"torch": runner}, usual if x is None else x, states, mask=mask)


def wrong(judgement: Judgement, padding: bool = True) -> list[str]:
    """What is not as the reference has it; what stands in padding counts for a composition, not for torch's own layers."""
    nothing = [] if any(row.rule == "run" for row in judgement.rows) else ["nothing was judged"]
    return [
        *judgement.failures.values(),
        *nothing,
        *(
            f"{row.rule} {row.quantity}: {row.max_error} at {row.place}, {row.times_floor} floors, padding {row.padding_error}"
            for row in judgement.rows
            if row.verdict != "agree" or (padding and row.padding_outside)
        ),
    ]


def facts(layer: Layer) -> tuple[Any, ...]:
    """A layer as something that can be compared; a bias of zeros is none."""
    arrays = {name: array.tolist() for name, array in layer.arrays.items() if array.any()}
    if isinstance(layer, Recurrent):
        options = layer.return_sequences, layer.merge_mode, layer.reverse, layer.fill, layer.single_step
        return layer.name, layer.spec, layer.cells, options, arrays
    if isinstance(layer, Bidirectional):
        return layer.name, layer.merge_mode, [[facts(one) for one in stack] for stack in layer.stacks]
    return type(layer), layer.name, layer.input_size, layer.facts, arrays


def through_pickle(module: Any) -> Any:
    return pickle.loads(pickle.dumps(copy.deepcopy(module)))


# ---- reading and running what torch has itself

NATIVE: dict[str, Callable[..., Any]] = {
    "LSTM": nn.LSTM,
    "GRU": nn.GRU,
    "RNN tanh": nn.RNN,
    "RNN relu": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
    "LSTM projected": lambda *sizes, **options: nn.LSTM(*sizes, proj_size=PROJECTED, **options),
}

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "time first": {"batch_first": False},
    "both directions": {"bidirectional": True},
    "stacked": {"num_layers": 3, "dropout": 0.4, "bidirectional": True},
    "no bias": {"bias": False, "num_layers": 2},
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("layer", NATIVE)
def test_torch_s_own_layers(layer: str, options: str, mask: str, random: np.random.Generator) -> None:
    """In training mode as they are made: dropout between the layers must not show."""
    module = filled(NATIVE[layer](FEATURES, UNITS, **{"batch_first": True, **OPTIONS[options]}), random)
    network = parity.read(module)
    assert wrong(judged(network, module, MASKS[mask])) == []
    assert module.training
    again = own.build(network)
    assert type(again) is type(module)
    for key, tensor in module.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor)
    same = ("num_layers", "bidirectional", "dropout", "proj_size", "bias", "mode")
    assert [getattr(again, key) for key in same] == [getattr(module, key) for key in same]
    assert list(map(facts, parity.read(again).layers)) == list(map(facts, network.layers))
    assert own.form(again) == form_in(network, "torch")
    assert form_in(network, "torch").native


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(
    ("kind", "options"), [("lstm", {}), ("gru", {"bias": False}), ("rnn", {}), ("rnn", {"nonlinearity": "relu"})]
)
def test_cells_take_their_steps_one_by_one(
    kind: Kind, options: dict[str, Any], mask: str, random: np.random.Generator
) -> None:
    cell = filled(torch_cells.CELLS[kind](FEATURES, UNITS, **options), random)
    network = parity.read(cell)
    assert network.recurrent[0].single_step
    assert wrong(judged(network, cell, MASKS[mask])) == []
    again = own.build(network)
    assert type(again) is type(cell)
    assert list(map(facts, parity.read(again).layers)) == list(map(facts, network.layers))
    runner = own.runner(cell, network, Settings())
    x, states = given(network)
    names = [value.name for value in torch_cell_returns(kind)]
    assert [(value.name, value.shape) for value in runner(x, states).returned] == [
        (name, (BATCH, UNITS)) for name in names
    ]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("layer", ["LSTM projected", "GRU", "RNN relu", "cell"])
def test_unbatched(layer: str, mask: str, random: np.random.Generator) -> None:
    options = {} if layer == "cell" else {"num_layers": 2, "bidirectional": True}
    module = filled(NATIVE.get(layer, nn.LSTMCell)(FEATURES, UNITS, **options), random)
    network = parity.read(module)
    runner = own.runner(module, network, Settings())
    runner.unbatched = True
    x, states = given(network)
    judgement = judge(network, {"torch": runner}, x, states, mask=MASKS[mask])
    assert wrong(judgement) == []
    assert judgement.results["torch"].settings["unbatched"] == "every sample by itself"
    shapes = {value.name: value.shape for value in runner(x, states).returned}
    if layer == "cell":
        assert shapes == {"h'": (UNITS,), "c'": (UNITS,)}
    else:
        sizes = {"batch": 1, "time": TIME, "layer": 2, "direction": 2, "hidden": UNITS}
        sizes["state"] = network.recurrent[0].spec.state_size
        values = torch_returns(network.recurrent[0].spec.kind, batched=False)
        assert shapes == {value.name: value.shape(sizes) for value in values}


def test_compositions_have_a_batch_axis(random: np.random.Generator) -> None:
    network = bare(recurrent(random, "gru", BACKWARD))
    runner = own.runner(own.build(network), network, Settings())
    runner.unbatched = True
    with pytest.raises(UnsupportedError, match="without a batch axis"):
        runner(*given(network))


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        ("right, sorted", "PackedSequence, enforce_sorted=True"),
        ("right, unsorted", "PackedSequence, enforce_sorted=False"),
        ("right, one empty", "PackedSequence, enforce_sorted=False, samples without a valid step left out"),
        ("left", "valid steps moved to the front, PackedSequence, enforce_sorted=False"),
        (
            "middle",
            "valid steps moved to the front, PackedSequence, enforce_sorted=False, samples without a valid step left out",
        ),
    ],
)
def test_how_a_mask_reaches_torch_is_said_and_true(
    mask: str, said: str, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = parity.read(filled(nn.GRU(FEATURES, UNITS), random))
    calls: list[dict[str, Any]] = []
    honest = pack_padded_sequence

    def packed(steps: Tensor, lengths: Tensor, **options: Any) -> Any:
        calls.append({**options, "lengths": lengths.tolist()})
        return honest(steps, lengths, **options)

    monkeypatch.setattr(torch_layers, "pack_padded_sequence", packed)
    x, states = given(network)
    valid = MASKS[mask]
    assert valid is not None
    result = own.runner(own.build(network), network, Settings())(x, states, valid)
    assert result.settings["mask"] == said
    (call,) = calls
    assert f"enforce_sorted={call['enforce_sorted']}" in said
    assert call["lengths"] == [length for length in valid.sum(axis=1).tolist() if length]
    assert [(value.name, value.shape) for value in result.returned] == [
        ("output.data", (int(valid.sum()), UNITS)),
        ("h_n", (1, BATCH, UNITS)),
    ]


def test_an_empty_sample_keeps_its_state(random: np.random.Generator) -> None:
    network = parity.read(filled(nn.LSTM(FEATURES, UNITS, bidirectional=True, proj_size=PROJECTED), random))
    x, states = given(network)
    result = own.runner(own.build(network), network, Settings())(x, states, MIDDLE)
    (run,), (start,) = result.layers.values(), states.values()
    for after, before in zip(run.final.arrays(), start.arrays(), strict=True):
        assert np.array_equal(after[:, 2], before[:, 2])
        assert not np.array_equal(after[:, 1], before[:, 1])
    assert run.sequence is not None
    assert not run.sequence[2].any()


@pytest.mark.parametrize("fill", ["zero", "repeat"])
@pytest.mark.parametrize("mask", ["right, one empty", "left", "middle"])
@pytest.mark.parametrize("cell", ["gru plain", "gru reset before", "lstm projected"])
def test_the_output_of_the_last_step(cell: str, mask: str, fill: Any, random: np.random.Generator) -> None:
    """What return_sequences=False would give, which a mask can set apart from h_n."""
    kind, options = CELLS[cell]
    network = bare(recurrent(random, kind, **{**options, "directions": DIRECTIONS, "fill": fill}))
    x, states = given(network)
    (found,) = own.runner(own.build(network), network, Settings())(x, states, MASKS[mask]).layers.values()
    wanted = network.compute(x, states, mask=MASKS[mask])[1]["layer"].run
    assert found.last is not None
    assert wanted.last is not None
    assert found.last.shape == wanted.last.shape
    assert np.abs(found.last - wanted.last).max() < 1e-5
    differ = np.abs(found.last - found.final.h).max() > 1e-3
    assert differ == (fill == "zero" or mask != "left")


def test_without_any_valid_step_nothing_happens(random: np.random.Generator) -> None:
    modules: list[nn.Module] = [
        nn.LSTM(FEATURES, UNITS, 2, bidirectional=True, proj_size=PROJECTED),
        nn.GRUCell(FEATURES, UNITS),
        own.build(bare(recurrent(random, "lstm", DIRECTIONS, merge_mode="sum", fill="repeat"))),
        own.build(bare(recurrent(random, "gru", BACKWARD, replace(plain_cell("gru"), reset_after=False)))),
    ]
    for module in modules:
        network = parity.read(filled(module, random))
        x, states = given(network)
        runner = own.runner(module, network, Settings())
        for unbatched in (False, True)[: 1 + isinstance(module, (nn.LSTM, nn.GRUCell))]:
            runner.unbatched = unbatched
            result = runner(x, states, np.zeros((BATCH, TIME), bool))
            assert not result.sequence.any()
            for name, run in result.layers.items():
                for after, before in zip(run.final.arrays(), states[name].arrays(), strict=True):
                    assert np.array_equal(after, before)


def test_padding_that_is_no_number_does_not_leak(random: np.random.Generator) -> None:
    for kind in KINDS:
        for layer in (
            recurrent(random, kind),
            recurrent(random, kind, DIRECTIONS, replace(plain_cell(kind), clip=0.9)),
        ):
            network = bare(layer)
            x, states = given(network)
            clean = own.runner(own.build(network), network, Settings())(x, states, MIDDLE)
            x[~MIDDLE] = np.nan
            found = own.runner(own.build(network), network, Settings())(x, states, MIDDLE)
            assert np.array_equal(found.sequence, clean.sequence)
            assert np.array_equal(found.h_n, clean.h_n)


def test_a_sequential_model(random: np.random.Generator) -> None:
    module: Any = nn.Sequential(
        nn.Embedding(11, 4), nn.Dropout(0.5), nn.Linear(4, 6), nn.ReLU(), nn.LSTM(6, UNITS, 2, dropout=0.3)
    )
    network = parity.read(filled(module, random))
    assert [layer.name for layer in network.layers] == ["0", "1", "2", "4_l0", "4_l0_dropout", "4_l1"]
    module[-1].batch_first = True
    assert wrong(judged(network, module)) == []
    assert wrong(judged(network)) == []
    assert wrong(judged(network, mask=MIDDLE)) == []
    chain = own.build(network)
    assert list(map(facts, parity.read(chain).layers)) == list(map(facts, network.layers))
    with torch.no_grad():
        x = torch.from_numpy(given(network)[0])
        output, (h_n, c_n) = chain(x)
        wanted, (h, c) = module.eval()(x)
    for mine, theirs in ((output, wanted), (h_n, h), (c_n, c)):
        assert mine.shape == theirs.shape
        assert (mine - theirs).abs().max() < 1e-6


def test_a_name_that_ends_like_a_layer_s(random: np.random.Generator) -> None:
    module = nn.Sequential()
    module.add_module("my_lstm", filled(nn.LSTM(FEATURES, UNITS), random))
    assert parity.read(module).name == "my_lstm"


# ---- types of numbers


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_kept_exactly(dtype: torch.dtype, random: np.random.Generator) -> None:
    module = filled(nn.LSTM(FEATURES, UNITS, proj_size=PROJECTED, bidirectional=True), random).to(dtype)
    network = parity.read(module)
    assert network.details["stored as"] == str(dtype).removeprefix("torch.")
    again = own.build(network)
    for key, tensor in module.state_dict().items():
        assert again.state_dict()[key].dtype == torch.float32
        assert torch.equal(again.state_dict()[key], tensor.float())
    assert wrong(judged(network, module)) == []
    assert next(module.parameters()).dtype == dtype


def test_float64_stays_float64() -> None:
    module = nn.Sequential(nn.Linear(FEATURES, 4), nn.GRU(4, UNITS, 2, batch_first=True)).double()
    network = parity.read(module)
    assert {array.dtype for layer in network.layers for array in layer.arrays.values()} == {np.dtype("float64")}
    x, states = given(network)
    for one in (module, own.build(network)):
        result = own.runner(one, network, Settings())(x, states)
        assert result.settings["dtype"] == "float64"
        wanted = parity.run(network, x, engine="reference", initial_state=states)
        assert np.abs(result.sequence - wanted.sequence).max() < 1e-14
        assert {parameter.dtype for parameter in one.parameters()} == {torch.float64}


def test_numbers_that_are_no_weights() -> None:
    mixed = nn.Sequential(nn.Linear(FEATURES, 4), nn.GRU(4, UNITS).half())
    with pytest.raises(UnsupportedError, match="several types"):
        parity.read(mixed)
    strange: Any = nn.GRU(FEATURES, UNITS)
    strange.weight_hh_l0 = nn.Parameter(strange.weight_hh_l0.to(torch.complex64))
    with pytest.raises(UnsupportedError, match="not converted"):
        parity.read(strange)


def test_state_dicts_load(random: np.random.Generator, tmp_path: Path) -> None:
    sources = {
        "projected": nn.LSTM(FEATURES, UNITS, 2, proj_size=PROJECTED, bidirectional=True),
        "bfloat16": nn.GRU(FEATURES, UNITS, bidirectional=True).bfloat16(),
        "float64": nn.LSTM(FEATURES, UNITS).double(),
        "cell": nn.LSTMCell(FEATURES, UNITS),
        "rnn": nn.RNN(FEATURES, UNITS),
    }
    for name, module in sources.items():
        path = tmp_path / f"{name}.pt"
        torch.save({f"part.{key}": tensor for key, tensor in filled(module, random).state_dict().items()}, path)
        loaded = own.load(path, parity.read(module))
        assert type(loaded) is type(module)
        wanted = torch.float64 if name == "float64" else torch.float32
        for key, tensor in module.state_dict().items():
            assert torch.equal(loaded.state_dict()[key], tensor.to(wanted))


# ---- what is built where torch has no layer

TANH, RELU = Function("tanh"), Function("relu")
HARD = Function("hard_sigmoid", 0.2, 0.5)

CELLS: dict[str, tuple[Kind, dict[str, Any]]] = {
    "lstm functions": ("lstm", {"cell": Cell((HARD, Function("softsign"), Function("elu", 0.7)))}),
    "lstm peepholes": ("lstm", {"peepholes": True}),
    "lstm clip": ("lstm", {"cell": replace(plain_cell("lstm"), clip=0.6)}),
    "lstm input_forget": ("lstm", {"cell": replace(plain_cell("lstm"), input_forget=True)}),
    "lstm projected": ("lstm", {"projection": PROJECTED}),
    "lstm projected to as many": ("lstm", {"projection": UNITS}),
    "lstm all at once": (
        "lstm",
        {
            "cell": Cell((HARD, TANH, Function("softsign")), clip=0.8, input_forget=True),
            "peepholes": True,
            "projection": PROJECTED,
        },
    ),
    "gru reset before": ("gru", {"cell": replace(plain_cell("gru"), reset_after=False)}),
    "gru functions": ("gru", {"cell": Cell((HARD, RELU), clip=0.9)}),
    "gru reset before, clip": (
        "gru",
        {"cell": Cell((Function("sigmoid"), Function("scaled_tanh", 1.2, 0.7)), False, 0.5)},
    ),
    "rnn function": ("rnn", {"cell": Cell((Function("leaky_relu", 0.3),))}),
    "rnn clip": ("rnn", {"cell": replace(plain_cell("rnn"), clip=0.5)}),
    "lstm plain": ("lstm", {}),
    "gru plain": ("gru", {}),
    "rnn relu": ("rnn", {"cell": Cell((RELU,))}),
}

SHAPES: dict[str, dict[str, Any]] = {
    "forward": {},
    "backward": {"directions": BACKWARD},
    "backward, reversed": {"directions": BACKWARD, "reverse": True},
    "forward, reversed": {"reverse": True, "fill": "repeat"},
    "repeat": {"fill": "repeat"},
    "backward, repeat": {"directions": BACKWARD, "fill": "repeat"},
    "both": {"directions": DIRECTIONS, "fill": "repeat"},
    **{f"both, {mode}": {"directions": DIRECTIONS, "merge_mode": mode} for mode in MERGE_MODES},
    "both, last sum": {
        "directions": DIRECTIONS,
        "merge_mode": "sum",
        "return_sequences": False,
        "fill": "repeat",
    },
    "both, last none": {"directions": DIRECTIONS, "merge_mode": None, "return_sequences": False},
}


@pytest.mark.parametrize(
    ("cell", "shape", "mask"), covering(itertools.product(CELLS, SHAPES, ["none", "right, unsorted", "middle"]))
)
def test_every_layer_is_built(cell: str, shape: str, mask: str, random: np.random.Generator) -> None:
    kind, options = CELLS[cell]
    network = bare(recurrent(random, kind, **{**options, **SHAPES[shape]}))
    module = own.build(network)
    native = form_in(network, "torch").native
    assert native == isinstance(module, (nn.LSTM, nn.GRU, nn.RNN))
    assert own.form(module) == form_in(network, "torch")
    assert wrong(judged(network, through_pickle(module), MASKS[mask]), padding=not native) == []
    if not native:
        (again,) = parity.read(through_pickle(module)).layers
        # A bare layer returns its sequence, as nn.LSTM does, unless merging leaves only the merged value.
        (layer,) = network.recurrent
        assert facts(again) == facts(replace(layer, name=kind))


@pytest.mark.parametrize("cell", CELLS)
def test_what_a_composition_returns_is_as_torch_returns_it(cell: str, random: np.random.Generator) -> None:
    kind, options = CELLS[cell]
    network = bare(recurrent(random, kind, **{**options, "directions": DIRECTIONS}))
    layer = network.recurrent[0]
    module = torch_build._recurrent_layer(layer, torch.float32).eval()
    x, states = given(network)
    hx = tuple(map(torch.from_numpy, states["layer"].arrays()))
    with torch.no_grad():
        output, final = module(torch.from_numpy(x), hx if len(hx) > 1 else hx[0])
    assert isinstance(final, tuple) == (kind == "lstm")
    flat = [output, *(final if isinstance(final, tuple) else (final,))]
    sizes = {"batch": BATCH, "time": TIME, "layer": 1, "direction": 2, "hidden": UNITS, "state": layer.spec.state_size}
    assert [tuple(tensor.shape) for tensor in flat] == [value.shape(sizes) for value in torch_returns(kind)]
    wanted = parity.run(network, x, engine="reference", initial_state=states)
    assert np.abs(flat[0].numpy() - wanted.sequence).max() < 1e-5
    assert np.abs(flat[1].numpy() - wanted.h_n[0]).max() < 1e-5


def test_cells_may_differ_between_directions(random: np.random.Generator) -> None:
    """One direction plain, so that torch's own layer takes it; the other not, and without a bias."""
    spec = RecurrentSpec("gru", FEATURES, UNITS, DIRECTIONS)
    cells = plain_cell("gru"), replace(plain_cell("gru"), reset_after=False)
    layer = Recurrent("gru", spec, (weights(random, spec), weights(random, spec, bias=False)), cells=cells)
    module: Any = own.build(bare(layer))
    assert [type(part) for part in module.layers] == [nn.GRU, Loop]
    assert wrong(judged(bare(layer), module, MIDDLE)) == []
    assert facts(parity.read(module).layers[0]) == facts(layer)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_the_same_in_torch(name: str) -> None:
    row = FUNCTIONS[name]
    function = Function(name, row.alpha and row.alpha * 0.8, row.beta if row.beta is None else row.beta + 0.1)
    x = np.concatenate([np.linspace(-30, 30, 4001), [-700.0, -1e-9, 0.0, 1e-9]])
    found = apply(function, torch.from_numpy(x)).numpy()
    scale = np.maximum(np.abs(function(x)), 1.0)
    assert (np.abs(found - function(x)) / scale).max() < 1e-14
    assert set(torch_cells.FUNCTIONS) == set(FUNCTIONS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_in_every_slot(kind: Kind, name: str, random: np.random.Generator) -> None:
    row = FUNCTIONS[name]
    plain = plain_cell(kind)
    for slot in range(len(plain.functions)):
        functions = list(plain.functions)
        functions[slot] = Function(name, row.alpha, row.beta)
        # A recurrence of exponentials leaves the range of float32 in a few steps.
        clip = 1.5 if name == "exponential" else None
        layer = recurrent(random, kind, cell=Cell(tuple(functions), clip=clip))
        small = tuple(replace(own_weights, recurrent=own_weights.recurrent * 0.4) for own_weights in layer.weights)
        assert wrong(judged(bare(replace(layer, weights=small)))) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_step_of_a_peculiar_cell(kind: Kind, random: np.random.Generator) -> None:
    cell = replace(plain_cell(kind), clip=0.7)
    projection = PROJECTED if kind == "lstm" else None
    layer = recurrent(random, kind, cell=cell, projection=projection, single_step=True)
    module = own.build(bare(layer))
    assert type(module) is GENERAL_CELLS[kind]
    assert wrong(judged(bare(layer), module, MIDDLE)) == []
    assert facts(parity.read(through_pickle(module)).layers[0]) == facts(replace(layer, name=kind))
    x = torch.from_numpy(given(bare(layer))[0])
    after = module(x[:, 1], module(x[:, 0]))
    shapes = [tuple(state.shape) for state in (after if isinstance(after, tuple) else (after,))]
    assert shapes == [(BATCH, projection or UNITS), (BATCH, UNITS)][: len(STATES[kind])]


def hand_written_lstm(module: GeneralCell, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gates i, f, g, o; peepholes i, f, o; hard gates, softsign candidate, elu of c; projected."""
    assert module.weight_p is not None
    assert module.weight_hr is not None
    assert module.bias_ih is not None
    assert module.bias_hh is not None
    p_i, p_f, p_o = module.weight_p
    outputs = []
    for step in x.unbind(1):
        z = step @ module.weight_ih.T + module.bias_ih + h @ module.weight_hh.T + module.bias_hh
        i, f, g, o = z.chunk(4, dim=1)
        i = (0.2 * (i + p_i * c) + 0.5).clamp(0, 1)
        f = (0.2 * (f + p_f * c) + 0.5).clamp(0, 1)
        c = f * c + i * g / (1 + g.abs())
        o = (0.2 * (o + p_o * c) + 0.5).clamp(0, 1)
        h = (o * torch.where(c > 0, c, 0.7 * torch.expm1(c))) @ module.weight_hr.T
        outputs.append(h)
    return torch.stack(outputs, 1), h, c


def hand_written_gru(module: GeneralCell, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Gates r, z, n; the reset gate before the product."""
    assert module.bias_ih is not None
    assert module.bias_hh is not None
    w_r, w_z, w_n = module.weight_hh.chunk(3)
    b_r, b_z, b_n = module.bias_hh.chunk(3)
    outputs = []
    for step in x.unbind(1):
        x_r, x_z, x_n = (step @ module.weight_ih.T + module.bias_ih).chunk(3, dim=1)
        r, z = torch.sigmoid(x_r + h @ w_r.T + b_r), torch.sigmoid(x_z + h @ w_z.T + b_z)
        n = torch.tanh(x_n + (r * h) @ w_n.T + b_n)
        h = z * h + (1 - z) * n
        outputs.append(h)
    return torch.stack(outputs, 1), h


def test_against_loops_written_by_hand(random: np.random.Generator) -> None:
    functions = Cell((HARD, Function("softsign"), Function("elu", 0.7)))
    cases: list[tuple[Recurrent, Callable[..., Any]]] = [
        (recurrent(random, "lstm", cell=functions, peepholes=True, projection=PROJECTED), hand_written_lstm),
        (recurrent(random, "gru", cell=replace(plain_cell("gru"), reset_after=False)), hand_written_gru),
    ]
    for layer, written in cases:
        module = own.build(bare(layer)).double()
        cell: Any = module.get_submodule("layers.0.cell")
        x, states = given(bare(layer))
        start = [torch.from_numpy(array).double() for array in states["layer"].arrays()]
        hx = tuple(start) if len(start) > 1 else start[0]
        output, final = module(torch.from_numpy(x).double(), hx)
        wanted, *states_after = written(cell, torch.from_numpy(x).double(), *(state[0] for state in start))
        assert (output - wanted).abs().max() < 1e-14
        for mine, theirs in zip(final if isinstance(final, tuple) else (final,), states_after, strict=True):
            assert (mine[0] - theirs).abs().max() < 1e-14


# ---- ONNX Runtime as the judge of what only its operators have


class NodeRunner:
    """One node of ONNX, built by hand; see `parity.frameworks.Runner`."""

    engine = "onnxruntime"

    def __init__(self, layer: Recurrent, **attributes: Any) -> None:
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper

        self._layer = layer
        kind, spec = layer.spec.kind, layer.spec
        arrays = pack(LAYOUTS["onnx", kind], spec, layer.weights)
        slots = ["X", "W", "R", "B", "", "H0", *(["C0", "P"] if kind == "lstm" else [])]
        inputs = [name if name in ("", "X", "H0", "C0") or name in arrays else "" for name in slots]
        outputs = [f"Y{suffix}" for suffix in ("", *(f"_{state}" for state in spec.states))]
        way = (
            "bidirectional"
            if len(spec.directions) > 1
            else {"forward": "forward", "backward": "reverse"}[spec.directions[0]]
        )
        node = helper.make_node(kind.upper(), inputs, outputs, hidden_size=UNITS, direction=way, **attributes)
        graph = helper.make_graph(
            [node],
            "node",
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 3)
                for name in inputs
                if name in ("X", "H0", "C0")
            ],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in arrays.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def __call__(self, inputs: Array, states: Any, mask: Array | None = None) -> Result:
        start = zip(("H0", "C0"), states[self._layer.name].arrays(), strict=False)
        fed = {
            "X": np.ascontiguousarray(inputs.swapaxes(0, 1)),
            **{name: array.astype(np.float32) for name, array in start},
        }
        y, *final = self._session.run(None, fed)
        return Result(self.engine, {}, {self._layer.name: LayerRun(State(*final), y.transpose(2, 0, 1, 3))})


ONNX_CASES: dict[str, tuple[Kind, dict[str, Any], dict[str, Any]]] = {
    "clip": ("lstm", {"cell": replace(plain_cell("lstm"), clip=0.4)}, {"clip": 0.4}),
    "gru clip": (
        "gru",
        {"cell": Cell(plain_cell("gru").functions, True, 0.4)},
        {"clip": 0.4, "linear_before_reset": 1},
    ),
    "linear_before_reset=0": ("gru", {"cell": Cell(plain_cell("gru").functions, False)}, {}),
    "rnn clip": ("rnn", {"cell": replace(plain_cell("rnn"), clip=0.4)}, {"clip": 0.4}),
    "input_forget": ("lstm", {"cell": replace(plain_cell("lstm"), input_forget=True)}, {"input_forget": 1}),
    "peepholes": ("lstm", {"peepholes": True}, {}),
    "functions": (
        "lstm",
        {"cell": Cell((HARD, Function("softsign"), Function("elu", 0.7)))},
        {"activations": ["HardSigmoid", "Softsign", "Elu"], "activation_alpha": [0.2, 0.7], "activation_beta": [0.5]},
    ),
    "gru functions": (
        "gru",
        {"cell": Cell((Function("affine", 0.3, 0.4), Function("scaled_tanh", 1.2, 0.7)), True)},
        {
            "activations": ["Affine", "ScaledTanh"],
            "activation_alpha": [0.3, 1.2],
            "activation_beta": [0.4, 0.7],
            "linear_before_reset": 1,
        },
    ),
    "everything": (
        "lstm",
        {"peepholes": True, "cell": replace(plain_cell("lstm"), clip=0.5, input_forget=True)},
        {"clip": 0.5, "input_forget": 1},
    ),
}


@pytest.mark.parametrize("directions", [FORWARD, BACKWARD, DIRECTIONS])
@pytest.mark.parametrize("case", ONNX_CASES)
def test_against_onnx_runtime(case: str, directions: tuple[Direction, ...], random: np.random.Generator) -> None:
    kind, options, attributes = ONNX_CASES[case]
    layer = recurrent(random, kind, directions, **options)
    # The attributes that name functions name those of every direction.
    attributes = {
        key: value * len(directions) if isinstance(value, list) else value for key, value in attributes.items()
    }
    network = bare(layer)
    runners: dict[str, Any] = {
        "torch": own.runner(own.build(network), network, Settings()),
        "node": NodeRunner(layer, **attributes),
    }
    x, states = given(network)
    judgement = judge(network, runners, x, states)
    assert wrong(judgement) == []
    assert {row.left for row in judgement.rows} | {row.right for row in judgement.rows} == {*runners, "reference"}


# ---- Keras as the judge of merge modes, masks, fills and orders


def keras_array_names(kind: Kind) -> list[str]:
    return [tensor.name for tensor in LAYOUTS["keras", kind].tensors]


def keras_layer(kind: Kind, random: np.random.Generator, **options: Any) -> tuple[Any, Weights, Cell]:
    """A layer of Keras, its canonical weights read through the table alone, and its cell."""
    import keras

    layer = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}[kind](UNITS, **options)
    layer.build((None, None, FEATURES))
    layer.set_weights([uniform(random, array.shape) for array in layer.get_weights()])
    before = kind == "gru" and not options.get("reset_after", True)
    layout = KERAS_GRU_RESET_BEFORE if before else LAYOUTS["keras", kind]
    spec = RecurrentSpec(kind, FEATURES, UNITS)
    (found,) = unpack(layout, spec, dict(zip(keras_array_names(kind), layer.get_weights(), strict=True)))
    return layer, found, replace(plain_cell(kind), reset_after=not before)


def difference(mine: Any, theirs: Any) -> float:
    return float(np.abs(np.asarray(mine) - np.asarray(theirs)).max())


PADDED = ["none", "right, one empty", "left", "middle"]


@pytest.mark.parametrize(
    ("form", "zero_output", "go_backwards", "mask"),
    covering(itertools.product(["lstm", "gru", "gru before", "rnn"], [False, True], [False, True], PADDED), 3),
)
def test_masks_as_keras_has_them(
    form: str, zero_output: bool, go_backwards: bool, mask: str, random: np.random.Generator
) -> None:
    kind: Any = form.split(maxsplit=1)[0]
    options = {"reset_after": False} if "before" in form else {}
    layer, own_weights, cell = keras_layer(
        kind,
        random,
        return_sequences=True,
        return_state=True,
        zero_output_for_mask=zero_output,
        go_backwards=go_backwards,
        **options,
    )
    node = Recurrent(
        kind,
        RecurrentSpec(kind, FEATURES, UNITS, BACKWARD if go_backwards else FORWARD),
        (own_weights,),
        cells=(cell,),
        reverse=go_backwards,
        fill="zero" if zero_output else "repeat",
    )
    x, states = given(bare(node))
    valid = MASKS[mask]
    start = [array[0] for array in states[kind].arrays()]
    wanted, *final = layer(x, initial_state=start, mask=valid)
    module = torch_build._recurrent_layer(node, torch.float32)
    hx = torch_layers.as_hx(torch.from_numpy(array) for array in states[kind].arrays())
    with torch.no_grad():
        output, after = module(torch.from_numpy(x), hx, None if valid is None else torch.from_numpy(valid))
    assert difference(output, wanted) < 2e-6
    for mine, theirs in zip(torch_layers.states_of(after), final, strict=True):
        assert difference(mine[0], theirs) < 2e-6


@pytest.mark.parametrize(("mode", "sequences", "mask"), covering(itertools.product(MERGE_MODES, [False, True], PADDED)))
def test_merge_modes_as_keras_has_them(mode: Any, sequences: bool, mask: str, random: np.random.Generator) -> None:
    """Once of like directions, a `RecurrentLayer`, and once of unlike ones, a `Bidirectional`, where Keras can merge them."""
    import keras

    valid = MASKS[mask]
    for other in ("lstm", "gru"):
        forward, forward_weights, cell = keras_layer("lstm", random, return_sequences=sequences)
        backward, backward_weights, other_cell = keras_layer(
            "lstm" if other == "lstm" else "gru", random, return_sequences=sequences, go_backwards=True
        )
        layer = keras.layers.Bidirectional(forward, backward_layer=backward, merge_mode=mode)
        layer.build((None, None, FEATURES))
        # Keras makes both anew from their configuration.
        layer.forward_layer.set_weights(forward.get_weights())
        layer.backward_layer.set_weights(backward.get_weights())
        fills: dict[str, Any] = {"fill": "zero" if sequences else "repeat", "return_sequences": sequences}
        node: Layer
        if other == "lstm":
            spec = RecurrentSpec("lstm", FEATURES, UNITS, DIRECTIONS)
            node = Recurrent("both", spec, (forward_weights, backward_weights), merge_mode=mode, **fills)
        else:
            first = Recurrent("f", RecurrentSpec("lstm", FEATURES, UNITS), (forward_weights,), cells=(cell,), **fills)
            spec = RecurrentSpec("gru", FEATURES, UNITS, BACKWARD)
            second = Recurrent("b", spec, (backward_weights,), cells=(other_cell,), **fills)
            node = Bidirectional("both", (first,), (second,), mode)
        network = Network("n", (node, Dropout("end", node.output_size, 0.5)), (Output("y", "end"),))
        if mode is None:
            network = bare(node)
        x, _ = given(network)
        wanted = layer(x, mask=valid)
        with torch.no_grad():
            found = own.build(network)(torch.from_numpy(x), mask=None if valid is None else torch.from_numpy(valid))
        if mode is None and (other == "gru" or node_merges(node)):
            found = found[0]
        pairs = zip(found, wanted, strict=True) if mode is None else [(found, wanted)]
        assert max(difference(mine, theirs) for mine, theirs in pairs) < 2e-6


def node_merges(node: Layer) -> bool:
    return isinstance(node, Recurrent) and node.merges


# ---- whole models


def model(random: np.random.Generator, first: Layer, middle: Layer, last: Layer, heads: int = 2) -> Network:
    dense = Dense("dense", uniform(random, (last.output_size, heads)), uniform(random, (heads,)), "sigmoid")
    layers = (first, middle, Dropout("dropout", middle.output_size, 0.3), last, dense)
    outputs = [Output("y", "dense")]
    if isinstance(last, Recurrent):
        outputs += [Output(f"value {index}", last.name, value) for index, value in enumerate(last.values)]
    return Network("model", layers, tuple(outputs), "keras")


def unlike(random: np.random.Generator, features: int, sequences: bool, mode: Any = "concat") -> Bidirectional:
    """A stack of two on one side, another kind on the other."""
    options: dict[str, Any] = {"return_sequences": sequences, "fill": "repeat"}
    first = recurrent(random, "lstm", features=features, name="both.first", units=4)
    cell = replace(plain_cell("gru"), reset_after=False)
    second = recurrent(random, "gru", features=4, name="both.second", cell=cell, **options)
    back = recurrent(random, "rnn", BACKWARD, features=features, name="both.back", reverse=False, **options)
    return Bidirectional("both", (first, second), (back,), mode)


MODELS: dict[str, Callable[[np.random.Generator], Network]] = {
    "masking": lambda random: model(
        random,
        Masking("masking", FEATURES, 0.1),
        recurrent(random, "lstm", fill="repeat", name="one"),
        recurrent(random, "gru", features=UNITS, return_sequences=False, fill="repeat", name="two"),
    ),
    "mask_zero": lambda random: model(
        random,
        Embedding("embedding", uniform(random, (6, 4)), mask_zero=True),
        recurrent(random, "gru", DIRECTIONS, features=4, name="one"),
        recurrent(random, "lstm", DIRECTIONS, features=2 * UNITS, return_sequences=False, merge_mode="mul", name="two"),
    ),
    "unlike directions": lambda random: model(
        random,
        Masking("masking", FEATURES),
        unlike(random, FEATURES, sequences=True, mode="sum"),
        recurrent(random, "lstm", features=UNITS, name="two"),
    ),
    "unlike directions at the end": lambda random: model(
        random,
        Embedding("embedding", uniform(random, (6, 4)), mask_zero=True),
        recurrent(random, "lstm", features=4, name="one", projection=PROJECTED),
        unlike(random, PROJECTED, sequences=False),
    ),
    "no mask of its own": lambda random: model(
        random,
        Dense("before", uniform(random, (FEATURES, 4)), uniform(random, (4,)), "relu"),
        recurrent(random, "lstm", features=4, fill="repeat", name="one"),
        recurrent(random, "gru", DIRECTIONS, features=UNITS, return_sequences=False, fill="repeat", name="two"),
    ),
}


@pytest.mark.parametrize("mask", ["none", "right, unsorted", "middle"])
@pytest.mark.parametrize("name", MODELS)
def test_models_carry_their_masks_along(name: str, mask: str, random: np.random.Generator) -> None:
    network = MODELS[name](random)
    x, _ = given(network)
    if isinstance(network.layers[0], Masking):
        x[~MIDDLE[::-1]] = network.layers[0].mask_value
    module = through_pickle(own.build(network))
    assert type(module) is Chain
    assert wrong(judged(network, module, MASKS[mask], x)) == []
    again = parity.read(module)
    assert list(map(facts, again.layers)) == list(map(facts, network.layers))
    assert again.outputs == network.outputs
    _, states = given(network)
    result = own.runner(module, network, Settings())(x, states, MASKS[mask])
    assert [value.name for value in result.returned] == [output.name for output in network.outputs]
    assert result.settings.get("mask") == (None if MASKS[mask] is None else "handed to the module")


@pytest.mark.parametrize("mask", ["none", "right, unsorted", "middle"])
def test_unlike_directions_by_themselves(mask: str, random: np.random.Generator) -> None:
    for mode in ("concat", "mul", None):
        for sequences in (True, False):
            network = bare(unlike(random, FEATURES, sequences, mode))
            module = through_pickle(own.build(network))
            assert wrong(judged(network, module, MASKS[mask])) == []
            assert [facts(layer) for layer in parity.read(module).layers] == [
                facts(replace(network.layers[0], name="bidirectional"))
            ]
            x, states = given(network)
            hx = [torch_layers.as_hx(map(torch.from_numpy, state.arrays())) for state in states.values()]
            valid = MASKS[mask]
            with torch.no_grad():
                _, after = module(torch.from_numpy(x), hx, None if valid is None else torch.from_numpy(valid))
            assert [type(one) for one in after] == [tuple, Tensor, Tensor]
            paths = network.compute(x, states, mask=valid)[1].values()
            for mine, path in zip(after, paths, strict=True):
                assert difference(torch_layers.states_of(mine)[0], path.run.final.h) < 1e-5


def stack(random: np.random.Generator, *sizes: tuple[Kind, int], **options: Any) -> Network:
    layers, features = [], FEATURES
    for index, (kind, units) in enumerate(sizes):
        layers.append(recurrent(random, kind, features=features, units=units, name=f"cell_{index}", **options))
        features = layers[-1].output_size
    return bare(*layers)


@pytest.mark.parametrize("mask", ["none", "middle"])
def test_a_stack_of_unlike_layers(mask: str, random: np.random.Generator) -> None:
    network = stack(random, ("lstm", 5), ("gru", 4), ("rnn", 6))
    module = through_pickle(own.build(network))
    assert type(module) is Chain
    assert wrong(judged(network, module, MASKS[mask])) == []
    assert list(map(facts, parity.read(module).layers)) == list(map(facts, network.layers))
    x = torch.from_numpy(given(network)[0])
    with torch.no_grad():
        output, states = module(x)
        first, between = module(x[:, :3])
        second, end = module(x[:, 3:], between)
    assert output.shape == (BATCH, TIME, 6)
    assert [tuple(state[0].shape) if isinstance(state, tuple) else tuple(state.shape) for state in states] == [
        (1, BATCH, 5),
        (1, BATCH, 4),
        (1, BATCH, 6),
    ]
    assert difference(torch.cat([first, second], 1), output) < 1e-6
    assert difference(end[2], states[2]) < 1e-6


def test_a_stack_with_dropout_is_one_layer(random: np.random.Generator) -> None:
    network = stack(random, ("gru", 5), ("gru", 5), ("gru", 5))
    one, two, three = network.layers
    for rates, expected in (((0.3, 0.3), 0.3), ((0.3, 0.4), None)):
        drops = [Dropout(f"dropout_{index}", UNITS, rate) for index, rate in enumerate(rates)]
        module = own.build(bare(one, drops[0], two, drops[1], three))
        assert (type(module) is nn.GRU) == (expected is not None)
        assert getattr(module, "dropout", None) == expected
        assert not module.training
    assert type(own.build(bare(one, two, Dropout("end", UNITS, 0.3), three))) is Chain
    assert wrong(judged(bare(one, Dropout("dropout", UNITS, 0.3), two, three))) == []
    with torch.no_grad():
        x = torch.from_numpy(given(network)[0])
        chain = own.build(bare(one, two, Dropout("end", UNITS, 0.3), three))
        output, h_n = chain(x)
        again, after = chain(x[:, 3:], chain(x[:, :3])[1])
    assert h_n.shape == (3, BATCH, UNITS)
    assert difference(output[:, 3:], again) < 1e-6
    assert difference(h_n, after) < 1e-6


# ---- the modules as modules


def peculiar(cell: str, shape: str = "forward") -> Callable[[np.random.Generator], Network]:
    kind, options = CELLS[cell]
    return lambda random: bare(recurrent(random, kind, **{**options, **SHAPES[shape]}))


VARIED: dict[str, Callable[[np.random.Generator], Network]] = {
    "everything, summed": peculiar("lstm all at once", "both, sum"),
    "reset before": peculiar("gru reset before", "repeat"),
    "backward": peculiar("lstm plain", "backward"),
    "unlike directions": lambda random: bare(unlike(random, FEATURES, sequences=True)),
    "stack": lambda random: stack(random, ("lstm", 5), ("gru", 4)),
    "masking": MODELS["masking"],
}


def tensors_of(returned: Any) -> list[Tensor]:
    return [returned] if isinstance(returned, Tensor) else [one for part in returned for one in tensors_of(part)]


@pytest.mark.parametrize("name", VARIED)
def test_modules_behave_as_modules(name: str, random: np.random.Generator) -> None:
    network = VARIED[name](random)
    module = own.build(network)
    x = torch.from_numpy(given(network)[0])
    wanted = tensors_of(module(x))
    other = own.build(VARIED[name](np.random.default_rng(99)))
    assert difference(tensors_of(other(x))[0].detach(), wanted[0].detach()) > 1e-3
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    for mine, theirs in zip(tensors_of(other(x)), wanted, strict=True):
        assert torch.equal(mine, theirs)
    # In float64, on another number of samples and steps, alone and in a batch, with gradients.
    twice = copy.deepcopy(module).double()
    longer = torch.randn(2, 11, FEATURES, dtype=torch.float64)
    together = tensors_of(twice(longer))[0]
    assert together.dtype == torch.float64
    assert difference(tensors_of(twice(longer[1:]))[0].detach()[0], together.detach()[1]) < 1e-12
    mask = torch.arange(11) < torch.tensor([[4], [11]])
    of_numbers, of_truths = (tensors_of(twice(longer, mask=one)) for one in (mask.int(), mask))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(of_numbers, of_truths, strict=True))
    assert not torch.equal(of_truths[0], together)
    loss: Any = tensors_of(twice(longer, mask=mask))[0].square().sum()
    loss.backward()
    assert all(parameter.grad is not None for parameter in twice.parameters())
    text = str(module)
    assert "Error" not in text
    assert own.form(module) == form_in(network, "torch")


def test_nothing_is_left_on_the_cpu(random: np.random.Generator) -> None:
    """The meta device computes no numbers, but refuses tensors of two devices in one operation."""
    for name, made in VARIED.items():
        if name == "masking":
            continue  # which samples are empty is a question of numbers
        module = own.build(made(random)).to("meta")
        tensors = tensors_of(module(torch.empty(2, 4, FEATURES, device="meta")))
        assert {tensor.device.type for tensor in tensors} == {"meta"}, name


def test_a_changed_composition_is_read_as_it_is(random: np.random.Generator) -> None:
    for change, factor in ((lambda *_: None, 1), (lambda *given: tuple(2 * one for one in given[-1]), 2)):
        module: Any = own.build(bare(recurrent(random, "gru", BACKWARD)))
        plain = parity.read(module)
        module.layers[0].register_forward_hook(change)
        # What hooks do is traced with the rest: it is in the graph, and the layer by itself has it not.
        hooked = assert_whole(module, "hooks", ["torch", "onnxruntime"])
        x = random.standard_normal((2, 7, FEATURES)).astype(np.float32)
        found, without = (parity.run(one, x, engine="reference") for one in (hooked, plain))
        np.testing.assert_allclose(found.outputs["output"], factor * without.sequence, rtol=0, atol=1e-12)
    replaced: Any = own.build(bare(recurrent(random, "gru", DIRECTIONS, merge_mode="sum")))
    replaced.layers[1] = nn.LSTM(FEATURES, UNITS)
    with pytest.raises(UnsupportedError, match="replaced"):
        parity.read(replaced)
    chain: Any = own.build(MODELS["masking"](random))
    # By itself it makes no mask for others: as a whole the module computes what torch computes without one.
    assert_whole(
        nn.Sequential(chain.masking, nn.GRU(FEATURES, UNITS)), "nothing hands the mask", ["torch", "onnxruntime"]
    )
    with pytest.raises(UnsupportedError, match="tuple"):
        parity.read(nn.Sequential(nn.GRU(FEATURES, UNITS), nn.GRU(UNITS, UNITS)))


# ---- faults, each of which must show

Patch = Callable[[pytest.MonkeyPatch], None]


def changed_weights(**changes: Callable[[Array], Array]) -> Patch:
    def packed(layout: Any, spec: RecurrentSpec, given_weights: Sequence[Weights]) -> dict[str, Array]:
        changed = [
            replace(one, **{name: change(np.asarray(one.member(name))) for name, change in changes.items()})
            for one in given_weights
        ]
        return pack(layout, spec, changed)

    return lambda monkeypatch: monkeypatch.setattr(torch_build, "pack", packed)


def changed_cell(**changes: Any) -> Patch:
    """The cell is built with other options than the network has."""
    honest = torch_build._general_cell

    def built(layer: Recurrent, dtype: torch.dtype) -> GeneralCell:
        cell = honest(layer, dtype)
        cell.options = replace(cell.options, **changes)
        return cell

    return lambda monkeypatch: monkeypatch.setattr(torch_build, "_general_cell", built)


def loop_without_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Loop.forward
    monkeypatch.setattr(Loop, "forward", lambda self, x, hx=None, _=None: honest(self, x, hx))


def native_without_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("torch.layers", "torch.running"):
        monkeypatch.setattr(f"parity.frameworks.{module}.on_valid_steps", lambda layer, x, hx, _: layer(x, hx))


def states_without_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """The output is masked, the states run on."""
    honest = Loop.forward

    def forward(self: Loop, x: Tensor, hx: Any = None, mask: Tensor | None = None) -> Any:
        output, _ = honest(self, x, hx, mask)
        return output, honest(self, x, hx)[1]

    monkeypatch.setattr(Loop, "forward", forward)


def lengths_one_short(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = pack_padded_sequence
    monkeypatch.setattr(
        torch_layers,
        "pack_padded_sequence",
        lambda steps, lengths, **options: honest(steps, (lengths - 1).clamp(min=1), **options),
    )


def not_moved_to_the_front(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_layers, "is_right_padded", lambda _: True)


def not_spread_again(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = torch_layers._along_time
    calls: list[int] = []

    def along(x: Tensor, steps: Tensor) -> Tensor:
        calls.append(1)
        return honest(x, steps) if len(calls) % 2 else x

    monkeypatch.setattr(torch_layers, "_along_time", along)


def empty_samples_start_from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    def cleared(layer: Any, x: Tensor, hx: Any, mask: Tensor) -> Any:
        output, states = on_valid_steps(layer, x, hx, mask)
        some = mask.any(dim=1)[:, None]
        return output, torch_layers.as_hx(state * some for state in torch_layers.states_of(states))

    for module in ("torch.layers", "torch.running"):
        monkeypatch.setattr(f"parity.frameworks.{module}.on_valid_steps", cleared)


def not_flipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_layers, "_turned", lambda tensor, _: tensor)


def mask_not_flipped(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = torch_layers._turned
    monkeypatch.setattr(
        torch_layers, "_turned", lambda tensor, way: tensor if tensor.dtype == torch.bool else honest(tensor, way)
    )


def output_not_reversed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = torch_layers.shown
    monkeypatch.setattr(torch_layers, "shown", lambda value, run: honest(replace(value, reverse=False), run))


def halves_not_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = conventions.merge
    monkeypatch.setattr(torch_layers, "merge", lambda one, two, _: honest(one, two, "sum"))


def never_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_layers, "_repeated", lambda output, _: output)


def states_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = torch_layers._one_way
    monkeypatch.setattr(torch_layers, "_one_way", lambda layer, way, x, _, mask: honest(layer, way, x, None, mask))


def zero_is_no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_layers.MaskedEmbedding, "mask", lambda _, x: x >= 0)


def any_feature_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_layers.Masking, "mask", lambda self, x: (x != self._rounded).all(dim=-1))


def given_mask_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Chain.run
    monkeypatch.setattr(Chain, "run", lambda self, x, states, _=None: honest(self, x, states))


def stacks_swapped(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = torch_layers.Bidirectional.given
    monkeypatch.setattr(torch_layers.Bidirectional, "given", lambda self, runs: (honest(self, runs)[0].flip(-1),))


FAULTS: dict[str, tuple[Patch, Callable[[np.random.Generator], Network], str]] = {
    "mask ignored in a loop": (loop_without_mask, peculiar("lstm clip"), "middle"),
    "mask ignored by torch's own": (native_without_mask, peculiar("gru plain"), "right, sorted"),
    "mask ignored inside a composition": (native_without_mask, peculiar("gru plain", "both, sum"), "middle"),
    "states run on": (states_without_mask, peculiar("gru reset before"), "middle"),
    "lengths one short": (lengths_one_short, peculiar("lstm plain"), "right, unsorted"),
    "lengths one short in a composition": (lengths_one_short, peculiar("rnn relu", "both, mul"), "middle"),
    "not moved to the front": (not_moved_to_the_front, peculiar("gru plain"), "left"),
    "not spread again": (not_spread_again, peculiar("gru plain"), "middle"),
    "empty samples start from zero": (empty_samples_start_from_zero, peculiar("lstm plain"), "middle"),
    "backward half not flipped": (not_flipped, peculiar("gru reset before", "both"), "none"),
    "backward layer not flipped": (not_flipped, peculiar("lstm plain", "backward"), "none"),
    "mask not flipped": (mask_not_flipped, peculiar("lstm plain", "backward"), "middle"),
    "mask not flipped in a loop": (mask_not_flipped, peculiar("lstm peepholes", "both"), "right, unsorted"),
    "average not halved": (halves_not_halved, peculiar("lstm plain", "both, ave"), "none"),
    "product taken for a sum": (halves_not_halved, peculiar("gru reset before", "both, mul"), "none"),
    "zeros where the last output repeats": (never_repeated, peculiar("gru plain", "both, last sum"), "right, unsorted"),
    "zeros in padding": (never_repeated, peculiar("gru reset before", "repeat"), "middle"),
    "initial states dropped": (states_dropped, peculiar("rnn clip"), "none"),
    "projection transposed": (
        changed_weights(projection=lambda array: array.T.copy()),
        peculiar("lstm projected to as many"),
        "none",
    ),
    "projection in another order": (
        changed_weights(projection=lambda array: array[::-1].copy()),
        peculiar("lstm projected"),
        "none",
    ),
    "peepholes in ONNX's order": (
        changed_weights(peepholes=lambda array: array[[0, 2, 1]]),
        peculiar("lstm peepholes"),
        "none",
    ),
    "peephole of the new c": (
        changed_weights(peepholes=lambda array: array * [[1], [1], [0]]),
        peculiar("lstm peepholes"),
        "none",
    ),
    "reset after": (changed_cell(reset_after=True), peculiar("gru reset before"), "none"),
    "reset before": (changed_cell(reset_after=False), peculiar("gru functions"), "none"),
    "no clip": (changed_cell(clip=None), peculiar("lstm clip"), "none"),
    "no input_forget": (changed_cell(input_forget=False), peculiar("lstm input_forget"), "none"),
    "functions in another order": (
        changed_cell(functions=(HARD, Function("elu", 0.7), Function("softsign"))),
        peculiar("lstm functions"),
        "none",
    ),
    "another hard_sigmoid": (
        changed_cell(functions=(Function("hard_sigmoid", 1 / 6, 0.5), RELU)),
        peculiar("gru functions"),
        "none",
    ),
    "zero taken for a token": (zero_is_no_mask, MODELS["mask_zero"], "none"),
    "one feature masks": (any_feature_masks, MODELS["masking"], "none"),
    "given mask forgotten": (given_mask_forgotten, MODELS["no mask of its own"], "middle"),
    "fill forgotten in a chain": (never_repeated, MODELS["no mask of its own"], "right, unsorted"),
    "stacks in another order": (stacks_swapped, MODELS["unlike directions at the end"], "none"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_caught(fault: str, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    patch, made, mask = FAULTS[fault]
    network = made(random)
    x, _ = given(network)
    if isinstance(network.layers[0], Masking):
        x[:, ::2, 1] = network.layers[0].mask_value
        x[:, 3] = network.layers[0].mask_value
    assert wrong(judged(network, mask=MASKS[mask], x=x)) == []
    patch(monkeypatch)
    assert wrong(judged(network, mask=MASKS[mask], x=x)) != []


def test_output_left_in_the_order_of_the_input_shows(
    random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Canonical sequences are aligned with the input whatever the layer gives; what it gives is what the next one gets."""
    network = MODELS["no mask of its own"](random)
    layers = (*network.layers[:1], replace(network.recurrent[0], reverse=True), *network.layers[2:])
    network = replace(network, layers=layers)
    assert wrong(judged(network)) == []
    output_not_reversed(monkeypatch)
    assert wrong(judged(network)) != []


def test_the_layout_of_peepholes_names_every_gate() -> None:
    for kind in KINDS:
        layout = torch_cells.layout_of(kind)
        assert layout.tensors[: len(LAYOUTS["torch", kind].tensors)] == LAYOUTS["torch", kind].tensors
        peepholes = [tensor for tensor in layout.tensors if "peepholes" in tensor.members]
        assert [layout.letters(tensor) for tensor in peepholes] == ([PEEPHOLES[kind]] if PEEPHOLES[kind] else [])


# ---- one sample alone, and packed sequences


def _alike(kind: Kind, composed: str, random: np.random.Generator) -> tuple[Any, Any]:
    """A layer of torch itself, and a composition of the same weights."""
    several: dict[str, dict[str, Any]] = {
        "RecurrentLayer": {"bidirectional": True},
        "Chain": {"num_layers": 2, "bidirectional": True},
    }
    judge_ = filled(torch_layers.NATIVE[kind](FEATURES, UNITS, batch_first=True, **several.get(composed, {})), random)
    network = parity.read(judge_)
    if composed == "Loop":
        return judge_, Loop(torch_build._general_cell(network.recurrent[0], torch.float32))
    modules = {layer.name: [torch_build._recurrent_layer(layer, torch.float32)] for layer in network.recurrent}
    if composed == "RecurrentLayer":
        ((module,),) = modules.values()
        return judge_, module
    return judge_, Chain(network, modules)


def _states(module: Any, kind: Kind, random: np.random.Generator, *batch: int) -> Any:
    rows = module.num_layers * (2 if module.bidirectional else 1)
    return torch_layers.as_hx(torch.from_numpy(uniform(random, (rows, *batch, UNITS))) for _ in STATES[kind])


def _flat(returned: Any) -> list[Tensor]:
    if isinstance(returned, PackedSequence):
        assert returned.sorted_indices is None or returned.unsorted_indices is not None
        return [value for value in returned if value is not None]
    return [returned] if isinstance(returned, Tensor) else [one for part in returned for one in _flat(part)]


def _same(ours: Any, theirs: Any) -> None:
    left, right = _flat(ours), _flat(theirs)
    assert [value.shape for value in left] == [value.shape for value in right]
    for one, other in zip(left, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


COMPOSED = ["Loop", "RecurrentLayer", "Chain"]


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("composed", COMPOSED)
@pytest.mark.parametrize("kind", KINDS)
def test_compositions_take_one_sample_as_torch_does(
    kind: Kind, composed: str, started: bool, random: np.random.Generator
) -> None:
    theirs, ours = _alike(kind, composed, random)
    x = torch.from_numpy(uniform(random, (TIME, FEATURES)))
    hx = _states(theirs, kind, random) if started else None
    _same(ours(x, hx), theirs(x, hx))
    mask = torch.arange(TIME) < 4
    _same(ours(x, hx, mask)[1], theirs(x[:4], hx)[1])


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("lengths", [(7, 5, 2, 1), (3, 7, 1, 5), (4, 4, 6, 4)])
@pytest.mark.parametrize("composed", COMPOSED)
@pytest.mark.parametrize("kind", KINDS)
def test_compositions_take_packed_sequences_as_torch_does(
    kind: Kind, composed: str, lengths: tuple[int, ...], started: bool, random: np.random.Generator
) -> None:
    theirs, ours = _alike(kind, composed, random)
    samples = [torch.from_numpy(uniform(random, (length, FEATURES))) for length in lengths]
    x = pack_sequence(samples, enforce_sorted=lengths == (7, 5, 2, 1))
    hx = _states(theirs, kind, random, len(lengths)) if started else None
    _same(ours(x, hx), theirs(x, hx))


@pytest.mark.parametrize("kind", KINDS)
def test_cells_of_any_options_take_one_sample_as_torch_does(kind: Kind, random: np.random.Generator) -> None:
    theirs = filled(torch_cells.CELLS[kind](FEATURES, UNITS), random)
    ours = torch_build._general_cell(parity.read(theirs).recurrent[0], torch.float32)
    x = torch.from_numpy(uniform(random, (FEATURES,)))
    hx = torch_layers.as_hx(torch.from_numpy(uniform(random, (UNITS,))) for _ in STATES[kind])
    _same(ours(x, hx), theirs(x, hx))
    _same(ours(x), theirs(x))
    with pytest.raises(ShapeError, match="takes one step"):
        ours(x[None, None])


def _unlike(random: np.random.Generator) -> Network:
    forward = recurrent(random, "lstm", name="forward")
    backward = recurrent(
        random, "gru", BACKWARD, name="backward", units=4, cell=Cell(plain_cell("gru").functions, False)
    )
    return bare(Bidirectional("both", (forward,), (backward,), "concat"))


def test_unlike_directions_take_one_sample_and_packed_ones(random: np.random.Generator) -> None:
    """Each sample of a packed sequence as it comes out alone, without any padding."""
    module = own.build(_unlike(random))
    samples = [torch.from_numpy(uniform(random, (length, FEATURES))) for length in (3, 7, 1)]
    packed, states = module(pack_sequence(samples, enforce_sorted=False))
    padded, lengths = pad_packed_sequence(packed, batch_first=True)
    for index, (x, length) in enumerate(zip(samples, lengths, strict=True)):
        output, own_states = module(x)
        batch, batch_states = module(x[None])
        _same(
            (output, own_states),
            (batch[0], [torch_layers.as_hx(s[:, 0] for s in torch_layers.states_of(h)) for h in batch_states]),
        )
        torch.testing.assert_close(padded[index, :length], output, rtol=1e-5, atol=1e-6)
        for all_, alone in zip(_flat(states), _flat(own_states), strict=True):
            torch.testing.assert_close(all_[:, index], alone, rtol=1e-5, atol=1e-6)


def test_the_last_step_of_packed_sequences_is_no_sequence(random: np.random.Generator) -> None:
    layer = recurrent(random, "gru", BACKWARD, return_sequences=False)
    module = torch_build._recurrent_layer(layer, torch.float32)
    samples = [torch.from_numpy(uniform(random, (length, FEATURES))) for length in (3, 7, 1)]
    output, h = module(pack_sequence(samples, enforce_sorted=False))
    alone = [module(x) for x in samples]
    torch.testing.assert_close(output, torch.stack([one for one, _ in alone]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(h[0], torch.stack([state[0] for _, state in alone]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "case", ["axes", "states", "packed and mask", "packed and reverse", "model", "packed model", "tokens"]
)
def test_compositions_refuse_other_inputs(case: str, random: np.random.Generator) -> None:
    layer = recurrent(random, "gru", BACKWARD, return_sequences=True, reverse=case == "packed and reverse")
    x = torch.from_numpy(uniform(random, (BATCH, TIME, FEATURES)))
    packed = pack_sequence(list(x))
    network = bare(layer)
    if "model" in case:
        network = replace(network, outputs=(Output("layer", "layer", None),))
    if case == "tokens":
        network = bare(Embedding("words", uniform(random, (9, FEATURES))), layer)
    calls: dict[str, tuple[tuple[Any, ...], str, str]] = {
        "axes": ((x[None],), "(batch, time, features), (time, features)", "4 axes: (1, 4, 7, 3)"),
        "states": ((x[0], torch.zeros(1, 1, UNITS)), "as the input has no batch axis", "3 axes: (1, 1, 5)"),
        "packed and mask": ((packed, None, torch.ones(BATCH, TIME)), "the packed sequence alone", "a mask as well"),
        "packed and reverse": ((packed,), "steps in order", "reverse=True"),
        "model": ((x[0],), "(batch, time, features)", "2 axes: (7, 3)"),
        "packed model": ((packed,), "(batch, time, features)", "a PackedSequence"),
        "tokens": ((torch.ones(1, BATCH, TIME, dtype=torch.long),), "(batch, time), (time,)", "3 axes: (1, 4, 7)"),
    }
    arguments, expected, got = calls[case]
    module = own.build(network)
    with pytest.raises(ShapeError) as caught:
        module(*arguments)
    (problem,) = caught.value.problems
    assert problem.where == type(module).__name__
    assert expected in problem.expected
    assert got in problem.got
    assert problem.remedy


def test_reasons_are_said_in_full(random: np.random.Generator) -> None:
    masked = Network(
        "m", (Masking("mask", FEATURES, 0.0), recurrent(random, "lstm")), (Output("layer", "layer", None),)
    )
    backwards = bare(recurrent(random, "gru", BACKWARD, reverse=True))
    turned = bare(recurrent(random, "gru", reverse=True))
    assert form_in(masked, "torch").composed == ("layer 'layer': torch.nn.LSTM takes no mask, only packed sequences",)
    assert form_in(masked, "onnx").composed == ("layer 'layer': ONNX LSTM takes no mask, only sequence_lens",)
    assert form_in(backwards, "torch").composed == ("layer 'layer': torch.nn.GRU has no go_backwards",)
    reason = "layer 'layer': torch.nn.GRU has no output in the opposite order of the input"
    assert form_in(turned, "torch").composed == (reason,)
    unlike = "of two unlike directions (LSTM(5) forward, GRU(4) backward)"
    assert form_in(_unlike(random), "torch").composed == (f"layer 'both': torch.nn has no layer {unlike}",)
    assert form_in(_unlike(random), "onnx").composed == (f"layer 'both': ONNX has no operator {unlike}",)
