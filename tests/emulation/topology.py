"""The parts that look at the machine: what mapper discovers, and what its doctor says."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.emulation.parts import Part

ROOT = Path(__file__).parents[2]
BOARDS = ("boot0", "boot8", "boot8-nocache", "boot0-nonuma")


def copy_topology(folder: Path) -> None:
    """The bundled description that the guest is compared with."""
    shutil.copy(ROOT / "topologies/sg2042.json", folder)


def nothing(folder: Path) -> None:
    """For a part that needs nothing but its script."""


PARTS = (
    Part(
        "topology",
        "topology.py",
        (
            "the kernel shows an SG2042",
            "topo discover",
            "cores, groups and nodes hold the right harts",
            "topo check of what was discovered",
            "topo diff with sg2042.json",
            "topo discover --like sg2042",
            "what the system does not show is told",
            "discovery from a copy of sys and proc",
            "exit codes of topo",
        ),
        copy_topology,
        needs=("install",),
        boards=BOARDS,
    ),
    Part("doctor", "doctor.py", ("doctor",), nothing, needs=("install",), boards=BOARDS),
)
