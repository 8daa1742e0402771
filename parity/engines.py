"""What runs a source in an engine, in this very process."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from parity.frameworks import Runner, Settings, framework
from parity.judge import REFERENCE
from parity.network import Network
from parity.recurrent import Array
from parity.result import Result, Returned, State
from parity.sources import Opened


def runner_here(opened: Opened, engine: str, settings: Settings) -> Runner:
    """Something that runs an opened source in an engine, in this very process."""
    if engine == REFERENCE:
        return ReferenceRunner(opened.network)
    made: Runner = framework(engine).runner(opened.in_engine(engine), opened.network, settings)
    return made


class ReferenceRunner:
    """Runs a description in float64; see `parity.frameworks.Runner`."""

    engine = REFERENCE

    def __init__(self, network: Network) -> None:
        self._network = network

    def __call__(self, inputs: Array, states: Mapping[str, State], mask: Array | None = None) -> Result:
        """Run on inputs (batch, time, features) or (batch, time) integers, all or those steps that the mask says are valid."""
        outputs, paths = self._network.compute(inputs, states, mask=mask)
        runs = {name: path.run for name, path in paths.items()}
        returned = tuple(Returned(name, array.shape, "float64") for name, array in outputs.items())
        settings = {"numpy": np.__version__, "device": "cpu", "dtype": "float64"}
        return Result(REFERENCE, outputs, runs, returned, settings)
