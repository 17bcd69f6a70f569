"""Changes of documents, for tests that break one thing at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Document = dict[str, Any]
Change = Callable[[Document], object]


def put(value: Any, *path: str | int) -> Change:
    """A change that sets the part of a document at `path`."""

    def change(document: Any) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return change
