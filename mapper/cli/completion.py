"""What the shell offers as values of options and arguments. Names are listed here or read from file names, so that
nothing large is imported: a key press waits for it. Tests compare the lists with what the planner knows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, MutableMapping

Offer = Callable[[str], list[str]]
"""Takes what is typed already, gives what it can become."""

PLANNERS = ("native", "streams", "equal-ops", "equal-flop", "equal-time", "greedy", "torchgpipe", "pipedream",
            "dnn-partitioning", "alpa")  # fmt: skip
"""Planners of others."""
PLACEMENTS = ("compact", "scatter", "round-robin", "per-group", "per-node", "mesh-neighbour")
"""Placements of others."""
OPTIMAL = "optimal"
_BEFORE = "_MAPPER_COMPLETE_BEFORE"
"""The environment variable that keeps what stands before a colon."""
OBJECTIVES = ("throughput", "latency", "cores", "pareto")
SECTIONS = ("binding", "limits", "marginal", "alternatives")
"""Those of an explanation."""
VARIED = ("strategy", "stages=", "threads=", "replicas=", "batch=", "topo=", "topo.")
"""What an exploration varies."""


def one(*names: str) -> Offer:
    """Offers `names`."""
    return lambda incomplete: _matching(names, incomplete)


def several(*names: str) -> Offer:
    """Offers `names` as members of a list with commas between them, each once."""

    def offer(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        taken = before.split(",")
        return [f"{before}{comma}{name}" for name in names if name.startswith(last) and name not in taken]

    return offer


def models(incomplete: str) -> list[str]:
    """Offers the models of `./models` and the bundled ones."""
    from mapper.program.cards import card_names

    return _matching(card_names(), incomplete)


def machines(incomplete: str) -> list[str]:
    """Offers the bundled machines and this one; also as a part of several hosts, as in `sg2042+sg20`."""
    from mapper.machine.files import HOST, bundled_names

    before, plus, last = incomplete.rpartition("+")
    return [f"{before}{plus}{name}" for name in _matching([*bundled_names(), *([] if plus else [HOST])], last)]


def backends(incomplete: str) -> list[str]:
    """Offers all back ends, whether they are installed or not."""
    from mapper.backends.registry import BACKENDS

    return _matching(BACKENDS, incomplete)


def targets(incomplete: str) -> list[str]:
    """Offers the runtimes to export to."""
    from mapper.exporters.registry import TARGETS

    return _matching(TARGETS, incomplete)


def join_words(environment: MutableMapping[str, str]) -> None:
    """Bash takes `--backend=eager:bf` for five words, and wants what follows the last mark alone: changes what it asks
    into an option, what is typed of its value, and what stands before that."""
    if environment.get("_MAPPER_COMPLETE") != "complete_bash":
        return
    words = environment["COMP_WORDS"].split("\n")[: int(environment["COMP_CWORD"]) + 1]
    last = words.pop()
    if last == ":" or words[-1:] == [":"]:
        last = "" if last == ":" else words.pop() and last
        environment[_BEFORE] = f"{words.pop() if words else ''}:"
    if words[-1:] == ["="]:
        words.pop()
    environment.update({"COMP_WORDS": "\n".join([*words, last]), "COMP_CWORD": str(len(words))})


def _matching(names: Iterable[str], incomplete: str) -> list[str]:
    before = os.environ.get(_BEFORE, "")
    return [name.removeprefix(before) for name in names if name.startswith(before + incomplete)]
