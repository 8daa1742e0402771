"""Where every framework keeps the weights of the layers that are not recurrent: the second table beside `parity.layouts`.

A layout is data. Patterns are in einops notation; layers of one kind have the same axes in every framework, in another order.

Sources: `build` of the layers in Keras 3.15 `keras/src/layers` (core/dense.py, core/embedding.py, convolutional/base_conv.py and
base_conv_transpose.py, normalization/*.py, activations/prelu.py); the torch documentation of `nn.Linear`, `nn.Embedding`, `nn.Conv1d` and
`nn.ConvTranspose1d` with their kin, `nn.BatchNorm1d`, `nn.LayerNorm`, `nn.GroupNorm`, `nn.RMSNorm`, `nn.PReLU`; the ONNX operator
specification of Conv and BatchNormalization.
"""

from __future__ import annotations

from dataclasses import dataclass

from parity.layouts import axis_groups

SPACE = {1: "width", 2: "height width", 3: "depth height width"}
"""The axes that a convolution moves along, outermost first, as all frameworks have them."""

ANY = "..."
"""Axes that have the same order in every framework, however many there are."""

FILLED = {"bias": 0.0, "beta": 0.0, "gamma": 1.0}
"""What a layer computes with where it has no such tensor: so a target that has one gets it exactly."""

COUNTER = "batches"
"""A tensor that only counts training steps; it changes no result and may stay as it is."""


@dataclass(frozen=True)
class LeafTensor:
    """One tensor of a layer: the framework's name, its axes, and what it is (the same word in every framework)."""

    name: str
    axes: str
    member: str


@dataclass(frozen=True)
class LeafLayout:
    """How one framework keeps one kind of layer.

    Args:
        framework: "keras", "torch" or "onnxruntime".
        kind: the same word in every framework.
        classes: that keep their weights so.
        tensors: in the order in which the framework keeps them.
    """

    framework: str
    kind: str
    classes: tuple[str, ...]
    tensors: tuple[LeafTensor, ...]

    def tensor(self, member: str) -> LeafTensor | None:
        """The tensor that is this member."""
        return next((tensor for tensor in self.tensors if tensor.member == member), None)

    def named(self, name: str) -> LeafTensor | None:
        """The tensor that the framework calls so."""
        return next((tensor for tensor in self.tensors if tensor.name == name), None)


def _norm(framework: str, kind: str, classes: tuple[str, ...], axes: str, *names: str) -> LeafLayout:
    members = ("gamma", "beta", "mean", "variance")
    tensors = tuple(LeafTensor(name, axes, member) for name, member in zip(names, members, strict=False))
    more = (LeafTensor("num_batches_tracked", "", COUNTER),) if (framework, kind) == ("torch", "batch_norm") else ()
    return LeafLayout(framework, kind, classes, tensors + more)


def _weighted(framework: str, kind: str, classes: tuple[str, ...], names: tuple[str, str], axes: str) -> LeafLayout:
    tensors = (LeafTensor(names[0], axes, "kernel"), LeafTensor(names[1], "output", "bias"))
    return LeafLayout(framework, kind, classes, tensors)


def _convolutions() -> list[LeafLayout]:
    rows = []
    keras, torch, onnx = ("kernel", "bias"), ("weight", "bias"), ("W", "B")
    for rank, space in SPACE.items():
        conv, turned = f"conv{rank}d", f"conv{rank}d_transpose"
        own = (f"Conv{rank}D", f"Convolution{rank}D")
        rows += [
            _weighted("keras", conv, own, keras, f"{space} input output"),
            _weighted("torch", conv, (f"Conv{rank}d",), torch, f"output input {space}"),
            _weighted("onnxruntime", conv, ("Conv",), onnx, f"output input {space}"),
            _weighted("keras", turned, (f"Conv{rank}DTranspose",), keras, f"{space} output input"),
            _weighted("torch", turned, (f"ConvTranspose{rank}d",), torch, f"input output {space}"),
        ]
    return rows


_BATCH_NORMS = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm")
_KERAS_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
_TORCH_NORM = ("weight", "bias", "running_mean", "running_var")

