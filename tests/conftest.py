"""What holds for all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("change", max_examples=40, deadline=None)
settings.register_profile("soak", max_examples=200, deadline=None)
settings.load_profile("change")
"""Random examples of a property that says nothing else: enough for every change; `make soak` takes more."""


def pytest_configure() -> None:
    """What tests would find in their process otherwise.

    A shell starts what runs in its background with Ctrl-C ignored, and whatever that starts inherits it: tests that
    interrupt a command would wait for ever. A handler is not inherited."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.pop("COLUMNS", None)  # a worker of pytest-xdist has it, and reports would be made for that width


@pytest.fixture(autouse=True)
def ctrl_c_stays() -> Iterator[None]:
    """What a test leaves to others would let those wait for ever that interrupt something."""
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is before
