"""Cautions about files, number types and the layers around recurrent ones: one small rule each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from parity.cautions.caution import Caution, Subject, names_of, number
from parity.network.opaque import Opaque

TORCH_EPSILON, KERAS_EPSILON = 1e-5, 1e-3
"""What torch's and ONNX's norms, and Keras's, add to the variance unless told otherwise."""

_NORM_ERROR = "the outputs are off by 0.05 % where the variance is 1, by 5 % where it is 0.01"

TORCH_SLOPE = 0.01
"""Of torch's and ONNX's LeakyReLU."""

_KERAS_SLOPE = 0.3
_WEIGHT_NORM = ("weight_g", "weight_v")


def program(subject: Subject) -> Iterator[Caution]:
    """TorchScript, a torch exported program, a SavedModel."""
    found = [problem for problem in subject.network.problems if "program" in problem.what]
    if found:
        yield Caution(
            "the file holds a program, and parity reads weights without running it",
            (),
            "How the layers are connected, and what happens between them, stands in the program alone.",
            "Take the recurrent layers one by one, or build the model in its framework and give parity the live one.",
            "program",
        )


def assumed(subject: Subject) -> Iterator[Caution]:
    """Weights alone."""
    if "assumed" in subject.details:
        yield Caution(
            "the file does not say everything; the rest is assumed",
            (),
            "Activations, options and connections stand in no weights. Of a gate that was hard_sigmoid and is read as sigmoid the outputs "
            "are off by up to 0.15; those of another activation by more.",
            "Check the assumptions against the program that made the file; of a Keras model put model.to_json() beside it.",
            "P46",
        )


def exported_wrongly(subject: Subject) -> Iterator[Caution]:
    """What the reader of the file knows to be wrong with files of its maker: torch's GRU with linear_before_reset=0."""
    if "caution" in subject.details:
        yield Caution(
            "this file is likely to compute something else than the module it was exported from",
            subject.recurrent(
                lambda layer: layer.spec.kind == "gru" and not all(cell.reset_after for cell in layer.cells)
            ),
            f"{subject.details['caution']}.",
            "parity converts what stands in the file.",
            "P27",
        )


def fixed_sizes(subject: Subject) -> Iterator[Caution]:
    """An ONNX file whose batch or time was fixed when it was exported."""
    if "fixed sizes" in subject.details:
        yield Caution(
            f"the export fixed the batch or the number of steps: {subject.details['fixed sizes']}",
            (),
            "ONNX Runtime refuses other sizes, or the layers compute as many steps as were fixed and no more.",
            "Run at least three pairs of batch and time; parity convert leaves both open.",
            "P28",
        )


def layout_1(subject: Subject) -> Iterator[Caution]:
    """An ONNX node with layout=1."""
    found = subject.recurrent(lambda layer: "layout=1" in subject.details.get(f"layer {layer.name}", ""))
    if found:
        yield Caution(
            "its node has layout=1, the batch first",
            found,
            "ONNX Runtime refuses to load it, and some other runtimes ignored it without a word.",
            "parity convert writes layout=0 and moves the axes.",
            "P29",
        )


def alphabetical(subject: Subject) -> Iterator[Caution]:
    """Weights of Keras without an architecture."""
    if subject.framework == "keras" and "assumed" in subject.details and subject.suffix in (".h5", ".hdf5"):
        yield Caution(
            "an HDF5 file lists its groups in the order of the alphabet, not of the model",
            (),
            "backward_layer comes before forward_layer, bias before kernel, lstm_10 before lstm_2. Weights set in that order may fit by "
            "shape and be off by up to 0.96.",
            "Match weights by name; parity does.",
            "P26",
        )


def old_keras(subject: Subject) -> Iterator[Caution]:
    """A whole model of Keras 1 or 2."""
    version = subject.keras_version
    weights_alone = "assumed" in subject.details or "architecture" in subject.details
    if version and version[0] < 3 and not weights_alone and subject.network.recurrent:
        yield Caution(
            "today's Keras does not open files like this one",
            (),
            "Keras 3 refuses an LSTM of tf.keras ('Unrecognized keyword arguments passed to LSTM: time_major'), a GRU without reset_after "
            "and every CuDNN layer.",
            "parity convert FILE new.keras writes one that it opens"
            + (", of each recurrent layer by itself: --layer NAME." if subject.network.problems else "."),
            "P46",
        )


_SMALL = {
    "float16": "2e-4",
    "bfloat16": "4e-3",
}
"""Types of half the size, and the error of computing in them."""


def small_numbers(subject: Subject) -> Iterator[Caution]:
    """float16 or bfloat16 in the file."""
    stored = [name for name in subject.details.get("stored as", "").split(", ") if name in _SMALL]
    if stored:
        yield Caution(
            f"weights are stored as {' and '.join(stored)}",
            (),
            f"parity makes float32 of them, which is exact. Computed in that type, an LSTM is off by about "
            f"{' or '.join(_SMALL[name] for name in stored)}.",
            "Compare in float32 first.",
            "P35",
        )


def double_numbers(subject: Subject) -> Iterator[Caution]:
    """float64 weights."""
    found = subject.recurrent(lambda layer: str(layer.weights[0].dtype) == "float64")
    if found:
        yield Caution(
            "the weights are float64",
            found,
            "ONNX Runtime loads an LSTM or GRU of float64 and fails when it runs; Keras makes float32 of it unless told otherwise.",
            "Run it in float32; parity compare shows that this changes nothing else.",
            "P35",
        )


