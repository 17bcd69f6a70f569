"""Machines from hwloc: the XML that `lstopo file.xml` writes."""

from __future__ import annotations

from pathlib import Path

from mapper.machine.model import Machine


def read_hwloc(path: Path) -> Machine:
    """The machine in the hwloc export `path`."""
    raise NotImplementedError
