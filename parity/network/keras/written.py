"""The functions of modules that parity writes for Keras: registered under a name that says what they compute. Imports no framework.

A saved model names its functions and does not hold them; so the name has the parameters: "parity>hard_sigmoid(0.2, 0.5)".
"""

from __future__ import annotations

import math
import re

from parity.functions import FUNCTIONS, Function, function_from_keras
from parity.network.keras.options import OWN_PACKAGE

_NUMBER = r"[-+]?[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?"
_REGISTERED = re.compile(rf"{OWN_PACKAGE}>(\w{{1,40}})\(({_NUMBER}(?:, {_NUMBER})?)\)", re.ASCII)


def registered_function(function: Function) -> str:
    """The name under which a module registers a function with parameters, in the package of parity.

    Example:
        >>> registered_function(Function("hard_sigmoid", 0.2, 0.5))
        'hard_sigmoid(0.2, 0.5)'
    """
    return f"{function.name}({', '.join(repr(float(value)) for value in function.parameters.values())})"


def function_of(name: str | None, hard_sigmoid_of_keras_2: bool = False) -> Function:
    """An activation of a configuration: one of `keras.activations`, or one of a module that parity has written.

    Args:
        name: as Keras serializes it; None is linear.
        hard_sigmoid_of_keras_2: as for `function_from_keras`.

    Raises:
        UnsupportedError: neither.

    Example:
        >>> str(function_of("parity>hard_sigmoid(0.2, 0.5)")), str(function_of("tanh"))
        ('hard_sigmoid(alpha=0.2, beta=0.5)', 'tanh')
    """
    found = _REGISTERED.fullmatch(name) if isinstance(name, str) and len(name) < 120 else None
    row = FUNCTIONS.get(found[1]) if found else None
    if found is None or row is None:
        return function_from_keras(name, hard_sigmoid_of_keras_2)
    numbers = [float(word) for word in found[2].split(", ")]
    has = [usual is not None for usual in (row.alpha, row.beta)]
    if sum(has) != len(numbers) or not all(map(math.isfinite, numbers)):
        return function_from_keras(name, hard_sigmoid_of_keras_2)
    rest = iter(numbers)
    return Function(found[1], *(next(rest) if given else None for given in has))


__all__ = ["function_of", "registered_function"]
