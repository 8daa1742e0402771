"""`parity explain`: what a layer returns, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parity.cli.options import DESCRIBING, READING, SHOWING, Custom, flag, given_on_the_line, number, run_custom
from parity.errors import ParityError

if TYPE_CHECKING:
    from parity.layouts import Kind


def explain(
    context: typer.Context,
    source: Annotated[Path | None, typer.Argument(metavar="SOURCE", help="A model file; or give --layer.")] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="lstm, gru or rnn without a file; with one, this layer of it alone: its name or number.",
            rich_help_panel=READING,
        ),
    ] = None,
    custom: Custom = None,
    batch: Annotated[int | None, number("This number in place of the word 'batch'.", SHOWING)] = None,
    time: Annotated[int | None, number("This number in place of the word 'time'.", SHOWING)] = None,
    units: Annotated[int, number("Units of the layer.", DESCRIBING)] = 64,
    features: Annotated[int, number("Features per step.", DESCRIBING)] = 20,
    return_sequences: Annotated[bool, flag("--return-sequences", "Of Keras: every step's output.", DESCRIBING)] = False,
    return_state: Annotated[bool, flag("--return-state", "Of Keras: the final states, too.", DESCRIBING)] = False,
    bidirectional: Annotated[bool, flag("--bidirectional", "Both directions.", DESCRIBING)] = False,
    merge_mode: Annotated[
        str, typer.Option(metavar="MODE", help="concat, sum, mul, ave or none.", rich_help_panel=DESCRIBING)
    ] = "concat",
    go_backwards: Annotated[bool, flag("--go-backwards", "Of Keras: from the last step.", DESCRIBING)] = False,
    num_layers: Annotated[int, number("Layers of a stack; a list of cells in Keras.", DESCRIBING)] = 1,
    proj_size: Annotated[int | None, number("Features of torch's projected h.", DESCRIBING)] = None,
    unbatched: Annotated[
        bool, flag("--unbatched", "Call torch with one sample, (time, features).", DESCRIBING)
    ] = False,
    packed: Annotated[
        bool, flag("--packed", "Call torch with a PackedSequence, Keras with a mask.", DESCRIBING)
    ] = False,
    cell: Annotated[bool, flag("--cell", "The single-step cell, such as LSTMCell.", DESCRIBING)] = False,
) -> None:
    """Say why a layer returns three values, four or five, which is which, and where they are in torch and ONNX."""
    from parity import terminal
    from parity.correspondence import CALLS
    from parity.explaining import explain_layer, merge_mode_named, specs_of

    shown = (batch or "batch", time or "time")
    given = [name for name in context.params if name not in _OF_A_FILE and given_on_the_line(context, name)]
    if source is not None:
        _check_no_options(given)
        run_custom(context, custom)
        _explain_file(source, layer, shown)
        return
    if custom:
        remedy = "name the model file, or leave --custom out"
        raise ParityError("layers of a model that is not given", "--custom", "a model file", "none", remedy)
    kind = _kind_of_layer(layer)
    asked = [name for name, on in zip(CALLS[1:], (unbatched, packed, cell), strict=True) if on]
    if len(asked) > 1:
        raise ParityError("these exclude each other", "--unbatched, --packed, --cell", "one of them", ", ".join(asked))
    mode = merge_mode_named(merge_mode)
    if "merge_mode" in given and not bidirectional:
        remedy = "add --bidirectional, or leave --merge-mode out"
        raise ParityError("one direction alone is not merged", "--merge-mode", "--bidirectional", merge_mode, remedy)
    specs = specs_of(kind, features, units, num_layers, bidirectional, go_backwards, proj_size)
    call = asked[0] if asked else CALLS[0]
    terminal.show_explained([explain_layer(specs, return_sequences, return_state or cell, mode, *shown, call)])


_OF_A_FILE = ("source", "custom", "layer", "batch", "time")
"""What has a meaning beside a file; all other options describe a layer without one."""


def _check_no_options(given: Sequence[str]) -> None:
    """A file says its options itself."""
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        what = "these options are for a layer without a file; a file says them itself"
        raise ParityError(what, got=options, remedy="leave them out")


def _explain_file(source: Path, layer: str | None, shown: tuple[int | str, int | str]) -> None:
    """The recurrent layers of a file, or one of them; of a whole model what it takes and gives, too."""
    from parity import terminal
    from parity.explaining import explain_network
    from parity.sources import layer_named, open_source

    opened = open_source(source, partial=True)
    network = (opened if layer is None else layer_named(opened, layer)).network
    if network.graph is not None or not (network.bare or network.problems):
        from parity.graph.explaining import returns_text

        terminal.say(returns_text(replace(opened, network=network).graph_with_stubs) + "\n")
    terminal.show_explained(list(explain_network(network, *shown)))


def _kind_of_layer(layer: str | None) -> Kind:
    kinds: dict[str | None, Kind] = {"lstm": "lstm", "gru": "gru", "rnn": "rnn"}
    if layer in kinds:
        return kinds[layer]
    raise ParityError(
        "explain what?",
        "" if layer is None else f"--layer {layer}",
        "a file, or --layer lstm, gru or rnn",
        "neither" if layer is None else layer,
        "parity explain model.keras, or parity explain --layer lstm --return-state",
    )
