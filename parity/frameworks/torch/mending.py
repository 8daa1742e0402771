"""PyTorch: copies of live modules, and the expressions by which code reaches their recurrent weights."""

from __future__ import annotations

import copy
import keyword
from typing import Any

import torch
from torch import nn

from parity.errors import ParityError
from parity.frameworks.torch.tensors import units
from parity.transferring.units import Unit


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
    for part in path.split(".") if path else ():
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


__all__ = ["addressed", "copied", "expression", "keeps_shape"]
