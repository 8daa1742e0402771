"""Limits of lengths, as the details of a graph say them: "time at least 4, batch at most 8"."""

from __future__ import annotations

import re
from collections.abc import Mapping

from parity.errors import Problem

_LIMIT = re.compile(r"(\S+) at (least|most) (\d+)")


def limits_in(details: Mapping[str, str]) -> dict[str, tuple[int, int | None]]:
    """The least and the greatest length (None for any) of every word that "limits" speaks of.

    Example:
        >>> limits_in({"limits": "time at least 4, batch at most 8"})
        {'time': (4, None), 'batch': (1, 8)}
    """
    found: dict[str, tuple[int, int | None]] = {}
    for word, kind, number in _LIMIT.findall(details.get("limits", "")):
        low, high = found.get(word, (1, None))
        if kind == "least":
            found[word] = (max(low, int(number)), high)
        else:
            found[word] = (low, int(number) if high is None else min(high, int(number)))
    return found


def beyond(name: str, details: Mapping[str, str], lengths: Mapping[str, int]) -> list[Problem]:
    """What is wrong with lengths of "batch", "time", ... for which a model does not hold.

    Args:
        name: of the model.
        details: of its graph.
        lengths: by word.

    Example:
        >>> [one.got for one in beyond("model", {"limits": "time at least 4"}, {"time": 3})]
        ['time 3']
    """
    found = []
    for word, (low, high) in limits_in(details).items():
        length = lengths.get(word, low)
        if length < low or (high is not None and length > high):
            what = "lengths for which the model was not read"
            found.append(Problem(what, name, details["limits"], f"{word} {length}"))
    return found


__all__ = ["beyond", "limits_in"]
