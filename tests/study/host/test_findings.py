"""What is said of mechanisms, from rows that are made up."""

from __future__ import annotations

from mapper.measure.calibrate import Row
from mapper.plans.latency import Latency
from mapper.study.host.findings import findings
from mapper.study.host.record import Cell, Finding, Kind, MemoryRow, OpRow, Pages, Range, Ratio, Way


def _range(value: float) -> Range:
    return Range(median=value, low=value, high=value)


def _op(sort: str, items: int, threads: int, seconds: float, busy: float, noisy: bool = False) -> OpRow:
    sizes = (items, 64, 56, 64, 3, 1) if sort.startswith("conv") else (512, 512, 512)
    return OpRow(sort=sort, sizes=sizes, items=items, threads=threads, seconds=_range(seconds), flop=1.0,
                 busy_cores=busy, rounds=3, others_busy=0.0, noisy=noisy)  # fmt: skip


def _memory(cores_of: tuple[int, ...], memory_of: tuple[int, ...], rate: float) -> MemoryRow:
    return MemoryRow(threads=8, cores_of=cores_of, memory_of=memory_of, bytes=1, bytes_per_s=_range(rate), rounds=1,
                     others_busy=0.0)  # fmt: skip


def way(name: str, kind: Kind, rate: float, predicted: float, over: float | None, pages: Pages = "first touch",
        threads: int = 8) -> Way:  # fmt: skip
    """A way with one round."""
    ratio = None if over is None else Ratio(median=over, low=over, high=over, confidence=0.95, disturbed=False)
    return Way(
        names=(name,), kinds=(kind,), calls_of=1, pages=pages, stages=1, workers=1, threads=threads, teams=("1x8 × 1",),
        rate_per_s=_range(rate), latency_s=Latency(p50=1, p90=1, p99=1), over_native=ratio,
        predicted_rate_per_s=predicted, predicted_latency_s=1.0, outputs_identical=True, steady=True, rounds=1,
        disturbed_rounds=0, rates_per_s=(rate,), others_busy=(0.0,),
    )  # fmt: skip


def cell(*ways: Way) -> Cell:
    """A cell of a model that there is not."""
    return Cell(model="m", item=1, graph_sha256="0", ways=ways, skipped=(), notes=(), seconds=1.0)


def _named(found: tuple[Finding, ...], mechanism: str) -> list[Finding]:
    return [one for one in found if one.mechanism == mechanism]


def test_a_spread_over_images_is_told_from_a_spread_over_more() -> None:
    name = "convolutions spread over images only"
    split = _named(findings([_op("conv", 2, 8, 1.0, 2.1)], [], [], []), name)
    assert [one.words.endswith("that is what happens") for one in split] == [True]
    more = _named(findings([_op("conv", 2, 8, 1.0, 7.5)], [], [], []), name)
    assert [one.words.endswith("more is spread") for one in more] == [True]
    untold = _named(findings([_op("conv", 8, 8, 1.0, 8.0), _op("conv", 1, 8, 1.0, 8.0)], [], [], []), name)
    assert [one.value for one in untold] == [None], "as many images as threads show nothing, nor does one"


def test_groups_in_series_and_products_are_quotients_of_two_rows() -> None:
    ops = [_op("conv.depthwise", 1, 1, 1.0, 1.0), _op("conv.depthwise", 1, 8, 2.0, 1.1),
           _op("matmul", 1, 1, 4.0, 1.0), _op("matmul", 1, 8, 1.0, 7.0)]  # fmt: skip
    found = findings(ops, [], [], [])
    (group,) = _named(found, "group-wise convolutions in series")
    assert group.value == 0.5 and "costs more than it brings" in group.words
    assert [one.value for one in _named(found, "products by threads")] == [4.0]


def test_what_others_disturbed_says_nothing_of_times() -> None:
    ops = [_op("matmul", 1, 1, 4.0, 1.0), _op("matmul", 1, 8, 1.0, 7.0, noisy=True)]
    refused = Row(place="/overheads/fork_join_s/8", name="f", state="refused", value=9.0)
    found = findings(ops, [], [], [refused])
    assert [one.value for one in _named(found, "products by threads")] == [None]
    assert [one.value for one in _named(found, "fork and join")] == [None]


def test_fork_and_join_is_the_largest_team_s() -> None:
    rows = [Row(place=f"/overheads/fork_join_s/{n}", name="f", state="measured", value=n * 1e-6) for n in (2, 16, 8)]
    assert [one.value for one in _named(findings([], [], [], rows), "fork and join")] == [16e-6]
    assert [one.value for one in _named(findings([], [], [], rows, 0.5), "fork and join")] == [None], "others were busy"


def test_controllers_are_compared_with_all_cores_at_work() -> None:
    every = (0, 1, 2, 3)
    rows = [_memory(every, (0,), 11.0), _memory(every, every, 44.0), _memory((0,), (0,), 10.0)]
    assert [one.value for one in _named(findings([], rows, [], []), "one memory controller")] == [0.25]
    one = _named(findings([], [_memory((0,), (0,), 10.0)], [], []), "one memory controller")
    assert [x.value for x in one] == [None] and "single node" in one[0].words


def test_the_table_s_findings_name_the_best_of_each_kind() -> None:
    found = findings([], [], [cell(
        way("native, 8 threads", "native", 1.0, 1.0, None),
        way("native, 8 threads, interleaved", "native", 1.2, 1.0, 1.2, "interleaved"),
        way("native, 4 threads", "native", 1.5, 1.0, 1.5, threads=4),
        way("8 stages × 1", "pipeline", 3.0, 6.0, 3.0), way("8 copies × 1", "copies", 5.0, 5.0, 5.0),
    )], [])  # fmt: skip
    values = {one.mechanism: one.value for one in found if one.value is not None}
    assert values == {"weights on one node": 1.2, "native's best team": 1.5, "best pipeline": 3.0, "best mapping": 5.0,
                      "machine model": 1.2}  # fmt: skip
