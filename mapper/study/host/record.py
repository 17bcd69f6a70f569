"""The file that `mapper study --topo host` writes. `mapper schema host-study` prints its schema.

Times are seconds, sizes bytes, rates a second; what is measured has a median, the least and the greatest round. Nothing
in it says whose machine it is: no names of hosts or users, no paths.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mapper.jsonio import Record
from mapper.machine.model import Machine
from mapper.measure.calibrate import Row
from mapper.plans.latency import Latency

SCHEMA = "mapper-host-study/1"
BUSY = 0.1
"""Share of the cores that others may take before it begins without a warning."""

Kind = Literal["native", "copies", "pipeline", "planner"]
Pages = Literal["first touch", "interleaved"]


class Build(Record):
    """What computes: Python, and torch with what it was built with. `capability` are the vector instructions that its
    kernels use, `pool` where its threads are from."""

    python: str
    torch: str
    openmp: bool
    onednn: bool
    mkl: bool
    nnpack: bool
    blas: str
    capability: str
    pool: str


class Asked(Record):
    """What was measured, and how: models and elements of native items, elements of the calls of mappings, rounds, about
    how long a round takes, and how long one model with one item size may take."""

    models: tuple[str, ...]
    items: tuple[int, ...]
    calls: tuple[int, ...]
    rounds: int
    round_s: float
    limit_s: float
    backend: str


class Range(Record):
    """The median of some rounds, the least and the greatest of them."""

    median: float
    low: float
    high: float


class OpRow(Record):
    """One op with a team of `threads`, a thread a core, on neighbouring cores. `seconds` is a call. `busy_cores` are
    the CPU seconds of all threads over those of the busiest, waiting not counted: where an op is spread over the images
    of an item only, no more than there are images. `flop` of a call, 0 for ops that are no products. `noisy`: others
    had too much of the cores, or rounds differ too much."""

    sort: str
    sizes: tuple[int, ...]
    items: int
    threads: int
    seconds: Range
    flop: float
    busy_cores: float | None = None
    rounds: int
    others_busy: float
    noisy: bool


class MemoryRow(Record):
    """What `threads` threads on the cores of `cores_of` (numbers of nodes) read together from memory that lies on
    `memory_of`: several nodes are interleaved page by page."""

    threads: int
    cores_of: tuple[int, ...]
    memory_of: tuple[int, ...]
    bytes: int
    bytes_per_s: Range
    rounds: int
    others_busy: float


class Skipped(Record):
    """What was not measured, and why."""

    what: str
    reason: str


class Ratio(Record):
    """The elements a second of a way over those of native with all threads and pages as touched: median of the rounds
    and its confidence interval. `disturbed`: too few rounds were left alone, so this is of all."""

    median: float
    low: float
    high: float
    confidence: float
    disturbed: bool


class Way(Record):
    """One way to run the model. Rates are elements of the batch a second; `latency_s` is of one call of `calls_of`
    elements, with as many in flight as give the rate. `teams` are the configuration and replicas of each stage.
    `predicted_*` is what the machine model says of it. `steady`: its rates had become so before rounds counted."""

    names: tuple[str, ...]
    kinds: tuple[Kind, ...]
    calls_of: int
    pages: Pages
    stages: int
    workers: int
    threads: int
    teams: tuple[str, ...]
    rate_per_s: Range
    latency_s: Latency
    over_native: Ratio | None = None
    predicted_rate_per_s: float
    predicted_latency_s: float
    outputs_identical: bool
    steady: bool
    rounds: int
    disturbed_rounds: int
    rates_per_s: tuple[float, ...]
    others_busy: tuple[float, ...]


class Cell(Record):
    """A model with items of `item` elements: what was measured of it, the first way being native with all threads, and
    what was not. `seconds` is what it took."""

    model: str
    item: int
    graph_sha256: str
    ways: tuple[Way, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    seconds: float


class Finding(Record):
    """What the measurements say of a mechanism that may make pipelines gain: a figure, and in words what it is."""

    mechanism: str
    value: float | None = None
    words: str


class HostStudy(Record):
    """Everything. `machine` is as discovered, `model_machine` the one that predictions and plans were made with: as
    discovered with the figures of this calibration, unless another was given. `others_before` is the share of the cores
    that others took before it began. `interrupted`: it stopped before all was measured."""

    schema_: Literal["mapper-host-study/1"] = Field(default="mapper-host-study/1", alias="schema")
    mapper: str
    asked: Asked
    build: Build | None = None
    system: dict[str, str]
    machine: Machine
    model_machine: Machine | None = None
    others_before: float
    calibrated: tuple[Row, ...]
    calibration_others_busy: float | None = None
    ops: tuple[OpRow, ...]
    memory: tuple[MemoryRow, ...]
    cells: tuple[Cell, ...]
    findings: tuple[Finding, ...]
    skipped: tuple[Skipped, ...]
    warnings: tuple[str, ...]
    interrupted: bool
