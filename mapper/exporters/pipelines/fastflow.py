"""The target `fastflow`: the same CMake project as `cpp`, with FastFlow between the stages. FastFlow is the user's."""

from __future__ import annotations

from pathlib import Path

from mapper.exporters.pipelines.cpp import BUILD, CONFIGURE, notes, write_project
from mapper.exporters.readme import write_readme
from mapper.exporters.registry import Export


def write(export: Export, folder: Path) -> None:
    """Writes the project into the new `folder`. Raises: UsageError, BadInput, and what compiling stages raises."""
    write_project(export, folder, "fastflow")
    write_readme(
        folder, export.plan, "a pipeline of FastFlow", [f"{CONFIGURE} -DFASTFLOW_ROOT=/path/to/fastflow", *BUILD],
        ["FastFlow (https://github.com/fastflow/fastflow) is header-only, and not in here: `FASTFLOW_ROOT` is the "
         "folder that has `ff/ff.hpp`; the environment variable of that name does as well.",
         "A node for each stage, an ordered farm (`ff_OFarm`) where a stage has replicas: item n goes to replica n mod "
         "r. FastFlow's own mapping (thread n to PU n) is off: each node binds itself when it starts. A farm has two "
         "threads more, which hand items out and collect them: they are on the farm's own PUs; those that feed and "
         "collect the whole are on PUs that no worker has, if there are any.",
         "Queues are bounded, all with as many slots as the plan's longest, and nodes that wait sleep: `--unbounded` "
         "and `--spin` choose FastFlow's own defaults. With `--spin`, the farms' threads take their PUs from the "
         "workers.",
         *notes(export)],
    )  # fmt: skip
