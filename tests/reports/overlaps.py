"""What of a sheet lies over each other that must not."""

from __future__ import annotations

from collections.abc import Iterator

from mapper.reports.sheet import Sheet, Words, text_width

NARROWER = 0.84
"""How much of `text_width`, which is rather too much, letters take in DejaVu Sans."""


def overlapping(sheet: Sheet) -> Iterator[tuple[str, str]]:
    """Pairs of texts that cover each other."""
    boxes = [(mark.text, _box(mark)) for mark in sheet.marks if isinstance(mark, Words)]
    for i, (one, (left, top, right, bottom)) in enumerate(boxes):
        for other, (x, y, end, below) in boxes[i + 1 :]:
            if left < end and x < right and top < below and y < bottom:
                yield one, other


def outside(sheet: Sheet, width: float, height: float) -> list[str]:
    """Texts that leave the paper."""
    texts = [(mark.text, _box(mark)) for mark in sheet.marks if isinstance(mark, Words)]
    return [
        text for text, (left, top, right, bottom) in texts if left < 0 or top < 0 or right > width or bottom > height
    ]


def _box(words: Words) -> tuple[float, float, float, float]:
    width, height = NARROWER * text_width(words.text, words.size), 0.7 * words.size / 72
    left = words.x - {"left": 0.0, "center": 0.5, "right": 1.0}[words.align] * width
    return left, words.y - height / 2, left + width, words.y + height / 2
