"""What holds for all tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

MACHINE = {"failures", "measure", "study"}
"""Folders whose tests start workers or measure."""
PURE = {"sg2042"}
"""Folders in these that do not."""


def pytest_configure() -> None:
    """A shell starts what runs in its background with Ctrl-C ignored, and whatever that starts inherits it: tests that
    interrupt a command would wait for ever. A handler is not inherited."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that are not run beside others."""
    for item in items:
        if MACHINE.intersection(item.path.parts) and not PURE.intersection(item.path.parts):
            item.add_marker(pytest.mark.machine)


@pytest.fixture(autouse=True)
def ctrl_c_stays() -> Iterator[None]:
    """What a test leaves to others would let those wait for ever that interrupt something."""
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is before
