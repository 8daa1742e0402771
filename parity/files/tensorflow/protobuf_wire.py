"""The wire format of Protocol Buffers: numbered fields, read without a schema compiler.

Source: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

Field: TypeAlias = tuple[int, int | memoryview]
"""Number of a field and its value: an integer (varint or fixed, as it stands, without sign), or its bytes."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_VARINT_BYTES = 10


def fields(message: bytes | memoryview) -> Iterator[Field]:
    """The fields of a message in the order in which they stand; bytes are views, not copies.

    Raises:
        ValueError: bytes that are no message; says where.

    Example:
        >>> [(number, value if isinstance(value, int) else bytes(value)) for number, value in fields(b"\\x08\\x96\\x01\\x12\\x02hi")]
        [(1, 150), (2, b'hi')]
    """
    view = memoryview(message)
    position, end = 0, len(view)
    while position < end:
        key, position = varint(view, position)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, position = varint(view, position)
            yield number, value
            continue
        if wire == _BYTES:
            length, position = varint(view, position)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {position} of {end}")
        if length > end - position:
            raise ValueError(f"field {number} of {length} bytes at byte {position} of {end}")
        found = view[position : position + length]
        yield number, found if wire == _BYTES else int.from_bytes(found, "little")
        position += length


def varint(view: bytes | memoryview, position: int) -> tuple[int, int]:
    """A number of up to 64 bits, seven in each byte, and the position after it.

    Raises:
        ValueError: it does not end.

    Example:
        >>> varint(b"\\x96\\x01", 0)
        (150, 2)
    """
    value = shift = 0
    for place in range(position, min(position + _MOST_VARINT_BYTES, len(view))):
        byte = view[place]
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, place + 1
        shift += 7
    raise ValueError(f"a number at byte {position} of {len(view)} does not end")


def signed(value: int | memoryview) -> int:
    """An int32 or int64 field, which is written as 64 bits in two's complement.

    Raises:
        ValueError: the field holds bytes.

    Example:
        >>> signed(2**64 - 1)
        -1
    """
    if not isinstance(value, int):
        raise ValueError("bytes where a number belongs")  # noqa: TRY004 - of the file, not of the call
    return value - (1 << 64) if value >> 63 else value


def text(value: int | memoryview) -> str:
    """A string field.

    Raises:
        ValueError: a number, or bytes that are no UTF-8.

    Example:
        >>> text(memoryview(b"kernel"))
        'kernel'
    """
    return str(part(value), "utf-8")


def part(value: int | memoryview) -> memoryview:
    """A field that holds a message or bytes.

    Raises:
        ValueError: the field holds a number.

    Example:
        >>> bytes(part(memoryview(b"hi")))
        b'hi'
    """
    if isinstance(value, int):
        raise ValueError("a number where bytes belong")  # noqa: TRY004 - of the file, not of the call
    return value
