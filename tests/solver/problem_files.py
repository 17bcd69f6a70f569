"""Random small problem files for property tests, as the documents that stand in them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from mapper.plans.problem_file import ProblemFile, ProblemRef
from tests.solver.problems import SHAPES

Document = dict[str, Any]
REFERENCE = ProblemRef(name="small", file="small.json", sha256="0" * 64)


@st.composite
def documents(draw: st.DrawFn, most_ops: int = 4) -> Document:
    """Up to `most_ops` ops in any order, up to four cores; caches that hold some stages and not others, and
    sizes of which some do not divide each other."""
    n = draw(st.integers(1, most_ops))
    groups, size = draw(st.sampled_from(SHAPES))
    chip = draw(st.sampled_from([None, 10.0, 40.0, 1000.0]))
    residencies = ["group", "chip", "dram"] if chip is not None else ["group", "dram"]
    parts = [(1, k) for k in (1, 2, 3) if k < size and draw(st.booleans())]
    configs = [
        {"name": f"{g}of{k}", "cores": g * k, "groups": g, "cache_shares": draw(st.sampled_from([1, g]))}
        for g, k in [*parts, *((g, size) for g in range(1, groups + 1))]
    ]
    order = draw(st.permutations(range(n)))
    sizes = {name: draw(st.integers(0, 20)) for name in "abc"}
    ops = [draw(_ops(v, configs, len(residencies), sizes)) for v in range(n)]
    tensors = []
    for place, producer in enumerate(order[:-1]):
        readers = draw(st.lists(st.sampled_from(order[place + 1 :]), max_size=2))
        if readers:
            ends = [draw(st.sampled_from([v, f"op{v}"])) for v in [producer, *readers]]
            tensors.append({"producer": ends[0], "readers": ends[1:], "bytes": draw(st.integers(0, 20))})
    return {
        "format": "mapper-problem/1",
        "name": "small",
        "machine": {
            "groups": groups, "cores_per_group": size, "dram_bytes_per_s": draw(st.sampled_from([1.0, 1e9])),
            "group_cache": {"bytes": draw(st.sampled_from([0, 25, 60, 200])), "fill": draw(st.sampled_from([0.5, 1]))},
            "chip_cache": None if chip is None else {"name": "L3", "bytes": chip, "fill": 1},
            "handoff_s": draw(st.sampled_from([0.0, 0.5])), "link_bytes_per_s": draw(st.sampled_from([2.0, 10.0])),
            "ring_slots": draw(st.integers(1, 3)),
        },
        "residencies": residencies, "configs": configs, "ops": ops, "tensors": tensors,
    }  # fmt: skip


@st.composite
def _ops(draw: st.DrawFn, v: int, configs: list[Document], columns: int, sizes: dict[str, int]) -> Document:
    """An op of some weights, slower on fewer cores and farther from its weights."""
    work, slow = draw(st.integers(0, 40)), draw(st.sampled_from([1.0, 1.3, 2.0]))
    power = draw(st.sampled_from([0.5, 0.9, 1.0]))
    used = draw(st.lists(st.sampled_from("abc"), unique=True, max_size=2))
    return {
        "name": f"op{v}", "kind": "any", "weights": [[name, sizes[name]] for name in used],
        "footprint": draw(st.integers(0, 20)),
        "seconds": [[work / config["cores"] ** power * slow**k for k in range(columns)] for config in configs],
    }  # fmt: skip


def some_time(document: Document) -> bool:
    """Whether any op takes time."""
    return any(op["seconds"][0][0] for op in document["ops"])


def file_of(document: Document) -> ProblemFile:
    """The validated record of `document`."""
    return ProblemFile.model_validate(document)
