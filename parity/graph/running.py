"""What runs a whole model in an engine."""

from __future__ import annotations

from typing import Any

from parity.frameworks import KERAS_BACKENDS, Settings, family, framework
from parity.graph.apart import KerasApart
from parity.graph.judging import GraphRunner, ReferenceRunner
from parity.judge import REFERENCE
from parity.sources import Opened


def graph_runner(source: Opened, engine: str, settings: Settings) -> GraphRunner:
    """Something that runs a source as a graph: the source itself where it is the engine's own, else its conversion.

    Raises:
        UnsupportedError: the model cannot be converted exactly.
        MissingFrameworkError: the engine or the device is not there.
    """
    if engine == REFERENCE:
        return ReferenceRunner(source.graph)
    if engine in KERAS_BACKENDS:
        return KerasApart(source, engine, settings)
    module = framework(engine)
    made: GraphRunner = module.whole_runner(_live(source, engine, module), source.graph, settings)
    return made


def _live(source: Opened, engine: str, module: Any) -> Any:
    if family(engine) != source.engine or (source.path is None and source.live is None):
        return module.build_whole(source.graph)
    return source.live if source.path is None else module.load_whole(source.path, source.graph)


__all__ = ["graph_runner"]
