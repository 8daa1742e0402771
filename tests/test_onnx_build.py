"""What parity builds as ONNX: native where the operators say it, else composed; read back whole; every fault in it is caught."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

import parity
from parity.cell import Cell, plain_cell
from parity.conventions import MERGE_MODES, Fill, MergeMode
from parity.errors import UnsupportedError
from parity.forms import form_in
from parity.frameworks import onnx as onnx_framework
from parity.frameworks.onnx import cells as onnx_cells
from parity.frameworks.onnx import functions as onnx_functions
from parity.frameworks.onnx import giving as onnx_giving
from parity.frameworks.onnx import masks as onnx_masks
from parity.frameworks.onnx import scanning as onnx_scan
from parity.frameworks.onnx.nodes import Assembly
from parity.frameworks.onnx.own import NETWORK_KEY
from parity.functions import FUNCTIONS, Function
from parity.network import Bidirectional, Dense, Dropout, Embedding, Layer, Masking, Network, Output, Recurrent
from parity.recurrent import DIRECTIONS, RecurrentSpec, Weights
from parity.sources import form_of
from tests.combinations import covering
from tests.whole_checks import assert_whole

BOTH, FORWARD, BACKWARD = DIRECTIONS, DIRECTIONS[:1], DIRECTIONS[1:]
MARK = 0.5
RIGHT = np.array([[1, 1, 1, 1, 0, 0], [1] * 6, [1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]], bool)
SCATTERED = np.array([[0, 1, 1, 0, 1, 0], [1] * 6, [0, 0, 0, 0, 1, 1], [1, 1, 0, 0, 1, 0]], bool)
WITH_EMPTY = np.concatenate([SCATTERED[:3], np.zeros((1, 6), bool)])


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).uniform(-0.8, 0.8, shape).astype(np.float32)


def layer(
    kind: Any,
    sizes: tuple[int, int] = (3, 5),
    directions: Any = FORWARD,
    name: str = "",
    projection: int | None = None,
    peepholes: bool = False,
    **options: Any,
) -> Recurrent:
    spec = RecurrentSpec(kind, *sizes, directions, projection)
    members = ["kernel", "recurrent", "bias_input", "bias_recurrent"]
    members += ["peepholes"] * peepholes + ["projection"] * bool(projection)
    weights = tuple(
        Weights(**{m: numbers(*spec.shape(m), seed=10 * at + len(m)) for m in members}) for at in range(len(directions))
    )
    return Recurrent(name or kind, spec, weights, **options)


def cells(kind: Any, count: int = 1, *functions: Function, **options: Any) -> tuple[Cell, ...]:
    plain = plain_cell(kind)
    return (replace(plain, functions=functions or plain.functions, **options),) * count


def bare(*layers: Layer) -> Network:
    return Network("bare", layers)


def model(*layers: Layer, also: tuple[Output, ...] = ()) -> Network:
    """A model that shows what its last layer gives."""
    last = layers[-1]
    given = last.given if isinstance(last, Recurrent) and last.merge_mode is None else ()
    shown = tuple(Output(f"y_{value.name}", last.name, value) for value in given) or (Output("y", last.name),)
    return Network("model", layers, (*shown, *also))


def masked(*layers: Layer) -> Network:
    return model(Masking("masking", 3, MARK), *layers)


def unlike(merge_mode: Any, sequences: bool = True) -> Bidirectional:
    forward = layer("gru", (3, 4), name="both.forward", return_sequences=sequences)
    first = layer("rnn", (3, 6), BACKWARD, "both.first")
    backward = layer("lstm", (6, 4), BACKWARD, "both.backward", return_sequences=sequences)
    return Bidirectional("both", (forward,), (first, backward), merge_mode)


def one_sided() -> Bidirectional:
    return Bidirectional("both", (layer("gru", (3, 4), name="a"),), (layer("lstm", (3, 7), BACKWARD, "b"),))


def merging(mode: MergeMode | None, at_the_end: bool) -> Network:
    kind = "lstm" if at_the_end else "gru"
    one = layer(kind, directions=BOTH, merge_mode=mode, return_sequences=not at_the_end)
    return model(one) if at_the_end else bare(one)


def unlike_alone(mode: MergeMode | None) -> Network:
    return bare(unlike(mode))


def masking(fill: Fill, directions: Any, sequences: bool) -> Network:
    return masked(layer("lstm", directions=directions, fill=fill, return_sequences=sequences))


FILLS: tuple[Fill, ...] = ("zero", "repeat")
_SILU, _MISH, _SIGMOID = Function("silu"), Function("mish"), Function("sigmoid")
SCAN = cells("lstm", 1, _SIGMOID, _SILU, _MISH, clip=0.6)
LBR0, LBR1 = cells("gru", reset_after=False), cells("gru")

NATIVE: dict[str, Callable[[], Network]] = {
    "lstm": lambda: bare(layer("lstm", directions=BOTH)),
    "gru before": lambda: bare(layer("gru", directions=BOTH, cells=LBR0 * 2)),
    "gru after": lambda: bare(layer("gru", directions=BACKWARD, cells=LBR1)),
    "rnn": lambda: bare(layer("rnn", directions=BOTH, cells=cells("rnn", 2, Function("relu")))),
    "peepholes and options": lambda: bare(
        layer("lstm", directions=BOTH, peepholes=True, cells=cells("lstm", 2, clip=0.4, input_forget=True))
    ),
    "functions": lambda: bare(
        layer(
            "lstm",
            directions=BOTH,
            cells=(
                *cells(
                    "lstm", 1, Function("hard_sigmoid", 1 / 6, 0.5), Function("leaky_relu", 0.2), Function("softsign")
                ),
                *cells("lstm", 1, _SIGMOID, Function("affine", 0.9, 0.1), Function("scaled_tanh", 0.8, 1.2)),
            ),
        )
    ),
    "stack": lambda: bare(layer("lstm", name="a"), Dropout("d", 5, 0.3), layer("lstm", (5, 5), name="b")),
    "unequal stack": lambda: bare(
        layer("lstm", name="a"), layer("gru", (5, 4), BOTH, "b"), layer("rnn", (8, 6), name="c")
    ),
    "stateful": lambda: model(
        layer("lstm", stateful=True), layer("gru", (5, 4), stateful=True, return_sequences=False)
    ),
    "dense": lambda: model(
        Embedding("e", numbers(7, 3)),
        layer("lstm", directions=BOTH, return_sequences=False),
        Dense("d", numbers(10, 2), numbers(2), "softmax"),
    ),
}

COMPOSED: dict[str, Callable[[], Network]] = {
    "reverse": lambda: model(layer("gru", directions=BACKWARD, reverse=True), layer("lstm", (5, 4))),
    **{f"merge {mode}": partial(merging, mode, at_the_end=False) for mode in MERGE_MODES[1:]},
    **{f"merge {mode} at the end": partial(merging, mode, at_the_end=True) for mode in MERGE_MODES[1:]},
    **{f"unlike {mode}": partial(unlike_alone, mode) for mode in MERGE_MODES},
    "unlike at the end": lambda: model(unlike("ave", sequences=False)),
    "unlike sizes": lambda: model(one_sided(), layer("gru", (11, 3), name="c", return_sequences=False)),
    "two resets": lambda: bare(layer("gru", directions=BOTH, cells=LBR0 + LBR1)),
    "two clips": lambda: bare(
        layer("lstm", directions=BOTH, peepholes=True, cells=cells("lstm", clip=0.3) + cells("lstm", input_forget=True))
    ),
    "projection": lambda: bare(layer("lstm", directions=BOTH, projection=2)),
    "projected stack": lambda: bare(
        layer("lstm", directions=BOTH, projection=2, name="a"), layer("lstm", (4, 5), BOTH, "b", projection=2)
    ),
    "projection and options": lambda: bare(
        layer("lstm", directions=BACKWARD, projection=2, peepholes=True, cells=cells("lstm", clip=0.4))
    ),
    "scan": lambda: bare(layer("lstm", directions=BOTH, cells=SCAN * 2)),
    "scan and all": lambda: bare(
        layer(
            "lstm", directions=BOTH, projection=2, peepholes=True, cells=(replace(SCAN[0], input_forget=True), SCAN[0])
        )
    ),
    "scan gru before": lambda: bare(
        layer("gru", directions=BOTH, cells=cells("gru", 2, Function("hard_silu"), Function("gelu"), reset_after=False))
    ),
    "scan gru after": lambda: bare(layer("gru", directions=BOTH, cells=cells("gru", 2, _SIGMOID, Function("selu")))),
    "scan rnn": lambda: bare(layer("rnn", directions=BACKWARD, cells=cells("rnn", 1, Function("tanh_shrink")))),
    **{
        f"masked {fill} {directions[0]}{len(directions)} {'all' if sequences else 'last'}": partial(
            masking, fill, directions, sequences
        )
        for fill in FILLS
        for directions in (FORWARD, BACKWARD, BOTH)
        for sequences in (True, False)
    },
    "masked tokens": lambda: model(
        Embedding("e", numbers(7, 3), mask_zero=True),
        layer("gru", directions=BOTH, fill="repeat"),
        layer("lstm", (10, 4), fill="repeat", return_sequences=False),
        Dense("d", numbers(4, 2), numbers(2), "sigmoid"),
        also=(Output("c", "lstm", layer("lstm", (10, 4)).values[2]),),
    ),
    "masked scan": lambda: masked(layer("lstm", directions=BOTH, fill="repeat", projection=2, cells=SCAN * 2)),
    "masked projection": lambda: masked(layer("lstm", directions=BOTH, projection=2), layer("gru", (4, 6))),
    "masked reverse": lambda: masked(layer("gru", directions=BACKWARD, reverse=True), layer("lstm", (5, 4))),
    "masked merge": lambda: masked(layer("gru", directions=BOTH, merge_mode="mul", fill="zero")),
    "masked unlike": lambda: masked(unlike("sum")),
    "masked stateful": lambda: masked(layer("lstm", stateful=True, fill="repeat")),
}
EVERY = NATIVE | COMPOSED
OLDEST = {"reverse": 10, "scan": 9, "masked": 11}
"""The oldest opset that says it, by what a name begins with; 7 for all others."""


def inputs_of(network: Network, seed: int = 0) -> Any:
    """Random inputs; where the network masks, left, in the middle, right and one row whole."""
    left_out = ~WITH_EMPTY
    if network.tokens:
        tokens = np.random.default_rng(seed).integers(1, network.tokens, left_out.shape)
        return np.where(left_out, 0, tokens) if network.masks_itself else tokens
    x = numbers(*left_out.shape, network.layers[0].input_size, seed=seed)
    return np.where(left_out[..., None], np.float32(MARK), x) if network.masks_itself else x


def states_of(network: Network, seed: int = 1) -> dict[str, Any]:
    return {
        one.name: tuple(
            numbers(*one.spec.state_shape(state, 4), seed=seed + at) for at, state in enumerate(one.spec.states)
        )
        for one in network.recurrent
    }


def oldest(name: str) -> int:
    return next((opset for start, opset in OLDEST.items() if name.startswith(start)), 7)


def agrees(network: Network, opset: int | None = None, **more: Any) -> None:
    """ONNX Runtime on what is built, against the float64 reference, in every layer: run, and step by step."""
    built = parity.to_onnx(network, opset=opset)
    comparison = parity.compare(
        network,
        built,
        inputs=inputs_of(network),
        initial_state=states_of(network),
        engines=["onnxruntime"],
        **more,
    )
    assert comparison.ok, str(comparison)


def largest(network: Network, opset: int | None = None, mask: Any = None) -> float:
    """The largest difference to the reference anywhere, at steps that a mask leaves out and in rows without any step as well."""
    inputs, states = inputs_of(network), states_of(network)
    built = parity.to_onnx(network, opset=opset)
    found, expected = (
        parity.run(source, inputs, engine=engine, initial_state=own, mask=mask)
        for source, engine, own in (
            (built, "onnxruntime", _renamed_states(built, states)),
            (network, "reference", states),
        )
    )
    pairs: list[tuple[Any, Any]] = [*zip(found.outputs.values(), expected.outputs.values(), strict=True)]
    for mine, theirs in zip(found.layers.values(), expected.layers.values(), strict=True):
        pairs += [(mine.sequence, theirs.sequence), *zip(mine.final.arrays(), theirs.final.arrays(), strict=True)]
    assert all(one.shape == other.shape for one, other in pairs)
    return max(float(np.abs(one - other).max()) for one, other in pairs)


def _renamed_states(built: onnx.ModelProto, states: dict[str, Any]) -> dict[str, Any]:
    """States under the names that the layers have after reading, in the same order."""
    return dict(zip(parity.read(built).specs, states.values(), strict=True))


# ---- what is built


@pytest.mark.parametrize("name", EVERY)
def test_onnx_runtime_computes_what_the_network_says(name: str) -> None:
    agrees(EVERY[name]())
    assert largest(EVERY[name]()) < 5e-6


@pytest.mark.parametrize("name", EVERY)
def test_every_opset(name: str) -> None:
    network = EVERY[name]()
    for opset in sorted({oldest(name), 11, 12, 14, 18, 22}):
        if opset >= oldest(name):
            assert largest(network, opset) < 5e-6
    if oldest(name) > 7:
        with pytest.raises(parity.UnsupportedError, match=rf"newer opset[^$]*opset={oldest(name)}"):
            parity.to_onnx(network, opset=oldest(name) - 1)


@pytest.mark.parametrize("name", EVERY)
def test_it_stands_by_itself(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """ONNX Runtime loads it without a word, for any batch and time, and gives the shapes that it declares."""
    built = parity.to_onnx(EVERY[name]())
    onnx.checker.check_model(built, full_check=True)
    session = onnxruntime.InferenceSession(built.SerializeToString(), providers=["CPUExecutionProvider"])
    for sizes in ({"batch": 2, "time": 7}, {"batch": 3, "time": 1}):
        feeds = {}
        for item in session.get_inputs():
            shape = [sizes.get(axis, axis) for axis in item.shape]
            feeds[item.name] = np.ones(shape, np.int64) if "int" in item.type else numbers(*shape)
        for item, array in zip(session.get_outputs(), session.run(None, feeds), strict=True):
            assert list(array.shape) == [sizes.get(axis, axis) for axis in item.shape]
            assert np.isfinite(array).all()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", EVERY)
def test_native_or_composed(name: str) -> None:
    network = EVERY[name]()
    built = parity.to_onnx(network)
    assert form_of(built) == form_in(network, "onnx")
    assert form_of(built).native == (name in NATIVE)
    ops = [node.op_type for node in built.graph.node]
    assert not {"Loop", "If"} & set(ops)
    assert ("Scan" in ops) == ("scan" in name)
    assert any(item.key == NETWORK_KEY for item in built.metadata_props) == (name in COMPOSED)
    taken = {item for node in built.graph.node for item in node.input}
    taken |= {i for n in built.graph.node for a in n.attribute for inner in a.g.node for i in inner.input}
    taken |= {item.name for item in built.graph.output}
    assert all(taken.intersection(node.output) for node in built.graph.node)
    assert taken >= {tensor.name for tensor in built.graph.initializer}
    if name in NATIVE:
        assert sum(op in {"LSTM", "GRU", "RNN"} for op in ops) == len(network.recurrent)


def test_names_of_what_an_unequal_stack_gives() -> None:
    built = parity.to_onnx(NATIVE["unequal stack"]())
    names = ["Y", "a.Y_h", "a.Y_c", "b.Y_h", "c.Y_h"]
    assert [item.name for item in built.graph.output] == names


def test_a_stateful_layer_goes_on_where_it_stopped() -> None:
    """A sequence in chunks, the states handed on through the graph's own inputs, is the whole sequence."""
    states = (Output("h", "lstm", layer("lstm").values[1]), Output("c", "lstm", layer("lstm").values[2]))
    built = parity.to_onnx(model(layer("lstm", stateful=True), also=states))
    session = onnxruntime.InferenceSession(built.SerializeToString(), providers=["CPUExecutionProvider"])
    x = numbers(2, 9, 3)
    h = c = np.zeros((1, 2, 5), np.float32)
    whole = session.run(["y"], {"input": x, "lstm.initial_h": h, "lstm.initial_c": c})[0]
    chunks = []
    for start in range(0, 9, 3):
        feeds = {"input": x[:, start : start + 3], "lstm.initial_h": h, "lstm.initial_c": c}
        y, last, kept = session.run(["y", "h", "c"], feeds)
        h, c = last[None], kept[None]
        chunks.append(y)
    np.testing.assert_allclose(np.concatenate(chunks, axis=1), whole, atol=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_as_plain_operators(name: str) -> None:
    row = FUNCTIONS[name]
    function = Function(name, row.alpha, row.beta)
    assembly = Assembly(11, [], [])
    x = assembly.input("x", TensorProto.FLOAT, ["n"])
    assembly.give(onnx_functions.composed_function(assembly, function, x, "f"), "y", ["n"])
    session = onnxruntime.InferenceSession(assembly.model(name, {}).SerializeToString())
    values = np.linspace(-7, 7, 141).astype(np.float32)
    expected = function(values.astype(np.float64))
    np.testing.assert_allclose(session.run(None, {"x": values})[0], expected, rtol=2e-6, atol=1e-6)


def test_float64_weights_only_where_float32_holds_them() -> None:
    exact = layer("gru")
    double = replace(
        exact,
        weights=tuple(
            Weights(**{k: v.astype(np.float64) for k, v in vars(w).items() if v is not None}) for w in exact.weights
        ),
    )
    assert parity.to_onnx(bare(double)).graph == parity.to_onnx(bare(exact)).graph
    third = replace(double, weights=(replace(double.weights[0], kernel=double.weights[0].kernel / 3),))
    with pytest.raises(parity.UnsupportedError, match=r"layer 'gru', forward\.kernel"):
        parity.to_onnx(bare(third))


HOSTILE = [
    *(
        "a",
        "a.forward",
        "a.backward",
        "parity.mask",
        "parity.a.Y",
        "X",
        "Y",
        "input",
        "output",
        "a.Y",
        "a.W",
        "a.R.float64",
    ),
    *("a.forward.W", "a.forward.step.h", "a.mask.order", "m.valid", "a.spread", "lengths", "a_1"),
]


@pytest.mark.parametrize("seed", range(5))
def test_names_never_collide_in_a_composed_graph(seed: int) -> None:
    names = np.random.default_rng(seed).permutation(HOSTILE).tolist()
    first = layer("gru", directions=BOTH, name=names[0], fill="repeat", cells=LBR0 + LBR1)
    second = layer("lstm", (10, 4), BOTH, names[1], projection=3, cells=SCAN * 2, merge_mode="ave")
    third = layer("lstm", (3, 4), BOTH, names[2], projection=2)
    layers = (Masking(names[3], 3, MARK), first, second, third)
    shown = (Output(names[4], names[2]), Output(names[5], names[0], first.values[1]))
    network = Network("hostile", layers, shown)
    assert largest(network) < 5e-6
    assert largest(network, mask=SCATTERED) < 5e-6
    assert [one.name for one in parity.read(parity.to_onnx(network)).layers] == names[3:4] + names[:3]


# ---- masks handed over


PADDED = {"right": RIGHT, "scattered": SCATTERED, "with empty": WITH_EMPTY}
MASKED = [
    "projected stack",
    "scan and all",
    "unlike sum",
    "masked unlike",
    "merge mul",
    "reverse",
    "masked zero forward1 all",
]


@pytest.mark.parametrize(("name", "mask", "opset"), covering(itertools.product(MASKED, PADDED, [7, 17])))
def test_a_mask_for_a_composed_graph(name: str, mask: str, opset: int) -> None:
    network = COMPOSED[name]()
    agrees(network, max(opset, oldest(name)), mask=PADDED[mask])
    assert largest(network, max(opset, oldest(name)), PADDED[mask]) < 5e-6


@pytest.mark.parametrize("mask", [RIGHT, SCATTERED])
@pytest.mark.parametrize("name", [name for name in NATIVE if name not in ("stateful", "dense")])
def test_a_mask_for_native_nodes(name: str, mask: Any) -> None:
    agrees(NATIVE[name](), mask=mask)


def test_how_the_mask_was_given_is_said() -> None:
    ways = {}
    for name, mask in (("lstm", RIGHT), ("lstm", SCATTERED), ("projection", RIGHT)):
        network = EVERY[name]()
        result = parity.run(network, inputs_of(network), engine="onnxruntime", mask=mask)
        ways[name, mask is RIGHT] = result.settings["mask"]
    assert ways["lstm", True] == "sequence_lens"
    assert ways["lstm", False].startswith("valid steps moved to the front, then sequence_lens")
    assert ways["projection", True].startswith("an input of the graph")


# ---- read back


@pytest.mark.parametrize("name", EVERY)
def test_read_back(name: str) -> None:
    network = EVERY[name]()
    back = parity.read(parity.to_onnx(network))
    assert [one.spec for one in back.recurrent] == [one.spec for one in network.recurrent]
    assert [one.cells for one in back.recurrent] == [one.cells for one in network.recurrent]
    for mine, theirs in zip(network.recurrent, back.recurrent, strict=True):
        for key, array in mine.arrays.items():
            np.testing.assert_array_equal(theirs.arrays[key], array)
    if name in COMPOSED:
        assert [one.facts for one in back.layers] == [one.facts for one in network.layers]
        assert back.outputs == network.outputs


@pytest.mark.parametrize("name", ["scan and all", "masked tokens", "unlike ave", "projection"])
def test_a_file_is_what_was_built(name: str, tmp_path: Path) -> None:
    network = COMPOSED[name]()
    path = tmp_path / "composed.onnx"
    with path.open("wb") as file:
        onnx_framework.write_file(network, file)
    comparison = parity.compare(network, path, inputs=inputs_of(network), engines=["onnxruntime"])
    assert comparison.ok, str(comparison)
    copy = parity.convert(path, tmp_path / "again.onnx")
    assert copy.read_bytes() == path.read_bytes()


def test_other_weights_in_a_composed_graph_are_other_weights() -> None:
    built = parity.to_onnx(COMPOSED["projection"]())
    tensor = next(t for t in built.graph.initializer if t.name.endswith("forward.projection"))
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(2), tensor.name))
    network = parity.read(built)
    np.testing.assert_array_equal(network.recurrent[0].weights[0].projection, numpy_helper.to_array(tensor)[0])
    assert parity.compare(built, engines=["onnxruntime"]).ok


