"""Debian's Chromium without a window, driven over its DevTools protocol: what a page looks like, and what it did."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

PROGRAM = shutil.which("chromium")
_LONGEST_S = 60


class Page:
    """A tab. `events` are what it told of itself: messages of its console, errors, requests."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket, self.number = socket, 0
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> Any:
        """What the browser answers to `method`."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            told = self._next()
            if told.get("id") == self.number:
                assert "error" not in told, told
                return told["result"]

    def _next(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.socket.recv(timeout=_LONGEST_S))
        if "method" in told:
            self.events.append(told)
        return told

    def open(self, path: Path, width: int, height: int, *, dark: bool = False, media: str = "screen") -> None:
        """Shows the file in a window of `width` × `height` CSS pixels, and waits until it is there."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.events.clear()
        self.ask("Page.navigate", url=path.resolve().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._next()

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        told = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def screenshot(self, *, whole: bool = False, clip: dict[str, float] | None = None) -> bytes:
        """What is seen, or the whole page, or a part of it, as PNG."""
        more: dict[str, Any] = {"clip": {"scale": 1, **clip}} if clip else {}
        told = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole or clip is not None, **more)
        return base64.b64decode(told["data"])

    def key(self, key: str) -> None:
        """Presses a key and lets it go."""
        code = {"ArrowRight": 39, "ArrowLeft": 37, "Escape": 27, "Enter": 13, "Tab": 9}.get(key, 0)
        text = {} if code else {"text": key}
        for kind in ("keyDown" if text else "rawKeyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code,
                     **(text if kind == "keyDown" else {}))  # fmt: skip

    def point(self, x: float, y: float, *, click: bool = False) -> None:
        """Moves the mouse to a point, and clicks there."""
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased") if click else ():
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    @property
    def complaints(self) -> list[dict[str, Any]]:
        """Errors, and whatever was written to the console."""
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Network.loadingFailed")
        return [event for event in self.events if event["method"] in kinds]

    @property
    def requests(self) -> list[str]:
        """All that it asked for, the page itself included."""
        sent = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A page of a browser that keeps its things in `folder` and is gone in the end."""
    assert PROGRAM is not None
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-extensions",
        "--disable-background-networking", "--disable-dev-shm-usage", f"--user-data-dir={folder}",
        "--remote-debugging-port=0", "about:blank",
    ]  # fmt: skip
    environment = {**os.environ, "HOME": str(folder)}
    with subprocess.Popen([PROGRAM, *options], stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            address = next(line.split()[-1] for line in process.stderr if line.startswith("DevTools listening on"))
            with connect(_tab(address), max_size=None, proxy=None) as socket:
                yield Page(socket)
        finally:
            process.terminate()


def _tab(address: str) -> str:
    """The address of a new tab, asked for at the browser's own."""
    with connect(address, max_size=None, proxy=None) as socket:
        socket.send(json.dumps({"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}}))
        while True:
            told = json.loads(socket.recv(timeout=_LONGEST_S))
            if told.get("id") == 1:
                return f"{address.partition('/devtools/')[0]}/devtools/page/{told['result']['targetId']}"
