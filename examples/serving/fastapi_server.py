"""A bundle behind FastAPI and uvicorn, with the Open Inference Protocol (version 2, REST: kserve.github.io).

    mapper plan --model mobilenetv2 --batch 4 -o plan.json && mapper bundle plan.json -o mobilenetv2.bundle
    python -m pip install 'mapper[serving]'
    python examples/serving/fastapi_server.py mobilenetv2.bundle --port 8000
    python examples/serving/load.py http://127.0.0.1:8000/v2/models/mobilenetv2 --rate 20 --seconds 10

One process: the event loop takes requests, `mapper.Executor` computes them in its pinned workers. Where the plan's
items are of several rows, `mapper.Batcher` joins requests to them. Tensors come as JSON, or as one .npz file
(`POST /v2/models/NAME/infer.npz`), which is many times quicker to read.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response

import mapper
from mapper.errors import BadInput, UsageError

DATATYPES = {
    "FP32": torch.float32, "FP64": torch.float64, "FP16": torch.float16, "INT64": torch.int64, "INT32": torch.int32,
    "INT16": torch.int16, "INT8": torch.int8, "UINT8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DATATYPES.items()}
Tensors = Mapping[str, torch.Tensor]
Output = torch.Tensor | tuple[torch.Tensor, ...]
Infer = Callable[[Tensors], Awaitable[Output]]


class Served:
    """A model that answers: at most `most` requests wait at once, more are refused (503) instead of piling up."""

    def __init__(self, executor: mapper.Executor, infer: Infer, most: int) -> None:
        self.executor, self.plan, self.program = executor, executor.plan, executor.program
        self.infer, self.most = infer, most
        self.waiting = 0
        self.failed = ""

    @property
    def name(self) -> str:
        """What the plan calls the model."""
        return self.plan.model.name

    async def outputs(self, tensors: Tensors) -> dict[str, torch.Tensor]:
        """The outputs by name. Raises: HTTPException, 400 for a request that does not fit, 503 where it cannot run."""
        if self.waiting >= self.most:
            raise HTTPException(503, f"{self.waiting} requests wait already", {"Retry-After": "1"})
        self.waiting += 1
        try:
            output = await self.infer(tensors)
        except BadInput as error:
            raise HTTPException(400, str(error)) from error
        except mapper.MapperError as error:  # a worker died, or the server is about to end
            self.failed = str(error)
            raise HTTPException(503, error.what) from error
        finally:
            self.waiting -= 1
        return named(self.executor, output)


def opened(
    bundle: Path, stack: contextlib.ExitStack, *, wait_s: float = 0.005, oversubscribe: bool = False
) -> tuple[mapper.Executor, Infer]:
    """The executor of a `bundle`, running until `stack` is closed, and what answers a request."""
    found = mapper.open_bundle(bundle)
    executor = stack.enter_context(mapper.Executor(found.plan, found, oversubscribe=oversubscribe))
    if found.plan.request.batch > 1:
        with contextlib.suppress(UsageError):  # where rows cannot be told apart, requests are whole items
            return executor, stack.enter_context(mapper.Batcher(executor, wait_s=wait_s)).infer
    return executor, executor.infer


def named(executor: mapper.Executor, output: Output) -> dict[str, torch.Tensor]:
    """The tensors of an output by name."""
    results = output if isinstance(output, tuple) else (output,)
    return dict(zip(executor.program.output_names, results, strict=True))


def app_of(served: Served) -> FastAPI:
    """The routes of the protocol."""
    app = FastAPI(title=f"mapper: {served.name}")

    @app.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready")
    async def ready() -> dict[str, bool]:
        if served.failed:
            raise HTTPException(503, served.failed)
        return {"ready": True}

    @app.get("/v2/models/{name}")
    async def metadata(name: str) -> dict[str, Any]:
        known(name)
        outputs = zip(served.program.output_names, map(served.program.type_of, served.program.outputs), strict=True)
        return {
            "name": name, "platform": f"mapper_{served.plan.request.backend}",
            "inputs": [described(given.name, given.type) for given in served.program.inputs],
            "outputs": [described(name, kind) for name, kind in outputs],
        }  # fmt: skip

    @app.post("/v2/models/{name}/infer")
    async def infer(name: str, request: Request) -> dict[str, Any]:
        known(name)
        outputs = await served.outputs(from_json(await request.body()))
        return {"model_name": name, "outputs": [to_json(*pair) for pair in outputs.items()]}

    @app.post("/v2/models/{name}/infer.npz")
    async def infer_npz(name: str, request: Request) -> Response:
        known(name)
        outputs = await served.outputs(from_npz(await request.body()))
        return Response(to_npz(outputs), media_type="application/octet-stream")

    def known(name: str) -> None:
        if name != served.name:
            raise HTTPException(404, f"the model here is called {served.name}")

    return app


def described(name: str, kind: Any) -> dict[str, Any]:
    """A tensor of the model as the protocol tells of it; rows may be fewer than its first dimension."""
    return {"name": name, "datatype": NAMES[getattr(torch, kind.dtype)], "shape": list(kind.shape)}


def from_json(data: bytes) -> Tensors:
    """The tensors of a request. Raises: HTTPException 400."""
    try:
        document = json.loads(data)
        return {
            given["name"]: torch.tensor(given["data"], dtype=DATATYPES[given["datatype"]]).reshape(given["shape"])
            for given in document["inputs"]
        }
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise HTTPException(
            400, f"JSON with inputs of name, shape, datatype and data was expected: {error!r}"
        ) from error


def to_json(name: str, tensor: torch.Tensor) -> dict[str, Any]:
    """A tensor of an answer."""
    return {"name": name, "shape": list(tensor.shape), "datatype": NAMES[tensor.dtype],
            "data": tensor.reshape(-1).tolist()}  # fmt: skip


def from_npz(data: bytes) -> Tensors:
    """The tensors of an .npz file, which is data: nothing in it is unpickled. Raises: HTTPException 400."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {name: torch.from_numpy(np.ascontiguousarray(arrays[name])) for name in arrays.files}
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise HTTPException(400, f"an .npz file was expected: {error}") from error


def to_npz(outputs: Mapping[str, torch.Tensor]) -> bytes:
    """The outputs as an .npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **{name: tensor.numpy() for name, tensor in outputs.items()})  # type: ignore[arg-type]
    return buffer.getvalue()


def main() -> None:
    """Serves until it is told to end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="a bundle (mapper bundle)")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free [8000]")
    parser.add_argument("--wait", type=float, default=0.005, help="seconds that a request waits for others [0.005]")
    parser.add_argument("--most", type=int, default=64, help="requests that may wait at once [64]")
    parser.add_argument("--oversubscribe", action="store_true", help="share cores where there are too few")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        executor, infer = opened(args.bundle, stack, wait_s=args.wait, oversubscribe=args.oversubscribe)
        stack.enter_context(executor.beside())
        listening = stack.enter_context(socket.create_server((args.host, args.port)))
        print(f"http://{args.host}:{listening.getsockname()[1]}/v2/models/{executor.plan.model.name}", flush=True)
        config = uvicorn.Config(app_of(Served(executor, infer, args.most)), log_level="warning")
        stack.enter_context(
            contextlib.suppress(KeyboardInterrupt)
        )  # uvicorn has answered what it had, and passes it on
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
