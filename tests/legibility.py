"""How legible a text of a page is, measured in the browser."""

from __future__ import annotations

CONTRAST = """
    const parse = colour => colour.match(/[\\d.]+/g).map(Number);
    const light = colour => parse(colour).slice(0, 3)
        .map(part => part / 255)
        .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
        .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
    const contrast = (one, other) => {
        const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
        return (high + 0.05) / (low + 0.05);
    };
    const behind = element => {
        for (let at = element; at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            if ((parse(colour)[3] ?? 1) > 0) return colour;
        }
    };
    const ownText = element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
"""
"""JavaScript of WCAG's contrast of two colours, the colour behind an element, and whether it has text of its own."""
