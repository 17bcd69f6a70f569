"""Graph files for tests: the published ones, where they lie beside the checkout, and small made-up ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from mapper.graph.importers.draft import Output, assembled
from mapper.graph.model import Graph, Op, WeightUse

FOLDER = Path(__file__).parents[3] / "shared" / "reference" / "workloads"
"""Published workloads with known optima; tests that need it skip where it is absent."""
OPTIMA: dict[str, Any] = (
    json.loads((FOLDER / "optima.json").read_text())["workloads"] if (FOLDER / "optima.json").is_file() else {}
)

DNN: dict[str, Any] = {
    "maxSizePerFPGA": 1e9,
    "maxFPGAs": 6,
    "maxCPUs": 1,
    "nodes": [
        {"name": "in", "id": 7, "supportedOnFpga": 1, "cpuLatency": 3.5, "fpgaLatency": 0.696, "isBackwardNode": 0,
         "colorClass": 1, "size": 0.125},
        {"name": "left", "id": 3, "supportedOnFpga": True, "cpuLatency": 0, "fpgaLatency": 11.68412990625,
         "isBackwardNode": False, "size": 4096.0},
        {"name": "right", "id": 5, "supportedOnFpga": 1, "cpuLatency": 1.0, "fpgaLatency": 2.0, "isBackwardNode": 0,
         "colorClass": 2, "size": 64.0},
        {"id": 4, "supportedOnFpga": 1, "cpuLatency": 1.0, "fpgaLatency": 0, "isBackwardNode": 0, "colorClass": 2,
         "size": 8.0},
    ],
    "edges": [
        {"sourceId": 7, "destId": 3, "cost": 0.0359, "size": 77070336.0},
        {"sourceId": 7, "destId": 5, "cost": 0.0359, "size": 77070336.0},
        {"sourceId": 3, "destId": 4, "cost": 5.820766091346741e-08, "size": 0.125},
        {"sourceId": 5, "destId": 4, "cost": 1.0, "size": 10.0},
    ],
}  # fmt: skip

PIPEDREAM = """\
node2 -- Conv2d(3, 64, kernel_size=(3, 3)) -- forward_compute_time=6.5, backward_compute_time=13.000, \
activation_size=1600.000, parameter_size=6912.000
node1 -- Input -- forward_compute_time=22.806, backward_compute_time=0.000, activation_size=[800.0; 24.5], \
parameter_size=0.000
node3 -- Add(a -- b) -- forward_compute_time=0.333, backward_compute_time=0.000, activation_size=16.000, \
parameter_size=0.000 -- stage_id=1
\tnode1 -- node2
\tnode2 -- node3
\tnode1 -- node3"""


@st.composite
def costed_graphs(draw: st.DrawFn, most_ops: int = 7) -> Graph:
    """A random graph with times: some zero, some classes of ops that belong together."""
    n = draw(st.integers(1, most_ops))
    times = st.one_of(st.just(0.0), st.integers(1, 9).map(lambda x: x / 1000))
    ops = [
        Op(
            name=str(v), kind="other", proc_s=draw(times), backward_s=draw(st.none() | times),
            write_bytes=draw(st.integers(0, 100)), together=draw(st.sampled_from([None, None, None, "1", "2"])),
            weights=draw(st.sampled_from([(), (WeightUse(name=f"{v}.weights", bytes=9, touched_bytes=9),)])),
        )
        for v in range(n)
    ]  # fmt: skip
    outputs = {}
    for v in range(n - 1):
        readers = draw(st.lists(st.integers(v + 1, n - 1), unique=True, max_size=3))
        if readers:
            outputs[str(v)] = Output(draw(st.integers(0, 100)), draw(times), {}, [str(r) for r in readers])
    return assembled("made up", "random", ops, outputs)
