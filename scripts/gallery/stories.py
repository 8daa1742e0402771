"""All stories, in the order of the index."""

from __future__ import annotations

from gallery import doubted, moved, returned, whole
from gallery.story import Story

STORIES: tuple[Story, ...] = (*returned.STORIES, *moved.STORIES, *doubted.STORIES, *whole.STORIES)

PICTURED = "wrong-port"
"""The story whose first part is the picture in the README."""


def named(names: list[str]) -> tuple[Story, ...]:
    """The stories of these names, in the order of the index; all of them for no names.

    Raises:
        KeyError: an unknown name.

    Example:
        >>> [story.name for story in named(["undecided", "padding"])]
        ['padding', 'undecided']
    """
    unknown = sorted(set(names) - {story.name for story in STORIES})
    if unknown:
        raise KeyError(f"{', '.join(unknown)}: known are {', '.join(story.name for story in STORIES)}")
    return tuple(story for story in STORIES if not names or story.name in names)


__all__ = ["PICTURED", "STORIES", "named"]
