"""The serving example, as a user runs it: a real server, real requests, on the loopback."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from mapper.sources.bundle import Sample, write_bundle
from tests.tracing import cuts, plan_for, traced

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
FOLDER = Path(__file__).parents[2] / "examples" / "serving"
MODEL = traced(torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)), torch.ones(4, 3))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan = plan_for(MODEL, cuts(MODEL.graph, [1, 1]))
    plan = plan.model_copy(update={"request": plan.request.model_copy(update={"batch": 4})})
    item = {given.name: torch.ones(4, 3) for given in MODEL.program.inputs}
    path = tmp_path_factory.mktemp("serving") / "tiny.bundle"
    write_bundle(path, MODEL.program, MODEL.weights, plan, Sample(item, (MODEL.module(torch.ones(4, 3)),)))
    return path


@contextlib.contextmanager
def serving(server: str, bundle: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, str(FOLDER / server), str(bundle), "--port", str(port), "--oversubscribe"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


@pytest.fixture(scope="module")
def url(bundle: Path) -> Iterator[str]:
    with serving("fastapi_server.py", bundle, 0) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()


def call(url: str, body: bytes | None = None) -> tuple[int, bytes]:
    """GET, or POST of `body`: status and what came back."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"}), timeout=30
        ) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def request_of(rows: torch.Tensor, name: str) -> bytes:
    return json.dumps({
        "inputs": [{"name": name, "shape": list(rows.shape), "datatype": "FP32", "data": rows.reshape(-1).tolist()}]
    }).encode()  # fmt: skip


def npz_of(rows: torch.Tensor, name: str) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{name: rows.numpy()})
    return buffer.getvalue()


def test_requests_of_some_rows_are_answered_as_the_model_would(url: str) -> None:
    status, told = call(url)
    model = json.loads(told)
    (given,) = model["inputs"]
    assert status == 200 and given["datatype"] == "FP32" and given["shape"] == [4, 3]
    rows = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    wanted = MODEL.module(rows)
    (output,) = json.loads(call(f"{url}/infer", request_of(rows, given["name"]))[1])["outputs"]
    assert output["shape"] == [3, 2]
    assert torch.allclose(torch.tensor(output["data"]).reshape(3, 2), wanted, atol=1e-6)
    with np.load(io.BytesIO(call(f"{url}/infer.npz", npz_of(rows, given["name"]))[1])) as arrays:
        assert torch.allclose(torch.from_numpy(arrays[output["name"]]), wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("infer", b'{"inputs": [{"name": "input"}]}', 400, "datatype"),
        ("infer", b"not JSON", 400, "JSON"),
        ("infer.npz", b"PK not a zip", 400, "npz"),
        ("infer.npz", npz_of(torch.ones(1, 3), "other"), 400, "other"),
        ("infer.npz", npz_of(torch.ones(5, 3), "input"), 400, "rows"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_and_others_go_on(
    url: str, path: str, body: bytes, status: int, says: str
) -> None:
    name = json.loads(call(url)[1])["inputs"][0]["name"]
    found, told = call(f"{url}/{path}", body)
    assert found == status and says in told.decode()
    assert call(f"{url}/infer.npz", npz_of(torch.ones(1, 3), name))[0] == 200


def test_an_unknown_model_is_not_found_and_the_server_says_that_it_is_ready(url: str) -> None:
    base = url.rpartition("/models/")[0]
    assert call(f"{base}/models/other")[0] == 404
    assert call(f"{base}/health/live")[0] == 200 and call(f"{base}/health/ready")[0] == 200


def test_the_load_test_counts_every_request(url: str) -> None:
    pytest.importorskip("httpx")
    words = [sys.executable, str(FOLDER / "load.py"), url, "--rate", "40", "--seconds", "1", "--json"]
    made = json.loads(subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert made["requests"] == made["answered"] + made["refused"] > 10
    assert made["latency_s"]["p50"] <= made["latency_s"]["p99"]


@pytest.mark.soak
def test_litserve_answers_the_same(bundle: Path) -> None:
    pytest.importorskip("litserve")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    rows = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    name = MODEL.program.inputs[0].name
    with serving("litserve_server.py", bundle, port):
        until = time.monotonic() + 60
        while True:
            try:
                status, told = call(f"http://127.0.0.1:{port}/predict", request_of(rows, name))
                break
            except urllib.error.URLError:
                assert time.monotonic() < until, "the server did not come up"
                time.sleep(0.5)
    (output,) = json.loads(told)["outputs"]
    assert status == 200
    assert torch.allclose(torch.tensor(output["data"]).reshape(output["shape"]), MODEL.module(rows), atol=1e-6)
