"""What the shell offers, asked in a real bash as typer's script asks."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mapper.cli import completion
from mapper.cli.main import _code as mapper_code
from mapper.cost.paths import PATHS
from mapper.exporters.mappings.read import FORMATS as MAPPINGS
from mapper.exporters.registry import TARGETS
from mapper.graph.exporters import FORMATS as GRAPHS
from mapper.machine.files import HOST, bundled_names
from mapper.measure.wanted import PARTS
from mapper.solver.explanation.explain import SECTIONS
from mapper.solver.peers.choose import REGISTERED
from mapper.solver.peers.register import PLANNERS
from mapper.solver.placement.strategies import STRATEGIES
from mapper.solver.problem import OBJECTIVES
from mapper.study.exploration.dimensions import NAMES
from tests.cli.commands import mapper

BASH = shutil.which("bash")
FOLDER = Path(sys.executable).parent
_ASK = """
eval "$(mapper --show-completion bash)"
while read -r line; do
  IFS='|' read -ra COMP_WORDS <<< "$line"
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  COMPREPLY=()
  _mapper_completion mapper
  echo "${COMPREPLY[*]}"
done
"""
IN_BASH = {
    "mapper|plan|--model|vi": "vit vit_large",
    "mapper|run|plan.json|--backend|=|eager|:|bf": "bfloat16",
    "mapper|check|pla": "",
}
"""What is typed, in the words that bash makes of it, and what is offered; nothing makes bash offer files."""
OFFERED = IN_BASH | {
    "mapper|plan|--topo|sg20": "sg2042 sg2042-2s sg2044",
    "mapper|plan|--topo|=|sg2044": "sg2044",
    "mapper|plan|--topo|=": " ".join([*bundled_names(), HOST]),
    "mapper|plan|--topo|sg2042+sg2044": "sg2042+sg2044",
    "mapper|plan|--planner|gre": "greedy",
    "mapper|plan|--placement|per-": "per-group per-node",
    "mapper|plan|--against|native,al": "native,all native,alpa",
    "mapper|plan|--objective|": "throughput latency cores pareto",
    "mapper|run|plan.json|--backend|openv": "openvino openvino:bfloat16",
    "mapper|run|plan.json|--backend|eager|:": "aten bfloat16",
    "mapper|export|plan.json|--to|o": "openmpi-rankfile omp-places onnxruntime openvino",
    "mapper|explain|plan.json|--only|limits,m": "limits,marginal",
    "mapper|topo|diff|sg2042|epyc-9": "epyc-9684x",
    "mapper|topo|sh": "show",
    "mapper|model|show|vgg": "vgg16",
    "mapper|schema|fr": "front",
    "mapper|expl": "explain explore",
    "mapper|com": "compare",
    "mapper|compare|a.json|--j": "--json",
    "mapper|plan|--max-l": "--max-latency",
}


@pytest.mark.skipif(BASH is None, reason="bash is not installed")
def test_bash_is_offered_commands_and_names(tmp_path: Path) -> None:
    assert BASH is not None
    environment = os.environ | {"PATH": f"{FOLDER}:{os.environ['PATH']}"}
    asked = "".join(f"{line}\n" for line in IN_BASH)
    done = subprocess.run([BASH, "--norc", "-c", _ASK], input=asked, capture_output=True, text=True, env=environment,
                          cwd=tmp_path, check=True)  # fmt: skip
    assert dict(zip(IN_BASH, done.stdout.splitlines(), strict=True)) == IN_BASH, done.stderr


@pytest.mark.parametrize("typed", OFFERED)
def test_names_are_offered_where_they_belong(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = typed.split("|")
    monkeypatch.setenv("_MAPPER_COMPLETE_BEFORE", "")
    for name, value in (("_MAPPER_COMPLETE", "complete_bash"), ("COMP_WORDS", "\n".join(words)),
                        ("COMP_CWORD", str(len(words) - 1))):  # fmt: skip
        monkeypatch.setenv(name, value)
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit):
        mapper_code()
    assert out.getvalue().split() == OFFERED[typed].split()


def test_a_key_press_does_not_wait_for_torch_or_the_solver(tmp_path: Path) -> None:
    """Each kind of name, in a process that may not import what is large."""
    code = """
import sys
for name in ("torch", "ortools", "numpy", "networkx", "transformers", "matplotlib", "plotly"):
    sys.modules[name] = None
from mapper.cli import completion
from mapper.cli.main import _code as mapper_code
import mapper.cli.main
assert "vit" in completion.models("v") and "sg2042" in completion.machines("sg")
assert completion.backends("eager") and completion.targets("csv")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_lists_are_those_of_the_planner() -> None:
    assert REGISTERED and list(completion.PLANNERS) == list(PLANNERS)
    assert {completion.OPTIMAL, *completion.PLACEMENTS} == set(STRATEGIES)
    assert (*OBJECTIVES, "pareto") == completion.OBJECTIVES and completion.SECTIONS == SECTIONS
    assert {name.rstrip("=.") for name in completion.VARIED} == set(NAMES)


def test_lists_in_help_are_offered_too() -> None:
    """What the options of few values offer is what there is."""
    assert completion.targets("") == list(TARGETS)
    found = {"--only": PARTS, "--path": PATHS, "--from": MAPPINGS, "--format": tuple(GRAPHS)}
    for words, option in ((("calibrate",), "--only"), (("model", "cost"), "--path"), (("import",), "--from"),
                          (("model", "trace"), "--format")):  # fmt: skip
        assert set(_values(words, option)) == set(found[option]), option


def _values(words: tuple[str, ...], option: str) -> list[str]:
    """What typer offers for the value of `option`."""
    from typer.main import get_command

    from mapper.cli.main import app

    command = get_command(app)
    for word in words:
        command = command.commands[word]  # type: ignore[attr-defined]
    parameter = next(p for p in command.params if option in p.opts)
    return [item.value for item in parameter.shell_complete(command.context_class(command), "")]


def test_files_of_models_in_the_working_folder_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "vitamin.toml").write_text("")
    assert completion.models("vit") == ["vit", "vit_large", "vitamin"]


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (("plna",), "plan"),
        (("plan", "--modle", "vit"), "--model"),
        (("plan", "--model", "vitt"), "Did you mean vit"),
        (("topo", "show", "sg204"), "sg2042"),
        (("plan", "--model", "vit", "--placement", "scater"), "Did you mean scatter?"),
        (("plan", "--model", "vit", "--planner", "gredy"), "Did you mean greedy?"),
        (("plan", "--model", "vit", "--against", "natve"), "Did you mean native?"),
        (("plan", "--model", "vit", "--objective", "latncy"), "Did you mean latency?"),
        (("plan", "--model", "vit", "--backend", "inducter"), "Did you mean inductor"),
        (("export", "p.json", "--to", "numctl", "-o", "x"), "Did you mean numactl?"),
        (("explain", "p.json", "--only", "limit"), "Did you mean limits?"),
        (("calibrate", "--only", "rate"), "Did you mean rates?"),
        (("schema", "plna"), "plan"),
    ],
)
def test_a_mistyped_name_is_answered_with_the_near_one(arguments: tuple[str, ...], near: str) -> None:
    done = mapper(*arguments)
    assert done.code in (2, 3) and near in done.err
