"""How a suspect was handed over, where parity runs it otherwise than its owner does: the mode, and states that are carried on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from parity.network import Recurrent
from parity.sources import Opened


def notes_of_mode(reference: Opened, suspect: Opened) -> tuple[str, ...]:
    """What parity turns off when it runs a suspect, and what its owner's own calls do.

    Args:
        reference, suspect: as they were opened.
    """
    return (*_training(suspect), *_stateful(reference, suspect))


def _training(suspect: Opened) -> Iterator[str]:
    live = suspect.live
    if suspect.engine != "torch" or live is None or not hasattr(live, "modules"):
        return
    found = list(dict.fromkeys(kind for module in live.modules() if module.training and (kind := _matters(module))))
    if found:
        effects = " and ".join(found)
        what = "the module" if live.training else "a part of the module"
        yield (
            f"{suspect.label}: {what} is in training mode, and parity ran it in eval mode: {effects} when you call it yourself; "
            "call suspect.eval() before"
        )


def _matters(module: Any) -> str:
    """What a module of torch does in training and not in evaluation; "" for nothing."""
    kind = type(module).__name__
    rates = [getattr(module, name, 0.0) for name in ("p", "dropout")]
    if any(isinstance(rate, float) and rate > 0 for rate in rates) and (
        "Dropout" in kind or hasattr(module, "num_layers")
    ):
        return "dropout is on"
    if "BatchNorm" in kind:
        return "a batch normalization takes the statistics of the batch"
    return ""


def _stateful(reference: Opened, suspect: Opened) -> Iterator[str]:
    own = [layer for layer in suspect.network.recurrent if isinstance(layer, Recurrent) and layer.stateful]
    if own and not any(isinstance(layer, Recurrent) and layer.stateful for layer in reference.network.recurrent):
        names = " and ".join(f"'{layer.name}'" for layer in own)
        yield (
            f"{names} of {suspect.label} is stateful, and parity began every call with zeros: called by you it begins with what the call "
            "before left; call reset_states() before, or set stateful=False"
        )


__all__ = ["notes_of_mode"]
