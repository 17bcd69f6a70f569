"""Examples of every command, as `--help`, the manual page and the documentation show them. Each is run by a test."""

from __future__ import annotations

import itertools
import shlex
from dataclasses import dataclass

_WRITING = ("-o", "--output", "--profile", "--trace", "--problem-out")


@dataclass(frozen=True)
class Example:
    """A command line that works as it stands, in a folder with the files that other examples wrote.

    `what` says what it is for. `long`: too long for every change, or it takes the cores of this machine.
    """

    what: str
    line: str
    long: bool = False

    @property
    def words(self) -> list[str]:
        """The arguments, without the word `mapper`."""
        return shlex.split(self.line)[1:]

    @property
    def files(self) -> list[str]:
        """The files and folders that it writes."""
        return [word for option, word in itertools.pairwise(self.words) if option in _WRITING]


EXAMPLES: dict[str, tuple[Example, ...]] = {
    "plan": (
        Example("The best throughput on a machine that is not at hand",
                "mapper plan --model vit --topo sg2042 -o vit.json"),
        Example("For this machine", "mapper plan --model mobilenetv2 -o plan.json"),
        Example("A result within 1 s, beside what other planners choose",
                "mapper plan --model vit --topo sg2042 --max-latency 1s --against all", long=True),
        Example("A pipeline of 16 stages, one group of 4 cores each",
                "mapper plan --model vit --topo sg2042 --stages 16 --replicas 1 --configurations 1x4 -o stages.json",
                long=True),
        Example("The trades of throughput, latency and cores, on a machine with 2 nodes of 4 groups of 4 cores",
                "mapper plan --model resnet18 --topo 'numa:2 group:4 core:4' --objective pareto", long=True),
    ),
    "check": (
        Example("Derive every load, byte and bound of a plan again", "mapper check vit.json", long=True),
        Example("What the file alone can show, in no time", "mapper check vit.json --alone"),
    ),
    "explain": (
        Example("What binds", "mapper explain vit.json --only binding", long=True),
        Example("All of it: limits, a little more of the machine, and why not something else",
                "mapper explain vit.json", long=True),
    ),
    "compare": (
        Example("A plan beside its simulation, stage by stage", "mapper compare vit.json simulated.json"),
        Example("Two plans of one model", "mapper compare vit.json stages.json", long=True),
        Example("What a run measured beside what was predicted", "mapper compare plan.json run.json", long=True),
    ),
    "explore": (
        Example("Numbers of stages and threads on one machine, as a table and a page to look at",
                "mapper explore --model mobilenetv2 --topo sg2042 --vary stages=1,2,4 --vary threads=1,4 "
                "-o explore.csv -o explore.html", long=True),
        Example("How much a larger L2 would bring",
                "mapper explore --model mobilenetv2 --topo sg2042 --vary topo.l2_bytes=1MiB,2MiB --vary stages=1,any",
                long=True),
    ),
    "report": (
        Example("All of a plan on one page to look at, without a network, and every picture as a file",
                "mapper report vit.json --only binding -o report.html --pictures pictures", long=True),
        Example("What a run measured beside what was predicted",
                "mapper report plan.json run.json -o report.html", long=True),
    ),
    "export": (
        Example("A table: the stage of every op, the cores of every copy",
                "mapper export vit.json --to csv -o vit.csv"),
        Example("The pinning, as commands with numactl", "mapper export plan.json --to numactl -o pinned"),
        Example("Stages for ONNX Runtime, with a launcher",
                "mapper export plan.json --to onnxruntime -o stages", long=True),
    ),
    "import": (
        Example("A table that was edited by hand or made by another tool, as a plan",
                "mapper import vit.csv --of vit.json -o own.json", long=True),
    ),
    "run": (
        Example("Run, measure, and compare the outputs with those of the unsplit model",
                "mapper run plan.json", long=True),
        Example("The same for 50 items, with a Gantt chart of them",
                "mapper run plan.json --items 50 --trace items.svg -o run.json", long=True),
    ),
    "host": (
        Example("This host's part of the plan in a bundle; where there are several hosts, each runs its own",
                "mapper host 0 plan.bundle --items 20", long=True),
    ),
    "bench": (
        Example("The best plan against native, streams and pipelines, in a minute instead of ten",
                "mapper bench --model mobilenetv2 --rounds 5 --seconds 0.5 -o bench.json", long=True),
        Example("A plan of one's own against them",
                "mapper bench --plan plan.json --rounds 3 --seconds 0.3", long=True),
    ),
    "bundle": (
        Example("All that another machine needs, in a folder", "mapper bundle plan.json -o plan.bundle", long=True),
    ),
    "calibrate": (
        Example("Measure this machine, quickly and roughly, and plan with what was found",
                "mapper calibrate --rounds 3 --seconds 0.05 -o here.json", long=True),
    ),
    "profile": (
        Example("Measure a model on this machine for a minute; then mapper plan --costs profile.json",
                "mapper profile --model mobilenetv2 --budget 1min -o profile.json", long=True),
    ),
    "simulate": (
        Example("Who is busy and who waits, with the end of the timeline", "mapper simulate vit.json --gantt"),
        Example("Computing times that vary by 5 %, and a chart of them",
                "mapper simulate vit.json --jitter 5% --trace timeline.svg"),
        Example("Items that arrive at random, 4 a second",
                "mapper simulate vit.json --arrivals 4/s -o simulated.json"),
    ),
    "study": (
        Example("One model on the SG2042, without the ranges of uncertain figures",
                "mapper study --model mobilenetv2 --items 1 --calls 1 --samples 0", long=True),
        Example("The same mechanisms measured on this machine, in one file to share",
                "mapper study --topo host --quick --model mobilenetv2 --limit 30s -o host-study.json", long=True),
    ),
    "tune": (
        Example("Plan, measure, plan again for a minute, and keep what was measured best",
                "mapper tune --model mobilenetv2 --budget 1min --rounds 5 --seconds 0.3 -o tuned.json", long=True),
    ),
    "schema": (Example("What may stand in a plan file", "mapper schema plan"),),
    "doctor": (Example("Look at this machine and installation", "mapper doctor"),),
    "man": (Example("Write the manual page where man finds it", "mapper man -o mapper.1"),),
    "topo show": (
        Example("A machine of the library: its mesh, its figures and their sources", "mapper topo show sg2042"),
        Example("A machine that is described in a line", "mapper topo show 'pack:2 numa:4 group:4 core:4'"),
        Example("A plan's stages on its machine, as a picture", "mapper topo show --plan vit.json -o machine.svg"),
    ),
    "topo discover": (Example("This machine, as a file to complete by hand", "mapper topo discover -o this.json"),),
    "topo cluster": (
        Example("Four hosts and the network between them",
                "mapper topo cluster 'sg2042*4' --link 10Gbit,20us -o cluster.json"),
    ),
    "topo check": (Example("Is the file right?", "mapper topo check cluster.json"),),
    "topo diff": (Example("What is different in the successor", "mapper topo diff sg2042 sg2044"),),
    "model list": (Example("All models that have a name, with their sizes", "mapper model list", long=True),),
    "model show": (Example("Kinds of op, arithmetic, weights", "mapper model show vit"),),
    "model cost": (
        Example("What each kind of op costs on one core and on four", "mapper model cost vit --topo sg2042"),
        Example("Where the number of one op comes from",
                "mapper model cost vit --topo sg2042 --op linear_48 --configuration 1x4", long=True),
    ),
    "model trace": (
        Example("The graph for Graphviz", "mapper model trace vit -o vit.dot"),
        Example("With times of one core, for another planner",
                "mapper model trace mobilenetv2 --topo sg2042 -o graph.txt", long=True),
    ),
}  # fmt: skip
"""By the command's words after `mapper`."""
