"""How torch computes while parity runs a module: where, in which mode, with how exact products."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn

from parity.errors import MissingFrameworkError
from parity.frameworks import Settings


def check_device(settings: Settings) -> None:
    """Refuse a device that is not there.

    Raises:
        MissingFrameworkError: device "cuda" where torch sees none.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise MissingFrameworkError(
            "the engine 'torch' has no CUDA device",
            expected="an NVIDIA GPU, its driver, and a CUDA build of torch",
            got=f"torch {torch.__version__}, torch.cuda.is_available() is False",
            remedy="use device='cpu', or install the CUDA build from pytorch.org on a machine with a GPU",
        )


@contextmanager
def quiet() -> Iterator[None]:
    """torch says once that its fast kernel does not take projections; the one it takes instead is as exact."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "LSTM with projections is not supported with oneDNN", UserWarning)
        yield


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Dropout is inert in evaluation only; the module keeps the mode in which its owner left it.

    That of an exported program, `torch.export.load(path).module()`, stands in its operators and cannot be changed.
    """
    modes = [(inner, inner.training) for inner in module.modules()]
    with suppress(NotImplementedError):  # what eval() of an exported program raises
        module.eval()
    try:
        yield
    finally:
        for inner, training in modes:
            inner.training = training


@contextmanager
def products(tf32: bool) -> Iterator[None]:
    """float32 products in float32: 'medium' precision turns them into bfloat16 even on a CPU, and cuDNN takes TF32 by default.

    torch has had two ways to say so and refuses the older one once the newer was used; the newer is taken where it is there.
    """
    on_cuda = "tf32" if tf32 else "ieee"
    backends: Any = torch.backends
    if hasattr(backends, "fp32_precision"):
        wanted: list[tuple[Any, str, Any]] = [
            *((part, "fp32_precision", on_cuda) for part in (backends.cuda.matmul, backends.cudnn.rnn)),
            *((part, "fp32_precision", "ieee") for part in (backends.mkldnn.matmul, backends.mkldnn.rnn)),
        ]
    else:
        wanted = [(part, "allow_tf32", tf32) for part in (backends.cuda.matmul, backends.cudnn)]
    kept = [(part, name, getattr(part, name)) for part, name, _ in wanted]
    for part, name, value in wanted:
        setattr(part, name, value)
    try:
        yield
    finally:
        for part, name, value in kept:
            setattr(part, name, value)


__all__ = ["check_device", "evaluating", "products", "quiet"]
