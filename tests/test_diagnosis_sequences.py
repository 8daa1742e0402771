"""Mistakes with steps, directions, states, masks and precision, made in code of torch, are named by what they give."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from parity.diagnosis import Diagnosis, diagnose
from parity.diagnosis.cases import asked_case
from parity.diagnosis.faults.beginnings import told_states
from parity.diagnosis.precision import precision_of
from parity.diagnosis.replay import stage_of
from parity.sources import Opened, open_source

KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
FEATURES, UNITS, CLASSES = 3, 5, 4


def lively(module: nn.Module, seed: int = 0) -> nn.Module:
    """With weights and biases that all show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            value.uniform_(-0.8, 0.8, generator=generator)
    return module.eval()


class Model(nn.Module):
    """A recurrent layer in code of one's own; what the code does is handed over."""

    def __init__(
        self, code: Callable[..., Any], kind: str = "lstm", dense: int = 0, second: int = 0, **options: Any
    ) -> None:
        super().__init__()
        self.code = code
        self.rnn = KINDS[kind](FEATURES, UNITS, **{"batch_first": True, **options})
        if second:
            self.second = KINDS[kind](second, UNITS, batch_first=True)
        if dense:
            self.head = nn.Linear(dense, CLASSES)

    def forward(self, x: Tensor) -> Any:
        return self.code(self, x)


def wrong_of(right: Model, code: Callable[..., Any]) -> Model:
    """The same weights under other code."""
    wrong = copy.deepcopy(right)
    wrong.code = code
    return wrong


@cache
def opened(
    code: Callable[..., Any], kind: str, dense: int, second: int, bidirectional: bool, layers: int
) -> tuple[Any, Opened]:
    """A right model, and what parity reads of it."""
    right = lively(Model(code, kind, dense, second, bidirectional=bidirectional, num_layers=layers))
    return right, open_source(right, partial=True)


def of_recording(
    code: Callable[..., Any],
    wrong: Callable[..., Any],
    kind: str = "lstm",
    dense: int = UNITS,
    second: int = 0,
    bidirectional: bool = False,
    layers: int = 1,
) -> Diagnosis:
    """The diagnosis of what other code gave with the same weights."""
    right, source = opened(code, kind, dense, second, bidirectional, layers)
    x = torch.randn(4, 9, FEATURES, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        outputs = wrong(right, x).numpy()
    return diagnose(source, {"inputs": x.numpy(), "outputs": outputs}, pairs=False)


def h_of(states: Any) -> Tensor:
    """h_n, whether there is a c_n or not."""
    found: Tensor = states[0] if isinstance(states, tuple) else states
    return found


def named(found: Diagnosis, name: str, layer: str | None = None, direction: str = "") -> None:
    """The one cause, at its place."""
    assert found.found, found
    (fault,) = found.faults
    assert fault.name == name, found
    assert layer is None or fault.place.layer == layer, found
    assert fault.place.direction == direction, found


def among(found: Diagnosis, *names: str) -> None:
    """One of those that explain it equally."""
    assert set(names) & {fault.name for faults in (found.faults, *found.alternatives) for fault in faults}, found


def steps(module: Any, x: Tensor) -> Tensor:
    return module.head(module.rnn(x)[0])


def turned_in(module: Any, x: Tensor) -> Tensor:
    return module.head(module.rnn(x.flip(1))[0])


def turned_out(module: Any, x: Tensor) -> Tensor:
    return module.head(module.rnn(x)[0].flip(1))


def turned_both(module: Any, x: Tensor) -> Tensor:
    return module.head(module.rnn(x.flip(1))[0].flip(1))


def features_turned(module: Any, x: Tensor) -> Tensor:
    return steps(module, x.flip(-1))


def step_later(module: Any, x: Tensor) -> Tensor:
    return steps(module, torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1))


def time_first(module: Any, x: Tensor) -> Tensor:
    return module.head(module.rnn(x.transpose(0, 1))[0].transpose(0, 1))


def back_half_turned(module: Any, x: Tensor) -> Tensor:
    ahead, back = module.rnn(x)[0].chunk(2, dim=-1)
    return module.head(torch.cat([ahead, back.flip(1)], dim=-1))


