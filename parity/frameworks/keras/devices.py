"""Where Keras computes while parity runs a layer or a model."""

from __future__ import annotations

import importlib
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from parity.errors import MissingFrameworkError
from parity.frameworks import Settings, quiet_import

with quiet_import():
    import keras


def check_device(settings: Settings) -> None:
    """Refuse a device that is not there.

    Raises:
        MissingFrameworkError: device "cuda" where the backend sees none.
    """
    if settings.device == "cuda" and not _has_gpu():
        raise MissingFrameworkError(
            "the engine 'keras' has no CUDA device",
            expected="an NVIDIA GPU, its driver, and a CUDA build of the backend",
            got=f"keras {keras.__version__} on {keras.backend.backend()} without a GPU",
            remedy="use device='cpu', or install tensorflow[and-cuda] on a machine with a GPU",
        )


def _has_gpu() -> bool:
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return bool(importlib.import_module("tensorflow").config.list_physical_devices("GPU"))
    if backend == "torch":
        return bool(importlib.import_module("torch").cuda.is_available())
    return any(device.platform == "gpu" for device in importlib.import_module("jax").devices())


def device_of(settings: Settings) -> AbstractContextManager[Any]:
    """The device of the settings, to be entered; on a GPU, TensorFlow takes TF32 for float32 products only if it may."""
    if settings.device == "cpu":
        return nullcontext()
    if keras.backend.backend() == "tensorflow":
        tensorflow = importlib.import_module("tensorflow")
        tensorflow.config.experimental.enable_tensor_float_32_execution(settings.tf32)
    device: AbstractContextManager[Any] = keras.device("gpu:0")
    return device


__all__ = ["check_device", "device_of"]
