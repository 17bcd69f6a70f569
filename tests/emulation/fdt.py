"""Flattened device trees (version 17 of the Devicetree Specification), read and written."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

MAGIC = 0xD00DFEED
VERSION, COMPATIBLE = 17, 16
BEGIN, END, PROPERTY, NOP, FINISH = 1, 2, 3, 4, 9

_HEADER = struct.Struct(">10I")
_CELL = struct.Struct(">I")
_PAIR = struct.Struct(">QQ")


@dataclass
class Node:
    """A node: its name with unit address, its properties as bytes, and its children in their order."""

    name: str
    properties: dict[str, bytes] = field(default_factory=dict)
    children: list[Node] = field(default_factory=list)

    def child(self, name: str) -> Node:
        """The child called `name`. Raises: KeyError."""
        for node in self.children:
            if node.name == name:
                return node
        raise KeyError(f"{self.name or '/'} has no node {name}")

    def starting(self, stem: str) -> list[Node]:
        """The children called `stem@ADDRESS`."""
        return [node for node in self.children if node.name.partition("@")[0] == stem and "@" in node.name]

    def walk(self) -> Iterator[Node]:
        """This node and all below it."""
        yield self
        for node in self.children:
            yield from node.walk()

    def cells(self, name: str) -> tuple[int, ...]:
        """The property `name` as numbers of 32 bits. Raises: KeyError."""
        value = self.properties[name]
        return struct.unpack(f">{len(value) // 4}I", value)


@dataclass
class DeviceTree:
    """A tree with its reserved memory (address and size each) and the hart that its writer called the first."""

    root: Node
    reserved: list[tuple[int, int]] = field(default_factory=list)
    boot_cpu: int = 0


def cells(*numbers: int) -> bytes:
    """`numbers` as a property: 32 bits each."""
    return struct.pack(f">{len(numbers)}I", *numbers)


def wide(number: int) -> tuple[int, int]:
    """`number` of 64 bits as two cells."""
    return number >> 32, number & 0xFFFFFFFF


def text(*words: str) -> bytes:
    """`words` as a property: each ends with a zero."""
    return b"".join(word.encode() + b"\0" for word in words)


def read(blob: bytes) -> DeviceTree:
    """The tree in `blob`. Raises: ValueError when it is not one."""
    if len(blob) < _HEADER.size:
        raise ValueError("too short for a device tree")
    magic, size, structure, strings, reserved, version, _, boot_cpu, _, _ = _HEADER.unpack_from(blob)
    if magic != MAGIC or size > len(blob) or version < COMPATIBLE:
        raise ValueError("not a flattened device tree of version 16 or later")
    root, _ = _read_node(blob, structure, strings)
    return DeviceTree(root, list(_read_reserved(blob, reserved)), boot_cpu)


def write(tree: DeviceTree) -> bytes:
    """The flattened form of `tree`."""
    names: dict[str, int] = {}
    structure = bytearray()
    _write_node(tree.root, structure, names)
    structure += _CELL.pack(FINISH)
    strings = text(*names)
    reserved = b"".join(_PAIR.pack(*pair) for pair in [*tree.reserved, (0, 0)])
    at = (_HEADER.size + 7) // 8 * 8
    start = at + len(reserved)
    total = start + len(structure) + len(strings)
    header = _HEADER.pack(MAGIC, total, start, start + len(structure), at, VERSION, COMPATIBLE, tree.boot_cpu,
                          len(strings), len(structure))  # fmt: skip
    return header.ljust(at, b"\0") + reserved + structure + strings


def _read_reserved(blob: bytes, offset: int) -> Iterator[tuple[int, int]]:
    while (pair := _PAIR.unpack_from(blob, offset)) != (0, 0):
        yield pair[0], pair[1]
        offset += _PAIR.size


def _read_node(blob: bytes, offset: int, strings: int) -> tuple[Node, int]:
    """The node that begins at `offset`, and where the next token is."""
    token, offset = _token(blob, offset)
    if token != BEGIN:
        raise ValueError(f"a node was expected at byte {offset - 4}")
    name = _string(blob, offset)
    node = Node(name)
    offset = _aligned(offset + len(name.encode()) + 1)
    while True:
        token, after = _token(blob, offset)
        if token == PROPERTY:
            length, where = struct.unpack_from(">2I", blob, after)
            node.properties[_string(blob, strings + where)] = blob[after + 8 : after + 8 + length]
            offset = _aligned(after + 8 + length)
        elif token == BEGIN:
            child, offset = _read_node(blob, offset, strings)
            node.children.append(child)
        elif token == END:
            return node, after
        else:
            raise ValueError(f"token {token} at byte {offset} stands inside of a node")


def _token(blob: bytes, offset: int) -> tuple[int, int]:
    while True:
        token = int(_CELL.unpack_from(blob, offset)[0])
        offset += 4
        if token != NOP:
            return token, offset


def _write_node(node: Node, out: bytearray, names: dict[str, int]) -> None:
    out += _CELL.pack(BEGIN) + _padded(node.name.encode() + b"\0")
    for name, value in node.properties.items():
        if name not in names:
            names[name] = len(text(*names))
        out += struct.pack(">3I", PROPERTY, len(value), names[name]) + _padded(value)
    for child in node.children:
        _write_node(child, out, names)
    out += _CELL.pack(END)


def _padded(value: bytes) -> bytes:
    return value.ljust(_aligned(len(value)), b"\0")


def _aligned(offset: int) -> int:
    return (offset + 3) // 4 * 4


def _string(blob: bytes, offset: int) -> str:
    return blob[offset : blob.index(b"\0", offset)].decode()
