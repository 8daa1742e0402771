"""What the commands have in common: the app, options, and what is made of their words."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from parity.cli.page import PageGroup
from parity.cli.pages import WHOLE
from parity.errors import ParityError, each

EXIT_CODES = {"agree": 0, "disagree": 1, "undecided": 3}
BAD_INPUT = 2

app = typer.Typer(
    name="parity",
    cls=PageGroup,
    help=WHOLE,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 120},
)

# The groups in which a command's help shows its options.
READING = "What is read"
RUNNING = "Where it runs"
INPUTS = "Inputs"
JUDGING = "What is judged"
WRITING = "What is written"
DESCRIBING = "A layer without a file"
SHOWING = "How it is shown"


class Device(str, Enum):
    """Where an engine runs."""

    cpu = "cpu"
    cuda = "cuda"


Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace files that exist.", rich_help_panel=WRITING, show_default=False)
]

Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.json",
        help="The model's JSON, as model.to_json() gives it, where the file (the first one) holds weights of Keras alone.",
        rich_help_panel=READING,
    ),
]

Custom = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE.py",
        help="A file of Python that says with parity.register what layers of your own compute. It is executed. May be repeated.",
        rich_help_panel=READING,
    ),
]

InputFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE.npz", help="One array, batch first; random numbers without it.", rich_help_panel=INPUTS),
]

Lengths = Annotated[
    str | None,
    typer.Option(
        metavar="N,N,...",
        help="Valid steps of each sample, the rest being padding: 7,3,1. All are valid without it.",
        rich_help_panel=INPUTS,
    ),
]

Tf32 = Annotated[
    bool,
    typer.Option(
        "--tf32",
        help="On CUDA, allow products to be truncated to TF32.",
        rich_help_panel=RUNNING,
        show_default=False,
    ),
]


Baseline = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.json",
        help="An earlier record: say what is other than it was, and what got better or worse, as after an upgrade.",
        rich_help_panel=JUDGING,
    ),
]

FailOnWorse = Annotated[
    bool,
    typer.Option(
        "--fail-on-worse",
        help="With --baseline: exit with 1 where anything got worse, and with 2 where the baseline cannot tell.",
        rich_help_panel=JUDGING,
        show_default=False,
    ),
]


def flag(name: str, words: str, group: str) -> Any:
    """An option that is there or not."""
    return typer.Option(name, help=words, rich_help_panel=group, show_default=False)


def file_to_write(suffix: str, words: str) -> Any:
    """An option that names a file to write."""
    return typer.Option(metavar=f"FILE{suffix}", help=words, rich_help_panel=WRITING)


def number(words: str, group: str, least: int = 1) -> Any:
    """An option with a whole number.

    Args:
        words: what it is.
        group: of the help.
        least: that it may be.
    """
    return typer.Option(min=least, metavar="N", help=words, rich_help_panel=group)


def run_custom(context: typer.Context, files: Sequence[Path] | None) -> None:
    """Run the files that register layers; what they register holds until the command ends."""
    if files:
        from parity.custom_files import registrations

        context.with_resource(registrations(files))


def given_on_the_line(context: typer.Context, name: str) -> bool:
    """Whether an option was given, and is not at its default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def check_drawn(context: typer.Context, inputs: Path | None) -> None:
    """Options of random inputs have no meaning beside given ones.

    Raises:
        ParityError: there are both.
    """
    drawn = [f"--{name}" for name in ("batch", "time") if inputs is not None and given_on_the_line(context, name)]
    if drawn:
        raise ParityError(
            "these options are for random inputs",
            "--inputs",
            "--inputs without them",
            ", ".join(drawn),
            "leave them out",
        )


def chosen(sources: Sequence[Path], layers: Sequence[str], config: Path | None) -> list[Any]:
    """The sources, or the one layer of each that was asked for; the configuration belongs to the first."""
    from parity.sources import layer_named, open_source

    configs = [config, *[None] * (len(sources) - 1)]
    opening = [
        partial(open_source, source, partial=True, config=own) for source, own in zip(sources, configs, strict=True)
    ]
    if not layers:
        return each(opening)
    if len(layers) not in (1, len(sources)):
        expected = f"once for all files, or {len(sources)} times"
        raise ParityError("a layer for each file, or one name for all", "--layer", expected, ", ".join(layers))
    names = layers if len(layers) == len(sources) else list(layers) * len(sources)
    return each([partial(layer_named, one, name) for one, name in zip(each(opening), names, strict=True)])


def integers(text: str | None) -> list[int] | None:
    """The numbers of --lengths; None without the option.

    Raises:
        ParityError: no integers.
    """
    if text is None:
        return None
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        remedy = "a number of steps for each sample, as in --lengths 7,3,1"
        raise ParityError("these are no lengths", "--lengths", "integers with commas between", text, remedy) from None
