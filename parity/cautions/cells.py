"""Cautions about what a cell computes and how its weights are kept: one small rule each.

The sizes of errors were measured on an LSTM or GRU of 32 units on 16 inputs over 60 steps, with random weights and biases.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.cautions.caution import Caution, Subject, names_of, orders
from parity.cell import Cell, plain_cell
from parity.functions import Function
from parity.layouts import GATE_MEANINGS, GATES, SLOTS, Kind
from parity.network import Recurrent
from parity.recurrent import Weights

_EXACT = "parity convert keeps it exactly"
HARD_SIGMOID_OF_KERAS_2, HARD_SIGMOID_OF_KERAS_3 = (
    Function("hard_sigmoid", 0.2, 0.5),
    Function("hard_sigmoid", 1 / 6, 0.5),
)
_SLOT_WORDS = {"gate": "gates", "candidate": "candidate", "output": "cell state before it becomes h"}


def function_words(function: Function) -> str:
    """A function with its parameters; the two definitions of hard_sigmoid by their formulas.

    Example:
        >>> function_words(Function("hard_sigmoid", 0.2, 0.5))
        'hard_sigmoid of Keras 1 and 2 and of ONNX, 0.2 x + 0.5 cut to 0..1'
    """
    if function == HARD_SIGMOID_OF_KERAS_2:
        return "hard_sigmoid of Keras 1 and 2 and of ONNX, 0.2 x + 0.5 cut to 0..1"
    if function == HARD_SIGMOID_OF_KERAS_3:
        return "hard_sigmoid of Keras 3 and torch, x / 6 + 0.5 cut to 0..1"
    return "linear" if function == Function("affine", 1.0, 0.0) else str(function)


def slot_words(slot: str) -> str:
    """Where a cell applies a function, in words.

    Example:
        >>> slot_words("output")
        'cell state before it becomes h'
    """
    return _SLOT_WORDS[slot]


def _cells(layer: Recurrent, kind: Kind) -> tuple[Cell, ...]:
    return layer.cells if layer.spec.kind == kind else ()


def _resets_before(layer: Recurrent) -> bool:
    return any(not cell.reset_after for cell in _cells(layer, "gru"))


def gru_reset_before(subject: Subject) -> Iterator[Caution]:
    """A GRU whose reset gate acts before the product; one that an exporter wrote so by mistake has a caution of its own."""
    found = subject.recurrent(_resets_before)
    if found and "caution" not in subject.details:
        own = "linear_before_reset=0" if subject.framework == "onnx" else "reset_after=False"
        yield Caution(
            f"this GRU has {own}: its reset gate acts before the matrix product",
            found,
            "torch.nn.GRU and Keras's own default apply it after the product, and no change of weights makes one of the other. "
            "In nn.GRU the outputs are off by up to 0.36, and exact at the first step.",
            f"{_EXACT}: reset_after=False in Keras, linear_before_reset=0 in ONNX, a cell written out in torch.",
            "P01",
        )


def gru_gate_order(subject: Subject) -> Iterator[Caution]:
    """Every GRU."""
    found = subject.recurrent(lambda layer: layer.spec.kind == "gru")
    if found:
        yield Caution(
            "the gates of a GRU stand in another order in torch",
            found,
            f"They are {orders('gru')}. Copied as they stand, the outputs are off by up to 1.2; if only the biases stay, by up to 0.47.",
            "Reorder the kernel, the recurrent kernel and every bias, or let parity convert do it.",
            "P02",
        )


def lstm_gate_order(subject: Subject) -> Iterator[Caution]:
    """Every LSTM."""
    found = subject.recurrent(lambda layer: layer.spec.kind == "lstm")
    if found:
        yield Caution(
            "the gates of an LSTM stand in another order in ONNX",
            found,
            f"They are {orders('lstm')}. In a wrong order the outputs are off by up to 1.3.",
            "Reorder the kernel, the recurrent kernel and every bias for ONNX, or let parity convert do it.",
            "P03",
        )


def two_biases(subject: Subject) -> Iterator[Caution]:
    """An LSTM or RNN with one bias, as in Keras, or with two, as in torch and ONNX."""
    for count, what, remedy in (
        (
            1,
            "it has one bias; torch and ONNX have two, which are added",
            "Put it into one of the two and zeros into the other",
        ),
        (2, "it has two biases, which are added; Keras has one", "Give Keras their sum"),
    ):
        found = subject.recurrent(
            lambda layer, count=count: layer.spec.kind != "gru" and biases_of(layer) == count  # type: ignore[misc]
        )
        if found:
            why = "One bias put into both is off by up to 1.4; none at all, by up to 0.9."
            yield Caution(what, found, why, f"{remedy}, or let parity convert do it.", "P04")


def biases_of(layer: Recurrent) -> int:
    """How many biases a direction of a layer has: none, one, or one of the input and one of the recurrence."""
    counts = [sum(one.held(name) is not None for name in ("bias_input", "bias_recurrent")) for one in layer.weights]
    return max(counts, default=0)


def gru_biases(subject: Subject) -> Iterator[Caution]:
    """A GRU with reset_after=True and both of its biases."""
    found = subject.recurrent(
        lambda layer: (
            any(cell.reset_after for cell in _cells(layer, "gru"))
            and any(one.held("bias_recurrent") is not None for one in layer.weights)
        )
    )
    if found:
        yield Caution(
            "this GRU has two biases that must stay apart",
            found,
            "In Keras they are the rows of one array, first that of the input, then that of the recurrence. The reset gate acts on the "
            "second alone: exchanged, the outputs are off by up to 0.47; summed into one, by up to 0.5. Zero biases hide both.",
            "Keep both, and test with biases that are not zero; parity convert does.",
            "P05",
        )


def forget_bias(subject: Subject) -> Iterator[Caution]:
    """Cells of TensorFlow 1 that add a forget bias when they run, and Keras layers whose biases show that they began at one."""
    outside = tuple(layer for layer in subject.network.opaque if "BasicLSTMCell" in layer.class_name)
    size = "Left out, the outputs are off by up to 0.59; added twice, by up to 1.1; both are exact at the first step."
    if outside:
        yield Caution(
            "TensorFlow 1 adds forget_bias to the forget gate when the cell runs",
            names_of(outside),
            f"It does not stand in the file. {size}",
            "Look it up in the program (1.0 unless it says otherwise) and add it to the forget gate's bias once.",
            "P06",
        )
    inside = subject.recurrent(lambda layer: layer.spec.kind == "lstm" and any(map(_began_at_one, layer.weights)))
    if inside and subject.framework == "keras":
        yield Caution(
            "the forget gate's biases lie around 1 (Keras's unit_forget_bias)",
            inside,
            f"That option says how training began and is in these numbers already: nothing is added when the layer runs. {size}",
            "Copy the biases as they are.",
            "P06",
        )


def _began_at_one(weights: Weights) -> bool:
    """Whether the forget gate's biases lie around one and the others do not; biases that are not in memory are not read."""
    bias = weights.held("bias_input")
    if not isinstance(bias, np.ndarray) or bias.shape[0] != len(GATES["lstm"]):
        return False
    meanings = GATE_MEANINGS["lstm"]
    means = {meanings[letter]: float(row.mean()) for letter, row in zip(GATES["lstm"], bias, strict=True)}
    forget = means.pop("forget gate")
    return 0.5 < forget < 1.5 and max(means.values()) < forget - 0.4


