"""How templates are read and filled: everything escaped, nothing undefined passed over, no name that turns text around."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from parity.report.in_words import isolated

FOLDER = Path(__file__).parent / "templates"
"""Where the templates are."""

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_REORDERING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters without a shape of their own that make a reader see others in another order (Unicode's Bidi_Control)."""


def environment_with(*folders: Path, **filters: Callable[..., Any]) -> Environment:
    """An environment for the templates, with filters of its own.

    Args:
        folders: where templates are beside those of the report, which they may extend.
        filters: by the names that the templates use.
    """
    environment = Environment(
        loader=FileSystemLoader([*folders, FOLDER]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"visible": visible, "isolated": _isolated, **filters}
    return environment


@pass_context
def _isolated(context: Context, text: object) -> Markup:
    """A text in which every one of the view's `labels` stands for itself."""
    return isolated(str(text), context["labels"])


def visible(text: str) -> str:
    r"""A text in which the characters that only turn others around are written out: who reads it sees what is there.

    Example:
        >>> print(visible("model\u202etp.exe"))
        model\u202etp.exe
    """
    return _REORDERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def page_of(environment: Environment, template: str, view: Mapping[str, Any]) -> str:
    """A template filled: as a whole page can be written to a file, whatever the names in it hold.

    What turns text around is written out (`visible`), what HTML drops and lone surrogates, which no encoding can write, are replaced.
    """
    page = visible(environment.get_template(template).render(view))
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", page).encode("utf-8", "replace").decode("utf-8")


def style(*names: str, folder: Path = FOLDER) -> Markup:
    """Style sheets without the spaces that are there for people.

    Args:
        names: of files.
        folder: where they are.
    """
    text = "".join((folder / name).read_text(encoding="utf-8") for name in names)
    return Markup(re.sub(r"\s*([{};,])\s*", r"\1", re.sub(r": +", ":", text)))


__all__ = ["FOLDER", "environment_with", "page_of", "style", "visible"]
