"""Archives in the cpio format that Linux unpacks its first root file system from (newc)."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence

END_NAME = "TRAILER!!!"


def archive(folders: Sequence[str], files: Mapping[str, bytes], links: Mapping[str, str]) -> bytes:
    """The archive with `folders`, executable `files` and symbolic `links`, all of root, without times."""
    entries = [
        *((name, stat.S_IFDIR | 0o755, b"") for name in folders),
        *((name, stat.S_IFREG | 0o755, content) for name, content in files.items()),
        *((name, stat.S_IFLNK | 0o777, target.encode()) for name, target in links.items()),
    ]
    numbered = [_entry(number, *entry) for number, entry in enumerate(entries, start=1)]
    return b"".join([*numbered, _entry(0, END_NAME, 0, b"")])


def _entry(number: int, name: str, mode: int, content: bytes) -> bytes:
    path = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (number, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % value for value in fields) + path
    return _padded(head) + _padded(content)


def _padded(part: bytes) -> bytes:
    return part + b"\0" * (-len(part) % 4)
