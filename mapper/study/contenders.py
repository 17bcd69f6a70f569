"""Who is compared: the chosen plan, what people do without a planner, and what libraries bring along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mapper.backends.registry import BACKENDS, backend_called
from mapper.cost.configurations import Config, configurations
from mapper.errors import Infeasible, NoPlanInTime, UsageError
from mapper.graph.model import Graph
from mapper.machine.model import Machine
from mapper.machine.sysfs import online_pus
from mapper.plans.model import ModelRef, Plan
from mapper.solver.plan import plan
from mapper.solver.problem import Limits
from mapper.sources.backend import with_backend
from mapper.study.engines import SESSION, SHARED, THROUGHPUT
from mapper.study.launcher import FAMILIES, MODULE, lacking, launcher, modes
from mapper.study.rounds import Say
from mapper.study.vendors import SetUp

CHOSEN = "chosen"
PIPELINE_LIMIT_S = 30.0
"""What the search for a pipeline with a stage a core may take."""


@dataclass
class Field:
    """What takes part: plans with their names, the chosen one first; set-ups outside the executor, each with the plan
    that says what its outputs have to be; and what was left out, in words."""

    plans: list[tuple[list[str], Plan]]
    outside: list[tuple[SetUp, Plan]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def named(self) -> list[tuple[tuple[str, ...], Plan]]:
        """The plans with their names, which stay as they are now."""
        return [(tuple(names), plan) for names, plan in self.plans]

    def add(self, name: str, other: Plan) -> None:
        """Adds a plan; one that is there already gets another name."""
        for names, known in self.plans:
            if known.stages == other.stages and known.request.backend == other.request.backend:
                names.append(name)
                return
        self.plans.append(([name], other))


def contenders(
    graph: Graph, machine: Machine, model: ModelRef, batch: int, backend: str, *,
    given: Sequence[tuple[str, Plan]] = (), vendors: bool = False, say: Say = lambda message: None,
) -> Field:  # fmt: skip
    """The chosen plan, or those that were `given` (the first of them is the chosen one), native, streams, pipelines and
    what torch's launcher sets up, all with `backend`; equal mappings are one contender with several names. Of the
    library behind `backend` its own way to use all cores, with `vendors` of every library that is installed."""
    say("Planning ...")
    first = given or [(CHOSEN, plan(graph, machine, model=model, batch=batch))]
    found = Field([([first[0][0]], with_backend(first[0][1], backend))])
    for name, other in first[1:]:
        found.add(name, with_backend(other, backend))
    whole = None
    for name, limits, seconds in _wanted(machine, len(graph.ops)):
        say(f"Planning {name} ...")
        try:
            made = plan(graph, machine, limits=limits, model=model, batch=batch, time_limit_s=seconds)
        except (Infeasible, UsageError, NoPlanInTime) as error:
            found.notes.append(f"there is no plan for {name}: {error.what}")
            continue
        whole = made if name == "native" else whole
        found.add(name, with_backend(made, backend))
    _launched(found, graph, machine, model, batch, backend)
    if whole is not None:
        for set_up in library_set_ups(machine, backend, vendors):
            found.outside.append((set_up, with_backend(whole, set_up.backend)))
    return found


def _wanted(machine: Machine, ops: int) -> list[tuple[str, Limits, float | None]]:
    """The plans to compare with: name, limits, and seconds for the search (None: as long as it takes)."""
    known, cores = configurations(machine), len(machine.cores)
    teams = [config for config in known[:-1] if config.cores & (config.cores - 1) == 0]
    native = [(f"native, {_threads(config)}", config) for config in teams]
    found = [(name, Limits(stages=1, max_replicas=1, configurations=(config,)), None)
             for name, config in [("native", known[-1]), *native]]  # fmt: skip
    wanted: list[tuple[str, Limits, float | None]] = [*found]
    wanted.append(("streams", Limits(stages=1, configurations=(known[0],)), None))
    if ops >= 2 and cores >= 2:
        wanted.append(("two stages", Limits(stages=2), None))
    if 2 < cores <= ops:
        wanted.append((f"{cores} stages", Limits(stages=cores), PIPELINE_LIMIT_S))
    return wanted


def _threads(config: Config) -> str:
    return f"{config.cores} thread{'s' if config.cores > 1 else ''}"


def _launched(found: Field, graph: Graph, machine: Machine, model: ModelRef, batch: int, backend: str) -> None:
    """Adds what torch's launcher sets up: the same instances, cores and threads in workers of the executor, and for
    torch's own back ends the launcher itself, where it can be run."""
    why = lacking() if backend_called(backend).family in FAMILIES else f"it is made for torch, not for {backend}"
    for mode in modes(machine):
        configs = [config for config in configurations(machine) if config.cores == mode.cores]
        limits = Limits(stages=1, max_replicas=mode.instances, configurations=tuple(configs[:1]))
        name = f"run_cpu's set-up ({mode.title})"
        try:
            made = plan(graph, machine, limits=limits, model=model, batch=batch) if configs else None
        except (Infeasible, UsageError):
            made = None
        if made is None or len(made.stages[0].replicas) != mode.instances:
            found.notes.append(f"{name} is no plan here: {mode.instances} instances of {mode.cores} cores")
            continue
        found.add(name, with_backend(made, backend))
        if why is None:
            found.outside.append((launcher(mode, machine, backend), with_backend(made, backend)))
    if why is not None:
        found.notes.append(f"{MODULE} itself is not run ({why}); its set-up is, in workers of mapper")
    if not any("latency" in mode.names for mode in modes(machine)):
        found.notes.append(f"{MODULE} sets up nothing in its latency mode: there are fewer than 4 cores")


def library_set_ups(machine: Machine, backend: str, every: bool) -> list[SetUp]:
    """How libraries use all cores by themselves: OpenVINO's throughput mode; ONNX Runtime with its default options, and
    a session with one thread a call that as many threads as cores share. Those of the library of `backend`, or of
    `every` one that is installed."""
    pus = tuple(sorted(pu for core in machine.cores for pu in core.pus))
    names = [backend]
    if every:
        own = backend_called(backend).family
        names += [b.name for b in BACKENDS.values() if b.name == b.family != own and b.available() is None]
    found = []
    for name in names:
        family = backend_called(name).family
        if family == "openvino":
            found.append(SetUp("OpenVINO, throughput mode", THROUGHPUT, name, pus, 0))
        elif family == "onnxruntime":
            whole = set(pus) == set(online_pus(Path("/")))  # it takes all that are online, if it is not told
            threads = 0 if whole else len(machine.cores)
            found.append(SetUp("ONNX Runtime, default options", SESSION, name, pus, threads))
            found.append(SetUp("ONNX Runtime, one session shared", SHARED, name, pus, len(machine.cores)))
    return found
