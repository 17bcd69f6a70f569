"""Runs the pipeline in this folder with torch.distributed.pipelining, a process a stage:

    torchrun --standalone --nproc-per-node N run.py [--items N] [--warmup N] [--json] [--oversubscribe]

or `python run.py`, which does the same on one machine and hands on the exit code of what fails, where torchrun's own
is 1. In a program of one's own, started in the same way:

    from run import opened
    with opened() as pipeline:
        for outputs in pipeline.map(items): ...

Needs torch, which is not imported here before the process is bound to its PUs.
"""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from command import DONE, MISSING, Unfit, asked, bind, guarded, oversubscribed, read, require_pus
from seats import seat_here

if TYPE_CHECKING:
    from stages import Pipeline

HERE = Path(__file__).resolve().parent


def opened(folder: Path = HERE, oversubscribe: bool = False) -> Pipeline:
    """The stage of this process, joined to those of the others. This process is bound to its PUs from here on, and so
    are all threads that torch starts, where it was not imported before. Raises: Unfit."""
    description = oversubscribed(read(folder)) if oversubscribe else read(folder)
    seat = seat_here(description)
    require_pus([seat.worker])
    bind(seat.worker.pus)
    from stages import Pipeline

    return Pipeline(description, seat)


def serve() -> int:
    """Runs the sample item in a process that torchrun started; the exit code."""
    given = asked(sys.argv[1:], read(HERE).window)
    with opened(oversubscribe=given.oversubscribe) as pipeline:
        from stages import measure

        report = measure(pipeline, given)
    if int(os.environ["RANK"]) == 0:
        report.tell(given.json)
    return report.code()


def launch() -> int:
    """Does what `torchrun --standalone` does; the exit code is that of the process that failed first. Processes meet
    without libuv, which torch asks for and not every build of it has."""
    description = read(HERE)
    if asked(sys.argv[1:], description.window).oversubscribe:
        description = oversubscribed(description)
    if find_spec("torch") is None:
        print("torch is not installed: python -m pip install torch", file=sys.stderr)
        return MISSING
    if len({worker.host for worker in description.workers}) > 1:
        raise Unfit("the plan is for several hosts: start torchrun on each of them, as README.md says")
    require_pus(description.workers)
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ |= {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "USE_LIBUV": "0"}
    with tempfile.TemporaryDirectory() as folder:
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=len(description.workers), run_id="pipeline", max_restarts=0,
            rdzv_backend="c10d", rdzv_endpoint=f"{folder}/meeting", rdzv_configs={"store_type": "file"},
            local_addr="localhost", monitor_interval=0.1, logs_specs=DefaultLogsSpecs(log_dir=folder),
        )  # fmt: skip
        try:
            elastic_launch(config, sys.executable)("-u", str(HERE / "run.py"), *sys.argv[1:])
        except ChildFailedError as error:
            code: int = error.get_first_failure()[1].exitcode
            return code
    return DONE


if __name__ == "__main__":
    sys.exit(guarded(serve if "RANK" in os.environ else launch))
