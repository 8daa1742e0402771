"""What parity raises: every message says what, where, expected, got and the remedy, all problems at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

Made = TypeVar("Made")

REGISTER = (
    "parity.register says what it computes; on the command line, in a file of yours that is run: --custom FILE.py"
)
"""The remedy for a layer of a class that is not known."""

REFUSED = "refused"
"""The word for what could not be done at all, beside the verdicts agree, disagree and undecided."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, in the words of the person who has to mend it.

    Example:
        >>> print(Problem("kernel has the wrong shape", where="layer 'lstm'", expected="(5, 16)", got="(5, 15)"))
        kernel has the wrong shape
          where:    layer 'lstm'
          expected: (5, 16)
          got:      (5, 15)
    """

    what: str
    where: str = ""
    expected: str = ""
    got: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        facts = (("where", self.where), ("expected", self.expected), ("got", self.got), ("remedy", self.remedy))
        return "\n".join([self.what, *(f"  {name + ':':<9} {text}" for name, text in facts if text)])


class ParityError(Exception):
    """Base of every error parity raises on purpose; `problems` holds all that was found.

    Example:
        >>> try:
        ...     raise ParityError("the file is empty", where="model.keras")
        ... except ParityError as error:
        ...     print(error.problems[0].where)
        model.keras
    """

    def __init__(
        self, what: str | Sequence[Problem], where: str = "", expected: str = "", got: str = "", remedy: str = ""
    ) -> None:
        self.problems: tuple[Problem, ...] = (
            (Problem(what, where, expected, got, remedy),) if isinstance(what, str) else tuple(what)
        )
        super().__init__("\n".join(map(str, self.problems)))


class UnsupportedError(ParityError):
    """Something that cannot be kept exactly: says what, where, and the nearest exact way."""


class FormatError(ParityError):
    """A file that is not what it claims to be."""


class ShapeError(ParityError):
    """Arrays whose sizes do not fit the model or each other."""


class EngineError(ParityError):
    """An engine that raised an error of its own, or whose process ended: says what it said last."""


class MissingFrameworkError(ParityError):
    """A framework or device that is needed and not there: says the pip extra or driver to install."""


def each(makes: Sequence[Callable[[], Made]]) -> list[Made]:
    """What each of these gives; where some are refused, the problems of all at once.

    Args:
        makes: called in their order, each of them also where one before it is refused.

    Raises:
        ParityError: as the error of the first that is refused.

    Example:
        >>> each([lambda: 1, lambda: 2])
        [1, 2]
    """
    made: list[Made] = []
    refused: list[ParityError] = []
    for make in makes:
        try:
            made.append(make())
        except ParityError as error:
            refused.append(error)
    if len(refused) > 1:
        raise type(refused[0])([problem for error in refused for problem in error.problems]) from refused[0]
    if refused:
        raise refused[0]
    return made


def to_install(extra: str) -> str:
    """The remedy for a framework that is not there.

    Args:
        extra: of the package: keras, torch, onnx, jax or all.

    Example:
        >>> to_install("onnx")
        "pip install 'keras-torch-parity[onnx]', or -e '.[onnx]' in a checkout"
    """
    return f"pip install 'keras-torch-parity[{extra}]', or -e '.[{extra}]' in a checkout"