def _less(built: onnx.ModelProto) -> None:
    node = next(node for node in built.graph.node if node.op_type == "Mul")
    node.op_type = "Add"


def _renamed(built: onnx.ModelProto) -> None:
    built.graph.output[0].name = "other"
    next(node for node in built.graph.node if node.output[0] == "output").output[0] = "other"


def _lying(built: onnx.ModelProto) -> None:
    item = next(item for item in built.metadata_props if item.key == NETWORK_KEY)
    item.value = item.value.replace('"ave"', '"sum"')


def _huge(built: onnx.ModelProto) -> None:
    item = next(item for item in built.metadata_props if item.key == NETWORK_KEY)
    content = json.loads(item.value)
    content["arrays"]["0"] = [1 << 40, 1 << 40]
    item.value = json.dumps(content)


def _nonsense(built: onnx.ModelProto) -> None:
    next(item for item in built.metadata_props if item.key == NETWORK_KEY).value = "[" * 100_000


@pytest.mark.parametrize("change", [_less, _renamed, _lying, _huge, _nonsense])
def test_a_description_of_another_graph_is_not_believed(change: Callable[[Any], None]) -> None:
    built = parity.to_onnx(COMPOSED["merge ave"]())
    change(built)
    # The graph itself is followed, whatever the description says.
    assert_whole(built, "not any more what parity wrote", ["torch", "onnxruntime"])
    written = COMPOSED["merge ave"]()
    inputs = inputs_of(written)
    own = parity.run(written, inputs, engine="reference").outputs["output"]
    (found, _) = parity.run(built, inputs.swapaxes(0, 1), engine="reference").outputs.values()
    same = np.allclose(found.swapaxes(0, 1), own, rtol=0, atol=1e-12)
    assert same == (change is not _less)


