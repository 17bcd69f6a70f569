"""Claims: a hop between two processes through a ring takes at most 25 µs at 1 KB, at most 1.3 times one memcpy of the
tensor at 3 MB, and is at least 5 times faster than torch.multiprocessing.Queue and than gloo at both sizes.

    python benchmarks/hop.py [--rounds 15] [--spin-us 50] [-o hop.json]

Two processes, each on a core of its own, hand a float32 tensor to and fro: a hop is half of that, median of a round's
exchanges; the table has the median of the rounds with its 95 % interval, and ratios are paired by round. All is
measured in turn in every round. With the ring, a hop is `acquire`, `write` (the copy of the tensor), `publish`, `take`
and `release`, with two slots each way. `blocking` is the same ring without spinning before it blocks. One memcpy is
`copy_` of the same tensor into two places in ordinary memory in turn, and both processes do it in turn, as with the
ring: so source and targets lie in the caches as far as they do there, where nobody computes in between. The queue gets
a new tensor each time, made before the clock starts: it puts it into shared memory, where one that was sent before is
already. gloo sends from a tensor and receives into one through 127.0.0.1.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

from mapper.execution.rings.memory import LINE_BYTES, PAGE_BYTES, Memory, Semaphore, begin
from mapper.execution.rings.ring import Channel, Consumer, Producer, Reader, slot_fields
from mapper.execution.rings.spin import SPIN_NS
from mapper.host.affinity import pin
from mapper.host.load import busy_between, snapshot
from mapper.machine.discover import discover
from mapper.program.model import TensorType
from mapper.reports.table import table
from mapper.study.statistics import Interval, median_interval

SIZES = {"1 KB": 1_000, "150 KB": 150_000, "3 MB": 3_000_000}
EXCHANGES = {"1 KB": 1_000, "150 KB": 500, "3 MB": 100}
SLOTS = 2
TURN = "1 KB"
"""What a process hands over to say that it is the other's turn."""
RING, BLOCKING, MEMCPY, QUEUE, GLOO = "ring", "blocking", "memcpy", "queue", "gloo"
SLOW = (QUEUE, GLOO)
"""Of these a fifth of the exchanges."""


