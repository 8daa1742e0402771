"""Recurrent cells of TensorFlow 1, recognised by the names of their variables: described, not computed, and what their files do not say.

Sources: `tensorflow/python/ops/rnn_cell_impl.py`, `tensorflow/contrib/rnn/python/ops/lstm_ops.py`,
`tensorflow/contrib/cudnn_rnn/python/{layers/cudnn_rnn,ops/cudnn_rnn_ops}.py` of TensorFlow 1.15.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from parity.errors import Problem
from parity.files.stored import Stored
from parity.network.opaque import Opaque


@dataclass(frozen=True)
class _Kind:
    """A class of cells.

    Args:
        scopes: pattern of the last part of its variables' scope.
        class_name: in TensorFlow 1.
        gates: blocks of columns of its kernel, in TensorFlow's words and order; none for what is packed by cuDNN.
        missing: what the file does not say.
        remedy: the nearest exact way.
    """

    scopes: str
    class_name: str
    gates: tuple[str, ...]
    missing: str
    remedy: str


_LSTM = ("input gate", "new input", "forget gate", "output gate")
_SPLIT = "its kernel is [input rows; state rows]: the first input_size rows are Keras's kernel, the others its recurrent_kernel"
_REORDER = f"{_SPLIT}, with the columns ({', '.join(_LSTM)}) put in the order of keras.layers.LSTM"
_ADD = "add forget_bias to the forget gate's part of the bias"

_KINDS = (
    _Kind(
        r"cudnn_compatible_lstm_cell",
        "CudnnCompatibleLSTMCell",
        _LSTM,
        "nothing is missing in the file (forget_bias is 0 for this class); parity does not read its layout",
        f"build keras.layers.LSTM(units) and set its weights: {_REORDER}",
    ),
    _Kind(
        r"(basic_)?lstm_cell|BasicLSTMCell|LSTMCell|lstm_block_cell|lstm_block_wrapper|lstm_fused_cell|lstm_block_fused_cell",
        "BasicLSTMCell or LSTMCell",
        _LSTM,
        "forget_bias is added when the cell runs and does not stand in the file (1.0 unless the program says otherwise), "
        "nor does the activation (tanh unless it says otherwise) or a clipping of the cell",
        f"look up forget_bias in the program, then build keras.layers.LSTM(units) and set its weights: {_REORDER}; {_ADD}",
    ),
    _Kind(
        r"layer_norm_basic_lstm_cell",
        "LayerNormBasicLSTMCell",
        _LSTM,
        "it normalises every gate, and forget_bias does not stand in the file",
        "no layer of Keras, torch or ONNX does so: write the cell by hand",
    ),
    _Kind(
        r"basic_rnn_cell|BasicRNNCell",
        "BasicRNNCell",
        ("new state",),
        "the activation does not stand in the file (tanh unless the program says otherwise)",
        f"build keras.layers.SimpleRNN(units) and set its weights: {_SPLIT}",
    ),
)

_GRU = _Kind(
    r"(cudnn_compatible_)?gru_cell|GRUCell|gru_block_cell(_v2)?",
    "GRUCell",
    ("reset gate", "update gate"),
    "the activation does not stand in the file (tanh unless the program says otherwise)",
    f"build keras.layers.GRU(units, reset_after=False) and set its weights: {_SPLIT}, "
    "for the gates (reset, update) and the candidate each, with "
    "the columns put in the order of keras.layers.GRU",
)
_CUDNN_GRU = "its candidate has two kernels, as with reset_after=True"
_PACKED = re.compile(r"opaque_kernel(_\d+)?|cudnn_rnn_opaque_params|opaque_params")
_SUBSCOPES = ("Linear", "projection", "gates", "Gates", "candidate", "Candidate")
_KERNELS, _BIASES = ("kernel", "weights", "Linear/Matrix"), ("bias", "biases", "Linear/Bias")
_GATES = ("gates/kernel", "gates/weights", "Gates/Linear/Matrix")
_EXTRAS = {"peepholes": ("w_f_diag", "wcf"), "projection": ("projection/kernel",)}


def cells(tensors: Mapping[str, Stored]) -> tuple[tuple[Opaque, ...], tuple[Problem, ...], frozenset[str]]:
    """The cells of TensorFlow 1 among named tensors.

    Returns:
        The cells, what is missing for each, and the names of the tensors that belong to them.

    Example:
        >>> import numpy as np
        >>> found, problems, names = cells({"rnn/basic_lstm_cell/kernel": np.ones((8, 20)), "rnn/basic_lstm_cell/bias": np.ones(20)})
        >>> found[0].facts["input_size"], found[0].facts["units"]
        (3, 5)
    """
    scopes: dict[str, dict[str, Stored]] = {}
    for name, tensor in tensors.items():
        scope, own = _place(name)
        scopes.setdefault(scope, {})[own] = tensor
    found: list[Opaque] = []
    problems: list[Problem] = []
    used: set[str] = set()
    for scope, parts in scopes.items():
        cell = _gru(scope, parts) or _cell(scope, parts) or _packed(scope, parts)
        if cell is not None:
            found.append(cell[0])
            problems.append(cell[1])
            used |= {f"{scope}/{name}".lstrip("/") for name in cell[0].tensors}
    return tuple(found), tuple(problems), frozenset(used)


def _place(name: str) -> tuple[str, str]:
    """The scope of a cell, and the name of a variable in it."""
    parts = name.split("/")
    end = len(parts) - 1
    while end > 0 and parts[end - 1] in _SUBSCOPES:
        end -= 1
    return "/".join(parts[:end]), "/".join(parts[end:])


def _matches(kind: _Kind, scope: str) -> bool:
    return re.fullmatch(rf"(?:{kind.scopes})(_\d+)?", scope.rpartition("/")[2]) is not None


def _first(parts: Mapping[str, Stored], names: Sequence[str]) -> Stored | None:
    return next((parts[name] for name in names if name in parts), None)


def _cell(scope: str, parts: Mapping[str, Stored]) -> tuple[Opaque, Problem] | None:
    """A cell whose kernel has a block of columns for each gate."""
    kind = next((kind for kind in _KINDS if _matches(kind, scope)), None)
    kernel, bias, projection = (_first(parts, names) for names in (_KERNELS, _BIASES, _EXTRAS["projection"]))
    if kind is None or kernel is None or len(kernel.shape) != 2 or "recurrent_kernel" in parts:
        return None
    rows, columns = kernel.shape
    units = columns // len(kind.gates)
    state = projection.shape[1] if projection is not None and len(projection.shape) == 2 else units
    if columns % len(kind.gates) or not 0 < state < rows or (bias is not None and bias.shape != (columns,)):
        return None
    more = [word for word, names in _EXTRAS.items() if _first(parts, names) is not None]
    facts: dict[str, object] = {
        "input_size": rows - state,
        "units": units,
        "gates in the kernel": ", ".join(kind.gates),
    }
    facts |= dict.fromkeys(more, True)
    where = f"cell '{scope}', {kind.class_name}, input_size {rows - state}, units {units}"
    remedy = kind.remedy if not more else f"Keras has no {' and no '.join(more)}: write the cell by hand"
    return Opaque(scope, kind.class_name, parts, facts), _problem(where, kind.missing, remedy)


def _gru(scope: str, parts: Mapping[str, Stored]) -> tuple[Opaque, Problem] | None:
    """A GRU cell keeps its two gates and its candidate in scopes of their own."""
    kernel = _first(parts, _GATES)
    if kernel is None or len(kernel.shape) != 2 or not _matches(_GRU, scope):
        return None
    rows, units = kernel.shape[0], kernel.shape[1] // 2
    if kernel.shape[1] % 2 or rows <= units:
        return None
    facts: dict[str, object] = {
        "input_size": rows - units,
        "units": units,
        "gates in the kernel": ", ".join(_GRU.gates),
    }
    compatible = scope.rpartition("/")[2].startswith("cudnn")
    name = "CudnnCompatibleGRUCell" if compatible else _GRU.class_name
    where = f"cell '{scope}', {name}, input_size {rows - units}, units {units}"
    remedy = f"{_CUDNN_GRU}: build keras.layers.GRU(units) and set its weights by hand" if compatible else _GRU.remedy
    return Opaque(scope, name, parts, facts), _problem(where, _GRU.missing, remedy)


def _packed(scope: str, parts: Mapping[str, Stored]) -> tuple[Opaque, Problem] | None:
    """The parameters of a cuDNN layer in one vector, whose order only cuDNN knows."""
    packed = {name: tensor for name, tensor in parts.items() if _PACKED.fullmatch(name) and len(tensor.shape) == 1}
    if not packed:
        return None
    count = sum(tensor.shape[0] for tensor in packed.values())
    missing = "all weights stand in one vector in the order of the cuDNN that wrote it; kind, sizes and layers do not stand in the file"
    remedy = (
        "restore it in TensorFlow 1.15 with tf.contrib.cudnn_rnn.CudnnLSTM on a GPU and save it again: its saver writes a "
        "cudnn_compatible_lstm_cell for each layer"
    )
    opaque = Opaque(scope, "CudnnLSTM or CudnnGRU", packed, {"numbers": count})
    return opaque, _problem(f"'{scope}', CudnnLSTM or CudnnGRU, {count} numbers", missing, remedy)


def _problem(where: str, missing: str, remedy: str) -> Problem:
    return Problem(
        "a recurrent cell of TensorFlow 1 is not converted", where, "every option of it in the file", missing, remedy
    )
