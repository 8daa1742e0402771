"""Names for the operations of a graph, from those that exporters give to nodes and weights."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WEIGHT = re.compile(
    r"[./](weight|bias|kernel|gamma|beta|embeddings|scale|recurrent_kernel|running_mean|running_var|moving_mean|"
    r"moving_variance|(weight|bias)_(ih|hh)(_l\d+)?(_reverse)?)(:0)?$"
)
"""How the names of a layer's weights end in torch and in Keras."""

_NOISE = {"", "StatefulPartitionedCall", "PartitionedCall"}


def layer_name(node: str, operator: str, weights: Sequence[str], usual: str) -> str:
    """The name of a layer with weights: that in front of its weights' names, else its node's path, else a usual name.

    Example:
        >>> layer_name("/encoder/lstm/LSTM", "LSTM", ["onnx::LSTM_12"], "lstm")
        'encoder.lstm'
        >>> layer_name("Gemm_3", "Gemm", ["head.0.weight", "head.0.bias"], "dense")
        'head.0'
        >>> layer_name("Gemm_3", "Gemm", ["onnx::1"], "dense")
        'dense'
    """
    prefixes = {match.string[: match.start()] for name in weights if (match := _WEIGHT.search(name))}
    if len(prefixes) == 1:
        return _clean(prefixes.pop()) or usual
    return _clean(_path(node, operator)) or usual


def step_name(node: str, operator: str, usual: str) -> str:
    """The name of an operation without weights: what it is, behind the path of the module that it stands in.

    Example:
        >>> step_name("/encoder/act/Relu_1", "Relu", "relu"), step_name("Relu_1", "Relu", "relu")
        ('encoder.act.relu', 'relu')
    """
    path = _clean(_path(node, operator)) if "/" in node else ""
    return f"{path}.{usual}" if path else usual


def _path(node: str, operator: str) -> str:
    """A node's name without its last part where that only repeats the operator."""
    parts = [part for part in node.split("/") if part not in _NOISE]
    word = re.compile(rf"(node_)?{re.escape(operator)}(_?\d+)?(__\d+)?", re.IGNORECASE)
    if parts and word.fullmatch(parts[-1]):
        parts.pop()
    return "/".join(parts)


def _clean(path: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "_", path.replace("/", ".").replace("::", ".")).strip("._")
