"""Device trees: read, written, and refused where they are none."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.emulation import fdt
from tests.emulation.fdt import DeviceTree, Node

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-,@.", min_size=1, max_size=31)
PROPERTIES = st.dictionaries(NAMES, st.binary(max_size=40), max_size=5)
NODES = st.recursive(
    st.builds(Node, NAMES, PROPERTIES), lambda inner: st.builds(Node, NAMES, PROPERTIES, st.lists(inner, max_size=4))
)
ADDRESSES = st.integers(1, 2**64 - 1)
TREES = st.builds(
    DeviceTree,
    st.builds(Node, st.just(""), PROPERTIES, st.lists(NODES, max_size=4)),
    st.lists(st.tuples(ADDRESSES, ADDRESSES), max_size=3),
    st.integers(0, 2**32 - 1),
)


@given(TREES)
def test_a_tree_is_read_as_it_was_written(tree: DeviceTree) -> None:
    assert fdt.read(fdt.write(tree)) == tree


@given(TREES, st.data())
def test_a_blob_that_ends_early_is_refused(tree: DeviceTree, data: st.DataObject) -> None:
    blob = fdt.write(tree)
    with pytest.raises(ValueError, match="device tree"):
        fdt.read(blob[: data.draw(st.integers(0, len(blob) - 1))])


def test_what_is_no_device_tree_is_refused() -> None:
    with pytest.raises(ValueError, match="not a flattened device tree"):
        fdt.read(b"\x7fELF" + bytes(100))


def test_properties_as_cells_and_words() -> None:
    node = Node("cpu@3", {"reg": fdt.cells(*fdt.wide(3 << 32 | 7)), "compatible": fdt.text("riscv", "cpu")})
    assert node.cells("reg") == (3, 7)
    assert node.properties["compatible"] == b"riscv\0cpu\0"


@pytest.mark.skipif(shutil.which("dtc") is None, reason="no device tree compiler: what it says is untested here")
def test_the_device_tree_compiler_reads_what_was_written() -> None:
    tree = DeviceTree(Node("", {"model": fdt.text("a board")}, [Node("chosen", {"empty": b""})]))
    done = subprocess.run(["dtc", "-q", "-I", "dtb", "-O", "dts"], input=fdt.write(tree), capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b'model = "a board";' in done.stdout
