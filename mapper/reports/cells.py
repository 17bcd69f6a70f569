"""Cores as cells of one size, and the boxes of their groups: what all drawings of machines are made of."""

from __future__ import annotations

from collections.abc import Mapping

from mapper.machine.draw import printable, size
from mapper.machine.model import Machine
from mapper.machine.pus import format_pus
from mapper.reports import style
from mapper.reports.sheet import PAD, Box, Part, Sheet, Words, boxed, rows_of, text_width

_CELLS = ((64, 0.62, 0.46, 9.0), (128, 0.5, 0.38, 7.5), (512, 0.32, 0.22, 6.0), (1024, 0.22, 0.15, 4.0))
"""Up to how many cores, the width and height of a core, and the size of its number."""
_SMALLEST_CELL = (0.1, 0.08, 0.0)
_TWO_LINES = 0.3
"""Inches of height from which on a cell has room for more than one number."""
_BESIDE = 0.04


class Cores:
    """Cores as cells: numbered, coloured by stage or hollow, outlined by kind. Where a cell has room for one number
    only, it is the stage's if stages are shown. On paper of at most `room` inches, as on phones, letters that would be
    too small there are left out."""

    def __init__(self, machine: Machine, stage_of: Mapping[int, int] | None, room: float | None = None) -> None:
        self.machine, self.stage_of = machine, stage_of
        self.kind_of = {core: k for k, kind in enumerate(machine.core_kinds) for core in kind.cores}
        sizes = (cell[1:] for cell in _CELLS if len(machine.cores) <= cell[0])
        self.width, self.height, self.letters = next(sizes, _SMALLEST_CELL)
        if room is not None and self.letters < 0.9 * style.SMALL:
            self.letters = 0.0
        self.gap = 0.05 if self.letters > style.SMALLEST else 0.02
        self.small = self._small() if self.height >= _TWO_LINES else 0.0

    def _small(self) -> float:
        """The size of what stands beside a core's number: as large as all PUs have room for."""
        longest = max((len(f"PU {format_pus(core.pus)}") for core in self.machine.cores), default=1)
        fitting = style.SMALL * (self.width - _BESIDE) / text_width("n" * longest, style.SMALL)
        return max(0.65 * self.letters, min(style.SMALL, 0.8 * self.letters, fitting))

    def part(self, core: int) -> Part:
        """The cell of `core`."""
        return Part(self.width, self.height, lambda sheet, x, y: self._draw(sheet, core, x, y))

    def _draw(self, sheet: Sheet, core: int, x: float, y: float) -> None:
        stage = None if self.stage_of is None else self.stage_of.get(core)
        fill = core_fill(stage, staged=self.stage_of is not None)
        dash = style.DASHES[min(self.kind_of.get(core, 0), len(style.DASHES) - 1)]
        edge = style.INK if self.kind_of else style.LINE
        sheet.add(Box(x, y, self.width, self.height, fill, edge, 0.6, dash, self.gap * 0.7, f"core-{core}"))
        if not self.letters:
            return
        ink, middle = style.ink_on(fill), x + self.width / 2
        if not self.small:
            number = str(core) if self.stage_of is None else "" if stage is None else str(stage)
            sheet.add(Words(middle, y + self.height / 2, number, self.letters, ink, "center", bold=True))
            return
        sheet.add(Words(middle, y + self.height * 0.38, str(core), self.letters, ink, "center", bold=True))
        sheet.add(Words(middle, y + self.height * 0.78, self._pus(core), self.small, ink, "center"))
        if stage is not None and stage < 100:
            top = y + 0.015 + self.small / 144
            sheet.add(Words(x + self.width - 0.03, top, f"s{stage}", self.small, ink, "right"))

    def _pus(self, core: int) -> str:
        """What the OS calls the PUs of `core`, as far as there is room."""
        pus = self.machine.cores[core].pus
        texts = [f"PU {format_pus(pus)}", format_pus(pus), f"{len(pus)} PUs"]
        room = self.width - _BESIDE + 1e-9
        return next((text for text in texts if text_width(text, self.small) <= room), "")

    def group(self, number: int, aspect: float = 1.6, room: float | None = None) -> Part:
        """The cores of a group in a box that names it, with its caches where all groups have room for that; `aspect`
        and `room` are those of `rows_of`."""
        members = self.machine.groups[number]
        pad = PAD if self.letters else 0.03
        inner = rows_of([self.part(core) for core in members], self.gap, aspect, room and room - 2 * pad)
        caches, last = cache_text(self.machine, "group"), len(self.machine.groups) - 1
        if text_width(f"group {last}{caches}", style.SMALL) > inner.width:
            caches = ""
        return boxed(inner, f"group {number}{caches}", style.BOX, pad=pad, longest=f"group {last}{caches}")


def core_fill(stage: int | None, *, staged: bool) -> str:
    """The fill of a core: its stage's colour; where stages are shown, one without is hollow."""
    if stage is not None:
        return style.stage_colour(stage)
    return style.FREE if staged else style.CORE


def cache_text(machine: Machine, scope: str) -> str:
    """The caches that each `scope` has to itself, as the end of a label."""
    found = [f" · {printable(c.name)} {size(c.bytes.value)}" for c in machine.caches if c.shared_by == scope]
    return "".join(found)
