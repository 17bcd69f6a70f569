"""Open-loop load on a server of the Open Inference Protocol: requests at random times, whatever comes back.

    python examples/serving/load.py http://127.0.0.1:8000/v2/models/mobilenetv2 --rate 20 --seconds 10 [--rows 1]

Arrivals are a Poisson process, so that latencies have the waiting in them that a closed loop hides. Latency is measured
from when a request was due, not from when it could be sent.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import random
import statistics
import time
from typing import Any

import httpx
import numpy as np

DTYPES = {"FP32": "float32", "FP64": "float64", "FP16": "float16", "INT64": "int64", "INT32": "int32",
          "INT16": "int16", "INT8": "int8", "UINT8": "uint8", "BOOL": "bool"}  # fmt: skip


async def measured(url: str, rate: float, seconds: float, rows: int, seed: int) -> dict[str, Any]:
    """What came of requests at `rate` a second for so many `seconds`, each of `rows` rows."""
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=256)) as client:
        model = await client.get(url)
        body = sample(model.raise_for_status().json(), rows, seed)
        for _ in range(3):
            (await client.post(f"{url}/infer.npz", content=body)).raise_for_status()
        draw, due, start, tasks = random.Random(seed), 0.0, time.perf_counter(), []
        while (due := due + draw.expovariate(rate)) < seconds:
            await asyncio.sleep(max(0.0, start + due - time.perf_counter()))
            tasks.append(asyncio.create_task(answered(client, url, body, start + due)))
        answers = await asyncio.gather(*tasks)
        took = time.perf_counter() - start
    latencies = [latency for status, latency in answers if status == 200]
    return {
        "offered_per_s": rate, "requests": len(answers), "answered": len(latencies),
        "refused": sum(status == 503 for status, _ in answers), "throughput_per_s": len(latencies) / took,
        "latency_s": percentiles(latencies),
    }  # fmt: skip


async def answered(client: httpx.AsyncClient, url: str, body: bytes, due: float) -> tuple[int, float]:
    """The status of one request, and the seconds since it was `due`."""
    response = await client.post(f"{url}/infer.npz", content=body)
    return response.status_code, time.perf_counter() - due


def sample(model: dict[str, Any], rows: int, seed: int) -> bytes:
    """A request of `rows` rows for a model that tells of its inputs: an .npz file."""
    draw = np.random.default_rng(seed)
    arrays = {}
    for given in model["inputs"]:
        shape = [min(rows, given["shape"][0]), *given["shape"][1:]]
        values = draw.random(shape) if given["datatype"].startswith("FP") else draw.integers(0, 2, shape)
        arrays[given["name"]] = values.astype(DTYPES[given["datatype"]])
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def percentiles(latencies: list[float]) -> dict[str, float] | None:
    """Median, 90th and 99th percentile; None of fewer than two."""
    if len(latencies) < 2:
        return None
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    return {"p50": cuts[49], "p90": cuts[89], "p99": cuts[98]}


def main() -> None:
    """Prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="of the model, such as http://127.0.0.1:8000/v2/models/mobilenetv2")
    parser.add_argument("--rate", type=float, default=10, help="requests a second [10]")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rows", type=int, default=1, help="rows of a request [1]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    made = asyncio.run(measured(args.url, args.rate, args.seconds, args.rows, args.seed))
    if args.json:
        print(json.dumps(made))
        return
    told = made["latency_s"] or {}
    print(f"{made['answered']} of {made['requests']} requests answered ({made['refused']} refused), "
          f"{made['throughput_per_s']:.3g}/s of {args.rate:g}/s offered; latency "
          + ", ".join(f"{name} {1000 * value:.3g} ms" for name, value in told.items()))  # fmt: skip


if __name__ == "__main__":
    main()