@dataclass
class Ends:
    """What one of the two processes has: its tensor of each size, and the ends of all transports."""

    rank: int
    spin_ns: int
    tensors: dict[str, torch.Tensor]
    rings: dict[str, tuple[Producer, Consumer]] = field(default_factory=dict)
    sent: Counter[str] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    plain: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    copied: int = 0
    fresh: torch.Tensor | None = None

    def prepare(self, transport: str, size: str) -> None:
        """What is not part of a hop: the tensor that the queue is to send."""
        self.fresh = self.tensors[size].clone() if transport == QUEUE else None

    queues: tuple[Any, Any] | None = None

    def send(self, transport: str, size: str) -> None:
        """Hands this process's tensor to the other one."""
        if transport == QUEUE and self.queues is not None:
            self.queues[self.rank].put(self.fresh)
        elif transport == GLOO:
            dist.send(self.tensors[size], 1 - self.rank)
        else:
            producer, number = self.rings[size][0], self.sent[size]
            producer.acquire(number)
            producer.write(number, [self.tensors[size]])
            producer.publish(number)
            self.sent[size] += 1

    def receive(self, transport: str, size: str, into: torch.Tensor) -> None:
        """Waits for the other one's tensor, and leaves it again."""
        if transport == QUEUE and self.queues is not None:
            self.queues[1 - self.rank].get()
        elif transport == GLOO:
            dist.recv(into, 1 - self.rank)
        else:
            consumer, number = self.rings[size][1], self.received[size]
            consumer.take(number)
            consumer.release(number)
            self.received[size] += 1

    def copy(self, size: str) -> None:
        """One memcpy into ordinary memory, as many places in turn as the ring has slots."""
        self.plain[size][self.copied % SLOTS].copy_(self.tensors[size])
        self.copied += 1

    def wait(self, semaphore: Semaphore) -> None:
        """How the ring's ends wait."""
        semaphore.wait(self.spin_ns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--spin-us", type=float, default=SPIN_NS / 1e3, help="spin before blocking [%(default)s]")
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    cores = discover().cores
    if len(cores) < 2:
        sys.exit("Two processes need a core each, and this process may use one only.")
    pus = [core.pus[0] for core in cores[:2]]
    rounds, busy, huge = measured(pus, args.rounds, int(args.spin_us * 1e3))
    claims = [judged(*claim) for claim in compared(rounds)]
    print(f"A hop between PU {pus[0]} and PU {pus[1]}, µs (95 %); both were busy {busy:.0%} of the time, by all; "
          f"{huge / 2**20:.0f} MiB of the rings are huge pages")  # fmt: skip
    print("\n".join([*lines(rounds), *(f"{claim['verdict']}: {claim['claim']}: {claim['found']}" for claim in claims)]))
    if args.output:
        document = {
            "rounds_s": rounds,
            "claims": claims,
            "spin_us": args.spin_us,
            "pus": pus,
            "busy": busy,
            "huge_bytes": huge,
        }
        args.output.write_text(json.dumps(document, indent=1) + "\n")


def measured(pus: list[int], count: int, spin_ns: int) -> tuple[list[dict[str, dict[str, float]]], float, int]:
    """For each round, by size and transport, the median seconds of a hop; how busy the PUs were; huge pages, bytes."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    context = multiprocessing.get_context("fork")  # before any pool of threads is there
    with tempfile.TemporaryDirectory() as folder:
        memory = Memory.create(sum(layout_of(n, 0)[1] for n in SIZES.values()))
        queues, orders = (context.Queue(), context.Queue()), context.Queue()
        parts = (pus, memory, queues, orders, f"file://{folder}/gloo", spin_ns)
        other = context.Process(target=answer, args=parts, daemon=True)
        other.start()
        ends = ready(0, *parts)
        before, found = snapshot(), []
        for number in range(count + 1):
            print(f"round {number} of {count} ...", file=sys.stderr, flush=True)
            found.append({size: {
                transport: one(ends, transport, size, orders) for transport in (RING, BLOCKING, MEMCPY, QUEUE, GLOO)
            } for size in SIZES})  # fmt: skip
        busy, huge = busy_between(before, snapshot(), pus), huge_bytes()
        orders.put(None)
        other.join()
        dist.destroy_process_group()
        os.close(memory.fd)
    return found[1:], busy, huge


def huge_bytes() -> int:
    """How much shared memory this process has in huge pages."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(("ShmemPmdMapped:", "FilePmdMapped:")))


def layout_of(size: int, start: int) -> tuple[list[Channel], int]:
    """The channels to and fro for tensors of `size` bytes, from byte `start` of the memory on, and where they end."""
    kind = TensorType(shape=(size // 4,), strides=(1,), dtype="float32")
    fields, slot_bytes = slot_fields([("x", kind)])
    channels = []
    for stage in (0, 1):
        base = begin(start + PAGE_BYTES, SLOTS * slot_bytes)
        channels.append(Channel(
            stage=stage, replica=0, replicas=1, fields=fields, slots=SLOTS, slot_bytes=slot_bytes, base=base,
            readers=(Reader(stage=1 - stage, replicas=1, fields=(0,)),), semaphores=start + LINE_BYTES,
        ))  # fmt: skip
        start = base + SLOTS * slot_bytes
        start += -start % PAGE_BYTES
    return channels, start


def ready(
    rank: int, pus: list[int], memory: Memory, queues: tuple[Any, Any], orders: Any, rendezvous: str, spin_ns: int
) -> Ends:
    """The ends of the process `rank`, bound to its PU and connected with the other one."""
    pin([pus[rank]])
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    ends = Ends(rank, spin_ns, {size: torch.ones(n // 4) for size, n in SIZES.items()}, queues=queues)
    start = 0
    for size, n in SIZES.items():
        channels, start = layout_of(n, start)
        if rank == 0:
            for channel in channels:
                channel.initialise(memory)
        ends.rings[size] = (
            Producer(memory, channels[rank], ends.wait), Consumer(memory, [channels[1 - rank]], rank, 0, ends.wait)
        )  # fmt: skip
        ends.rings[size][0].touch([ends.tensors[size]])
        ends.plain[size] = [torch.ones(n // 4) for _ in range(SLOTS)]
    dist.barrier()
    return ends


def answer(pus: list[int], *parts: Any) -> None:
    """The other process: gives back as many tensors as it is told."""
    ends, orders = ready(1, pus, *parts), parts[2]
    while (order := orders.get()) is not None:
        transport, size, exchanges, ends.spin_ns = order
        into = torch.empty_like(ends.tensors[size])
        for _ in range(exchanges):
            if transport == MEMCPY:
                ends.receive(RING, TURN, into)
                ends.copy(size)
                ends.send(RING, TURN)
            else:
                ends.prepare(transport, size)
                ends.receive(transport, size, into)
                ends.send(transport, size)


def one(ends: Ends, transport: str, size: str, orders: Any) -> float:
    """The median seconds of a hop, or of a memcpy."""
    exchanges = EXCHANGES[size] // (5 if transport in SLOW else 1)
    before, ends.spin_ns = ends.spin_ns, 0 if transport == BLOCKING else ends.spin_ns
    orders.put((transport, size, exchanges, ends.spin_ns))
    into = torch.empty_like(ends.tensors[size])
    found = [copied(ends, size) if transport == MEMCPY else hop(ends, transport, size, into) for _ in range(exchanges)]
    ends.spin_ns = before
    return statistics.median(found)


def hop(ends: Ends, transport: str, size: str, into: torch.Tensor) -> float:
    """Seconds of half the way there and back."""
    ends.prepare(transport, size)
    began = time.perf_counter_ns()
    ends.send(transport, size)
    ends.receive(transport, size, into)
    return (time.perf_counter_ns() - began) / 2e9


def copied(ends: Ends, size: str) -> float:
    """Seconds of one memcpy; then it is the other process's turn."""
    began = time.perf_counter_ns()
    ends.copy(size)
    took = time.perf_counter_ns() - began
    ends.send(RING, TURN)
    ends.receive(RING, TURN, ends.tensors[TURN])
    return took / 1e9


def compared(rounds: list[dict[str, dict[str, float]]]) -> list[tuple[str, Interval, float, bool]]:
    """Each claim: its words, the figure that decides, its limit, and whether that is a least."""
    found: list[tuple[str, Interval, float, bool]] = []
    found += [
        ("a hop of 1 KB takes at most 25 µs", median_interval([1e6 * r["1 KB"][RING] for r in rounds]), 25, False)
    ]
    paired = median_interval([r["3 MB"][RING] / r["3 MB"][MEMCPY] for r in rounds])
    found.append(("a hop of 3 MB takes at most 1.3 times one memcpy", paired, 1.3, False))
    for size in ("1 KB", "3 MB"):
        for transport, name in ((QUEUE, "torch.multiprocessing.Queue"), (GLOO, "gloo")):
            paired = median_interval([r[size][transport] / r[size][RING] for r in rounds])
            found.append((f"at {size} the ring is at least 5 times faster than {name}", paired, 5, True))
    return found


def judged(claim: str, found: Interval, limit: float, least: bool) -> dict[str, Any]:
    """Whether the median keeps the limit, and in words whether all of the interval does."""
    kept = [(value >= limit) if least else (value <= limit) for value in (found.median, found.low, found.high)]
    verdict = "supported" if all(kept) else "refuted" if not any(kept) else "undecided"
    return {"claim": claim, "verdict": verdict, "found": f"{found.median:.3g} ({found.low:.3g} to {found.high:.3g})"}


def lines(rounds: list[dict[str, dict[str, float]]]) -> list[str]:
    """The table: a line a size, a column a transport."""
    rows = []
    for size in SIZES:
        cells = [median_interval([1e6 * r[size][name] for r in rounds]) for name in (RING, BLOCKING, MEMCPY, *SLOW)]
        rows.append([size, *(f"{c.median:.1f} ({c.low:.1f} to {c.high:.1f})" for c in cells)])
    return table(["tensor", "ring", "blocking", "one memcpy", "queue", "gloo"], rows, right="12345")


if __name__ == "__main__":
    main()
