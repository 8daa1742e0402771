"""Keras: open models that were saved with the classes and functions of a module that parity wrote, where nobody has imported that."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from parity.frameworks import quiet_import
from parity.frameworks.keras.layers import OPERATIONS
from parity.functions import Function
from parity.graph.operations import Activation
from parity.network import Bidirectional, Recurrent
from parity.network.keras.options import OWN_PACKAGE
from parity.network.keras.written import registered_function

with quiet_import():
    import keras

_SNIPPETS = ("gru_cell", "lengths", "limits", "lstm_cell", "parameter", "positions", "rnn_cell")


def make_known(operations: Iterable[Any]) -> None:
    """Register what written modules register, but for what somebody has registered already.

    Args:
        operations: of the network or graph that was read from the file: their functions are those that it names.

    Example:
        >>> make_known([])
        >>> keras.saving.get_registered_object("parity>Positions").__name__
        'Positions'
    """
    registry = keras.saving.get_custom_objects()
    before = dict(registry)
    modules = [importlib.import_module(f"parity.graph.keras_code.snippets.{name}") for name in _SNIPPETS]
    for module in modules:
        own = [item for item in vars(module).values() if getattr(item, "__module__", "") == module.__name__]
        registry.update({f"{OWN_PACKAGE}>{item.__name__}": item for item in own})
    registry.update(before)
    for function in _functions(operations):
        name = registered_function(function)
        if function.parameters and f"{OWN_PACKAGE}>{name}" not in registry:
            keras.saving.register_keras_serializable(OWN_PACKAGE, name)(_computing(function))


def _computing(function: Function) -> Callable[[Any], Any]:
    def compute(x: Any) -> Any:
        return OPERATIONS[function.name](x, **function.parameters)

    return compute


def _functions(operations: Iterable[Any]) -> Iterator[Function]:
    for operation in operations:
        if isinstance(operation, Activation):
            yield operation.function
        elif isinstance(operation, Bidirectional):
            yield from _functions(operation.recurrent)
        elif isinstance(operation, Recurrent):
            for cell in operation.cells:
                yield from cell.functions


__all__ = ["make_known"]
