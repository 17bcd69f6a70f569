"""What holds for all tests."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """A shell starts what runs in its background with Ctrl-C ignored, and whatever that starts inherits it: tests that
    interrupt a command would wait for ever. A handler is not inherited."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
