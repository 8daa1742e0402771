"""Code around a torch module, changed from outside: a module that calls it on other inputs, or hands other outputs on."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence

from parity.diagnosis.repair import CallRepair
from parity.diagnosis.repairs.slots import Tensors

_KNOWN = {"x", "y", "torch"}
_HEAD = """import torch

class Mended(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, *rest):
"""


def wrapped(repairs: Sequence[CallRepair], own: Tensors | None, keeps_shape: Callable[[str, str], bool]) -> str:
    """A module around one of the suspect's, as source code; "" where the suspect's own code has to be edited.

    Args:
        repairs: of one layer's inputs and outputs, in order; of the whole model where its name is "".
        own: the layer's tensors.
        keeps_shape: whether lines leave the shape of "x" or "y" as it is: what follows in the suspect's code goes on taking it.
    """
    whole = all(not one.layer for one in repairs)
    target = "suspect" if whole else _module(own)
    names = {"input": "x", "output": "y"}
    if not target or not all(_plain(one) and keeps_shape(one.torch, names[one.at]) for one in repairs):
        return ""
    before = [line for one in repairs if one.at == "input" for line in one.torch.splitlines()]
    after = [line for one in repairs if one.at == "output" for line in one.torch.splitlines()]
    call, back = ("y", "y") if whole else ("y, states", "y, states")
    lines = [*before, f"{call} = self.inner(x, *rest)", *after, f"return {back}"]
    return _HEAD + "".join(f"        {line}\n" for line in lines) + f"\n\n{target} = Mended({target})"


def _module(own: Tensors | None) -> str:
    """The module of a layer, where it is the only layer of one that takes the batch first."""
    if own is None or not own.context.get("batch_first"):
        return ""
    one = all(holder.removesuffix("_reverse").endswith("_l0") for holder in own.holders.values())
    owner = own.owner(0)
    return owner if one and owner != "suspect" else ""


def _plain(repair: CallRepair) -> bool:
    """Whether its lines are about what goes in or what comes out alone, and say all of it."""
    if repair.at not in ("input", "output") or not repair.torch or "#" in repair.torch:
        return False
    names = [node for node in ast.walk(ast.parse(repair.torch)) if isinstance(node, ast.Name)]
    made = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    taken = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    return taken <= _KNOWN | made and taken & {"x", "y"} <= {"x" if repair.at == "input" else "y"}


__all__ = ["wrapped"]
