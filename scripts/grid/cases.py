"""Every configuration of the grid, as data; no framework is needed to list them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, TypeAlias
from zlib import crc32

FRAMEWORKS = ("keras", "torch", "onnx")

BATCH, TIME, FEATURES, UNITS, OTHER_UNITS, PROJECTION, LABELS, VOCABULARY = 3, 5, 4, 6, 7, 2, 8, 9
"""All different, so that no axis can be taken for another."""

MASKS: dict[str, tuple[tuple[int, ...], ...]] = {
    "right": ((1, 1, 1, 0, 0), (1, 1, 1, 1, 1), (1, 0, 0, 0, 0)),
    "left": ((0, 0, 1, 1, 1), (1, 1, 1, 1, 1), (0, 0, 0, 0, 1)),
    "middle": ((1, 0, 1, 1, 0), (0, 1, 0, 0, 1), (1, 1, 1, 1, 1)),
    "empty row": ((1, 1, 0, 0, 0), (0, 0, 0, 0, 0), (1, 0, 1, 1, 1)),
}
"""Which steps of each sample are valid."""

LENGTHS: dict[str, tuple[int, ...]] = {"sorted": (5, 3, 1), "unsorted": (3, 5, 1), "with zero": (3, 5, 0)}

Options: TypeAlias = Mapping[str, Any]

ONNX_FUNCTIONS = ("tanh", "sigmoid", "relu", "hard_sigmoid", "softsign", "softplus", "elu", "leaky_relu", "linear")
"""The functions of Keras that ONNX's recurrent operators have too."""

OTHER_FUNCTIONS = (
    *("selu", "gelu", "silu", "mish", "relu6", "exponential", "hard_silu", "hard_tanh", "log_sigmoid", "tanh_shrink"),
)
"""The functions of Keras that they do not have."""


@dataclass(frozen=True)
class Config:
    """One configuration of a source.

    Args:
        framework: "keras", "torch" or "onnx".
        family: what kind of source it is; chooses how it is built.
        options: of the layers as the framework calls them, and of the call ("mask", "lengths", "states"), in a fixed order.
    """

    framework: str
    family: str
    options: tuple[tuple[str, Any], ...]

    def __getitem__(self, name: str) -> Any:
        """An option that has to be there."""
        return dict(self.options)[name]

    def get(self, name: str, default: Any = None) -> Any:
        """An option, or what it is where the configuration does not say it."""
        return dict(self.options).get(name, default)

    @property
    def title(self) -> str:
        """The configuration in a line.

        Example:
            >>> Config("keras", "layer", (("layer", "LSTM"), ("units", 6), ("mask", "left"))).title
            'LSTM units=6 mask=left'
        """
        words = [value if name == "layer" else f"{name}={_word(value)}" for name, value in self.options]
        return " ".join(map(str, words))

    @property
    def name(self) -> str:
        """What tells it from all others."""
        return f"{self.framework} {self.family}: {self.title}"

    @property
    def seed(self) -> int:
        """Of its random numbers, the same in every run and whatever else is in the grid."""
        return crc32(self.name.encode())

    @property
    def targets(self) -> tuple[str, ...]:
        """The other two frameworks."""
        return tuple(framework for framework in FRAMEWORKS if framework != self.framework)


def _word(value: object) -> str:
    if isinstance(value, tuple):
        return "+".join(map(_word, value))
    return str(value)


@cache
def configurations() -> tuple[Config, ...]:
    """The whole grid without repetition, the plainest configurations of every family first.

    Example:
        >>> found = configurations()
        >>> len(found) == len({config.name for config in found}), 2 * len(found) >= 1500
        (True, True)
    """
    found = [
        Config(framework, family, tuple(options.items()))
        for framework, families in FAMILIES.items()
        for family, make in families.items()
        for options in make()
    ]
    unique = list(dict.fromkeys(found))
    return tuple(sorted(unique, key=lambda config: len(config.options)))


