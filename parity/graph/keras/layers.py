"""How every class of layer is read: the table, and what is said of classes that are not in it."""

from __future__ import annotations

from parity.errors import REGISTER, UnsupportedError
from parity.graph.keras import (
    activation,
    attention,
    convolution,
    dense,
    merging,
    normalization,
    operations,
    pooling,
    recurrent,
    shaping,
    wrapping,
    written,
)
from parity.graph.keras.call import Reader
from parity.network.keras.cells import WRITTEN, WRITTEN_CLASSES, described
from parity.network.keras.options import OWN_ALIGNED, OWN_CELL, Config, is_own

LAYERS: dict[str, Reader] = {
    **activation.READERS,
    **attention.READERS,
    **convolution.READERS,
    **dense.READERS,
    **merging.READERS,
    **normalization.READERS,
    **pooling.READERS,
    **recurrent.READERS,
    **shaping.READERS,
    **wrapping.READERS,
    **written.READERS,
}
"""The layers that are read, by class: those of `keras.layers`, and parity's own."""

_REMEDIES = {
    "Lambda": "say it with layers or keras.ops: the code of a Lambda is never run",
    "TFOpLambda": "build the model with Keras 3, whose operations are read",
    "SlicingOpLambda": "build the model with Keras 3, whose operations are read",
    "TensorFlowOpLayer": "build the model with Keras 3, whose operations are read",
}
_REMEDY = f"{REGISTER}; or convert the parts around it by themselves"


def reader_of(layer: Config, where: str) -> Reader:
    """How a layer or an operation is read.

    Raises:
        UnsupportedError: its class is not read.
    """
    class_name, module = str(layer.get("class_name")), str(layer.get("module"))
    registered = layer.get("registered_name")
    if operations.is_operation(layer):
        if class_name in operations.OPERATIONS:
            return operations.OPERATIONS[class_name]
        known = ", ".join(sorted(operations.OPERATIONS))
        raise UnsupportedError("this operation is not converted", where, known, class_name, "say it with these")
    if is_own(layer) and class_name in LAYERS:
        return LAYERS[class_name]
    if not module.startswith("keras.layers") or registered not in (None, class_name):
        remedy = WRITTEN if class_name in WRITTEN_CLASSES else REGISTER
        raise UnsupportedError(
            "a custom layer class is not known", where, "a class of keras.layers", described(layer), remedy
        )
    own = (OWN_ALIGNED, OWN_CELL, *WRITTEN_CLASSES)
    if class_name not in LAYERS or class_name in own:
        known = ", ".join(name for name in LAYERS if name not in own)
        remedy = _REMEDIES.get(class_name, _REMEDY)
        raise UnsupportedError("this layer class is not converted", where, known, class_name, remedy)
    return LAYERS[class_name]


__all__ = ["LAYERS", "reader_of"]