def halves_swapped(module: Any, x: Tensor) -> Tensor:
    ahead, back = module.rnn(x)[0].chunk(2, dim=-1)
    return module.head(torch.cat([back, ahead], dim=-1))


@pytest.mark.parametrize("kind", ["lstm", "rnn"])
@pytest.mark.parametrize(
    ("code", "name"),
    [
        (turned_in, "reversed in time"),
        (turned_out, "steps not turned back"),
        (turned_both, "other direction"),
        (features_turned, "features reversed"),
        (step_later, "shifted by a step"),
        (time_first, "batch and time exchanged"),
    ],
)
def test_a_sequence_sent_another_way_is_named(kind: str, code: Callable[..., Any], name: str) -> None:
    found = of_recording(steps, code, kind)
    if name == "features reversed":
        among(found, name)
    else:
        named(found, name)


@pytest.mark.parametrize("kind", ["gru"])
@pytest.mark.parametrize(
    ("code", "name", "direction"),
    [
        (turned_in, "reversed in time", ""),
        (turned_out, "steps not turned back", ""),
        (back_half_turned, "steps not turned back", "backward"),
        (halves_swapped, "halves swapped", ""),
        (time_first, "batch and time exchanged", ""),
    ],
)
def test_a_bidirectional_sequence_sent_another_way_is_named(
    kind: str, code: Callable[..., Any], name: str, direction: str
) -> None:
    named(of_recording(steps, code, kind, 2 * UNITS, bidirectional=True), name, direction=direction)


def both_ends(module: Any, x: Tensor) -> Tensor:
    h = h_of(module.rnn(x)[1])
    return module.head(torch.cat([h[-2], h[-1]], dim=-1))


def last_output(module: Any, x: Tensor) -> Tensor:
    return module.head(module.rnn(x)[0][:, -1])


def first_output(module: Any, x: Tensor) -> Tensor:
    return module.head(module.rnn(x)[0][:, 0])


def ends_swapped(module: Any, x: Tensor) -> Tensor:
    h = h_of(module.rnn(x)[1])
    return module.head(torch.cat([h[-1], h[-2]], dim=-1))


def ends_viewed(module: Any, x: Tensor) -> Tensor:
    h = h_of(module.rnn(x)[1])[-2:]
    return module.head(h.reshape(x.shape[0], -1))


def first_layer(module: Any, x: Tensor) -> Tensor:
    h = h_of(module.rnn(x)[1])
    return module.head(torch.cat([h[0], h[1]], dim=-1))


ENDS = [
    (last_output, "step in place of the final state", "backward"),
    (first_output, "step in place of the final state", "forward"),
    (ends_viewed, "states reshaped", ""),
]


@pytest.mark.parametrize(("kind", "layers"), [("lstm", 1), ("gru", 2)])
@pytest.mark.parametrize(("code", "name", "direction"), ENDS)
def test_another_end_of_both_directions_is_named(
    kind: str, layers: int, code: Callable[..., Any], name: str, direction: str
) -> None:
    found = of_recording(both_ends, code, kind, 2 * UNITS, bidirectional=True, layers=layers)
    named(found, name, direction=direction)


def test_final_states_in_the_other_order_and_of_another_layer_are_named() -> None:
    among(
        of_recording(both_ends, ends_swapped, dense=2 * UNITS, bidirectional=True),
        "final states of the directions exchanged",
        "halves swapped",
        "inputs in another order",
    )
    found = of_recording(both_ends, first_layer, dense=2 * UNITS, bidirectional=True, layers=2)
    named(found, "final state of another layer", "rnn_l1")


def test_a_right_model_that_takes_a_step_is_told_from_one_that_takes_states() -> None:
    both: dict[str, Any] = {"kind": "gru", "dense": 2 * UNITS, "bidirectional": True}
    named(of_recording(last_output, both_ends, **both), "final states in place of a step", direction="backward")
    named(of_recording(last_output, first_output, **both), "wrong step")
    named(of_recording(last_output, first_output, "gru"), "wrong step")


def test_live_models_are_told_apart_too() -> None:
    right, source = opened(both_ends, "gru", 2 * UNITS, 0, True, 1)
    named(
        diagnose(source, wrong_of(right, last_output), pairs=False),
        "step in place of the final state",
        direction="backward",
    )
    assert diagnose(source, copy.deepcopy(right)).agrees


