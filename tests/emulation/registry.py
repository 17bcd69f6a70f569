"""All parts in the order in which they run."""

from __future__ import annotations

from tests.emulation import running, topology

PARTS = (*running.PARTS[:1], *topology.PARTS, *running.PARTS[1:])
"""mapper is installed first, as a board owner does; then the machine is looked at, then plans run."""
