"""`parity explain`: what a layer returns, and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parity.cli.options import Custom, given_on_the_line, run_custom
from parity.errors import ParityError

if TYPE_CHECKING:
    from parity.layouts import Kind


def explain(
    context: typer.Context,
    source: Annotated[Path | None, typer.Argument(help="A model file; or give --layer.")] = None,
    custom: Custom = None,
    layer: Annotated[
        str | None,
        typer.Option(help="lstm, gru or rnn without a file; with one, this layer of it alone: its name or number."),
    ] = None,
    units: Annotated[int, typer.Option(min=1)] = 64,
    features: Annotated[int, typer.Option(min=1, help="Features per step.")] = 20,
    batch: Annotated[int | None, typer.Option(min=1, help="Print this number instead of 'batch'.")] = None,
    time: Annotated[int | None, typer.Option(min=1, help="Print this number instead of 'time'.")] = None,
    return_sequences: Annotated[bool, typer.Option("--return-sequences")] = False,
    return_state: Annotated[bool, typer.Option("--return-state")] = False,
    bidirectional: Annotated[bool, typer.Option("--bidirectional")] = False,
    merge_mode: Annotated[str, typer.Option(help="concat, sum, mul, ave or none.")] = "concat",
    go_backwards: Annotated[bool, typer.Option("--go-backwards")] = False,
    num_layers: Annotated[int, typer.Option(min=1, help="Layers of a stack; a list of cells in Keras.")] = 1,
    proj_size: Annotated[int | None, typer.Option(min=1, help="Features of torch's projected h.")] = None,
    unbatched: Annotated[
        bool, typer.Option("--unbatched", help="Call torch with one sample, (time, features).")
    ] = False,
    packed: Annotated[
        bool, typer.Option("--packed", help="Call torch with a PackedSequence, Keras with a mask.")
    ] = False,
    cell: Annotated[bool, typer.Option("--cell", help="The single-step cell, such as LSTMCell.")] = False,
) -> None:
    """Say why a layer returns three values, four or five, which is which, and where they are in torch and ONNX.

    Examples: parity explain --layer lstm --units 64 --return-sequences --return-state
    / parity explain model.keras --layer encoder
    """
    from parity import terminal
    from parity.correspondence import CALLS
    from parity.explaining import explain_layer, explain_network, merge_mode_named, specs_of

    given = [
        name
        for name in context.params
        if given_on_the_line(context, name) and name not in ("source", "custom", "layer", "batch", "time")
    ]
    if source is not None and given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ParityError(
            "these options are for a layer without a file; a file says them itself",
            got=options,
            remedy="leave them out",
        )
    if source is not None:
        from parity.sources import layer_named, open_source

        run_custom(context, custom)
        opened = open_source(source, partial=True)
        network = (opened if layer is None else layer_named(opened, layer)).network
        if network.graph is not None or not (network.bare or network.problems):
            from parity.graph.explaining import returns_text

            terminal.say(returns_text(replace(opened, network=network).graph_with_stubs) + "\n")
        terminal.show_explained(list(explain_network(network, batch or "batch", time or "time")))
    else:
        if custom:
            remedy = "name the model file, or leave --custom out"
            raise ParityError("layers of a model that is not given", "--custom", "a model file", "none", remedy)
        kind = _kind_of_layer(layer)
        asked = [name for name, on in zip(CALLS[1:], (unbatched, packed, cell), strict=True) if on]
        if len(asked) > 1:
            raise ParityError(
                "these exclude each other", "--unbatched, --packed, --cell", "one of them", ", ".join(asked)
            )
        specs = specs_of(kind, features, units, num_layers, bidirectional, go_backwards, proj_size)
        mode = merge_mode_named(merge_mode)
        if "merge_mode" in given and not bidirectional:
            remedy = "add --bidirectional, or leave --merge-mode out"
            raise ParityError(
                "one direction alone is not merged", "--merge-mode", "--bidirectional", merge_mode, remedy
            )
        state = return_state or cell
        call = asked[0] if asked else CALLS[0]
        explained = explain_layer(specs, return_sequences, state, mode, batch or "batch", time or "time", call)
        terminal.show_explained([explained])


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
