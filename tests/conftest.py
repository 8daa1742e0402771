"""Quiet frameworks with one thread each, and the sources most tests need."""

from __future__ import annotations

import gc
import importlib
import os
from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)

# What CI runs is the same for the same code; new examples are drawn wherever people run the tests.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


LONG = (
    "test_gallery.py",
    "test_pytest_plugin.py",
    "test_mutate.py",
    "test_readme.py",
    "test_page_browser.py",
    "test_whole_models.py",
    "test_scripts.py",
    "test_fuzz.py",
    "test_help.py",
    "test_custom_files.py",
    "test_backends.py",
    "test_worker.py",
)
"""Files that take long: begun first, for else one process would be left with one of them in the end, and the others idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files keep their order but for those of `LONG`."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


def pytest_collection_finish() -> None:
    """What three frameworks made when they were imported is not searched for garbage again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def random() -> np.random.Generator:
    """The same numbers in every run."""
    return np.random.default_rng(20)


@pytest.fixture
def keras_in_float64() -> Iterator[None]:
    """Layers of Keras that are made in a test compute in float64."""
    keras = importlib.import_module("keras")
    floats, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(floats)
    keras.config.set_dtype_policy(policy)