def test_native_graphs_need_no_description() -> None:
    built = parity.to_onnx(NATIVE["dense"]())
    del built.metadata_props[:]
    assert parity.compare(NATIVE["dense"](), built, engines=["onnxruntime"]).ok
    with pytest.raises(parity.ParityError, match="parity did not make this"):
        form_of(built)


# ---- faults in the building


def _swap(target: Any, name: str, value: Any) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(target, name, value)


def _wrapped(target: Any, name: str, change: Callable[..., Any]) -> Callable[[pytest.MonkeyPatch], None]:
    honest = getattr(target, name)
    return lambda patch: patch.setattr(target, name, lambda *args, **more: change(honest, *args, **more))


def _without(*keys: str) -> Callable[..., Any]:
    def options(honest: Any, part: Recurrent) -> dict[str, Any]:
        return {key: value for key, value in honest(part).items() if key not in keys}

    return options


def _turned(honest: Any, part: Recurrent) -> dict[str, Any]:
    return {**honest(part), "linear_before_reset": 1 - part.cells[0].reset_after}


def _other_fill(honest: Any, self: Any, y: str, directions: Any, fill: str, name: str) -> Any:
    return honest(self, y, directions, "zero" if fill == "repeat" else "repeat", name)


def _always_forward(honest: Any, self: Any, _: str) -> Any:
    return honest(self, "forward")