def norms(subject: Subject) -> Iterator[Caution]:
    """Normalisations whose epsilon is not what another framework takes, or does not stand in the file."""
    said = [
        layer
        for layer in subject.opaque("BatchNormalization", "LayerNormalization")
        if _epsilon(layer, subject) != TORCH_EPSILON
    ]
    if said:
        values = ", ".join(dict.fromkeys(f"{_epsilon(layer, subject):g}" for layer in said))
        yield Caution(
            f"epsilon of the normalisation is {values}",
            names_of(said),
            f"torch and ONNX take {TORCH_EPSILON:g} unless told otherwise. With that in place of {KERAS_EPSILON:g} {_NORM_ERROR}. "
            "momentum of Keras is 1 - momentum of torch.",
            f"Say eps={values.partition(',')[0]} in torch.",
            _norm_key(said),
        )
    unsaid = [
        layer for layer in subject.network.opaque if subject.framework == "torch" and "running_var" in layer.tensors
    ]
    if unsaid:
        yield Caution(
            "the epsilon of a BatchNorm does not stand in a state dict",
            names_of(unsaid),
            f"torch takes {TORCH_EPSILON:g} unless told otherwise, Keras {KERAS_EPSILON:g}: {_NORM_ERROR}.",
            f"Say epsilon={TORCH_EPSILON:g} in Keras, or what the program says.",
            "P37",
        )


def _norm_key(layers: Sequence[Opaque]) -> str:
    return "P37" if any(layer.class_name.startswith("Batch") for layer in layers) else "P38"


def _epsilon(layer: Opaque, subject: Subject) -> float:
    usual = KERAS_EPSILON if subject.framework == "keras" else TORCH_EPSILON
    found = number(layer.facts.get("epsilon"))
    return usual if found is None else float(f"{found:.6g}")


def same_padding(subject: Subject) -> Iterator[Caution]:
    """Convolutions and poolings that pad to the same length and take strides."""
    found = [layer for layer in subject.network.opaque if _pads(layer) and any(step > 1 for step in _strides(layer))]
    if found:
        yield Caution(
            "padding 'same' with strides",
            names_of(found),
            "Keras and ONNX's SAME_UPPER pad more on the right, by the length of the input; torch pads both sides alike: the output is "
            "shifted by a frame.",
            "Pad by hand before a convolution without padding.",
            "P39",
        )


def _pads(layer: Opaque) -> bool:
    said = layer.facts.get("padding", layer.facts.get("border_mode", layer.facts.get("auto_pad", "")))
    return str(said).lower() in ("same", "same_upper", "same_lower")


def _strides(layer: Opaque) -> list[float]:
    said = layer.facts.get("strides", layer.facts.get("subsample", layer.facts.get("subsample_length", 1)))
    values = said if isinstance(said, (list, tuple)) else [said]
    return [value for value in map(number, values) if value is not None]


def flatten(subject: Subject) -> Iterator[Caution]:
    """Layers that change the order of features."""
    found = subject.opaque("Flatten", "Reshape", "Permute")
    if found and subject.framework == "keras":
        yield Caution(
            "it puts several axes into one, in Keras's order: channels last",
            names_of(found),
            "After convolutions torch has channels first, so the features come in another order and the next kernel meets the wrong ones.",
            "Permute the axes before it in torch, or the rows of the next kernel.",
            "P40",
        )


def weight_norm(subject: Subject) -> Iterator[Caution]:
    """torch's weight_norm and spectral_norm."""
    found = [
        layer
        for layer in subject.network.opaque
        if set(_WEIGHT_NORM) <= set(layer.tensors)
        or ("parametrizations." in layer.name and "original1" in layer.tensors)
    ]
    if found:
        yield Caution(
            "its weight is kept as a length and a direction (weight_norm)",
            names_of(found),
            "No other framework has the two: the weight itself is g * v / |v|.",
            "Call torch.nn.utils.remove_weight_norm, or torch.nn.utils.parametrize.remove_parametrizations, and save again.",
            "P44",
        )


def leaky_relu(subject: Subject) -> Iterator[Caution]:
    """LeakyReLU with a slope that is not torch's."""
    found = [(layer, _slope(layer, subject)) for layer in subject.opaque("LeakyReLU", "LeakyRelu")]
    unlike = [(layer, slope) for layer, slope in found if slope != TORCH_SLOPE]
    if unlike:
        slopes = ", ".join(dict.fromkeys(f"{slope:g}" for _, slope in unlike))
        yield Caution(
            f"LeakyReLU has the slope {slopes}",
            names_of([layer for layer, _ in unlike]),
            f"torch and ONNX take {TORCH_SLOPE:g} unless told otherwise: every negative value is scaled by another factor.",
            f"Say negative_slope={slopes.partition(',')[0]} in torch.",
            "P41",
        )


def _slope(layer: Opaque, subject: Subject) -> float:
    said = number(layer.facts.get("negative_slope", layer.facts.get("alpha")))
    usual = _KERAS_SLOPE if subject.framework == "keras" else TORCH_SLOPE
    return usual if said is None else float(f"{said:.6g}")