def _grid(base: Options, **choices: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """All combinations of choices; an option that is chosen as None is left out."""
    for values in product(*choices.values()):
        yield {**base, **{name: value for name, value in zip(choices, values, strict=True) if value is not None}}


FLAG = (None, True)
OFF = (None, False)

# ---- Keras

KERAS_LAYERS: tuple[Options, ...] = (
    {"layer": "LSTM"},
    {"layer": "GRU"},
    {"layer": "GRU", "reset_after": False},
    {"layer": "SimpleRNN"},
)
GATED = KERAS_LAYERS[:3]
MERGES = ("concat", "sum", "mul", "ave", "None")
KERAS_OPTIONS = ("stateful", "unroll", "dropout", "recurrent_dropout", "trainable", "implementation")
"""Options that change nothing at inference, from a fresh state; SimpleRNN lacks the last."""


def _keras_layers() -> Iterator[dict[str, Any]]:
    for base in KERAS_LAYERS:
        yield from _grid(
            {**base, "states": "given"}, return_sequences=FLAG, return_state=FLAG, go_backwards=FLAG, use_bias=OFF
        )
        yield from _grid({**base, "states": "zero"}, return_sequences=FLAG)
        for shown in ({}, {"return_sequences": True}, {"return_sequences": True, "zero_output_for_mask": True}):
            yield from _grid(
                {**base, **shown, "return_state": True, "states": "given"}, go_backwards=FLAG, mask=tuple(MASKS)
            )
        yield from _grid({**base, "zero_output_for_mask": True, "states": "given"}, mask=("right", "left"))
        shown = {"return_sequences": True, "return_state": True}
        options = KERAS_OPTIONS if base in GATED else KERAS_OPTIONS[:-1]
        yield from _grid({**base, **shown}, option=options)
        yield from _grid({**base, **shown, "go_backwards": True}, option=("stateful", "unroll"))
        yield from _grid({**base, **shown, "unroll": True}, go_backwards=FLAG, mask=("right", "middle"))
    yield from _keras_activations()


def _keras_activations() -> Iterator[dict[str, Any]]:
    shown = {"return_sequences": True, "return_state": True}
    for base in GATED:
        yield from _grid({**base, **shown}, activation=ONNX_FUNCTIONS, recurrent_activation=("sigmoid", "hard_sigmoid"))
        yield from _grid({**base, **shown}, activation=OTHER_FUNCTIONS)
        yield from _grid({**base, **shown}, recurrent_activation=("tanh", "relu", "softsign", "elu", "gelu", "mish"))
        yield from _grid(
            {**base, **shown, "activation": "softsign", "recurrent_activation": "hard_sigmoid"}, mask=tuple(MASKS)
        )
    yield from _grid({**KERAS_LAYERS[3], **shown}, activation=(*ONNX_FUNCTIONS, *OTHER_FUNCTIONS))
    yield from _grid({**KERAS_LAYERS[3], **shown, "activation": "relu"}, go_backwards=FLAG, mask=("right", "middle"))


def _keras_cells() -> Iterator[dict[str, Any]]:
    for base in KERAS_LAYERS:
        yield from _grid(base, use_bias=OFF, states=("zero", "given"))
        yield from _grid({**base, "states": "given"}, activation=("relu", "silu"))


def _keras_rnn() -> Iterator[dict[str, Any]]:
    for base in KERAS_LAYERS:
        yield from _grid({**base, "states": "given"}, return_sequences=FLAG, return_state=FLAG, go_backwards=FLAG)
        yield from _grid({**base, "states": "given", "return_sequences": True}, mask=("left", "middle"))


STACKED = (
    *(("LSTM",), ("LSTM", "LSTM"), ("LSTM", "GRU"), ("GRU", "SimpleRNN"), ("GRU before", "LSTM")),
    ("SimpleRNN", "LSTM", "GRU"),
)
"""Lists of cells inside `keras.layers.RNN`."""


def _keras_stacked() -> Iterator[dict[str, Any]]:
    for cells in STACKED:
        base = {"layer": "RNN", "cells": cells}
        yield from _grid({**base, "states": "given"}, return_sequences=FLAG, return_state=FLAG)
        yield {**base, "return_sequences": True, "go_backwards": True}
        if len(cells) > 1:
            # Keras on TensorFlow raises for a single cell in a list under a mask.
            yield from _grid({**base, "return_state": True}, return_sequences=FLAG, mask=("right", "middle"))


def _keras_bidirectional() -> Iterator[dict[str, Any]]:
    for base in KERAS_LAYERS:
        given = {**base, "states": "given"}
        yield from _grid(given, merge_mode=MERGES, return_sequences=FLAG, return_state=FLAG)
        yield from _grid({**given, "use_bias": False}, merge_mode=MERGES[:2])
        shown = {**given, "return_sequences": True, "return_state": True}
        yield from _grid(shown, merge_mode=MERGES, mask=("right", "middle"))
        yield from _grid(given, merge_mode=MERGES, mask=("right", "left"))
        yield from _grid(shown, merge_mode=("concat", "mul"), mask=("left", "empty row"))
        plain = {**base, "return_sequences": True}
        yield from _grid(plain, option=("stateful", "unroll", "dropout"), merge_mode=("concat", "sum"))
        yield {**plain, "mask": "right", "unroll": True, "merge_mode": "concat"}
        yield from _grid({**plain, "activation": "softsign"}, merge_mode=MERGES)


UNLIKE = (
    *(("LSTM", "GRU"), ("GRU", "SimpleRNN"), ("GRU before", "GRU"), ("LSTM", "LSTM wide"), ("SimpleRNN", "GRU wide")),
    *(("LSTM", "LSTM relu"), ("GRU backwards", "GRU forwards")),
)
"""The layer and the backward_layer of `keras.layers.Bidirectional`."""


def _keras_unlike() -> Iterator[dict[str, Any]]:
    for forward, backward in UNLIKE:
        # Unlike sizes can be joined or left apart, not added.
        merges = ("concat", "None") if "wide" in backward else MERGES
        base = {"layer": "Bidirectional", "forward": forward, "backward": backward}
        if ("LSTM" in forward) == ("LSTM" in backward):
            # Keras halves the list of states, whatever the two layers take.
            base["states"] = "given"
        yield from _grid(base, merge_mode=merges, return_sequences=FLAG)
        yield from _grid({**base, "return_state": True, "return_sequences": True}, mask=(None, "right", "middle"))


BODIES = (
    *("last", "sequence", "stack", "stack sequence", "bidirectional", "sum sequence", "backwards", "dropout", "cells"),
)


def _keras_models() -> Iterator[dict[str, Any]]:
    for base in KERAS_LAYERS:
        yield from _grid(base, body=(*BODIES, "states"))
        for front, padding in (("Masking", "right"), ("Embedding mask_zero", "middle")):
            yield from _grid({**base, "front": front, "padding": padding}, body=BODIES)
        for front, padding in (("Masking -1", "left"), ("Embedding", "right"), ("Masking", "empty row")):
            yield from _grid({**base, "front": front, "padding": padding}, body=("last", "stack sequence"))


# ---- torch

TORCH_LAYERS: tuple[Options, ...] = (
    {"layer": "LSTM"},
    {"layer": "GRU"},
    {"layer": "RNN"},
    {"layer": "RNN", "nonlinearity": "relu"},
)
PROJECTED: Options = {"layer": "LSTM", "proj_size": PROJECTION}


def _torch_layers() -> Iterator[dict[str, Any]]:
    for base in TORCH_LAYERS:
        given = {**base, "states": "given"}
        yield from _grid(given, num_layers=(None, 2, 3), bidirectional=FLAG, bias=OFF, batch_first=FLAG)
        yield from _grid(base, bidirectional=FLAG, batch_first=FLAG)
        yield from _grid({**base, "dropout": 0.3, "num_layers": 2}, bidirectional=FLAG)
        yield from _grid({**given, "call": "unbatched"}, num_layers=(None, 2), bidirectional=FLAG)
        yield from _grid(given, dtype=("float64", "float16", "bfloat16"), num_layers=(None, 2), bidirectional=FLAG)
    yield from _grid(
        {**PROJECTED, "states": "given"}, num_layers=(None, 2), bidirectional=FLAG, bias=OFF, batch_first=FLAG
    )
    yield from _grid(PROJECTED, dtype=(None, "float64", "bfloat16"), bidirectional=FLAG)
    for base in (*TORCH_LAYERS, PROJECTED):
        yield from _grid({**base, "dtype": "float64 of float32 numbers"}, bidirectional=FLAG)


def _torch_packed() -> Iterator[dict[str, Any]]:
    for base in (*TORCH_LAYERS, PROJECTED):
        given = {**base, "states": "given"}
        yield from _grid(given, lengths=("sorted", "unsorted"), num_layers=(None, 2), bidirectional=FLAG)
        yield from _grid({**base, "lengths": "unsorted"}, bidirectional=FLAG, batch_first=FLAG)


def _torch_cells() -> Iterator[dict[str, Any]]:
    for name, nonlinearity in (("LSTMCell", None), ("GRUCell", None), ("RNNCell", None), ("RNNCell", "relu")):
        base = {"layer": name, **({"nonlinearity": nonlinearity} if nonlinearity else {})}
        yield from _grid(base, bias=OFF, states=("zero", "given"))
        yield {**base, "states": "given", "dtype": "float64"}


def _torch_models() -> Iterator[dict[str, Any]]:
    for base in TORCH_LAYERS:
        yield from _grid(base, front=("Embedding", "Linear", "Linear ReLU"), bidirectional=FLAG)


# ---- ONNX

ONNX_LAYERS: tuple[Options, ...] = (
    {"layer": "LSTM"},
    {"layer": "GRU", "linear_before_reset": 1},
    {"layer": "GRU"},
    {"layer": "RNN"},
)
DIRECTIONS = ("forward", "reverse", "bidirectional")
ALPHA_BETA: dict[str, tuple[float, ...]] = {
    "Affine": (0.7, 0.2),
    "LeakyRelu": (0.3,),
    "ThresholdedRelu": (0.4,),
    "ScaledTanh": (0.8, 1.3),
    "HardSigmoid": (0.25, 0.4),
    "Elu": (0.6,),
}
"""Parameters away from every default."""

ONNX_ACTIVATIONS = ("Relu", "Tanh", "Sigmoid", "Softsign", "Softplus", *ALPHA_BETA)
RETURNS = {
    "LSTM": ("Y", "Y_h", "Y_c", "Y Y_h", "Y_h Y_c", "Y Y_c"),
    "GRU": ("Y", "Y_h"),
    "RNN": ("Y", "Y_h"),
}


def _onnx_nodes() -> Iterator[dict[str, Any]]:
    for base in ONNX_LAYERS:
        states = ("h", "h c", "c") if base["layer"] == "LSTM" else ("h",)
        yield from _grid(
            base, direction=DIRECTIONS, sequence_lens=(None, "unsorted", "with zero"), initial=(None, *states)
        )
        yield from _grid({**base, "opset": 7}, direction=DIRECTIONS, sequence_lens=(None, "unsorted"))
        yield from _grid({**base, "opset": 22}, direction=DIRECTIONS)
        yield from _grid({**base, "B": False}, direction=DIRECTIONS)
        yield from _grid(base, direction=DIRECTIONS, outputs=RETURNS[str(base["layer"])])
        yield from _grid({**base, "initial": "h", "clip": 0.5}, direction=DIRECTIONS, sequence_lens=(None, "unsorted"))
        yield from _grid({**base, "layout": 1}, direction=DIRECTIONS, sequence_lens=(None, "unsorted"))
        yield from _grid({**base, "layout": 1, "initial": "h"}, direction=DIRECTIONS)
    yield from _grid(
        {"layer": "LSTM", "P": True}, direction=DIRECTIONS, sequence_lens=(None, "unsorted"), clip=(None, 0.5)
    )
    yield from _grid({"layer": "LSTM", "input_forget": 1}, direction=DIRECTIONS, P=FLAG, opset=(7, 22))


def _onnx_activations() -> Iterator[dict[str, Any]]:
    for name in ONNX_ACTIVATIONS:
        for layer, activations in (
            *(("RNN", (name,)), ("GRU", (name, "Tanh")), ("GRU", ("Sigmoid", name)), ("LSTM", (name, "Tanh", "Tanh"))),
            *(
                ("LSTM", ("Sigmoid", name, "Tanh")),
                ("LSTM", ("Sigmoid", "Tanh", name)),
                ("LSTM", ("Sigmoid", name, name)),
            ),
        ):
            yield {"layer": layer, "activations": activations}
        yield {"layer": "GRU", "linear_before_reset": 1, "activations": ("Sigmoid", name)}
        yield {"layer": "RNN", "direction": "bidirectional", "activations": (name,)}
        yield {"layer": "LSTM", "direction": "reverse", "activations": (name, name, "Tanh")}
    for mixed in (
        ("HardSigmoid", "Elu", "ScaledTanh"),
        ("Sigmoid", "LeakyRelu", "Affine"),
        ("Softsign", "Relu", "Tanh"),
    ):
        yield from _grid(
            {"layer": "LSTM", "activations": mixed}, direction=DIRECTIONS, sequence_lens=(None, "unsorted")
        )
        yield {"layer": "LSTM", "direction": "bidirectional", "activations": mixed, "P": True, "clip": 0.5}
    both = {"direction": "bidirectional"}
    yield from _grid({**both, "layer": "RNN"}, activations=(("Tanh", "Relu"), ("Affine", "Elu")))
    for base in ONNX_LAYERS[1:3]:
        yield {**both, **base, "activations": ("Sigmoid", "Tanh", "HardSigmoid", "Softsign")}
    six = ("Sigmoid", "Tanh", "Tanh", "HardSigmoid", "Relu", "Softsign")
    yield {**both, "layer": "LSTM", "activations": six}


def _onnx_stacks() -> Iterator[dict[str, Any]]:
    for base in ONNX_LAYERS:
        yield from _grid(base, second=("LSTM", "GRU", "RNN"), direction=DIRECTIONS)


FAMILIES = {
    "keras": {
        "layer": _keras_layers,
        "cell": _keras_cells,
        "rnn": _keras_rnn,
        "stacked cells": _keras_stacked,
        "bidirectional": _keras_bidirectional,
        "unlike directions": _keras_unlike,
        "model": _keras_models,
    },
    "torch": {"layer": _torch_layers, "packed": _torch_packed, "cell": _torch_cells, "model": _torch_models},
    "onnx": {"node": _onnx_nodes, "activations": _onnx_activations, "stack": _onnx_stacks},
}