LEAF_LAYOUTS: dict[tuple[str, str], LeafLayout] = {
    (row.framework, row.kind): row
    for row in (
        _weighted("keras", "dense", ("Dense",), ("kernel", "bias"), "input output"),
        _weighted("torch", "dense", ("Linear",), ("weight", "bias"), "output input"),
        LeafLayout("keras", "embedding", ("Embedding",), (LeafTensor("embeddings", "row feature", "table"),)),
        LeafLayout("torch", "embedding", ("Embedding",), (LeafTensor("weight", "row feature", "table"),)),
        *_convolutions(),
        _norm("keras", "batch_norm", ("BatchNormalization",), "channel", *_KERAS_NORM),
        _norm("torch", "batch_norm", _BATCH_NORMS, "channel", *_TORCH_NORM),
        _norm("onnxruntime", "batch_norm", ("BatchNormalization",), "channel", "scale", "B", "mean", "var"),
        _norm("keras", "layer_norm", ("LayerNormalization",), ANY, *_KERAS_NORM[:2]),
        _norm("torch", "layer_norm", ("LayerNorm",), ANY, *_TORCH_NORM[:2]),
        _norm("keras", "group_norm", ("GroupNormalization",), "channel", *_KERAS_NORM[:2]),
        _norm("torch", "group_norm", ("GroupNorm",), "channel", *_TORCH_NORM[:2]),
        _norm("keras", "rms_norm", ("RMSNormalization",), ANY, "scale"),
        _norm("torch", "rms_norm", ("RMSNorm",), ANY, "weight"),
        LeafLayout("keras", "prelu", ("PReLU",), (LeafTensor("alpha", "channel", "slope"),)),
        LeafLayout("torch", "prelu", ("PReLU",), (LeafTensor("weight", "channel", "slope"),)),
    )
}
"""(framework, kind) -> layout."""


@dataclass(frozen=True)
class LeafOption:
    """An option of a layer that changes its numbers and is no weight.

    Args:
        name: for people.
        keras, torch, onnx: what the framework calls it; "" where it has none.
        meaning: whether the weights mean something else where it differs: then they are not written.
    """

    name: str
    keras: str = ""
    torch: str = ""
    onnx: str = ""
    meaning: bool = False


_EPSILON = LeafOption("eps", "epsilon", "eps", "epsilon")
_CONVOLUTION = (
    LeafOption("stride", "strides", "stride", "strides"),
    LeafOption("padding", "padding", "padding", "pads"),
    LeafOption("dilation", "dilation_rate", "dilation", "dilations"),
    LeafOption("groups", "groups", "groups", "group", meaning=True),
    LeafOption("padding_mode", torch="padding_mode"),
    LeafOption("output_padding", "output_padding", "output_padding"),
    LeafOption("activation", "activation"),
)
_AXIS = LeafOption("axis", "axis")
LEAF_OPTIONS: dict[str, tuple[LeafOption, ...]] = {
    "dense": (LeafOption("activation", "activation"),),
    "embedding": (LeafOption("mask_zero", "mask_zero"), LeafOption("max_norm", "", "max_norm")),
    **{f"conv{rank}d{turned}": _CONVOLUTION for rank in SPACE for turned in ("", "_transpose")},
    "batch_norm": (_EPSILON, _AXIS),
    "layer_norm": (_EPSILON, _AXIS),
    "group_norm": (_EPSILON, LeafOption("groups", "groups", "num_groups"), _AXIS),
    "rms_norm": (_EPSILON, _AXIS),
}
"""What is compared, for each kind."""

IDLE: dict[str, object] = {"activation": "linear", "mask_zero": False, "max_norm": None, "groups": 1}
IDLE |= {"padding_mode": "zeros", "axis": -1}
"""The value of an option that does nothing: what a framework without the option computes."""


def leaf_layout(framework: str, class_name: str, rank: int | None = None) -> LeafLayout | None:
    """The layout of a class of a framework; None for one that is not in the table.

    Args:
        framework: "keras", "torch" or "onnxruntime".
        class_name: as the framework calls it.
        rank: dimensions of its first tensor, where one class has several kinds (ONNX's Conv).

    Example:
        >>> leaf_layout("torch", "Conv1d").tensors[0].axes
        'output input width'
    """
    for row in LEAF_LAYOUTS.values():
        if row.framework == framework and class_name in row.classes:
            axes = row.tensors[0].axes
            if rank is None or axes == ANY or len(axis_groups(axes)) == rank or "conv" not in row.kind:
                return row
    return None
