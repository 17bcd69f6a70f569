"""Machines with other figures, as people name them: `sg2042+l2_bytes=2MiB+dram_bytes_per_s=200GB/s`.

A figure is named by its JSON pointer (`/overheads/dispatch_s`; caches by name, `/caches/L2/bytes`) or by the end of it
in small letters with underscores: `l2_bytes`, `peak_flop_per_s`, `links_node_line_s`.
"""

from __future__ import annotations

from mapper import jsonio
from mapper.errors import UsageError, one_of
from mapper.machine.model import Machine, figures
from mapper.machine.vary import vary
from mapper.units import parse_bytes, parse_fraction, parse_frequency, parse_rate, parse_seconds

MARK = "+"
"""Stands before each change in the name of a machine."""
DRAM = "dram_bytes_per_s"
"""The bandwidth of a package's DRAM; that of its nodes, which are the same controllers, changes in proportion."""
_PACKAGE, _NODE = "/memory/package_bandwidth_bytes_per_s", "/memory/node_bandwidth_bytes_per_s"
_WITHOUT_EFFECT = {"/frequency_hz": "/compute/peak_flop_per_s"}
"""Figures that no cost depends on, and what to change instead."""


def changed(machine: Machine, text: str) -> Machine:
    """`machine` with the figures of `text`, such as `l2_bytes=2MiB+dispatch_s=1us`. Its name says what was changed.

    Raises: UsageError for a figure that it does not have or a value that cannot be read; BadInput for one that no
    machine can have.
    """
    values: dict[str, float | None] = {}
    for part in text.split(MARK):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"{part!r} is no change of {machine.name}: such as l2_bytes=2MiB was expected")
        values |= _values(machine, name.strip(), parse_figure(name.strip(), value))
    told = MARK + "".join(text.split())
    made = vary(machine, values).model_copy(update={"name": machine.name + told})
    return jsonio.validated(Machine, jsonio.plain(made), made.name)


def _values(machine: Machine, name: str, value: float) -> dict[str, float | None]:
    """What becomes of which pointer."""
    place = pointer_of(machine, name)
    node = machine.memory.node_bandwidth_bytes_per_s
    if name == DRAM and node is not None:
        package = machine.memory.package_bandwidth_bytes_per_s
        assert package is not None, "its pointer was found"
        return {place: value, _NODE: node.value * (value / package.value)}
    return {place: value}


def pointer_of(machine: Machine, name: str) -> str:
    """The JSON pointer of the figure called `name`. Raises: UsageError where there is none, or there are several."""
    known = {pointer: _long_name(pointer) for pointer in _pointers(machine)}
    if name.startswith("/"):
        found = [pointer for pointer in known if pointer == name]
    elif name == DRAM:
        found = [pointer for pointer in known if pointer == _PACKAGE]
    else:
        found = [pointer for pointer, long in known.items() if long == name]
        found = found or [pointer for pointer, long in known.items() if long.endswith(f"_{name}")]
    if not found:
        names = [*map(_short_name, known), *known.values(), *known]
        raise UsageError(f"{machine.name} has no figure {name!r}", advice=one_of(name, names, likeness=0.4))
    if len(found) > 1:
        raise UsageError(f"{machine.name} has several figures called {name!r}", advice=f"One of {', '.join(found)}.")
    if found[0] in _WITHOUT_EFFECT:
        raise UsageError(f"no cost depends on {found[0]}", advice=f"Change {_WITHOUT_EFFECT[found[0]]}.")
    return found[0]


def _pointers(machine: Machine) -> list[str]:
    """The pointers of all figures but those of single nodes, with caches by name."""
    names = {f"/caches/{i}/": f"/caches/{cache.name}/" for i, cache in enumerate(machine.caches)}
    out = []
    for pointer, _ in figures(machine):
        head = next((old for old in names if pointer.startswith(old)), "")
        if not pointer.startswith("/nodes/"):
            out.append(names.get(head, "") + pointer[len(head) :])
    return out


def _long_name(pointer: str) -> str:
    """Such as caches_l2_bytes."""
    return pointer.strip("/").replace("/", "_").lower()


def _short_name(pointer: str) -> str:
    """The last two parts of the long name, such as l2_bytes."""
    return "_".join(pointer.strip("/").split("/")[-2:]).lower()


def parse_figure(name: str, text: str) -> float:
    """The value in `text` of a figure called `name`, whose end says its unit: bytes, bytes a second, FLOP a second,
    seconds, or a number (also in %). Raises: UsageError."""
    endings = {
        "bytes_per_s": parse_rate, "bytes": parse_bytes, "flop_per_s": parse_frequency, "hz": parse_frequency,
        "_s": parse_seconds,
    }  # fmt: skip
    parse = next((read for ending, read in endings.items() if name.endswith(ending)), None)
    if parse is None and name.rpartition("/")[0].endswith(("fork_join_s", "seconds_per_element")):
        parse = parse_seconds
    return (parse or parse_fraction)(text)
