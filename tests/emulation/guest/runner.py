"""Runs the parts of a payload one after the other; standard library only.

Each part is a process of its own. Its output goes to /out/NAME.log and the console; one that fails or takes too long is
told as a failed check, and the next one runs all the same.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TypedDict

from report import write

PAYLOAD, OUT = Path("/payload"), Path("/out")
INSTALLED = Path("/tmp/mapper")
"""Where the part that installs mapper puts it."""


class Listed(TypedDict):
    """A line of parts.json."""

    name: str
    script: str
    limit_s: float


def main() -> int:
    """Runs all parts; 1 when one of them failed, else 0."""
    parts: list[Listed] = json.loads((PAYLOAD / "parts.json").read_text())
    failed = [part["name"] for part in parts if not run(part)]
    print(f"runner: {len(parts) - len(failed)} of {len(parts)} parts went well", flush=True)
    return 1 if failed else 0


def run(part: Listed) -> bool:
    """Runs one part and says whether it went well."""
    name, started = part["name"], time.monotonic()
    print(f"runner: {name}", flush=True)
    code, over = watch(part)
    seconds = time.monotonic() - started
    if over or code:
        stopped = f"not done after {part['limit_s']:g} s of the guest's time"
        reason = stopped if over else f"its script ended with {code}"
        print(end=f"{name}| ")
        write({"check": f"{name}: its script", "passed": False, "detail": reason, "seconds": round(seconds, 3)})
    return not over and not code


def watch(part: Listed) -> tuple[int, bool]:
    """The exit code of the script, and whether it had to be stopped."""
    own = OUT / part["name"]
    own.mkdir(exist_ok=True)
    path = os.pathsep.join([str(INSTALLED / "bin"), os.environ["PATH"]])
    process = subprocess.Popen(
        [sys.executable, "-u", PAYLOAD / "guest" / part["script"]], cwd=PAYLOAD / part["name"],
        env=os.environ | {"PATH": path, "MAPPER_OUT": str(own)}, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    over = threading.Event()

    def stop() -> None:
        over.set()
        os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(part["limit_s"], stop)
    timer.start()
    assert process.stdout is not None
    with (OUT / f"{part['name']}.log").open("w") as log:
        for line in process.stdout:
            log.write(line)
            print(f"{part['name']}| {line}", end="", flush=True)
    code = process.wait()
    timer.cancel()
    return code, over.is_set()


if __name__ == "__main__":
    sys.exit(main())
