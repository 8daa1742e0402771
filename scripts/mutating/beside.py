"""Every mistake in the layers around recurrent ones."""

from __future__ import annotations

from mutating.around import NORMS
from mutating.pictures import PICTURES
from mutating.ports import Port
from mutating.precise import PRECISE
from mutating.sounds import SOUNDS
from mutating.words import WORD_PORTS

AROUND: tuple[Port, ...] = (*NORMS, *SOUNDS, *PICTURES, *WORD_PORTS, *PRECISE)
"""Of normalizations, convolutions, flattened axes, embeddings, dense layers, connections, and shorter formats."""