def hard_sigmoid(subject: Subject) -> Iterator[Caution]:
    """hard_sigmoid is two functions, by the age of who says it."""
    for own, other, words in (
        (HARD_SIGMOID_OF_KERAS_2, HARD_SIGMOID_OF_KERAS_3, "0.2 x + 0.5, as in Keras 1 and 2, Theano and ONNX"),
        (HARD_SIGMOID_OF_KERAS_3, HARD_SIGMOID_OF_KERAS_2, "x / 6 + 0.5, as in Keras 3, torch and JAX"),
    ):
        found = tuple(
            layer.name for layer in subject.network.recurrent if any(own in cell.functions for cell in layer.cells)
        )
        if found:
            yield Caution(
                f"the activation hard_sigmoid is {words}",
                found,
                f"Elsewhere the same name means {_formula(other)}, and a file loads there without a warning: the outputs are off by up "
                "to 0.28. torch.nn.LSTM and nn.GRU have sigmoid only, which is off by up to 0.15.",
                "parity convert writes the function of this file, never the other of the same name.",
                "P07",
            )


def _formula(function: Function) -> str:
    return "0.2 x + 0.5" if function == HARD_SIGMOID_OF_KERAS_2 else "x / 6 + 0.5"


def other_activations(subject: Subject) -> Iterator[Caution]:
    """Activations that are neither the usual ones nor hard_sigmoid."""
    words: dict[str, None] = {}
    found: list[str] = []
    for layer in subject.network.recurrent:
        kind, unusual = layer.spec.kind, list[str]()
        for cell in layer.cells:
            for slot, own, usual in zip(SLOTS[kind], cell.functions, plain_cell(kind).functions, strict=True):
                if own != usual and own.name != "hard_sigmoid":
                    unusual.append(f"{function_words(own)} ({slot_words(slot)})")
        if unusual:
            found.append(layer.name)
            words |= dict.fromkeys(unusual)
    if found:
        yield Caution(
            f"the activations are not the usual ones: {', '.join(words)}",
            tuple(found),
            "torch.nn.LSTM and nn.GRU have sigmoid and tanh only, nn.RNN tanh and relu, and some exporters leave out what they do not "
            "know: the layer then runs with the usual ones and computes something else.",
            f"{_EXACT}, in a cell written out where the framework's own has no such option.",
            "P08",
        )


