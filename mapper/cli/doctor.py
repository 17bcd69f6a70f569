"""`mapper doctor`: what this machine and installation can and cannot do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mapper.cli.output import Json, emit_json, emit_text

if TYPE_CHECKING:
    from mapper.host.facts import Fact


def backend_facts() -> list[Fact]:
    """For each back end whether it can be used here, and in which version; and which ones there cannot be."""
    from mapper.backends.registry import BACKENDS, NOT_OFFERED
    from mapper.host.facts import Fact

    found = []
    for backend in BACKENDS.values():
        lack, name = backend.available(), f"back end {backend.name}"
        if lack is None:
            versions = backend.versions()
            main = next(iter(backend.packages or versions))
            value = ", ".join([f"{main} {versions[main]}", *filter(None, [versions.get("compiler")])])
            found.append(Fact(name, value, "warn" if backend.slow else "ok", backend.slow))
        elif backend.available(compiling=False) is None and not lack.processor:
            found.append(Fact(name, "runs what is compiled, compiles nothing", "warn", lack.advice))
        else:
            found.append(Fact(name, "not available", "warn", f"{lack.what}: {lack.advice}"))
    return [*found, *(Fact(f"back end {name}", "not offered", "ok", why) for name, why in NOT_OFFERED.items())]


def cache_fact() -> Fact:
    """Where compiled stages are kept, how much they take, and how much they may."""
    from mapper.backends.artefacts import compiled_folder, kept
    from mapper.cache import ADVICE, SIZE, limit_bytes
    from mapper.errors import MapperError
    from mapper.host.facts import Fact
    from mapper.units import format_bytes

    try:
        folder = compiled_folder()
        taken, limit = sum(kept(folder).values()), limit_bytes(folder)
    except MapperError as error:
        return Fact("compiled stages", error.what, "bad", error.advice)
    except OSError as error:
        return Fact("compiled stages", f"{folder} cannot be read: {error.strerror}", "bad", ADVICE)
    value = f"{format_bytes(taken)} of at most {format_bytes(limit)} in {folder}"
    over = taken > limit
    what = f"the least used go when the next stage is compiled; {SIZE} sets the limit"
    return Fact("compiled stages", value, "warn" if over else "ok", what if over else "")


def build_facts() -> list[Fact]:
    """Whether what `mapper export --to cpp` and `fastflow` write can be built here. It can be written anywhere."""
    import os
    import shutil
    from pathlib import Path

    from mapper.host.facts import Fact

    compiler = next(filter(None, map(shutil.which, filter(None, [os.environ.get("CXX"), "c++", "g++", "clang++"]))), "")
    tools = {"cmake": shutil.which("cmake") or "", "a C++ compiler": compiler}
    missing = [name for name, path in tools.items() if not path]
    if missing:
        verb = "are" if len(missing) > 1 else "is"
        what = f"exports to cpp and fastflow cannot be built here: {' and '.join(missing)} {verb} missing"
        found = [Fact("C++ exports", "untested here", "warn", what)]
    else:
        found = [Fact("C++ exports", ", ".join(tools.values()))]
    root = os.environ.get("FASTFLOW_ROOT")
    if not root:
        return [*found, Fact("FastFlow", "untested here", "ok", "FASTFLOW_ROOT is not set")]
    if not (Path(root) / "ff" / "ff.hpp").is_file():
        return [*found, Fact("FastFlow", "untested here", "warn", f"FASTFLOW_ROOT is {root}, which has no ff/ff.hpp")]
    return [*found, Fact("FastFlow", root)]


def hosts_fact() -> Fact:
    """Whether `mapper host` can run a plan over several hosts here."""
    from mapper.host.facts import Fact

    try:
        from mapper.execution.hosts.launch import lack_here

        lack = lack_here()
    except ImportError as error:
        lack = str(error)
    if lack:
        return Fact("several hosts", lack, "warn", "plans over several hosts can be made and simulated, but not run")
    return Fact("several hosts", "torch.distributed with gloo")


def doctor_command(json: Json = False) -> None:
    """Say what this machine and installation can and cannot do, and what follows from it."""
    import dataclasses

    from mapper.host.facts import facts

    found = [*facts(), *backend_facts(), cache_fact(), *build_facts(), hosts_fact()]
    if json:
        emit_json({"facts": [dataclasses.asdict(fact) for fact in found]})
        return
    amiss = sum(fact.state != "ok" for fact in found)
    head = f"{amiss} of {len(found)} facts limit what can be done here." if amiss else "Nothing is amiss."
    emit_text([head, *facts_text(found)])


def facts_text(found: Sequence[Fact]) -> list[str]:
    """A line a fact; what follows from it stands below."""
    from mapper.reports.lines import Styled

    names = max(len(fact.name) for fact in found)
    lines: list[str] = []
    for fact in found:
        style = {"ok": "ok", "warn": "warning", "bad": "error"}[fact.state]
        lines.append(
            Styled.made((f"{fact.state:4}", style), (f"  {fact.name:{names}}  {fact.value}", ""), hang=names + 8)
        )
        lines += [Styled.made((" " * 6 + fact.consequence, "waits"), hang=6)] if fact.consequence else []
    return lines