def summed(module: Any, x: Tensor) -> Tensor:
    ahead, back = module.rnn(x)[0].chunk(2, dim=-1)
    return module.head(ahead + back)


def multiplied(module: Any, x: Tensor) -> Tensor:
    ahead, back = module.rnn(x)[0].chunk(2, dim=-1)
    return module.head(ahead * back)


def averaged(module: Any, x: Tensor) -> Tensor:
    ahead, back = module.rnn(x)[0].chunk(2, dim=-1)
    return module.head((ahead + back) / 2)


@pytest.mark.parametrize("code", [multiplied, averaged])
def test_directions_merged_otherwise_are_named(code: Callable[..., Any]) -> None:
    among(of_recording(summed, code, "gru", bidirectional=True), "merge mode")


@pytest.mark.parametrize(("right", "wrong"), [(averaged, multiplied), (multiplied, averaged)])
def test_directions_merged_by_hand_are_named_in_live_models(
    right: Callable[..., Any], wrong: Callable[..., Any]
) -> None:
    model, source = opened(right, "rnn", UNITS, 0, True, 1)
    found = diagnose(source, wrong_of(model, wrong), pairs=False)
    named(found, "merge mode")
    assert found.where[0].called == "rnn"


def apart(module: Any, x: Tensor) -> Tensor:
    """The directions of two layers each above its own alone."""
    found = []
    for way, suffix in enumerate(("", "_reverse")):
        stack = nn.GRU(FEATURES, UNITS, 2, batch_first=True)
        for name, value in stack.named_parameters():
            own = getattr(module.rnn, name + suffix).detach()
            own = own[:, way * UNITS : (way + 1) * UNITS] if name == "weight_ih_l1" else own
            value.data = own.clone()
        found.append(stack(x)[0] if way == 0 else stack(x.flip(1))[0].flip(1))
    return module.head(torch.cat(found, dim=-1))


def test_independent_stacks_are_named() -> None:
    found = of_recording(steps, apart, "gru", 2 * UNITS, bidirectional=True, layers=2)
    named(found, "independent stacks", "rnn_l1")


def two_backward(module: Any, x: Tensor) -> Tensor:
    return module.second(module.rnn(x.flip(1))[0].flip(1))[0]


