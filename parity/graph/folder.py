"""A whole model as code: a folder with readable source, the weights beside it, and the report that proves it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from parity.errors import MissingFrameworkError, ParityError, ShapeError, UnsupportedError
from parity.files.target import plain_errors, unfinished_folder
from parity.frameworks import ENGINES, framework
from parity.graph.code import named_for_code
from parity.graph.code_files import SOURCE, WEIGHTS, CodeTarget, write_files
from parity.graph.custom import CUSTOM
from parity.graph.lengths import lengths_for
from parity.sources import Opened

if TYPE_CHECKING:
    from parity.findings import Findings
    from parity.graph.graph import Graph

REPORT = "report.html"

_OTHER_SIZES = ((1, (1, 2, 3, 4, 5, 8, 16, 48, 240)), (2, (6, 10, 12, 20, 30, 60, 120, 480)))
"""Samples, and steps of which the first that the model takes are run besides: what holds at one size need not hold at another."""


@dataclass(frozen=True, eq=False)
class WrittenCode:
    """A folder that was written.

    Args:
        folder: its path.
        files: in it.
        notes: what else to know of the code.
        stubs: layers that raise until somebody writes them.
        comparison: what the proof found; None where nothing was run.
        unproved: why nothing was run; "" where it was.
    """

    folder: Path
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()
    stubs: tuple[str, ...] = ()
    comparison: Findings | None = None
    unproved: str = ""


def write_code(
    opened: Opened,
    target: CodeTarget,
    folder: Path,
    partial: bool = False,
    overwrite: bool = False,
    verify: bool = True,
    progress: Callable[[str], None] | None = None,
) -> WrittenCode:
    """Write a model as source code and weights, run it beside the source, and write the report.

    Args:
        opened: the source.
        target: the framework of the code.
        folder: to be made; it appears whole or not at all.
        partial: whether layers that are not known become stubs, which raise until somebody writes them.
        overwrite: whether files of the same names in an existing folder may be replaced.
        verify: whether the code is run and judged against the reference and the source, which needs the target's framework.
        progress: called with a line for every step of the work.

    Raises:
        UnsupportedError: the model is not kept exactly.
        ParityError: the folder is there already, or what was written does not compute the same.
    """
    opened = _with_own_names(opened)
    graph = opened.graph_with_stubs
    if graph.problems and not partial:
        hint = "or leave a stub for it, to be filled in: --partial (partial=True)"
        raise UnsupportedError(
            [replace(one, remedy="; ".join(filter(None, (one.remedy, hint)))) for one in graph.problems]
        )
    with plain_errors(folder, "written"), unfinished_folder(folder, overwrite) as part:
        code = write_files(graph if target == "onnx" else named_for_code(graph, opened.path), target, part)
        comparison, unproved = None, "not asked for"
        if code.stubs:
            unproved = f"{', '.join(code.stubs)} to be filled in"
        elif verify:
            comparison, unproved = _proved(opened, target, folder, part, progress)
        if comparison is not None:
            comparison.save_html(part / REPORT)  # type: ignore[attr-defined]
        files = tuple(sorted(file.name for file in part.iterdir()))
    return WrittenCode(folder, files, code.notes, code.stubs, comparison, unproved)


def _with_own_names(opened: Opened) -> Opened:
    """An ONNX model that was read as a chain of layers as the graph that it is: with all its inputs and outputs, under their names."""
    source = opened.live if opened.path is None else opened.path
    network = opened.network
    if opened.engine != "onnxruntime" or source is None or network.graph is not None or network.problems:
        return opened
    return replace(opened, network=replace(network, graph=framework("onnxruntime").whole_graph(source)))


def _proved(
    opened: Opened, target: CodeTarget, folder: Path, part: Path, progress: Callable[[str], None] | None
) -> tuple[Findings | None, str]:
    """The comparison of what was written with the source, or why there is none.

    Raises:
        ParityError: it does not compute the same.
    """
    from parity.comparison import compare

    engine = next(engine for engine, module in ENGINES.items() if module == target)
    try:
        module = framework(engine)
        live = module.load_written(part)
    except MissingFrameworkError as error:
        return None, error.problems[0].what
    label = f"{folder.name}/{WEIGHTS['onnx'] if target == 'onnx' else SOURCE}"
    written = Opened(label, replace(opened.network, graph=opened.graph), engine, live=live)
    source, why = _runnable(opened)
    pair = (replace(source, network=written.network), written)
    compared = compare(*pair, progress=progress)
    _check_agreement(compared, folder, opened.label)
    sizes = []
    for batch, times in _OTHER_SIZES:
        with suppress(ShapeError):  # a model that takes no such lengths
            time = _steps(opened.graph, batch, times)
            again = compare(*pair, batch=batch, time=time, seed=batch, progress=progress)
            _check_agreement(again, folder, opened.label)
            sizes.append(again.size)
    also = (
        f"the outputs were judged in the same way on {' and on '.join(sizes)}" if sizes else "no other sizes were run"
    )
    return replace(compared, notes=(*compared.notes, also, *why)), ""


def _steps(graph: Graph, batch: int, times: Sequence[int]) -> int:
    """The first number of steps that a model takes; what it calls its axes does not matter.

    Raises:
        ShapeError: it takes none of them.
    """
    for time in times[:-1]:
        with suppress(ShapeError):
            lengths_for(graph, batch, (time,))
            return time
    lengths_for(graph, batch, times[-1:])
    return times[-1]


def _check_agreement(compared: Findings, folder: Path, label: str) -> None:
    """What was written computes the same, and runs wherever the source does.

    Raises:
        ParityError: it does not.
    """
    failures = compared.judgement.failures
    *others, own = compared.participants
    failed = own in failures and not any(other in failures for other in others)
    # Code keeps what its source leaves at padded steps, too, though no verdict counts it.
    padding = [text for text in compared.padding if text.startswith(f"{own} and ")]
    if compared.verdict == "disagree" or failed or padding:
        own = f"look at what parity.register says of {', '.join(CUSTOM)}; if it is right," if CUSTOM else "please"
        remedy = f"nothing was kept; {own} report this with the source file"
        what = "what was written does not compute the same"
        got = compared.sentence if compared.verdict == "disagree" or failed else padding[0]
        raise ParityError(what, str(folder), f"the function of {label}", got, remedy)


def _runnable(opened: Opened) -> tuple[Opened, tuple[str, ...]]:
    """The source, to be run by its own framework where that is installed and opens it, else by the reference alone."""
    if opened.engine is None or (opened.path is None and opened.live is None):
        return replace(opened, engine=None), ()
    if opened.network.graph is None and opened.network.bare and opened.engine != "torch":
        what = "a layer by itself takes and returns what its framework says, the code what a model does"
        return replace(opened, engine=None), (f"the source was not run by {opened.engine} itself: {what}",)
    if opened.live is not None:
        return opened, ()
    try:
        live = framework(opened.engine).load_whole(opened.path, opened.graph)
    except ParityError as error:
        return replace(opened, engine=None), (
            f"the source was not run by {opened.engine} itself: {error.problems[0].what}: {error.problems[0].got}",
        )
    return replace(opened, live=live, path=None), ()


__all__ = ["REPORT", "WrittenCode", "write_code"]
