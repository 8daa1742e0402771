"""All stories, in the order of the index."""

from __future__ import annotations

from gallery import doubted, moved, returned, unsettled, whole
from gallery.story import Story

STORIES: tuple[Story, ...] = (
    *returned.STORIES,
    *moved.STORIES,
    *whole.STORIES,
    *doubted.STORIES,
    *unsettled.STORIES,
)

CHAPTERS = {
    returned.CHAPTER: "One layer, three frameworks, and each hands over other values.",
    moved.CHAPTER: "Then the weights: other axes, other gates, cells that one side does not have, files of any age.",
    whole.CHAPTER: "Every layer is judged by itself, on the very inputs that it got.",
    doubted.CHAPTER: "A port that runs is not yet right. What is wrong, where, since which step, and what mends it.",
    unsettled.CHAPTER: "What cannot be proved or kept exactly is said to be so.",
}
"""What each chapter of the index is about."""

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


__all__ = ["CHAPTERS", "PICTURED", "STORIES", "named"]