def two_backward_as_it_is(module: Any, x: Tensor) -> Tensor:
    return module.second(module.rnn(x.flip(1))[0])[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_backward_layer_that_is_not_turned_back_is_named(kind: str) -> None:
    named(of_recording(two_backward, two_backward_as_it_is, kind, 0, UNITS), "steps not turned back", "rnn")


def bare(kind: str, wrong: Callable[[Any, Tensor, tuple[Tensor, ...]], Any], **options: Any) -> Diagnosis:
    """The diagnosis of what code gave of a layer by itself, from initial states."""
    layer = lively(KINDS[kind](FEATURES, UNITS, batch_first=True, **options))
    random = torch.Generator().manual_seed(2)
    x = torch.randn(4, 9, FEATURES, generator=random)
    rows = (2 if options.get("bidirectional") else 1) * options.get("num_layers", 1)
    states = tuple(torch.rand(rows, 4, UNITS, generator=random) - 0.5 for _ in range(2 if kind == "lstm" else 1))
    with torch.no_grad():
        y = wrong(layer, x, states)
    stacked = (options.get("num_layers", 1), -1, 4, UNITS)
    given = [state.reshape(stacked).numpy() for state in states]
    recording = {"inputs": x.numpy(), "outputs": [one.numpy() for one in (y if isinstance(y, list) else [y])]}
    return diagnose(layer, recording, initial_state=tuple(given) if kind == "lstm" else given[0], pairs=False)


def dropped(layer: Any, x: Tensor, _: tuple[Tensor, ...]) -> Tensor:
    return layer(x)[0]


def h_for_c(layer: Any, x: Tensor, states: tuple[Tensor, ...]) -> Tensor:
    return layer(x, states[::-1])[0]


def no_c(layer: Any, x: Tensor, states: tuple[Tensor, ...]) -> Tensor:
    return layer(x, (states[0], torch.zeros_like(states[1])))[0]


def rows_exchanged(layer: Any, x: Tensor, states: tuple[Tensor, ...]) -> Tensor:
    turned = tuple(state.flip(0) for state in states)
    return layer(x, turned if len(turned) > 1 else turned[0])[0]


def called_before(layer: Any, x: Tensor, states: tuple[Tensor, ...]) -> Tensor:
    left = layer(x, states if len(states) > 1 else states[0])[1]
    return layer(x, left)[0]


def c_for_h(layer: Any, x: Tensor, states: tuple[Tensor, ...]) -> list[Tensor]:
    y, (h, c) = layer(x, states)
    return [y, c[0], h[0]]


def c_alone(layer: Any, x: Tensor, states: tuple[Tensor, ...]) -> list[Tensor]:
    y, (_, c) = layer(x, states)
    return [y, c[0], c[0]]


def ends_exchanged(layer: Any, x: Tensor, states: tuple[Tensor, ...]) -> list[Tensor]:
    y, (h, c) = layer(x, states)
    return [y, h[1], c[1], h[0], c[0]]


def h_ends_exchanged(layer: Any, x: Tensor, states: tuple[Tensor, ...]) -> list[Tensor]:
    y, (h, c) = layer(x, states)
    return [y, h[1], c[0], h[0], c[1]]


def test_final_states_of_the_other_direction_are_named() -> None:
    for code, words in ((ends_exchanged, "the final c and h"), (h_ends_exchanged, "the final h of")):
        found = bare("lstm", code, bidirectional=True)
        named(found, "final states of the directions exchanged")
        assert words in found.cause


@pytest.mark.parametrize("kind", KINDS)
def test_initial_states_dropped_or_carried_over_are_named(kind: str) -> None:
    named(bare(kind, dropped), "initial state dropped")
    named(bare(kind, called_before), "state carried over")


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_initial_states_given_to_another_direction_or_layer_are_named(kind: str) -> None:
    named(bare(kind, rows_exchanged, bidirectional=True), "initial states of the directions exchanged")
    named(bare(kind, rows_exchanged, num_layers=2), "initial states of layers exchanged")


def test_h_and_c_exchanged_are_named() -> None:
    named(bare("lstm", h_for_c), "initial h and c exchanged")
    named(bare("lstm", no_c), "initial state dropped")
    named(bare("lstm", c_for_h), "final h and c exchanged")
    named(bare("lstm", c_alone), "c in place of h")


LENGTHS = [9, 4, 6, 1]


def packed(layer: Any, x: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor]:
    """What a layer gives for packed sequences."""
    sequences = nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    y, states = layer(sequences)
    return nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])[0], h_of(states)


def padded_as_it_is(layer: Any, x: Tensor) -> list[Tensor]:
    y, states = layer(x)
    return [y, *h_of(states)[:1]]


def one_fewer(layer: Any, x: Tensor) -> list[Tensor]:
    y, h = packed(layer, x, [8, 3, 5, 2])
    return [y, h[0]]


def last_padded(layer: Any, x: Tensor) -> list[Tensor]:
    y, _ = packed(layer, x, LENGTHS)
    return [y, y[:, -1, :UNITS]]


