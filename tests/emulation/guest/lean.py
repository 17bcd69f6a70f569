"""What an installation without the planner's packages can do, and what it says of the rest; standard library only."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from commands import mapper, succeed
from report import check

ABSENT = ("ortools", "transformers", "safetensors", "pip")
WITHOUT = {
    ("plan", "--model", "vgg16", "--topo", "sg2042"): "python -m pip install 'ortools",
    ("model", "show", "vit"): "python -m pip install transformers",
}
"""Commands for which something is missing here, and what they have to say."""


def main() -> None:
    """Commands that lack something, and commands that need no more than a bundle."""
    with check("commands without their packages say so") as told:
        there = [name for name in ABSENT if importlib.util.find_spec(name)]
        told.require(not there, f"{', '.join(there)}: there")
        for words, advice in WITHOUT.items():
            done = mapper(*words)
            told.require(done.code == 8 and advice in done.err, f"{' '.join(words)}: {done.code}, {done.err}")
        told.detail = f"exit 8 without {' and '.join(ABSENT[:2])}, with the command that adds them"
    with check("a bundle's plan is simulated and checked") as told:
        (bundle,) = Path.cwd().glob("*.bundle")
        rate = json.loads(succeed("simulate", bundle, "--json").out)["throughput_per_s"]
        told.require(rate > 0, f"{rate} items/s")
        found = json.loads(succeed("check", bundle, "--json").out)
        told.require(found["verified"] and not found["violations"], f"{found}")
        told.detail = f"{len(found['verified'])} promises hold, derived from the bundle's own program"


if __name__ == "__main__":
    main()
