"""What is said to differ between two machines."""

from __future__ import annotations

from mapper.machine.diff import compare
from mapper.machine.figures import Figure
from mapper.machine.files import load_machine
from mapper.machine.restrict import restrict
from mapper.reports.diff import diff_text
from tests.machines.trees import booted_on

SG2042 = load_machine("sg2042")


def test_a_machine_is_equal_to_itself() -> None:
    found = compare(SG2042, SG2042.model_copy(update={"name": "other", "notes": ()}))
    assert found.equal and found.same_shape
    assert diff_text(found, "a", "b") == ["a and b are equal."]


def test_another_boot_hart_differs_in_numbers_only() -> None:
    found = compare(SG2042, booted_on(SG2042, 8))
    assert found.same_shape
    assert [d.place for d in found.differences] == ["/nodes/0/pus", "/nodes/1/pus"]


def test_figures_are_told_with_their_units_and_caches_by_name() -> None:
    larger = SG2042.caches[1].model_copy(update={"bytes": Figure(value=2**21)})
    other = SG2042.model_copy(update={"caches": (SG2042.caches[0], larger)})
    lines = diff_text(compare(SG2042, other), "sg2042", "other")
    assert lines[0].startswith("sg2042 and other have the same shape: a plan for one fits the other; ")
    changed = next(line for line in lines if line.startswith("/caches/L2 of a group/bytes"))
    assert changed.split() == ["/caches/L2", "of", "a", "group/bytes", "1.05", "MB", "2.10", "MB"]
    gone = next(line for line in lines if line.startswith("/caches/L3 of a package/latency_s"))
    assert gone.split()[-3:] == ["90.0", "ns", "-"]


def test_another_shape_is_said_first() -> None:
    found = compare(SG2042, restrict(SG2042, groups="8"))
    assert not found.same_shape
    assert diff_text(found, "a", "b")[0].startswith("a and b have different shapes")
    places = {d.place: (d.a, d.b) for d in found.differences}
    assert places["/nodes/3/pus"] == ("40-47,56-63", None)
    assert places["/shape"] == (
        "64 cores: 4 NUMA nodes × 4 groups × 4 cores",
        "32 cores: 2 NUMA nodes × 4 groups × 4 cores",
    )
