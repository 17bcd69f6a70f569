"""Claim: 10,000 points of ViT on three what-if machines take under five minutes on two cores; killed in the middle and
started again, an exploration gives the same rows.

`python -m benchmarks.explored` runs it twice in processes of their own: once through, and once killed (SIGKILL) when it
has half of its searches, and started again. Points that cannot be are not counted. `--vary` replaces what is varied.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODEL, MACHINE = "vit", "sg2042"
VARY = (
    "strategy", "stages=1,2,4,8,16", "threads=2,4,8,16,32,64", "replicas=1,2,3,4,6,8,16,any", "batch=1,2,4,16",
    "topo.l2_bytes=1MiB,2MiB,4MiB",
)  # fmt: skip
CLAIM_POINTS, CLAIM_S = 10_000, 300.0


def main() -> int:
    """Prints the figures; the exit code is 1 where the claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--topo", default=MACHINE)
    parser.add_argument("--vary", action="append", help="as for mapper explore; may be repeated")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--once", action="store_true", help="without the killed run")
    args = parser.parse_args()
    vary = [f"--vary={text}" for text in args.vary or VARY]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.monotonic()
        whole = _run(args, vary, folder, "whole").wait()
        took_s = time.monotonic() - began
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        if whole:
            return whole
        rows = json.loads((folder / "whole.json").read_text())
        points = sum(row["status"] != "impossible" for row in rows)
        for_claim_s = took_s * CLAIM_POINTS / max(1, points)
        holds = for_claim_s < CLAIM_S
        print(
            f"{points} points with a plan of {len(rows)} in {took_s:.0f} s on {args.processes} cores: "
            f"{points / took_s:.0f} a second; {CLAIM_POINTS} in {for_claim_s:.0f} s, "
            f"{'under' if holds else 'NOT under'} {CLAIM_S:.0f} s; {used.ru_utime + used.ru_stime:.0f} s of CPU time"
        )
        if args.once:
            return int(not holds)
        searches = {re.sub(r" --placement \S+", "", row["options"]) for row in rows if row["options"]}
        same = _killed_and_resumed(args, vary, folder, len(searches) // 2) == rows
        print(f"rows {'equal' if same else 'DIFFER'}")
    return int(not (holds and same))


def _killed_and_resumed(args: argparse.Namespace, vary: list[str], folder: Path, after: int) -> object:
    """The rows of an exploration that was killed after so many searches, and started again."""
    process = _run(args, vary, folder, "resumed")
    began = time.monotonic()
    while _kept(folder / "resumed") < after and process.poll() is None:
        time.sleep(0.1)
    process.kill()
    process.wait()
    told = f"killed after {time.monotonic() - began:.0f} s with {_kept(folder / 'resumed')} searches kept"
    began = time.monotonic()
    _run(args, vary, folder, "resumed").wait()
    print(f"{told}; started again, the rest took {time.monotonic() - began:.0f} s", flush=True)
    return json.loads((folder / "resumed.json").read_text())


def _kept(cache: Path) -> int:
    """How many searches the journal in the cache folder has."""
    return sum(max(0, path.read_bytes().count(b"\n") - 1) for path in cache.glob("mapper/explore-*.jsonl"))


def _run(args: argparse.Namespace, vary: list[str], folder: Path, name: str) -> subprocess.Popen[bytes]:
    """`mapper explore` with a cache folder of its own."""
    command = [sys.executable, "-m", "mapper", "explore", "--model", args.model, "--topo", args.topo, *vary,
               "--processes", str(args.processes), "-o", str(folder / f"{name}.json")]  # fmt: skip
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / name)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
