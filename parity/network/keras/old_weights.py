"""Weights as the files of Keras 1 and 2 hold them -> arrays in the order and the shapes of Keras 3. Imports no framework.

Which gate stands where is data: `parity.layouts`. What needs no rearranging is handed on unread.

Sources: `keras/layers/recurrent.py` of Keras 1.2.2; `preprocess_weights_for_loading` and `_convert_rnn_weights` in
`keras/engine/topology.py` of Keras 2.1.6, since 2.2.3 in `keras/engine/saving.py`, in `hdf5_format.py` of tf.keras.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from parity.deferred import Array, Stored
from parity.errors import FormatError
from parity.layouts import GATES, KERAS_1, LAYOUTS, Kind
from parity.network.keras.chain import class_name_of, field
from parity.network.keras.options import KIND_OF, Config, shown
from parity.network.keras.stored import Rearranged

CUDNN_KINDS: dict[str, Kind] = {f"CuDNN{name}": kind for name, kind in KIND_OF.items() if kind != "rnn"}
"""Keras 2's layers on cuDNN alone, `keras/layers/cudnn_recurrent.py`."""

KINDS_OF_OLD: dict[str, Kind] = {**KIND_OF, **CUDNN_KINDS}


def rearranged(layer_config: Config, arrays: Sequence[Stored]) -> list[Stored]:
    """The weights of a layer that is no model, in the order and the shapes of Keras 3; see `weights_of_today`."""
    class_name, config = class_name_of(layer_config), layer_config.get("config")
    if class_name == "Bidirectional" and isinstance(config, Mapping):
        return _of_both(config, arrays)
    if class_name == "TimeDistributed" and isinstance(config, Mapping):
        return rearranged(field(config, "layer", Mapping, "TimeDistributed"), arrays)
    if class_name in KINDS_OF_OLD:
        return _of_recurrent(KINDS_OF_OLD[class_name], arrays, f"a layer of class {class_name}")
    return list(arrays)


def _of_both(config: Config, arrays: Sequence[Stored]) -> list[Stored]:
    """Forward, then backward: `preprocess_weights_for_loading` of Keras 2 halves the list, too."""
    forward: Config = field(config, "layer", Mapping, "Bidirectional")
    backward: Config = (
        field(config, "backward_layer", Mapping, "Bidirectional") if config.get("backward_layer") else forward
    )
    half = len(arrays) // 2
    if all(isinstance(layer.get("config"), Mapping) for layer in (forward, backward)):
        with_bias = [bool(layer["config"].get("use_bias", True)) for layer in (forward, backward)]
        half = half + (with_bias[0] and not with_bias[1])
    return [
        *rearranged(forward, arrays[:half]),
        *rearranged(backward, arrays[half:]),
    ]


def _of_recurrent(kind: Kind, arrays: Sequence[Stored], where: str) -> list[Stored]:
    gates = len(GATES[kind])
    if gates > 1 and len(arrays) == 3 * gates:
        return _of_keras_1(kind, arrays, where)
    if len(arrays) == 3 and kind != "rnn" and len(arrays[1].shape) == 2:
        units = arrays[1].shape[0]
        if tuple(arrays[2].shape) == (2 * gates * units,):
            return _of_cudnn(kind, arrays, where)
    return list(arrays)


def _of_keras_1(kind: Kind, arrays: Sequence[Stored], where: str) -> list[Stored]:
    """One W, U and b for each gate, in the order of `KERAS_1`: `trainable_weights` in `build` of Keras 1.2.2's LSTM and GRU.

    With `consume_less="gpu"` the file has today's three arrays already.
    """
    order = [KERAS_1[kind].gates.index(letter) for letter in LAYOUTS["keras", kind].gates]
    found: list[Stored] = []
    for member in range(3):
        parts = [arrays[3 * place + member] for place in order]
        shapes = {tuple(part.shape) for part in parts}
        if len(shapes) > 1 or not parts[0].shape:
            raise FormatError("the gates of a layer differ in shape", where, "one shape", shown(sorted(shapes)))
        shape = tuple(parts[0].shape)
        found.append(Rearranged((*shape[:-1], shape[-1] * len(parts)), parts[0].dtype, _joined(parts)))
    return found


def _joined(parts: Sequence[Stored]) -> Callable[[], Array]:
    return lambda: np.concatenate([np.asarray(part[()]) for part in parts], axis=-1)


def _of_cudnn(kind: Kind, arrays: Sequence[Stored], where: str) -> list[Stored]:
    """Weights saved by CuDNNLSTM or CuDNNGRU, as `_convert_rnn_weights` of Keras 2 turns them, but for the sum of the biases.

    The block of each gate in the kernel, (input, units), is read row by row as (units, input) and transposed; that of the recurrent
    kernel is transposed; the bias is the input's, then the recurrence's.
    """
    kernel, recurrent, bias = arrays
    gates, units = len(GATES[kind]), recurrent.shape[0]
    if tuple(recurrent.shape) != (units, gates * units) or len(kernel.shape) != 2 or kernel.shape[1] != gates * units:
        got = shown([tuple(array.shape) for array in arrays])
        expected = f"(input, {gates * units}), ({units}, {gates * units}), ({2 * gates * units},)"
        raise FormatError("these are no weights of a cuDNN layer", where, expected, got)
    inputs = kernel.shape[0]

    def turned(array: Stored, rows: int) -> Callable[[], Array]:
        return lambda: np.hstack([block.reshape(units, rows).T for block in np.hsplit(np.asarray(array[()]), gates)])

    return [
        Rearranged(tuple(kernel.shape), kernel.dtype, turned(kernel, inputs)),
        Rearranged(tuple(recurrent.shape), recurrent.dtype, turned(recurrent, units)),
        Rearranged((2, gates * units), bias.dtype, lambda: np.asarray(bias[()]).reshape(2, -1)),
    ]