def nonlinearity(subject: Subject) -> Iterator[Caution]:
    """Weights of `torch.nn.RNN`, which do not say tanh or relu; a program beside them may."""
    said = subject.details.get("options", "")
    if "nonlinearity" not in subject.details or "nonlinearity=tanh" in said:
        return
    found = subject.recurrent(lambda layer: layer.spec.kind == "rnn")
    if "nonlinearity=relu" in said:
        what, why = (
            "its program says relu, and its weights alone are read as tanh",
            "Taken alone it computes something else.",
        )
    else:
        what = "tanh or relu? The weights of torch.nn.RNN do not say it"
        why = "It is read as tanh, torch's default. Of a module with nonlinearity='relu' that is another function."
    remedy = "If it is relu, give parity the live module, or build it with nonlinearity='relu' and load the weights."
    yield Caution(what, found, why, remedy, "P08")


def cudnn(subject: Subject) -> Iterator[Caution]:
    """Weights that CuDNNLSTM or CuDNNGRU saved."""
    biases = subject.recurrent(
        lambda layer: layer.spec.kind == "lstm" and any(one.held("bias_recurrent") is not None for one in layer.weights)
    )
    said = any("CuDNN" in text for text in subject.details.values())
    if subject.framework == "keras" and (biases or said):
        yield Caution(
            "CuDNNLSTM or CuDNNGRU saved these weights: each gate transposed, and two biases",
            biases,
            "Loaded as the weights of a plain layer they are scrambled (an accuracy of 0.90 fell to 0.007), and Keras 3 says "
            "'Unknown layer: CuDNNLSTM'.",
            "parity has put them in order: parity convert writes a plain layer with sigmoid gates.",
            "P09",
        )


def square_kernels(subject: Subject) -> Iterator[Caution]:
    """Kernel and recurrent kernel of one shape."""
    found = subject.recurrent(lambda layer: layer.spec.input_size == layer.spec.state_size)
    if found:
        yield Caution(
            "the kernel and the recurrent kernel have one shape",
            found,
            "Exchanged by mistake, or one of them transposed gate by gate, no check of shapes notices: the outputs are off by up to 0.8, "
            "and may be exact at the first step.",
            "Compare more than one step (parity compare does).",
            "P10",
        )


_VARIANTS = {
    "a projection": (
        "a projection makes h smaller than c (proj_size)",
        "Neither Keras nor ONNX has such a layer, and torch's newer ONNX exporter writes a model that ONNX Runtime refuses to run.",
    ),
    "peepholes": ("the gates see the cell state (peepholes)", "Neither Keras nor torch has such a layer."),
    "clip": (
        "what the activations get is cut off (clip)",
        "Neither Keras nor torch has such an option; left out, the outputs are off by up to 0.06.",
    ),
    "input_forget": (
        "the forget gate is one minus the input gate (input_forget=1)",
        "Neither Keras nor torch has such an option; left out, the outputs are off by up to 0.16.",
    ),
}
"""By the beginning of a word in `Recurrent.peculiarities`: what it is, and what goes wrong."""


def variants(subject: Subject) -> Iterator[Caution]:
    """Projection, peepholes, clip and input_forget."""
    for start, (what, why) in _VARIANTS.items():
        found = tuple(
            layer.name
            for layer in subject.network.recurrent
            if any(word.startswith(start) for word in layer.peculiarities)
        )
        if found:
            remedy = f"{_EXACT}, composed of several parts where a framework has no such layer."
            yield Caution(what, found, why, remedy, "P13")
