"""Engines that fail: kept from ending a comparison, and told in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

from parity.errors import EngineError, ParityError
from parity.frameworks import engine_error, raised_by_framework

_Runner = TypeVar("_Runner")


class Failed:
    """Stands for an engine that could not load its source.

    Args:
        engine: its name.
        error: what went wrong, raised as soon as it is to run.
    """

    def __init__(self, engine: str, error: EngineError) -> None:
        self.engine, self._error = engine, error

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        """Raise what went wrong."""
        raise self._error

    def seen(self, *_: Any) -> NoReturn:
        """Raise what went wrong."""
        raise self._error


def loaded_or_failed(engine: str, load: Callable[[], _Runner]) -> _Runner | Failed:
    """What an engine loads; where the engine itself fails at that, something that says so when it is run.

    Example:
        >>> loaded_or_failed("torch", lambda: 1)
        1
    """
    try:
        return load()
    except EngineError as error:
        return Failed(engine, error)
    except ParityError:
        raise
    except Exception as error:
        if not raised_by_framework(error):
            raise
        return Failed(engine, engine_error(engine, error))


@contextmanager
def noted(failures: dict[str, str], label: str, engine: str) -> Iterator[None]:
    """What goes wrong in an engine is noted in words, under its label; an error of neither parity nor a framework is a bug, and goes on.

    Example:
        >>> failures = {}
        >>> with noted(failures, "first", "torch"):
        ...     raise ParityError("no such layer")
        >>> failures
        {'first': 'no such layer'}
    """
    try:
        yield
    except ParityError as error:
        failures[label] = _in_words(error)
    except Exception as error:
        if not raised_by_framework(error):
            raise
        failures[label] = _in_words(engine_error(engine, error))


@contextmanager
def said_by_engine(engine: str) -> Iterator[None]:
    """What a framework raises, as an error for users; an error of neither parity nor a framework is a bug, and goes on.

    Raises:
        EngineError: the framework's own error.

    Example:
        >>> with said_by_engine("torch"):
        ...     one = 1
    """
    try:
        yield
    except ParityError:
        raise
    except Exception as error:
        if not raised_by_framework(error):
            raise
        raise engine_error(engine, error) from error


def _in_words(error: ParityError) -> str:
    """An error in a line."""
    return "; ".join(f"{p.what}: {p.got}" if p.got else p.what for p in error.problems)


__all__ = ["Failed", "loaded_or_failed", "noted", "said_by_engine"]
