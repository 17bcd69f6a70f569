"""What a run measured, beside what its plan predicts: the records of `mapper run --json`."""

from __future__ import annotations

from mapper.backends.registry import EAGER
from mapper.errors import PromiseBroken
from mapper.execution.statistics import StageStatistics, WorkerStatistics
from mapper.jsonio import Record
from mapper.plans.latency import Latency
from mapper.plans.model import Plan


class MeasuredStage(Record):
    """A stage at work: seconds an item. `load_s` is computing and copying, what the plan predicts; the rest waiting."""

    id: int
    replicas: int
    load_s: float
    predicted_load_s: float
    compute_s: float
    copy_s: float
    wait_in_s: float
    wait_out_s: float


class MeasuredWorker(Record):
    """A worker: where it is, what it was bound to, as it read back, and seconds of work an item."""

    host: int = 0
    pid: int
    stage: int
    replica: int
    pus: tuple[int, ...]
    threads: int
    items: int
    load_s: float


class MeasuredHost(Record):
    """A host of a run over several: bytes of tensors that it sent to others for an item, warm-up and all."""

    host: int
    sent_bytes: float


class Accuracy(Record):
    """How near the outputs of so many `items` are to the reference's; of several tensors, the one that is furthest.

    `max_relative_difference` is the largest difference over the largest magnitude of the reference's tensor,
    `mean_relative_difference` the mean difference over its mean magnitude, both null where no number says it.
    `top1_agreement` is the part of all rows of scores (outputs with two or three dimensions, a class a column) that are
    largest in the same column; null where there are none.
    """

    items: int
    max_relative_difference: float | None = None
    mean_relative_difference: float | None = None
    cosine_similarity: float
    top1_agreement: float | None = None


class Measurement(Record):
    """What a run gave. `throughput_per_s` is items (calls of the model) a second in the steady state.

    `items_compared` is how many of the items had their outputs compared with the unsplit model's.
    `max_abs_difference` is null where an output is no number and the reference is, or the other way round;
    `max_relative_difference`, against the largest magnitude of the reference's tensor, also where that is all zeros.
    `tolerance` is what was allowed of it, 0 where bits must be equal; the largest where outputs have several dtypes.
    `others_busy` is the part of the plan's PUs that other processes took meanwhile. `accuracy` is of back ends that
    compute with fewer bits than the program says; `hosts` there are where the run was over several.
    """

    model: str
    items: int
    items_compared: int
    warmup: int
    window: int
    throughput_per_s: float
    predicted_throughput_per_s: float
    latency_s: Latency
    predicted_latency_s: float
    outputs_identical: bool
    outputs_within_tolerance: bool
    max_abs_difference: float | None = None
    max_relative_difference: float | None = None
    tolerance: float
    compared_with: str
    backend: str
    torch: str
    others_busy: float
    stages: tuple[MeasuredStage, ...]
    workers: tuple[MeasuredWorker, ...]
    accuracy: Accuracy | None = None
    hosts: tuple[MeasuredHost, ...] = ()
    notes: tuple[str, ...] = ()


class OutputsDiffer(PromiseBroken):
    """Outputs are not those of the unsplit model. `measurement` is what was measured nevertheless."""

    def __init__(self, what: str, measurement: Measurement) -> None:
        self.measurement = measurement
        who = "torch" if measurement.backend == EAGER else measurement.backend
        advice = f"This is a bug in mapper or in {who}, unless the plan or the bundle was edited"
        if measurement.accuracy is not None:
            advice += ", or the model needs more bits than this back end computes with"
        super().__init__(what, advice=f"{advice}.")


def measured_stage(plan: Plan, seen: StageStatistics) -> MeasuredStage:
    """What was seen of a stage, beside its predicted load."""
    stage = plan.stages[seen.id]
    return MeasuredStage(
        id=seen.id, replicas=len(stage.replicas), load_s=seen.load_s, predicted_load_s=stage.load.total_s,
        compute_s=seen.compute_s, copy_s=seen.copy_s, wait_in_s=seen.wait_in_s, wait_out_s=seen.wait_out_s,
    )  # fmt: skip


def measured_worker(seen: WorkerStatistics) -> MeasuredWorker:
    """What was seen of a worker, an item."""
    return MeasuredWorker(
        host=seen.host, pid=seen.pid, stage=seen.stage, replica=seen.replica, pus=seen.pus, threads=seen.threads,
        items=seen.items, load_s=(seen.compute_s + seen.copy_s) / max(seen.items, 1),
    )  # fmt: skip
