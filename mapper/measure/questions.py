"""Processes that answer questions: a question is a line of JSON on stdin, its answer one on stdout. Such a process ends
with its stdin; `software` starts it and asks."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any


def serve(ready: Callable[[], str], questions: Mapping[str, Callable[..., Any]]) -> None:
    """Answers until stdin ends: says what `ready` gives, which is called first, then calls the function of `questions`
    that each question asks for with the rest of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _say({"ready": ready()})
    for line in sys.stdin:
        try:
            _say({"value": questions[(question := json.loads(line)).pop("ask")](**question)})
        except Exception as error:
            _say({"error": f"{type(error).__name__}: {error}"})


def _say(answer: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
