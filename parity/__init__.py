"""Move LSTM/GRU models between Keras, PyTorch and ONNX, and prove that they still compute the same.

    read(source)                  a path or live object -> Network
    to_torch, to_keras, to_onnx   convert a path or live object
    form_of(converted)            native or composed, and why -> Form
    convert(source, target)       convert a file to a file, by suffix
    transfer(source, target)      weights into a live model of your own -> Transfer
    run(source, inputs, engine)   run it in one engine -> Result
    register(class_name, ...)     what a layer of your own computes
    compare(*sources)             run it in every engine and judge -> Comparison
    assert_parity(*sources)       the same, for tests
    diagnose(reference, suspect)  why a suspect does not agree -> Diagnosis
    explain(source)               what every engine returns for a layer -> Returns

Importing parity imports no framework; each name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from parity.comparison import Comparison, compare
    from parity.conversion import convert
    from parity.diagnosis import Diagnosis, diagnose
    from parity.errors import FormatError, MissingFrameworkError, ParityError, ShapeError, UnsupportedError
    from parity.forms import Form
    from parity.graph.custom import register
    from parity.network import Network
    from parity.result import Result
    from parity.returns import Returns
    from parity.running import run
    from parity.sources import explain, form_of, read, to_keras, to_onnx, to_torch
    from parity.testing import assert_parity
    from parity.transferring import Transfer, transfer

__version__ = "0.1.0"

_HOMES = {
    "Comparison": "comparison",
    "Diagnosis": "diagnosis",
    "Form": "forms",
    "FormatError": "errors",
    "MissingFrameworkError": "errors",
    "Network": "network",
    "ParityError": "errors",
    "Result": "result",
    "Returns": "returns",
    "ShapeError": "errors",
    "Transfer": "transferring",
    "UnsupportedError": "errors",
    "assert_parity": "testing",
    "compare": "comparison",
    "convert": "conversion",
    "diagnose": "diagnosis",
    "explain": "sources",
    "form_of": "sources",
    "read": "sources",
    "register": "graph.custom",
    "run": "running",
    "to_keras": "sources",
    "to_onnx": "sources",
    "to_torch": "sources",
    "transfer": "transferring",
}

__all__ = [
    "Comparison",
    "Diagnosis",
    "Form",
    "FormatError",
    "MissingFrameworkError",
    "Network",
    "ParityError",
    "Result",
    "Returns",
    "ShapeError",
    "Transfer",
    "UnsupportedError",
    "assert_parity",
    "compare",
    "convert",
    "diagnose",
    "explain",
    "form_of",
    "read",
    "register",
    "run",
    "to_keras",
    "to_onnx",
    "to_torch",
    "transfer",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'parity' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"parity.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
