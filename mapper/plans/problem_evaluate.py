"""What a plan of a problem file costs, written plainly from the format (docs/problem.md). The search does not use
this; it is checked against it. Sums are exact to the last digit (`math.fsum`), so they depend on no order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mapper.plans.problem_file import CHIP, DRAM, GROUP, ProblemFile
from mapper.plans.problem_plan import NamedConfiguration, ProblemPredicted, ProblemStage


@dataclass(frozen=True)
class Proposed:
    """A stage as it is to be evaluated: ops by position, configuration by name, number of replicas.

    `exclusive`: its groups hold no other stage, so it pays whole groups.
    """

    ops: tuple[int, ...]
    configuration: str
    replicas: int
    exclusive: bool = False


@dataclass(frozen=True)
class Evaluated:
    """The parts of a plan that follow from its stages."""

    stages: tuple[ProblemStage, ...]
    period_s: float
    latency_s: float
    cores_used: int
    dram_bytes_per_item: float
    limited_by: str

    @property
    def predicted(self) -> ProblemPredicted:
        """As it stands in the plan; only for a period above 0."""
        return ProblemPredicted(
            period_s=self.period_s,
            throughput_per_s=1 / self.period_s,
            latency_s=self.latency_s,
            cores_used=self.cores_used,
            dram_bytes_per_item=self.dram_bytes_per_item,
            limited_by=self.limited_by,
        )


def evaluate_problem(file: ProblemFile, proposed: Sequence[Proposed]) -> Evaluated:
    """Loads, residencies, period, latency and cores of `proposed`, whose ops must partition those of `file`.

    Raises: ValueError for a configuration that the file does not have.
    """
    parts = [_stage(file, i, stage) for i, stage in enumerate(proposed)]
    stages = tuple(stage for stage, _ in parts)
    dram = math.fsum(stage.dram_bytes for stage in stages)
    causes = [(stage.load_s / stage.replicas, f"stage {stage.id}: {what}") for stage, what in parts]
    causes.append((dram / file.machine.dram_bytes_per_s, "DRAM"))
    period, cause = max(causes, key=lambda both: both[0])
    return Evaluated(
        stages,
        period,
        math.fsum(stage.load_s for stage in stages),
        sum(cores_of(file, stage) for stage in proposed),
        dram,
        cause,
    )


def cores_of(file: ProblemFile, stage: Proposed) -> int:
    """Cores that `stage` takes: replicas times those of its configuration, in whole groups where it is exclusive."""
    size = file.machine.cores_per_group
    cores = stage.replicas * file.configs[file.config(stage.configuration)].cores
    return -(-cores // size) * size if stage.exclusive else cores


def _stage(file: ProblemFile, number: int, proposed: Proposed) -> tuple[ProblemStage, str]:
    """The stage, and what most of its load is."""
    machine, inside = file.machine, set(proposed.ops)
    entering, leaving = [], []
    for (producer, readers), tensor in zip(file.ends, file.tensors, strict=True):
        if producer not in inside and inside & set(readers):
            entering.append(tensor.bytes)
        if producer in inside and set(readers) - inside:
            leaving.append(tensor.bytes)
    ops = [file.ops[v] for v in proposed.ops]
    weights = math.fsum({name: size for op in ops for name, size in op.weights}.values())
    private = max(op.footprint for op in ops) + machine.ring_slots * math.fsum(entering)
    residency = _residency(file, proposed, weights, private)
    config, column = file.config(proposed.configuration), file.residencies.index(residency)
    work = math.fsum(op.seconds[config][column] for op in ops)
    crossing = [*entering, *leaving]
    transfers = len(crossing) * machine.handoff_s + math.fsum(crossing) / machine.link_bytes_per_s
    made = ProblemStage(
        id=number,
        ops=proposed.ops,
        residency=residency,
        configuration=NamedConfiguration(name=proposed.configuration),
        replicas=proposed.replicas,
        exclusive=proposed.exclusive,
        load_s=work + transfers,
        weight_bytes=weights,
        dram_bytes=weights if residency == DRAM else 0.0,
        private_bytes=private,
    )
    return made, "its ops" if work >= transfers else "tensors handed over"


def _residency(file: ProblemFile, proposed: Proposed, weights: float, private: float) -> str:
    """The nearest cache that holds what one replica works with."""
    machine, config = file.machine, file.configs[file.config(proposed.configuration)]
    usable, size = machine.group_cache.usable_bytes, machine.cores_per_group
    if config.cores < size:
        near = weights + private <= usable * config.cores / size
        near = near or (proposed.exclusive and weights + private * size / config.cores <= usable)
    else:
        near = weights + private <= usable * config.cache_shares
    if near:
        return GROUP
    chip = machine.chip_cache
    return CHIP if chip is not None and file.total_weight_bytes <= chip.usable_bytes else DRAM