def _functions_swapped(honest: Any, assembly: Any, function: Function, x: str, name: str) -> Any:
    return honest(assembly, _MISH if function == _SILU else _SILU if function == _MISH else function, x, name)


def _old_c(honest: Any, self: Any, z: str, gate: str, c: str) -> Any:
    """The output gate sees the cell state before the step."""
    self.__dict__.setdefault("seen", c)
    return honest(self, z, gate, self.seen if gate == "o" else c)


def _scaled(honest: Any, assembly: Any, recurrent: str, projection: str, name: str) -> Any:
    return assembly.node("Neg", [honest(assembly, recurrent, projection, name)], f"{name}.wrong")


def _first_of_all(honest: Any, assembly: Any, part: Recurrent, given: Any) -> Any:
    turned = replace(part, spec=replace(part.spec, directions=FORWARD))
    return honest(assembly, turned, given)


def _last_at_the_end(honest: Any, self: Any, one: Recurrent, sequence: str, axes: str) -> Any:
    wrong = replace(one, spec=replace(one.spec, directions=(FORWARD[0],) * len(one.spec.directions)))
    return honest(self, wrong, sequence, axes)


def _ways_swapped(honest: Any, self: Any, tensor: str, axis: int, select: Any, name: str) -> Any:
    other = {"forward": "backward", "backward": "forward"}
    return honest(self, tensor, axis, other.get(select, select), name)


