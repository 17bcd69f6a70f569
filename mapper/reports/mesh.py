"""The mesh of a machine with a layout: groups at its crosspoints, memory controllers beside it."""

from __future__ import annotations

from mapper.machine.draw import Grid, printable, size
from mapper.machine.model import Machine
from mapper.reports import style
from mapper.reports.cells import Cores, cache_text
from mapper.reports.sheet import PAD, Box, Part, Sheet, Stroke, Words, fitted


def mesh_of(machine: Machine, cores: Cores) -> Part:
    """The mesh, with the caches that a whole package shares below it."""
    mesh = _Mesh(machine, cores)
    width, height = mesh.xs[-1], mesh.ys[-1]
    shared = cache_text(machine, "package").removeprefix(" · ")

    def draw(sheet: Sheet, x: float, y: float) -> None:
        mesh.draw(sheet, x, y)
        if shared:
            each = "the" if machine.counts["packages"] == 1 else "each"
            columns = [column for column, _ in mesh.clusters]
            left, wide = x + mesh.xs[min(columns)], mesh.xs[max(columns) + 1] - mesh.xs[min(columns)]
            words = f"{shared} for {each} package, shared over the mesh"
            text, letters = fitted(words, style.LABEL, wide - 2 * PAD)
            sheet.add(Box(left + 0.035, y + height + 0.08, wide - 0.07, 0.3, style.PACKAGE, style.LINE))
            sheet.add(Words(left + wide / 2, y + height + 0.23, text, letters, align="center"))

    return Part(width, height + (0.38 if shared else 0.0), draw)


_STREET = 0.3  # between clusters, where the mesh runs
_LABEL_ROW = 0.24
_CONTROLLER = (0.78, 0.62)


class _Mesh:
    """The clusters of a machine with a layout, each below and right of its crosspoint of the mesh."""

    def __init__(self, machine: Machine, cores: Cores) -> None:
        self.machine, self.grid = machine, Grid(machine)
        self.clusters = {cell: cores.group(group, 1.4) for cell, group in self.grid.groups.items()}
        width = max(part.width for part in self.clusters.values()) + _STREET + 0.2
        height = max(part.height for part in self.clusters.values()) + _STREET + 0.2
        with_groups = {column for column, _ in self.clusters}, {row for _, row in self.clusters}
        widths = [width if c in with_groups[0] else _CONTROLLER[0] + 0.3 for c in range(self.grid.columns)]
        labelled = {row for _, row in self.grid.first.values()}
        self.above = [_LABEL_ROW if row in labelled else 0.0 for row in range(self.grid.rows)]
        heights = [height + self.above[r] if r in with_groups[1] else _CONTROLLER[1] + 0.2
                   for r in range(self.grid.rows)]  # fmt: skip
        self.xs = [sum(widths[:i]) for i in range(len(widths) + 1)]
        self.ys = [sum(heights[:i]) for i in range(len(heights) + 1)]

    def crosspoint(self, cell: tuple[int, int]) -> tuple[float, float]:
        """Where the mesh has the crosspoint of a cell."""
        return self.xs[cell[0]] + _STREET / 2 + 0.04, self.ys[cell[1]] + self.above[cell[1]] + _STREET / 2 + 0.04

    def draw(self, sheet: Sheet, x: float, y: float) -> None:
        """Grounds, then the mesh, then what hangs on it."""
        inner = Sheet()
        self._grounds(inner)
        self._streets(inner)
        for cell, part in self.clusters.items():
            across, down = self.crosspoint(cell)
            corner = across + _STREET / 2, down + _STREET / 2
            inner.add(Stroke(((across, down), (corner[0] + 0.03, corner[1] + 0.03))))
            inner.add(Box(across - 0.045, down - 0.045, 0.09, 0.09, style.MESH, radius=0.045))
            part.draw(inner, *corner)
        sheet.add(*inner.moved(x, y))

    def _grounds(self, sheet: Sheet) -> None:
        def gap(here: int | None, beside: int | None) -> float:
            return 0.035 if beside != here else -0.005  # over the next one, so that no seam shows

        node = self.grid.node
        for column, row in self.clusters:
            here = node(column, row)
            left, right = (gap(here, node(column + side, row)) for side in (-1, 1))
            top, bottom = (gap(here, node(column, row + side)) for side in (-1, 1))
            x, y = self.xs[column] + left, self.ys[row] + top
            width, height = self.xs[column + 1] - right - x, self.ys[row + 1] - bottom - y
            sheet.add(Box(x, y, width, height, style.node_tint(here or 0)))
        for number, (column, row) in self.grid.first.items():
            memory = self.machine.nodes[number].memory_bytes
            text = f"node {number}{f' · {size(memory.value)}' if memory else ''}{cache_text(self.machine, 'node')}"
            x = self.crosspoint((column, row))[0] + 0.1
            text, letters = fitted(text, style.LABEL + 0.5, self.xs[column + 1] - x - 0.05)
            sheet.add(Words(x, self.ys[row] + 0.18, text, letters, bold=True))

    def _streets(self, sheet: Sheet) -> None:
        for column, row in self.clusters:
            for neighbour in ((column + 1, row), (column, row + 1)):
                if neighbour in self.clusters and self._package((column, row)) == self._package(neighbour):
                    sheet.add(Stroke((self.crosspoint((column, row)), self.crosspoint(neighbour))))
        for (column, row), controllers in self.grid.controllers.items():
            self._controller(sheet, (column, row), [printable(c.name) for c in controllers], controllers[0].node)

    def _package(self, cell: tuple[int, int]) -> int:
        return self.machine.nodes[self.machine.node_of_group[self.grid.groups[cell]]].package

    def _controller(self, sheet: Sheet, cell: tuple[int, int], names: list[str], node: int) -> None:
        """A box beside the mesh, level with the crosspoint that it hangs on."""
        (column, row), (width, height) = cell, _CONTROLLER
        beside = [c for c in ((column + 1, row), (column - 1, row), (column, row + 1), (column, row - 1))
                  if c in self.clusters]  # fmt: skip
        middle = (self.xs[column] + self.xs[column + 1]) / 2
        level = self.crosspoint(cell)[1] if row in {r for _, r in self.clusters} else self.ys[row] + 0.1 + height / 2
        if beside:
            across, down = self.crosspoint(beside[0])
            middle = middle if beside[0][0] != column else across + width / 2 - 0.2
            start = (middle, level) if beside[0][0] != column else (across, level)
            sheet.add(Stroke((start, (across, down)), line=2.2))
        sheet.add(Box(middle - width / 2, level - height / 2, width, height, style.node_tint(node), style.MESH, 1.0,
                      radius=0.06))  # fmt: skip
        text, letters = fitted(" ".join(names), style.LABEL + 1, width - 0.08)
        sheet.add(Words(middle, level - 0.1, text, letters, align="center", bold=True))
        sheet.add(Words(middle, level + 0.12, f"node {node}", style.SMALL, style.MUTED, "center"))
