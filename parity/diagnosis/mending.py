"""A suspect mended, by what its diagnosis found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from parity.errors import ParityError

if TYPE_CHECKING:
    from parity.diagnosis.diagnosis import Diagnosis


def mend(diagnosis: Diagnosis) -> Any:
    """The suspect without its mistakes.

    Raises:
        ParityError: no cause was found, or there is no suspect to mend.
    """
    if not diagnosis.found or diagnosis.mended is None:
        raise ParityError("nothing to repair", diagnosis.suspect, "a cause that was found", diagnosis.cause)
    return diagnosis.mended()


__all__ = ["mend"]
