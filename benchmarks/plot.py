"""Times as bars, on a logarithmic scale: in the terminal, and as a PNG.

Drawn with Pillow, which is one package without dependencies: bars are rectangles and words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SHORTEST, LONGEST = 0.05, 500.0
TICKS = (0.1, 1, 10, 100)
WIDTH_IN_TERMINAL = 64
_DARK, _LIGHT, _GREY, _RED, _GREEN = "#1f5f8b", "#a8c8de", "#d0d0d0", "#c0392b", "#1e8449"


@dataclass(frozen=True, slots=True)
class Bar:
    """``seconds`` is the dark part, ``until`` the end of the light one; ``aim`` is marked if there is one."""

    title: str
    seconds: float
    until: float
    aim: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A time to beat."""

    title: str
    seconds: float


def share(seconds: float) -> float:
    """Where a time stands between both ends of the scale: 0 to 1."""
    place = math.log(max(seconds, SHORTEST) / SHORTEST) / math.log(LONGEST / SHORTEST)
    return min(1.0, place)


def in_terminal(bars: Sequence[Bar], line: Line) -> str:
    """The bars as lines of text: █ for the dark part, ░ for the light one, ┃ for the line to beat."""
    width = max(len(bar.title) for bar in bars)
    place = round(share(line.seconds) * WIDTH_IN_TERMINAL)
    rows = []
    for bar in bars:
        dark, light = (round(share(value) * WIDTH_IN_TERMINAL) for value in (bar.seconds, bar.until))
        cells = list("█" * dark + "░" * (light - dark) + " " * (WIDTH_IN_TERMINAL - light))
        if place < len(cells) and cells[place] == " ":
            cells[place] = "┃"
        rows.append(f"{bar.title:>{width}} ▏{''.join(cells)}{bar.seconds:8.2f} s {bar.until:8.2f} s")
    scale = [" "] * (WIDTH_IN_TERMINAL + 8)
    for tick in TICKS:
        text = f"{tick:g} s"
        at = round(share(tick) * WIDTH_IN_TERMINAL)
        scale[at : at + len(text)] = text
    rows.append(f"{'':>{width}} ▏{''.join(scale).rstrip()}")
    rows.append(f"{'':>{width}}  ┃ {line.title}")
    return "\n".join(rows)


def write_png(path: Path, title: str, legend: tuple[str, str], bars: Sequence[Bar], line: Line) -> None:
    """The same as a picture; ``legend`` says what the dark and the light parts are."""
    left, top, height, width, right = 280, 130, 46, 860, 190
    picture = Image.new("RGB", (left + width + right, top + height * len(bars) + 100), "white")
    draw = ImageDraw.Draw(picture)
    small, normal, large = (ImageFont.load_default(size) for size in (17, 20, 26))
    bottom = top + height * len(bars)
    draw.text((24, 20), title, "black", font=large)
    for number, (colour, text) in enumerate(zip((_DARK, _LIGHT), legend, strict=True)):
        draw.rectangle((left + number * 380, 72, left + number * 380 + 22, 94), colour)
        draw.text((left + number * 380 + 32, 72), text, "black", font=normal)
    for tick in TICKS:
        x = left + share(tick) * width
        draw.line((x, top, x, bottom), _GREY)
        draw.text((x, bottom + 8), f"{tick:g} s", "black", font=small, anchor="ma")
    for number, bar in enumerate(bars):
        y = top + number * height
        draw.text((left - 14, y + height / 2), bar.title, "black", font=normal, anchor="rm")
        for value, colour in ((bar.until, _LIGHT), (bar.seconds, _DARK)):
            draw.rectangle((left, y + 8, left + share(value) * width, y + height - 8), colour)
        words = f"{bar.seconds:.2f} s, {bar.until:.2f} s"
        draw.text((left + share(bar.until) * width + 10, y + height / 2), words, "black", font=small, anchor="lm")
        if bar.aim is not None:
            x = left + share(bar.aim) * width
            draw.line((x, y + 3, x, y + height - 3), _GREEN, width=3)
    x = left + share(line.seconds) * width
    for y in range(top - 8, bottom, 12):
        draw.line((x, y, x, y + 6), _RED, width=2)
    draw.text((x, bottom + 34), line.title, _RED, font=small, anchor="ma")
    if any(bar.aim is not None for bar in bars):
        draw.text((left, bottom + 62), "green: what is aimed at", _GREEN, font=small)
    picture.save(path)
