"""The Python API mirrors the commands, and importing it costs next to nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import mapper
from mapper.cli.main import app

FUNCTIONS = {
    "plan": "plan front plan_problem plan_pipedream against Limits save_plan save_problem_plan",
    "check": "check check_problem_plan load_plan load_problem_plan read_problem",
    "explain": "explain",
    "compare": "compare",
    "explore": "explore Dimensions",
    "report": "report",
    "run": "run Executor Batcher",
    "host": "run_host",
    "export": "export",
    "import": "import_mapping",
    "bench": "bench",
    "profile": "profile load_profile save_profile profile_costs",
    "tune": "tune",
    "simulate": "simulate Arrivals",
    "bundle": "write_bundle open_bundle",
    "topo show": "load_machine restrict",
    "topo discover": "discover save_machine",
    "topo check": "load_machine",
    "topo cluster": "cluster",
    "topo diff": "compare_machines",
    "model show": "graph_of_source load_graph",
    "model trace": "trace",
    "model cost": "roofline",
}
WITHOUT = {
    "calibrate": "measures for minutes and keeps a journal of it, which is the command's",
    "model list": "a table for people",
    "study": "the package has that name; the function is mapper.study.sg2042.study.study",
    "schema": "pydantic's own, of the records",
    "doctor": "a table for people",
    "man": "the manual page of the commands",
}


def commands(group: typer.Typer, before: str = "") -> Iterator[str]:
    """The full names of all commands of `group`."""
    for command in group.registered_commands:
        assert command.callback is not None
        yield before + (command.name or command.callback.__name__)
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from commands(inner.typer_instance, f"{before}{inner.name} ")


def test_every_command_has_its_functions() -> None:
    assert sorted(commands(app)) == sorted(FUNCTIONS | WITHOUT)
    named = {name for names in FUNCTIONS.values() for name in names.split()}
    assert named | {"MapperError", "__version__"} == set(mapper.__all__)


@pytest.mark.parametrize("name", mapper.__all__)
def test_every_name_is_there(name: str) -> None:
    found = getattr(mapper, name)
    assert name == "__version__" or (callable(found) and found.__doc__)
    assert name in dir(mapper)


def test_another_name_is_not() -> None:
    with pytest.raises(AttributeError, match="module 'mapper' has no attribute 'plans_of'"):
        _ = mapper.plans_of


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import mapper; dir(mapper)", "torch ortools numpy transformers networkx pydantic"),
        ("import mapper; mapper.load_machine('sg2042'); mapper.load_plan; mapper.load_graph", "torch ortools"),
        ("import mapper; mapper.plan; mapper.explain; mapper.plan_problem; mapper.against", "torch"),
    ],
)  # fmt: skip
def test_imports_are_lazy(code: str, unwanted: str, tmp_path: Path) -> None:
    script = f"{code}\nimport sys; sys.exit(str(set({unwanted!r}.split()) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stderr.strip() == "set()"