def _other_reset(honest: Any, self: Any, x: Any, states: Any) -> Any:
    self._cell = replace(self._cell, reset_after=not self._cell.reset_after)
    return honest(self, x, states)


_MERGES = {"sum": "Mul", "ave": "Mul", "mul": "Add"}
FAULTS: dict[str, tuple[str, Callable[[pytest.MonkeyPatch], None]]] = {
    "reset order": ("gru before", _wrapped(onnx_cells, "attributes_of", _turned)),
    "no reset order": ("two resets", _wrapped(onnx_cells, "attributes_of", _without("linear_before_reset"))),
    "no clip": ("peepholes and options", _wrapped(onnx_cells, "attributes_of", _without("clip"))),
    "no input_forget": ("peepholes and options", _wrapped(onnx_cells, "attributes_of", _without("input_forget"))),
    "no alpha": ("functions", _wrapped(onnx_cells, "attributes_of", _without("activation_alpha"))),
    "no activations": ("functions", _wrapped(onnx_cells, "attributes_of", _without("activations"))),
    "merged otherwise": ("merge sum", _swap(onnx_giving, "_MERGES", _MERGES)),
    "merged otherwise at the end": ("merge ave at the end", _swap(onnx_giving, "_MERGES", _MERGES)),
    "halves swapped": ("merge None", _wrapped(onnx_giving, "_selected", _ways_swapped)),
    "not flipped": ("reverse", _swap(Assembly, "flipped", lambda _, value, *_more: value)),
    "unlike merged otherwise": ("unlike mul", _swap(onnx_giving, "_MERGES", _MERGES)),
    "product negated": ("projection", _wrapped(onnx_cells, "_product_rounded_once", _scaled)),
    "state at the first step": ("projection", _wrapped(onnx_cells, "_with_first_state", _first_of_all)),
    "zero for repeat": ("masked repeat forward1 all", _wrapped(onnx_masks.StepMask, "spread", _other_fill)),
    "repeat for zero": ("masked zero forward2 all", _wrapped(onnx_masks.StepMask, "spread", _other_fill)),
    "steps not moved": ("masked zero forward1 last", _swap(onnx_masks.StepMask, "compact", lambda _, x, _name: x)),
    "backward repeats forward": (
        "masked repeat backward1 all",
        _wrapped(onnx_masks.StepMask, "_shown_by", _always_forward),
    ),
    "last at the end": ("masked repeat forward2 last", _wrapped(onnx_giving, "_last", _last_at_the_end)),
    "no state of empty rows": ("masked stateful", _swap(onnx_masks.StepMask, "kept", lambda _, final, *_more: final)),
    "functions swapped": ("scan", _wrapped(onnx_scan, "composed_function", _functions_swapped)),
    "no clip in a scan": ("scan", _swap(onnx_scan, "clipped", lambda _, x, *_more: x)),
    "peephole of the old c": ("scan and all", _wrapped(onnx_scan._Scan, "_seeing", _old_c)),
    "reset order in a scan": ("scan gru before", _wrapped(onnx_scan._Scan, "_gru", _other_reset)),
}


