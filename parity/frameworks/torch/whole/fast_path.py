"""torch's fast path of attention in evaluation: one fused operator, and nested tensors where a mask of padding is given."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from parity.frameworks.torch.modes import evaluating
from parity.frameworks.torch.whole.examples import Example


@contextmanager
def plain_attention() -> Iterator[None]:
    """Attention as its formula, not as the one fused operator that evaluation takes otherwise.

    Example:
        >>> with plain_attention():
        ...     torch.backends.mha.get_fastpath_enabled()
        False
    """
    backend: Any = torch.backends.mha
    kept = backend.get_fastpath_enabled()
    backend.set_fastpath_enabled(False)
    try:
        yield
    finally:
        backend.set_fastpath_enabled(kept)


def fast_path_note(module: nn.Module, example: Example) -> str:
    """What torch's fast path gives otherwise than the formula; "" where it is not taken.

    `nn.TransformerEncoder.forward` makes nested tensors of samples whose padding stands at the end, and pads with zeros afterwards.

    Args:
        module: that runs on the example.
        example: what it is called with.

    Example:
        >>> fast_path_note(nn.Linear(3, 2), Example((torch.ones(2, 3),), {}))
        ''
    """
    padded: list[str] = []

    def look(path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = kwargs.get("src_key_padding_mask", args[2] if len(args) > 2 else None)
        if given is not None and path not in padded:
            padded.append(path)

    encoders = {
        path: one
        for path, one in module.named_modules()
        if isinstance(one, nn.TransformerEncoder) and getattr(one, "use_nested_tensor", False)
    }
    hooks = [
        one.register_forward_pre_hook(lambda _, args, kwargs, path=path: look(path, args, kwargs), with_kwargs=True)
        for path, one in encoders.items()
    ]
    try:
        if hooks:
            with torch.no_grad(), evaluating(module), plain_attention(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                module(*example.args, **example.kwargs)
    finally:
        for hook in hooks:
            hook.remove()
    if not padded:
        return ""
    names = ", ".join(f"'{path}'" if path else "the model" for path in padded)
    return (
        f"the encoder ({names}) is read as its formula; without gradients, torch's fast path leaves zeros at padded places "
        "instead (torch.backends.mha.set_fastpath_enabled(False) turns it off)"
    )


__all__ = ["fast_path_note", "plain_attention"]
