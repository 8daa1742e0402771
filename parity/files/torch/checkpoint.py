"""Which tensors of a checkpoint are the model's, and what they are called.

People save a state dict, or a dict with one in it beside the epoch and the optimizer, or several state dicts. Wrappers put a word before
every name: `nn.DataParallel` "module.", `torch.compile` "_orig_mod.".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from parity.errors import FormatError
from parity.files.torch.rebuild import SAVE_STATE, Mapped, View
from parity.layouts import CHECKPOINT_KEYS

DESCRIPTION_KEY = "parity"
"""Where parity keeps its description of the network: in the root's entry of a state dict's `_metadata`."""

_WRAPPERS = ("module.", "_orig_mod.")
_LOOSE_KEYS = ("model", "net", "network", "module", "weights", "params", "ema", "model_ema", "params_ema")
"""Other names for the model in a checkpoint, in the order of preference; followed only where no other weights stand beside it."""

_TRAINING = ("optim", "sched", "scaler", "rng_state")
_MOST_DEPTH, _MOST_ENTRIES = 16, 1_000_000


@dataclass
class Chosen:
    """The tensors of a checkpoint.

    Args:
        views: by name.
        details: what was left out, and which prefixes.
        description: what parity wrote beside them, if it did.
    """

    views: dict[str, View]
    details: dict[str, str] = field(default_factory=dict)
    description: str | None = None


def choose(found: Any) -> Chosen:
    """The state dict in what a pickle holds.

    Raises:
        FormatError: there is none; without a `where`.

    Example:
        >>> import numpy as np
        >>> from parity.files.torch.rebuild import Storage
        >>> view = View(Storage("FloatStorage", "0", 2, 0, 2), 0, (2,), (1,), np.dtype("<f4"))
        >>> chosen = choose({"epoch": 3, "model": {"module.weight": view}})
        >>> list(chosen.views), chosen.details
        (['weight'], {'taken from': 'model', 'left out': 'epoch', 'prefix': "'module.' before every name, left out"})
    """
    if not isinstance(found, dict):
        raise _nothing(type(found).__name__.strip("_"))
    holding = _holding(found)
    chosen, path, left_out = Chosen({}), list[str](), list[str]()
    for _ in range(_MOST_DEPTH):
        key = _preferred(found, holding)
        if key is None:
            break
        left_out += [".".join([*path, str(other)]) for other in found if other != key]
        path.append(key)
        found = found[key]
    if path:
        chosen.details["taken from"] = ".".join(path)
    stripped: set[str] = set()
    for names, state in _state_dicts(found, holding, left_out, ".".join(path)):
        views = {str(key): value for key, value in state.items() if isinstance(value, View)}
        prefix = _common_prefix(list(views))
        stripped |= {prefix} - {""}
        for name, view in views.items():
            full = ".".join([*names, name[len(prefix) :]])
            if full in chosen.views:
                raise FormatError("two tensors have one name", "", "unique names", full[:80], SAVE_STATE)
            chosen.views[full] = view
        chosen.description = chosen.description or _description(state)
    if not chosen.views:
        raise _nothing(", ".join(str(key)[:40] for key in list(found)[:8]) or "nothing")
    if left_out:
        more = f" and {len(left_out) - 12} more" if len(left_out) > 12 else ""
        chosen.details["left out"] = ", ".join(name[:60] for name in left_out[:12]) + more
    if stripped:
        chosen.details["prefix"] = f"{', '.join(map(repr, sorted(stripped)))} before every name, left out"
    return chosen


def _nothing(got: str) -> FormatError:
    return FormatError("it does not hold a state dict", "", "tensors by name", got, f"in torch, {SAVE_STATE}")


def _preferred(found: dict[Any, Any], holding: set[int]) -> str | None:
    """The entry that is the model among others; None where the dict itself is it, or all of its dicts are."""
    if any(isinstance(value, View) for value in found.values()):
        return None
    held = [key for key, value in found.items() if _is_weights(key, value, holding)]
    named = [key for key in (*CHECKPOINT_KEYS, *_LOOSE_KEYS) if key in held]
    sure = [key for key in named if key in CHECKPOINT_KEYS]
    if sure:
        return sure[0]
    return named[0] if named and len(named) == len(held) else None


def _is_weights(key: object, value: object, holding: set[int]) -> bool:
    if not isinstance(value, dict) or "param_groups" in value:
        return False
    return id(value) in holding and not any(word in str(key).lower() for word in _TRAINING)


def _holding(found: dict[Any, Any]) -> set[int]:
    """The dicts in a dict, itself among them, in which a tensor stands, however deep; by `id`, for one may stand in many places."""
    above: dict[int, list[int]] = {id(found): []}
    pending, holding = [found], list[int]()
    while pending:
        current = pending.pop()
        for item in current.values():
            if isinstance(item, dict):
                if id(item) not in above:
                    above[id(item)] = []
                    pending.append(item)
                above[id(item)].append(id(current))
        if any(isinstance(item, View) for item in current.values()):
            holding.append(id(current))
    known = set(holding)
    while holding:
        for upper in above[holding.pop()]:
            if upper not in known:
                known.add(upper)
                holding.append(upper)
    return known


def _state_dicts(
    found: dict[Any, Any], holding: set[int], left_out: list[str], above: str
) -> Iterator[tuple[list[str], dict[Any, Any]]]:
    """The dicts that hold tensors, each with the keys on the way to it, in order; what holds none is said to be left out."""
    pending: list[tuple[list[str], dict[Any, Any]]] = [([], found)]
    seen = 0
    while pending:
        names, current = pending.pop()
        seen += 1 + len(current)
        if seen > _MOST_ENTRIES:
            raise FormatError("dicts without end in it", "", f"at most {_MOST_ENTRIES} entries", "more", SAVE_STATE)
        deeper = []
        for key, value in current.items():
            if len(names) < _MOST_DEPTH and _is_weights(key, value, holding):
                deeper.append(([*names, str(key)], value))
            elif not isinstance(value, View):
                left_out.append(".".join([*([above] if above else []), *names, str(key)]))
        pending += reversed(deeper)
        if any(isinstance(value, View) for value in current.values()):
            yield names, current


def _common_prefix(names: list[str]) -> str:
    prefix, more = "", True
    while more and names:
        more = False
        for wrapper in _WRAPPERS:
            if all(name.startswith(prefix + wrapper) and name != prefix + wrapper for name in names):
                prefix, more = prefix + wrapper, True
    return prefix


def _description(state: dict[Any, Any]) -> str | None:
    metadata = state.metadata if isinstance(state, Mapped) else None
    root = metadata.get("") if isinstance(metadata, dict) else None
    text = root.get(DESCRIPTION_KEY) if isinstance(root, dict) else None
    return text if isinstance(text, str) else None