@pytest.mark.parametrize("kind", ["gru"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(
    ("code", "name"),
    [
        (padded_as_it_is, "mask ignored"),
        (one_fewer, "lengths off by one"),
        (last_padded, "step in place of the final state"),
    ],
)
def test_padded_steps_that_are_computed_are_named(
    kind: str, bidirectional: bool, code: Callable[..., Any], name: str
) -> None:
    layer = lively(KINDS[kind](FEATURES, UNITS, batch_first=True, bidirectional=bidirectional))
    x = torch.randn(4, 9, FEATURES, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        names = ["output", "gru.forward_state_h" if bidirectional else "gru.state_h"]
        outputs = dict(zip(names, (one.numpy() for one in code(layer, x)), strict=True))
    lengths = [9, 4, 6, 3] if code is one_fewer else LENGTHS
    among(diagnose(layer, {"inputs": x.numpy(), "outputs": outputs}, lengths=lengths, pairs=False), name)


def test_what_was_not_recorded_is_said_to_tell_two_masks_apart() -> None:
    layer = lively(nn.GRU(FEATURES, UNITS, batch_first=True, bidirectional=True))
    x = torch.randn(4, 9, FEATURES, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        y, h = layer(x)
    found = diagnose(layer, {"inputs": x.numpy(), "outputs": y.numpy()}, lengths=LENGTHS, pairs=False)
    among(found, "mask ignored")
    assert any("'gru.forward_state_h', which was not given, would tell" in note for note in found.notes)
    outputs = [y.numpy(), *h.numpy()]
    named(diagnose(layer, {"inputs": x.numpy(), "outputs": outputs}, lengths=LENGTHS, pairs=False), "mask ignored")


def test_a_mask_by_value_that_these_inputs_cannot_show_is_told() -> None:
    layer = lively(nn.GRU(FEATURES, UNITS, batch_first=True))
    x = torch.randn(4, 9, FEATURES, generator=torch.Generator().manual_seed(3))
    words = "masked by value (needs a step of zeros among the valid ones)"
    assert any(words in note for note in diagnose(layer, layer, x.numpy(), lengths=LENGTHS).notes)
    x[0, 4] = 0.0
    for lengths in (LENGTHS, None):  # without a mask nobody masks by value, and nothing is said of it
        assert not any("masked by value" in note for note in diagnose(layer, layer, x.numpy(), lengths=lengths).notes)


def test_formats_with_fewer_digits_are_known_by_their_errors() -> None:
    layer = lively(nn.LSTM(FEATURES, UNITS, batch_first=True))
    x = torch.randn(4, 9, FEATURES, generator=torch.Generator().manual_seed(3))
    case = asked_case(open_source(layer), x.numpy(), None, None, None, (4, 9, None))
    with torch.no_grad():
        right = layer(x)[0]
        halved = copy.deepcopy(layer).bfloat16()(x.bfloat16())[0].float()
        noise = right + 3e-4 * torch.randn(right.shape, generator=torch.Generator().manual_seed(4))
        moved: Any = copy.deepcopy(layer)
        moved.bias_ih_l0[7] += 1e-3
        shifted = moved(x)[0]
        short = copy.deepcopy(layer).half().float()
        weights_short, inputs_short = short(x)[0], layer(x.bfloat16().float())[0]
        tensor_cores = in_tf32(layer, x)
    answers = [
        precision_of(stage_of(case, {"output": one.numpy()}))
        for one in (halved, tensor_cores, right, noise, shifted, right * 1.0003)
    ]
    assert [one and one.formats for one in answers] == [("bfloat16",), ("TF32",), None, None, None, None]
    for outputs, name in ((weights_short, "weights rounded"), (inputs_short, "inputs rounded")):
        named(diagnose(layer, {"inputs": x.numpy(), "outputs": outputs.numpy()}, pairs=False), name)


def in_tf32(layer: Any, x: Tensor) -> Tensor:
    """An LSTM whose products take factors with ten bits of mantissa, rounded to the nearest as bits."""

    def short(value: Tensor) -> Tensor:
        bits = value.contiguous().view(torch.int32)
        return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)

    h, outputs = torch.zeros(x.shape[0], UNITS), []
    c = torch.zeros_like(h)
    for step in x.unbind(1):
        z = short(step) @ short(layer.weight_ih_l0).T + layer.bias_ih_l0
        z = z + short(h) @ short(layer.weight_hh_l0).T + layer.bias_hh_l0
        i, f, g, o = z.chunk(4, dim=-1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        outputs.append(h)
    return torch.stack(outputs, dim=1)


def test_models_of_keras_beside_what_ports_of_them_gave() -> None:
    keras = pytest.importorskip("keras")
    layers, ops = keras.layers, keras.ops
    keras.utils.set_random_seed(5)
    x = torch.randn(4, 9, FEATURES, generator=torch.Generator().manual_seed(3)).numpy()
    for sample, length in enumerate(LENGTHS):
        x[sample, length:] = 0.0
    both = layers.Bidirectional(layers.GRU(UNITS, return_sequences=True))
    back, head = layers.LSTM(UNITS, go_backwards=True, return_sequences=True), layers.Dense(CLASSES)
    inputs = keras.Input((None, FEATURES))
    masked = keras.Model(inputs, head(both(layers.Masking()(inputs))))
    turned = keras.Model(inputs, layers.Dense(CLASSES)(back(inputs)))
    for model in (masked, turned):
        model.set_weights([value + 0.1 * (index + 1) for index, value in enumerate(model.get_weights())])

    def given(outputs: object) -> Diagnosis:
        return diagnose(masked, {"inputs": x, "outputs": ops.convert_to_numpy(outputs)}, pairs=False)

    mask = ops.any(ops.not_equal(x, 0.0), axis=-1)
    ahead = both.forward_layer(x, mask=mask) * ops.cast(mask, "float32")[..., None]
    behind = ops.flip(both.backward_layer(x), axis=1)
    assert given(masked(x)).agrees
    named(given(head(both(x))), "mask ignored")
    named(given(head(ops.concatenate([ahead, behind], axis=-1))), "mask ignored in one direction", direction="backward")
    last = np.minimum(np.arange(9), np.array(LENGTHS)[:, None] - 1)[..., None]
    repeated = np.take_along_axis(ops.convert_to_numpy(ahead), last, axis=1)
    kept = ops.flip(both.backward_layer(x, mask=mask), axis=1)
    among(given(head(ops.concatenate([repeated, kept], axis=-1))), "padded steps filled otherwise")
    plain, last = layers.Bidirectional(layers.GRU(UNITS)), layers.GRU(UNITS)
    whole = keras.Model(inputs, layers.Dense(CLASSES)(plain(inputs)))
    by_value = keras.Model(inputs, whole.layers[-1](plain(layers.Masking()(inputs))))
    named(diagnose(whole, by_value, inputs=x, pairs=False), "masked by value")
    ends = keras.Model(inputs, last(layers.Masking()(inputs)))
    zeros = ops.convert_to_numpy(last(x, mask=mask)) * (np.array(LENGTHS)[:, None] == 9)
    found = diagnose(ends, {"inputs": x, "outputs": zeros.astype("float32")}, pairs=False)
    named(found, "step in place of the final state", last.name)
    right_way = ops.convert_to_numpy(turned.layers[-1](ops.flip(back(x), axis=1)))
    named(diagnose(turned, {"inputs": x, "outputs": right_way}, pairs=False), "steps not turned back", back.name)


def last_state(module: Any, x: Tensor) -> Tensor:
    return module.head(h_of(module.rnn(x)[1])[-1])


def averaged_over_time(module: Any, x: Tensor) -> Tensor:
    return module.head(module.rnn(x)[0].mean(1))


def both_last_states(module: Any, x: Tensor) -> Tensor:
    return module.head(torch.cat(list(h_of(module.rnn(x)[1])[-2:]), dim=-1))


@pytest.mark.parametrize("right", [last_state, last_output])
@pytest.mark.parametrize("samples", [4, 9])
def test_batch_first_forgotten_before_the_final_state_is_named(right: Callable[..., Any], samples: int) -> None:
    model, source = opened(right, "gru", UNITS, 0, False, 1)
    wrong = wrong_of(model, last_state)
    wrong.rnn.batch_first = False
    x = torch.randn(samples, 9, FEATURES, generator=torch.Generator().manual_seed(8))
    with torch.no_grad():
        y = wrong(x)
    assert len(y) == 9
    named(diagnose(source, wrong, inputs=x.numpy(), pairs=False), "batch and time exchanged")
    found = diagnose(source, {"inputs": x.numpy(), "outputs": y.numpy()}, pairs=False)
    named(found, "batch and time exchanged")
    if samples != 9:
        other = diagnose(source, {"inputs": x.numpy(), "outputs": y.numpy() + 0.1 * x.numpy()[0, :, :1]}, pairs=False)
        assert not other.found
        assert any("as many rows as the inputs have steps" in note for note in other.notes)


def test_batch_first_forgotten_is_named_beside_keras() -> None:
    keras = pytest.importorskip("keras")
    inputs = keras.Input((None, FEATURES))
    right = keras.Model(inputs, keras.layers.Dense(CLASSES)(keras.layers.GRU(UNITS)(inputs)))
    wrong = lively(Model(last_state, "gru", UNITS, batch_first=False), 6)
    own = [value.detach().numpy() for value in wrong.state_dict().values()]
    r, z, n = np.split(np.arange(3 * UNITS), 3)
    order = np.concatenate([z, r, n])
    kernel, recurrent = (one[order].T for one in own[:2])
    right.set_weights([kernel, recurrent, np.stack([one[order] for one in own[2:4]]), own[4].T, own[5]])
    x = torch.randn(5, 9, FEATURES, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        assert np.abs(wrong(x.transpose(0, 1)).numpy() - right(x.numpy())).max() < 1e-5
        y = wrong(x).numpy()
    named(diagnose(right, wrong, inputs=x.numpy(), pairs=False), "batch and time exchanged")
    named(diagnose(right, {"inputs": x.numpy(), "outputs": y}, pairs=False), "batch and time exchanged")


def test_a_layer_that_takes_the_steps_first_is_noted() -> None:
    right = lively(nn.LSTM(FEATURES, UNITS, batch_first=True))
    other = nn.LSTM(FEATURES, UNITS)
    other.load_state_dict(right.state_dict())
    found = diagnose(right, other)
    assert found.agrees
    (note,) = [note for note in found.notes if "(time, batch, ...)" in note]
    assert "fed with the same array as the reference it gives something else by up to" in note
    assert not any("(time, batch" in note for same in (right, other) for note in diagnose(same, same).notes)


@pytest.mark.parametrize(
    ("right", "wrong", "both", "name"),
    [
        (last_output, averaged_over_time, False, "mean over time"),
        (last_state, averaged_over_time, False, "mean over time"),
        (both_last_states, averaged_over_time, True, "mean over time"),
        (averaged_over_time, last_output, False, "last step in place of the mean"),
        (averaged_over_time, both_last_states, True, "last step in place of the mean"),
    ],
)
def test_the_mean_over_time_is_told_from_the_last_step(
    right: Callable[..., Any], wrong: Callable[..., Any], both: bool, name: str
) -> None:
    found = of_recording(right, wrong, "gru", (1 + both) * UNITS, bidirectional=both)
    named(found, name, "rnn")


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        (lambda y: y.flip(-1), "units reversed", ""),
        (lambda y: -y, "output negated", ""),
        (lambda y: 2 * y, "output scaled", "2 times"),
        (lambda y: 0.37 * y, "output scaled", "0.37 times"),
    ],
)
def test_what_is_made_of_outputs_is_named(change: Callable[[Tensor], Tensor], name: str, words: str) -> None:
    found = of_recording(steps, lambda module, x: change(steps(module, x)), "gru")
    named(found, name)
    assert words in found.cause


def from_ones(module: Any, x: Tensor) -> Tensor:
    return module.head(module.rnn(x, torch.ones(module.rnn.num_layers, len(x), UNITS))[0])


@pytest.mark.parametrize("layers", [1, 2])
def test_initial_states_of_ones_are_named(layers: int) -> None:
    found = of_recording(steps, from_ones, "gru", layers=layers)
    named(found, "initial state that is not zero")


def from_learned(module: Any, x: Tensor) -> Tensor:
    return module.head(module.rnn(x, module.start.expand(1, x.shape[0], UNITS).contiguous())[0])


def test_initial_states_that_a_suspect_has_learned_are_told_by_its_graph() -> None:
    right, _ = opened(steps, "gru", UNITS, 0, False, 1)
    wrong = wrong_of(right, from_learned)
    wrong.start = nn.Parameter(torch.rand(1, 1, UNITS, generator=torch.Generator().manual_seed(3)))
    x = torch.randn(4, 9, FEATURES, generator=torch.Generator().manual_seed(1))
    case, own = (
        asked_case(open_source(one, partial=True), x.numpy(), None, None, None, (4, 9, None)) for one in (right, wrong)
    )
    (fault,) = told_states(case, own)
    assert fault.name == "initial state that is not zero"
    assert "('start')" in fault.cause
    with torch.no_grad():
        judge = wrong(x).numpy()
    assert np.abs(next(iter(fault.replay(case).outputs().values())) - judge).max() < 1e-6
    assert not list(told_states(case, case))
