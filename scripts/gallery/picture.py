"""The picture of a report, as the browser shows its first part, in as few bytes as a page of text needs."""

from __future__ import annotations

import base64
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import sync_playwright

from parity.errors import ParityError

WIDTH, HEIGHT = 1400, 900
END = ".first"
"""The picture ends with this part of a page."""

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOURS = 256
_COARSE = 3
"""Bits of each channel that nobody misses in the smoothed edges of letters."""

_OPENED = """async png => {
    const image = new Image();
    image.src = "data:image/png;base64," + png;
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
    canvas.drawImage(image, 0, 0);
    const url = new FileReader();
    const read = new Promise(done => url.onload = done);
    url.readAsDataURL(new Blob([canvas.getImageData(0, 0, image.width, image.height).data]));
    await read;
    return url.result.split(",")[1];
}"""
"""The bytes of the pixels, red, green, blue and opacity, in base64."""

Pixels = NDArray[np.uint8]


def browser() -> str:
    """Where the browser is.

    Raises:
        ParityError: there is none.
    """
    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        remedy = "install one, or leave --picture out"
        raise ParityError("no browser to take the picture with", expected=" or ".join(_BROWSERS), remedy=remedy)
    return found


def picture(page: Path) -> bytes:
    """A report as PNG, light, WIDTH pixels wide, down to the end of its first part; of another page as much as a window shows.

    Raises:
        ParityError: there is no browser.
    """
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=browser(), args=["--no-sandbox", "--disable-gpu"])
        shown = launched.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        shown.goto(page.resolve().as_uri())
        last = shown.query_selector(END)
        box = last.bounding_box() if last else None
        height = int(box["y"] + box["height"]) if box else HEIGHT
        taken = shown.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": WIDTH, "height": height})
        opened = launched.new_page().evaluate(_OPENED, base64.b64encode(taken).decode())
        launched.close()
    pixels = np.frombuffer(base64.b64decode(opened), np.uint8).reshape(height, WIDTH, 4)
    return with_palette(pixels[:, :, :3])


def with_palette(pixels: Pixels) -> bytes:
    """Pixels as a PNG of at most 256 colours: those that are seen most, the others as the nearest of them.

    Args:
        pixels: (height, width, 3).
    """
    colours, places, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True, return_counts=True)
    coarse, groups = np.unique(colours >> _COARSE, axis=0, return_inverse=True)
    # Of colours that are nearly the same the one seen most stands for all of them.
    order = np.lexsort((-counts, groups))
    firsts = order[np.unique(groups[order], return_index=True)[1]]
    seen = np.bincount(groups, weights=counts, minlength=len(coarse))
    kept = np.sort(np.argsort(-seen, kind="stable")[:_COLOURS])
    palette = colours[firsts[kept]]
    apart = ((colours[firsts][:, None].astype(int) - palette[None].astype(int)) ** 2).sum(axis=2)
    shown = apart.argmin(axis=1).astype(np.uint8)[groups][places]
    return _written(shown.reshape(pixels.shape[:2]), palette)


def _written(places: Pixels, palette: Pixels) -> bytes:
    """A PNG of places (height, width) in a palette (colours, 3), without filters: they help photographs."""
    height, width = places.shape
    lines = np.concatenate([np.zeros((height, 1), np.uint8), places], axis=1)
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0),
        b"PLTE": palette.tobytes(),
        b"IDAT": zlib.compress(lines.tobytes(), 9),
        b"IEND": b"",
    }
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts.items()
    )


__all__ = ["HEIGHT", "WIDTH", "browser", "picture", "with_palette"]
