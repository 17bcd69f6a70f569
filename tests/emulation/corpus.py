"""Keeps what the emulated boards showed of themselves, for the tests of discovery: `python -m tests.emulation.corpus`.

The part `topology` brings back the files of sys and proc that discovery reads; each board's become one archive.
"""

from __future__ import annotations

import argparse
import io
import tarfile
from pathlib import Path

CORPUS = Path(__file__).parents[1] / "machine/captured"
"""Where the tests of discovery find the archives, one a board."""


def pack_tree(tree: Path) -> bytes:
    """The files in `tree` as an archive that depends on nothing but their names and contents."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz", preset=9) as tar:
        for path in sorted(path for path in tree.rglob("*") if path.is_file()):
            content = path.read_bytes()
            entry = tarfile.TarInfo(str(path.relative_to(tree)))
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def main() -> None:
    """Packs the trees of all boards below the folder that a run of the checks wrote."""
    parser = argparse.ArgumentParser(prog="python -m tests.emulation.corpus", description=__doc__)
    parser.add_argument("checked", type=Path, nargs="?", default=Path("build/emulated-sg2042"))
    CORPUS.mkdir(exist_ok=True)
    for tree in sorted(parser.parse_args().checked.glob("*/topology/tree")):
        name = f"emulated-sg2042-{tree.parents[1].name}.tar.xz"
        packed = pack_tree(tree)
        (CORPUS / name).write_bytes(packed)
        print(f"{name}: {len(packed)} bytes")


if __name__ == "__main__":
    main()
