"""Every injection."""

from __future__ import annotations

from collections.abc import Iterator

from mutating.call_edits import CALL_EDITS
from mutating.injections import PLACES, Injection, of_places, of_weights
from mutating.option_edits import OPTION_EDITS
from mutating.weight_edits import WEIGHT_EDITS


def injections() -> Iterator[Injection]:
    """All of them."""
    yield from (of_weights(edit) for edit in WEIGHT_EDITS)
    yield from (of_places(*row) for row in PLACES)
    yield from OPTION_EDITS
    yield from CALL_EDITS
