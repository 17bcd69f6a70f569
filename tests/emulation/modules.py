"""Kernel modules: which of them must be loaded for others, and before them."""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterable
from pathlib import Path

from tests.emulation.prerequisites import Unprepared


def modules_in_order(folder: Path, names: Iterable[str]) -> dict[str, bytes]:
    """The modules that must be loaded for `names`, uncompressed, each after those that it depends on.

    `folder` is that of one kernel version. What is built into the kernel is left out. Raises: Unprepared when one is
    not there.
    """
    built_in = {_name(line) for line in (folder / "modules.builtin").read_text(encoding="utf-8").splitlines()}
    files = {_name(path.name): path for path in folder.rglob("*.ko*")}
    found: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in built_in or name in found:
            return
        if name not in files:
            raise Unprepared(f"the kernel in {folder} has no module {name}")
        content = contents(files[name])
        for needed in dependencies(content):
            add(needed)
        found[name] = content

    for name in names:
        add(name)
    return found


def dependencies(module: bytes) -> list[str]:
    """The modules that `module` names in its own `depends=`."""
    match = re.search(rb"(?:^|\0)depends=([^\0]*)\0", module)
    return [name.replace("-", "_") for name in match[1].decode().split(",") if name] if match else []


def contents(path: Path) -> bytes:
    """A module's file, uncompressed."""
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def _name(path: str) -> str:
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")
