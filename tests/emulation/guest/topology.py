"""Whether mapper discovers this machine as the SG2042 that it is, whichever hart booted and whatever is not shown."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import kernel
from commands import Result, mapper, succeed
from report import Failed, Told, check

KNOWN = Path("sg2042.json")
OUT = Path(os.environ["MAPPER_OUT"])
BOARD = os.environ["MAPPER_BOARD"]
BOOT_HART = int(BOARD.partition("-")[0].removeprefix("boot"))
CACHES, NUMA = "nocache" not in BOARD, "nonuma" not in BOARD
DISTANCES = [[10, 15, 25, 30], [15, 10, 30, 25], [25, 30, 10, 15], [30, 25, 15, 10]] if NUMA else [[10]]
SHAPE = {"hosts": 1, "packages": 1, "nodes": 4 if NUMA else 1, "groups": 16, "cores": 64, "pus": 64}


def quickly(*arguments: object) -> Result:
    """`mapper ARGUMENTS` without a process that imports it anew. Raises: Failed unless it ends with 0."""
    done = forked.mapper(*arguments)
    if done.code:
        raise Failed(f"mapper {' '.join(map(str, arguments))} ended with {done.code}: {(done.err or done.out).strip()}")
    return done


def node_of(hart: int) -> int:
    """The node of a hart, as the vendor's device tree has it."""
    return 2 * (hart // 32) + hart // 8 % 2 if NUMA else 0


def right_clusters(clusters: set[frozenset[int]], told: Told) -> None:
    """Requires that each cluster has the harts 4k to 4k + 3."""
    harts = kernel.harts()
    found = {frozenset(harts[cpu] for cpu in cluster) for cluster in clusters}
    told.require(found == {frozenset(range(h, h + 4)) for h in range(0, 64, 4)}, f"the clusters have harts {found}")


def right_nodes(nodes: dict[int, frozenset[int]], told: Told) -> None:
    """Requires that each node has the harts that it has on the board."""
    harts = kernel.harts()
    for node, cpus in nodes.items():
        wrong = [harts[cpu] for cpu in cpus if node_of(harts[cpu]) != node]
        told.require(not wrong, f"node {node} has the harts {wrong}")
    told.require(sum(map(len, nodes.values())) == 64, "the nodes do not have 64 CPUs")


def check_kernel() -> None:
    """What the kernel shows, without mapper: else a failure of discovery would be one of the emulation."""
    with check("the kernel shows an SG2042") as told:
        harts = kernel.harts()
        told.require(sorted(harts.values()) == list(range(64)), f"the harts are {sorted(harts.values())}")
        told.require(harts[0] == BOOT_HART, f"CPU 0 is hart {harts[0]}")
        right_clusters(kernel.clusters(), told)
        right_nodes(kernel.nodes(), told)
        told.require(kernel.distances() == DISTANCES, f"distances {kernel.distances()}")
        expected = kernel.clusters() if CACHES else set()
        told.require(kernel.shared_caches(2) == expected, "the second-level caches are not those of the clusters")
        told.require(not kernel.shared_caches(3), "a third-level cache is shown")
        told.detail = f"CPU 0 is hart {BOOT_HART}; nodes of CPUs " + "; ".join(
            (kernel.NODES / f"node{n}/cpulist").read_text().strip() for n in sorted(kernel.nodes())
        )


def check_discovery(discovered: Path) -> None:
    """The machine that mapper finds, by its counts and fingerprint and hart by hart."""
    known = json.loads(quickly("topo", "show", KNOWN, "--json").out)
    found: dict[str, Any] = {}
    with check("topo discover") as told:
        done = succeed("topo", "discover", "--json", "-o", discovered)
        found.update(json.loads(done.out))
        told.require(found["fingerprint"] == known["fingerprint"], f"another shape: {found['counts']}")
        told.require(found["counts"] == SHAPE, f"the counts are {found['counts']}")
        told.require(found["distances"] == DISTANCES, f"the distances are {found['distances']}")
        caches = [(cache["level"], cache["shared_by"], cache["bytes"]["value"]) for cache in found["caches"]]
        shown = [(1, "core", 65536), (2, "group", 1 << 20)] if CACHES else []
        told.require(caches == shown, f"the caches are {caches}")
        told.detail = f"fingerprint {found['fingerprint']} as {KNOWN}; {found['counts']}"
    with check("cores, groups and nodes hold the right harts") as told:
        groups = [(n, kernel.numbers(group)) for n, node in enumerate(found["nodes"]) for group in node["groups"]]
        right_clusters({frozenset(group) for _, group in groups}, told)
        held: dict[int, set[int]] = {}
        for n, group in groups:
            held.setdefault(n, set()).update(group)
        right_nodes({n: frozenset(pus) for n, pus in held.items()}, told)
        hart = kernel.harts()
        first = next(group for _, group in groups if 0 in group)
        told.detail = f"the group of PU 0 has PUs {sorted(first)}, harts {sorted(hart[pu] for pu in first)}"


def check_comparison(discovered: Path) -> None:
    """The written description is right, and fits plans for the bundled one."""
    with check("topo check of what was discovered") as told:
        told.detail = quickly("topo", "check", discovered).out.strip()
    with check("topo diff with sg2042.json") as told:
        found = json.loads(quickly("topo", "diff", discovered, KNOWN, "--json").out)
        told.require(found["same_shape"], "the shapes differ")
        places = {difference["place"] for difference in found["differences"]}
        renumbered = {place for place in places if place.endswith("/pus")}
        expected = {"/nodes/0/pus", "/nodes/1/pus"} if NUMA and BOOT_HART else set()
        told.require(not NUMA or renumbered == expected, f"other PUs in {sorted(renumbered)}")
        told.detail = f"same shape, {len(places)} differences, other PU numbers in {len(renumbered)} nodes"


def check_completion() -> None:
    """What is not shown is told, and comes from the bundled machine where that is named."""
    with check("topo discover --like sg2042") as told:
        done = quickly("topo", "discover", "--like", "sg2042", "--json")
        found = json.loads(done.out)
        levels = [(cache["level"], cache["shared_by"]) for cache in found["caches"]]
        told.require(levels == [(1, "core"), (2, "group"), (3, "package")], f"caches {levels}")
        told.require(("node_bandwidth_bytes_per_s" in found["memory"]) == NUMA, "a node's bandwidth without nodes")
        told.require(any("Completed from sg2042" in note for note in found["notes"]), "no note says what was taken")
        told.detail = "L1, L2, L3 and figures of memory and links from sg2042, with a note"
    with check("what the system does not show is told") as told:
        done = quickly("topo", "discover")
        told.require("--like sg2042" in done.err, f"--like is not suggested: {done.err.strip()}")
        words = " ".join(done.out.split())
        told.require(("shows no caches" in words) != CACHES, "the note about caches")
        told.require(
            ("shows 1 NUMA node, sg2042 has 4" in done.err) != NUMA, f"the note about nodes: {done.err.strip()}"
        )
        told.detail = done.err.strip().replace("\n", " ")


def check_copy() -> None:
    """The files that discovery reads, copied elsewhere, give the same machine; they come back for the tests."""
    with check("discovery from a copy of sys and proc") as told:
        tree = OUT / "tree"
        count = copy_tree(tree)
        copied, live = (json.loads(quickly("topo", "discover", *root, "--json").out) for root in (("--root", tree), ()))
        told.require(copied == live, "the copy gives another machine")
        told.detail = f"{count} files give the same machine"


def copy_tree(tree: Path) -> int:
    """Copies what discovery reads; gives the number of files."""
    files = [Path("/proc/cpuinfo"), Path("/proc/meminfo"), Path("/proc/self/status"), kernel.CPUS / "online"]
    for pattern in ("online", "cpu_capacity", "topology/*", "cache/index*/*"):
        files += kernel.CPUS.glob(f"cpu[0-9]*/{pattern}")
    for name in ("cpulist", "cpumap", "meminfo", "distance"):
        files += kernel.NODES.glob(f"node[0-9]*/{name}")
    copied = [file for file in files if file.is_file()]
    for file in copied:
        place = tree / file.relative_to("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())
    return len(copied)


def check_exit_codes() -> None:
    """Mistakes are told with the right codes, also where solver and transformers are not installed."""
    cases: list[tuple[Callable[..., Result], int, tuple[str, ...]]] = [
        (mapper, 6, ("topo", "discover", "--like", "epyc-7763")),
        (forked.mapper, 3, ("topo", "show", "no-such-machine")),
        (forked.mapper, 3, ("topo", "discover", "--root", "/payload")),
        (forked.mapper, 2, ("topo", "discover", "--no-such-option")),
    ]
    with check("exit codes of topo") as told:
        for run, code, arguments in cases:
            done = run(*arguments)
            told.require(done.code == code, f"mapper {' '.join(arguments)}: {done.code}, not {code}: {done.err}")
        told.detail = "another machine 6, no such machine 3, no Linux in the root 3, no such option 2"


def main() -> None:
    """All checks of the machine."""
    discovered = OUT / "discovered.json"
    check_kernel()
    check_discovery(discovered)
    check_comparison(discovered)
    check_completion()
    check_copy()
    check_exit_codes()
    shutil.copy("/proc/version", OUT)


if __name__ == "__main__":
    main()