IN_PADDING = ("zero for repeat", "repeat for zero", "backward repeats forward", "no state of empty rows")
"""Faults that show where a mask leaves something out, which a comparison calls a convention."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_building_is_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, patch = FAULTS[fault]
    network = EVERY[name]()
    patch(monkeypatch)
    if fault in IN_PADDING:
        assert largest(network) > 1e-2
        return
    start = states_of(network)
    comparison = parity.compare(network, inputs=inputs_of(network), initial_state=start, engines=["onnxruntime"])
    assert comparison.verdict == "disagree", str(comparison)


@pytest.mark.parametrize("opset", ["14", 14.0, True, 6, 23])
def test_an_opset_that_is_not_written_is_refused(opset: Any) -> None:
    weights = Weights(numbers(1, 5, 3), numbers(1, 5, 5))
    network = Network("rnn", (Recurrent("rnn", RecurrentSpec("rnn", 3, 5), (weights,)),))
    with pytest.raises(UnsupportedError) as caught:
        onnx_framework.build(network, opset)
    (problem,) = caught.value.problems
    assert (problem.where, problem.expected, problem.got) == ("opset", "a whole number, 7 to 22", repr(opset))
    whole: Any = np.int64(14)
    assert onnx_framework.build(network, whole).opset_import[0].version == 14
