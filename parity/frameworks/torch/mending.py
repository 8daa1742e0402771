"""PyTorch: copies of live modules, and the expressions by which code reaches their recurrent weights."""

from __future__ import annotations

import copy
import keyword
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from parity.errors import ParityError
from parity.frameworks.attributes import attribute_lines
from parity.frameworks.torch.tensors import units
from parity.functions import Function
from parity.graph.calls import Layered
from parity.graph.operations import Activation, Softmax
from parity.network import Dense
from parity.transferring.units import Unit

_OPTIONS = {
    "epsilon": ("eps", "epsilon"),
    "groups": ("num_groups", "groups"),
    "strides": ("stride", "strides"),
    "dilations": ("dilation", "dilations"),
    "padding in the mean": ("count_include_pad", "counts_padding"),
}
"""What modules call an option, and what the graph's operations call it."""

_ACTIVATIONS = {
    "affine": "Identity", "relu": "ReLU", "leaky_relu": "LeakyReLU", "elu": "ELU", "gelu": "GELU", "silu": "SiLU",
    "hard_silu": "Hardswish", "sigmoid": "Sigmoid", "hard_sigmoid": "Hardsigmoid", "tanh": "Tanh", "hard_tanh": "Hardtanh",
    "relu6": "ReLU6", "selu": "SELU", "softplus": "Softplus", "softsign": "Softsign", "mish": "Mish",
}  # fmt: skip
"""Modules by the function that they compute."""

_PLAIN = (*(getattr(nn, name) for name in _ACTIVATIONS.values()), nn.Softmax, nn.LogSoftmax)


def copied(live: nn.Module) -> nn.Module:
    """A module of its own with the same numbers.

    Raises:
        ParityError: one that Python cannot copy.
    """
    try:
        return copy.deepcopy(live)
    except (RuntimeError, TypeError) as error:
        remedy = "run the lines of diagnosis.repair on the module itself"
        where, got = type(live).__name__, str(error).strip().split("\n")[0]
        raise ParityError("the module cannot be copied", where, "copy.deepcopy(module)", got, remedy) from error


def addressed(live: nn.Module, root: str = "suspect") -> list[tuple[Unit, dict[str, str]]]:
    """Every recurrent layer with the expressions of its tensors, by their names.

    Example:
        >>> (unit, tensors), = addressed(nn.Sequential(nn.Linear(3, 4), nn.GRU(4, 5)))
        >>> unit.name, tensors["1.weight_hh_l0"]
        ('1', 'suspect[1].weight_hh_l0')
    """
    found = [unit for unit in units(live) if unit.spec is not None]
    return [(unit, {leaf.name: expression(live, leaf.name, root) for leaf in unit.leaves}) for unit in found]


def expression(live: nn.Module, path: str, root: str = "suspect") -> str:
    """Python for what stands at a path of a module.

    Example:
        >>> expression(nn.LSTM(3, 5), "weight_hh_l0")
        'suspect.weight_hh_l0'
    """
    found: object = live
    words = root
    for part in at(path).split(".") if path else ():
        numbered = isinstance(found, (nn.Sequential, nn.ModuleList)) and list(found._modules) == [
            str(number) for number in range(len(found))
        ]
        if numbered and part.isdecimal():
            words += f"[{part}]"
        elif part.isidentifier() and not keyword.iskeyword(part):
            words += f".{part}"
        else:
            words = f"getattr({words}, {part!r})"
        found = getattr(found, part)
    return words


def option_lines(live: nn.Module, source: str, option: str, right: Layered, root: str = "suspect") -> list[str]:
    """Lines that set an option of a module to what the right model has; none where no module has it.

    Args:
        live: the suspect.
        source: the module's path.
        option: in canonical terms.
        right: the operation of the right model.
        root: Python for the suspect.

    Example:
        >>> from parity.graph.operations import LayerNormalization
        >>> option_lines(nn.Sequential(nn.LayerNorm(3)), "0", "epsilon", LayerNormalization("norm", None, None, epsilon=1e-3))
        ['suspect[0].eps = 0.001']
    """
    module = _module(live, source)
    words = "" if module is None else expression(live, source, root)
    return attribute_lines(words, module, _OPTIONS, option, right)


