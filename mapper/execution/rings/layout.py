"""From a plan and the program it maps to what its workers share: channels, and where each lies."""

from __future__ import annotations

from collections.abc import Sequence

from mapper.backends.registry import backend_called
from mapper.errors import BadInput
from mapper.execution.rings.memory import LINE_BYTES, begin
from mapper.execution.rings.ring import FEEDER_ID, Channel, Reader, slot_fields
from mapper.jsonio import Record
from mapper.plans.model import FEEDER, Plan
from mapper.program.model import Program, TensorType
from mapper.sources.stages import output_homes

COUNTERS_BYTES = 2 * LINE_BYTES
"""What each worker tells about itself while it runs."""
TRACE_WORDS = 7
"""A call in a worker: its number and six times."""
MAX_BYTES = 2**46


class Layout(Record):
    """The shared memory of a run: a line of state, the workers' counters, semaphores, the channels' slots, and from
    `traces` on the times of the last `traced` calls of each worker.

    `replicas[s]` is the number of copies of stage s; `ahead` is the plan's.
    """

    replicas: tuple[int, ...]
    channels: tuple[Channel, ...]
    bytes: int
    ahead: int = 0
    traces: int = 0
    traced: int = 0

    def worker(self, stage: int, replica: int) -> int:
        """The number of a worker, stage by stage."""
        return sum(self.replicas[:stage]) + replica

    def counters(self, stage: int, replica: int) -> int:
        """Where a worker's counters begin, in bytes."""
        return LINE_BYTES + self.worker(stage, replica) * COUNTERS_BYTES

    def trace(self, stage: int, replica: int) -> int:
        """Where the times of a worker's calls begin, in bytes."""
        return self.traces + 8 * self.worker(stage, replica) * self.traced * TRACE_WORDS

    def written_by(self, stage: int, replica: int) -> Channel:
        """The channel that a replica of `stage` writes."""
        return next(c for c in self.channels if (c.stage, c.replica) == (stage, replica))

    def read_by(self, stage: int) -> list[list[Channel]]:
        """For each producer that `stage` reads, the channels of its replicas in order; the feeder comes first."""
        found: dict[int, list[Channel]] = {}
        for channel in self.channels:
            if any(reader.stage == stage for reader in channel.readers):
                found.setdefault(channel.stage, []).append(channel)
        return [found[producer] for producer in sorted(found)]


def lay_out(plan: Plan, program: Program, programs: Sequence[Program], traced: int = 0) -> Layout:
    """Where the channels of `plan` lie, with room for the times of `traced` calls of each worker.

    Slots: the most that an edge of the producer states; at least the window for what the feeder hands in, and one for
    what it has ready beside that (a single stage: one for each replica, which with the one at work are as many as plans
    count), so that it never waits there while results wait for it; one more where the back end computes into the slot,
    in the place of a buffer of its own, so that it may be as far ahead of its readers."""
    replicas = tuple(len(stage.replicas) for stage in plan.stages)
    tensors = {FEEDER_ID: [(given.name, given.type) for given in program.inputs]}
    for s, stage in enumerate(programs):
        types = [stage.type_of(reference) for reference in stage.outputs]
        tensors[s] = list(zip(stage.output_names, types, strict=True))
    slots = _slots(plan)
    semaphores = LINE_BYTES + sum(replicas) * COUNTERS_BYTES
    drafts = []
    for producer in (FEEDER_ID, *range(len(programs))):
        copies = 1 if producer == FEEDER_ID else replicas[producer]
        fields, slot_bytes = slot_fields(tensors[producer])
        readers = tuple(_readers(producer, tensors[producer], program, programs, replicas))
        for replica in range(copies):
            draft = Channel(
                stage=producer, replica=replica, replicas=copies, fields=fields, readers=readers,
                slots=slots[producer], slot_bytes=slot_bytes, base=0, semaphores=semaphores,
            )  # fmt: skip
            semaphores += draft.semaphore_count * LINE_BYTES
            drafts.append(draft)
    channels, end = [], semaphores
    for draft in drafts:
        size = draft.slots * draft.slot_bytes
        end = begin(end, size)
        channels.append(draft.model_copy(update={"base": end}))
        end += size
    if end > MAX_BYTES:
        raise BadInput("plan", f"its rings would need {end} bytes", place="/edges")
    traces = -(-end // LINE_BYTES) * LINE_BYTES
    end = traces + 8 * sum(replicas) * traced * TRACE_WORDS if traced else end
    return Layout(
        replicas=replicas, ahead=plan.ahead, channels=tuple(channels), bytes=end, traces=traces, traced=traced
    )


def _slots(plan: Plan) -> dict[int, int]:
    slots = dict.fromkeys(range(len(plan.stages)), 1) | {FEEDER_ID: plan.predicted.window + max(plan.ahead, 1)}
    for edge in plan.edges:
        producer = FEEDER_ID if edge.source == FEEDER else int(edge.source)
        slots[producer] = max(slots[producer], edge.slots)
    ahead = int(backend_called(plan.request.backend).in_place)
    return {producer: count + (ahead if producer != FEEDER_ID else 0) for producer, count in slots.items()}


def _readers(
    producer: int,
    tensors: Sequence[tuple[str, TensorType]],
    program: Program,
    programs: Sequence[Program],
    replicas: Sequence[int],
) -> list[Reader]:
    """Which stages read what of a producer's tensors; the feeder reads the outputs of the model."""
    names = [name for name, _ in tensors]
    readers = []
    for s in range(producer + 1, len(programs)):
        wanted = [given.name for given in programs[s].inputs]
        fields = tuple(
            names.index(name) for name in wanted if name in names and _home(name, program, programs) == producer
        )
        if fields:
            readers.append(Reader(stage=s, replicas=replicas[s], fields=fields))
    if producer != FEEDER_ID:
        collected = [i for i, home in enumerate(output_homes(program, programs)) if home[0] == producer]
        fields = tuple(dict.fromkeys(output_homes(program, programs)[i][1] for i in collected))
        if fields:
            readers.append(Reader(stage=FEEDER_ID, replicas=1, fields=fields))
    return readers


def _home(name: str, program: Program, programs: Sequence[Program]) -> int:
    """The producer of the tensor that enters a stage as `name`."""
    if name in program.input:
        return FEEDER_ID
    return next(s for s, stage in enumerate(programs) if {"op": name} in stage.outputs)
