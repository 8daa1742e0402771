"""What may happen to a file: on its way, or by someone who means no good. Every mutation is a pure function of a seed."""

from __future__ import annotations

import io
import random
import re
import struct
import zipfile
from collections.abc import Callable

_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
_WIDTHS = {1: "B", 2: "H", 4: "I", 8: "Q"}
_NUMBERS = ("0", "-1", "1e999", "NaN", "99999999999999999999", "null", "[]", "{}", '"../../x"', "true")


def _flip(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _truncate(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(1, len(content) + 1)]


def _number(content: bytes, chance: random.Random) -> bytes:
    """A length, an offset or a count somewhere becomes one that breaks things."""
    width = chance.choice(list(_WIDTHS))
    at = chance.randrange(max(1, len(content) - width))
    value = chance.choice(_INTERESTING) & ((1 << 8 * width) - 1)
    return content[:at] + struct.pack(f"<{_WIDTHS[width]}", value) + content[at + width :]


def _cut(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content))
    return content[:start] + content[start + chance.choice((1, 4, 100, 4096)) :]


def _repeat(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content))
    return content[:start] + content[start : start + chance.choice((1, 8, 512))] * 2 + content[start:]


def _copy(content: bytes, chance: random.Random) -> bytes:
    """A piece of the file in the place of another: pointers into the wrong part, cycles."""
    size = chance.choice((1, 8, 40, 512))
    source, target = (chance.randrange(max(1, len(content) - size)) for _ in range(2))
    return content[:target] + content[source : source + size] + content[target + size :]


def _word(content: bytes, chance: random.Random) -> bytes:
    """A number in text (a JSON header) becomes another value."""
    found = list(re.finditer(rb"-?\d+|true|false|null", content))
    if not found:
        return _number(content, chance)
    one = chance.choice(found)
    return content[: one.start()] + chance.choice(_NUMBERS).encode() + content[one.end() :]


_PLAIN: tuple[Callable[[bytes, random.Random], bytes], ...] = (_flip, _truncate, _number, _cut, _repeat, _copy, _word)


def _member(content: bytes, chance: random.Random) -> bytes:
    """One member of a zip is mutated and the zip is whole again, so that the damage reaches what reads the member."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {info.filename: archive.read(info) for info in archive.infolist()}
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError):
        return _flip(content, chance)
    name = chance.choice(sorted(members))
    members[name] = chance.choice(_PLAIN)(members[name] or b"\0", chance)
    kind = zipfile.ZIP_DEFLATED if chance.random() < 0.2 else zipfile.ZIP_STORED
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", kind) as archive:
        for member, bytes_of in members.items():
            archive.writestr(f"../{member}" if chance.random() < 0.01 else member, bytes_of)
    return written.getvalue()


def mutated(content: bytes, seed: int) -> bytes:
    """A mutant of a file, the same for the same seed."""
    chance = random.Random(seed)
    zipped = content[:4] == b"PK\x03\x04"
    mutation = _member if zipped and chance.random() < 0.75 else chance.choice(_PLAIN)
    changed = mutation(content, chance)
    return chance.choice(_PLAIN)(changed or b"\0", chance) if chance.random() < 0.1 else changed
