"""How long a diagnosis takes, and how its cost grows with steps and with mistakes that are tried."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

Row = tuple[str, str, float, float, float]

_BATCH, _TIME, _FEATURES, _UNITS = 8, 64, 32, 32
_SINGLE_S, _PAIRS_S = 2.0, 30.0
_SHORT, _LONG = 64, 512


def diagnosing(rounds: int) -> list[Row]:
    """A wrong port of one layer told from its outputs alone: one mistake, two mistakes, and the growth of the cost.

    The port is a recording of inputs and outputs: with weights to look at, most mistakes are told without a search.
    """
    single = _seconds(lambda: _told(_recorded(1), pairs=False), rounds)
    double = _seconds(lambda: _told(_recorded(2), pairs=True), 1)
    rows = [
        (
            "parity.diagnose, one mistake, LSTM(32) on 8 x 64 x 32, imports aside",
            "asked: below 2 s",
            single,
            _SINGLE_S,
            single / _SINGLE_S,
        ),
        ("the same, two mistakes", "asked: below 30 s", double, _PAIRS_S, double / _PAIRS_S),
    ]
    return [*rows, *_growth(rounds)]


def _growth(rounds: int) -> list[Row]:
    """Seconds of replaying single mistakes: on more steps, and more mistakes; a ratio of 1 is linear."""
    short, every = _replayed(_SHORT, 1, rounds)
    long, _ = _replayed(_LONG, 1, rounds)
    fewer, half = _replayed(_SHORT, 2, rounds)
    steps, mistakes = short * _LONG / _SHORT, fewer * every / half
    return [
        (
            f"{every} mistakes replayed on {_LONG} steps",
            f"{_LONG / _SHORT:g} times that on {_SHORT}",
            long,
            steps,
            long / steps,
        ),
        (f"{every} mistakes replayed", f"{every / half:.3g} times {half} of them", short, mistakes, short / mistakes),
    ]


def _replayed(steps: int, every: int, rounds: int) -> tuple[float, int]:
    """Seconds of replaying every so-manieth mistake on so many steps, and how many those are."""
    from parity.diagnosis.faults import faults_of
    from parity.diagnosis.replay import screened, stage_of

    case = _case(steps)
    some = [(fault,) for fault in list(faults_of(case))[::every]]
    stage = stage_of(case, case.outputs())
    return _seconds(lambda: list(screened([stage], some)), rounds), len(some)


def _case(steps: int) -> Any:
    import numpy as np

    from parity.diagnosis.cases import asked_case
    from parity.sources import open_source

    inputs = np.random.default_rng(0).standard_normal((_BATCH, steps, _FEATURES)).astype("float32")
    return asked_case(open_source(_right()), inputs, None, None, None, (_BATCH, steps, 0))


def _right() -> Any:
    import torch

    torch.manual_seed(1)
    return torch.nn.LSTM(_FEATURES, _UNITS, batch_first=True)


def _recorded(mistakes: int) -> dict[str, Any]:
    """Inputs and outputs of a port with the gates of its recurrent kernel in ONNX's order, and with its biases doubled."""
    import torch

    port = _right()
    with torch.no_grad():
        i, f, g, o = port.weight_hh_l0.chunk(4)
        port.weight_hh_l0.copy_(torch.cat([i, o, f, g]))
        if mistakes > 1:
            port.bias_ih_l0.mul_(2)
            port.bias_hh_l0.mul_(2)
        x = torch.randn(_BATCH, _TIME, _FEATURES)
        y, (h, c) = port(x)
    return {"inputs": x.numpy(), "outputs": [y.numpy(), h[0].numpy(), c[0].numpy()]}


def _told(recording: dict[str, Any], pairs: bool) -> None:
    import parity

    found = parity.diagnose(_right(), recording, pairs=pairs)
    if not found.found:
        raise SystemExit(f"not told: {found}")


def _seconds(call: Callable[[], object], rounds: int) -> float:
    """Median seconds, after one round that is not counted where there are several."""
    kept = []
    for count in range(rounds + (rounds > 1)):
        start = time.perf_counter()
        call()
        if count or rounds == 1:
            kept.append(time.perf_counter() - start)
    return statistics.median(kept)


__all__ = ["diagnosing"]