def holder_of(live: nn.Module, source: str, member: str, root: str = "suspect") -> str:
    """Python for the tensor of a module that is no recurrent one; "" where it has none.

    Args:
        live: the suspect.
        source: the module's path.
        member: "kernel" or "table".
        root: Python for the suspect.

    Example:
        >>> holder_of(nn.Sequential(nn.Conv1d(3, 4, 2)), "0", "kernel")
        'suspect[0].weight'
    """
    module = _module(live, source)
    plain = {"kernel": (nn.Conv1d, nn.Conv2d, nn.Linear), "table": (nn.Embedding,)}
    return f"{expression(live, source, root)}.weight" if isinstance(module, plain[member]) else ""


def activation_lines(
    live: nn.Module, source: str, behind: Sequence[str], right: Layered | None, root: str = "suspect"
) -> list[str]:
    """Lines that put the right activation behind a module; none where the suspect's own code calls another one.

    Args:
        live: the suspect.
        source: the path of the module that it stands behind.
        behind: paths of what stands there now.
        right: the activation, or a dense layer that has it; None for none.
        root: Python for the suspect.
    """
    made = _activation(right)
    modules = list(dict.fromkeys(at(path) for path in behind if isinstance(_module(live, path), _PLAIN)))
    if not made or len(modules) > 1:
        return []
    if modules:
        return [f"{expression(live, modules[0], root)} = {made}"]
    inner = expression(live, source, root)
    return (
        []
        if behind or not source or _module(live, source) is None
        else [f"{inner} = torch.nn.Sequential({inner}, {made})"]
    )


def _activation(right: Layered | None) -> str:
    """A module as code; "" for what torch has no module for."""
    if isinstance(right, Dense):
        right = Softmax("softmax") if right.activation == "softmax" else Activation("it", Function(right.activation))
    if isinstance(right, Softmax):
        return f"torch.nn.{'LogSoftmax' if right.log else 'Softmax'}(dim={right.axis})"
    function = right.function if isinstance(right, Activation) else Function("affine", 1.0, 0.0)
    usual = {"affine": (1.0, 0.0), "hard_sigmoid": (1 / 6, 0.5)}
    given = tuple(function.parameters.values())
    if function.name not in _ACTIVATIONS or given != usual.get(function.name, given):
        return ""
    given = () if function.name in usual else tuple(float(f"{value:.7g}") for value in given)
    return f"torch.nn.{_ACTIVATIONS[function.name]}({', '.join(map(repr, given))})"


def at(path: str) -> str:
    """The path of a module of which a trace names a later call: that with "@1" is the second one.

    Example:
        >>> at("encoder.norm@1")
        'encoder.norm'
    """
    return path.partition("@")[0]


def _module(live: nn.Module, path: str) -> nn.Module | None:
    """What stands at a path; None where nothing does."""
    path = at(path)
    found = dict(live.named_modules(remove_duplicate=False))
    return found.get(path) if path else None


def in_float32(live: nn.Module, root: str = "suspect") -> list[str]:
    """Lines that let a module compute in float32; none where it does."""
    short = any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in live.parameters())
    return [f"{root} = {root}.float()"] if short else []


def keeps_shape(lines: str, name: str) -> bool:
    """Whether lines of parity's own leave a sequence (batch, time, features) in its shape.

    Args:
        lines: that change it.
        name: what they call it.

    Example:
        >>> keeps_shape("x = x.flip(1)", "x"), keeps_shape("y = y[:, -1]", "y")
        (True, False)
    """
    names: dict[str, Any] = {"torch": torch, name: torch.ones(2, 3, 4)}
    try:
        exec(lines, names)
    except (RuntimeError, NameError, IndexError, TypeError, AttributeError):
        return False
    return tuple(names[name].shape) == (2, 3, 4)


__all__ = [
    "activation_lines",
    "addressed",
    "copied",
    "expression",
    "holder_of",
    "in_float32",
    "keeps_shape",
    "option_lines",
]
