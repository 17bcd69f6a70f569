"""A device tree of the shape that QEMU's `virt` machine with 64 harts has, for tests without an emulator."""

from __future__ import annotations

from tests.emulation.fdt import DeviceTree, Node, cells, text, wide

BASE, MEMORY_BYTES = 0x8000_0000, 8 << 30


def virt_tree(harts: int = 64, memory_bytes: int = MEMORY_BYTES) -> DeviceTree:
    """One socket of `harts` harts, in one flat cluster, and one memory."""
    memory = {"device_type": text("memory"), "reg": cells(*wide(BASE), *wide(memory_bytes))}
    cores = [Node(f"core{hart}", {"cpu": cells(1 + 2 * hart)}) for hart in range(harts)]
    cpus = [
        Node(f"cpu@{hart:x}", {"phandle": cells(1 + 2 * hart), "reg": cells(hart), "device_type": text("cpu")},
             [Node("interrupt-controller", {"phandle": cells(2 + 2 * hart)})])
        for hart in reversed(range(harts))
    ]  # fmt: skip
    cpu_map = Node("cpu-map", children=[Node("cluster0", children=cores)])
    return DeviceTree(
        Node("", {"model": text("riscv-virtio,qemu")}, [
            Node(f"memory@{BASE:x}", memory),
            Node("cpus", {"#address-cells": cells(1), "timebase-frequency": cells(10_000_000)}, [*cpus, cpu_map]),
            Node("chosen", {"stdout-path": text("/soc/serial@10000000")}),
        ])
    )  # fmt: skip
