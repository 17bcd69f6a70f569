"""A bundle behind LitServe: its server process takes requests, and hands them to one that has the executor.

    python -m pip install 'mapper[serving]' litserve
    python examples/serving/litserve_server.py mobilenetv2.bundle --port 8000

Requests are JSON as in `fastapi_server`, to `POST /predict`. LitServe could join requests to batches itself; here it
hands each on at once (`enable_async`), and `mapper.Batcher`, which knows the plan's item, joins them.
"""

# no `from __future__ import annotations`: LitServe reads the type of a request at run time
import argparse
import contextlib
import json
from pathlib import Path
from typing import Any

import litserve
from fastapi_server import Tensors, from_json, named, opened, to_json


class Served(litserve.LitAPI):  # type: ignore[misc]
    """Hands requests to the executor, which starts with the process that LitServe computes in."""

    def __init__(self, bundle: Path, oversubscribe: bool) -> None:
        super().__init__(enable_async=True)
        self.bundle, self.oversubscribe = bundle, oversubscribe
        self.stack = contextlib.ExitStack()

    def setup(self, device: str) -> None:
        """Starts the workers, once."""
        self.executor, self.infer = opened(self.bundle, self.stack, oversubscribe=self.oversubscribe)

    async def decode_request(self, request: dict[str, Any]) -> Tensors:
        """The tensors of a request."""
        return from_json(json.dumps(request).encode())

    async def predict(self, tensors: Tensors) -> dict[str, Any]:
        """The outputs, by name."""
        return named(self.executor, await self.infer(tensors))

    async def encode_response(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """The answer."""
        return {"outputs": [to_json(*pair) for pair in outputs.items()]}


def main() -> None:
    """Serves until it is told to end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="a bundle (mapper bundle)")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--oversubscribe", action="store_true", help="share cores where there are too few")
    args = parser.parse_args()
    server = litserve.LitServer(Served(args.bundle, args.oversubscribe), accelerator="cpu", workers_per_device=1)
    server.run(host=args.host, port=args.port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
