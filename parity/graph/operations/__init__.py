"""What the nodes of a graph compute, one file per family; the layers of `parity.network` are operations, too, through `calls`."""

from parity.graph.operations.attention import Attention
from parity.graph.operations.constant import Constant
from parity.graph.operations.convolution import Convolution, Padding, paddings
from parity.graph.operations.elementwise import ELEMENTWISE, Activation, Cast, Elementwise, Softmax
from parity.graph.operations.normalization import (
    BatchNormalization,
    GroupNormalization,
    LayerNormalization,
    UnitNormalization,
)
from parity.graph.operations.operation import Operation, Shape, broadcast, normalized
from parity.graph.operations.picking import Flip, Select, Slice, Take
from parity.graph.operations.pooling import Pooling
from parity.graph.operations.products import Einsum, MatMul
from parity.graph.operations.reduction import Reducing, Reduction
from parity.graph.operations.shaping import (
    Concatenate,
    Expand,
    ExpandDims,
    Length,
    Pad,
    Range,
    Repeat,
    Reshape,
    Size,
    Squeeze,
    Stack,
    Transpose,
)
from parity.graph.operations.stub import Stated, Stub

__all__ = [
    "ELEMENTWISE",
    "Activation",
    "Attention",
    "BatchNormalization",
    "Cast",
    "Concatenate",
    "Constant",
    "Convolution",
    "Einsum",
    "Elementwise",
    "Expand",
    "ExpandDims",
    "Flip",
    "GroupNormalization",
    "LayerNormalization",
    "Length",
    "MatMul",
    "Operation",
    "Pad",
    "Padding",
    "Pooling",
    "Range",
    "Reducing",
    "Reduction",
    "Repeat",
    "Reshape",
    "Select",
    "Shape",
    "Size",
    "Slice",
    "Softmax",
    "Squeeze",
    "Stack",
    "Stated",
    "Stub",
    "Take",
    "Transpose",
    "UnitNormalization",
    "broadcast",
    "normalized",
    "paddings",
]
