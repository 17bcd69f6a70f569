"""Names that are made to break out, in every target: files stay valid for what reads them, and nothing of it is run."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest

from mapper.errors import MissingFeature
from mapper.execution.run import sampled
from mapper.exporters.export import export
from mapper.exporters.files.csv_file import FORMULA, unguarded
from mapper.exporters.registry import TARGETS, Target
from mapper.sources.backend import with_backend
from mapper.sources.source import Source
from tests.exporters.plans import CANARY, HOSTILE, MACHINE, MODEL, hostile

ENVIRONMENT = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "PYTHON": "true"}
"""For what is looked at here, torch's launcher need not start."""
SCRIPTS = (".sh", ".sbatch")


def exported(target: Target, path: Path) -> list[Path]:
    """The files of the hostile plan's export. Skips where the target's library is absent."""
    model, plan = hostile(1 if target.computes else 2)  # not every target that computes has replicas
    source = sample = None
    if target.computes:
        plan = with_backend(plan, target.backend_for(None, plan.request.backend))
        source = Source(model.program, model.weights, model.module)
    try:
        if source is not None:
            sample = sampled(plan, source)
        export(plan, target.name, path, source, sample)
    except MissingFeature as error:
        pytest.skip(error.what)
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    "target",
    [pytest.param(t, id=t.name, marks=[pytest.mark.soak] if t.computes else []) for t in TARGETS.values()],
)
def test_an_export_with_hostile_names_is_valid_and_runs_none_of_them(target: Target, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    files = exported(target, tmp_path / f"out{target.suffix}")
    assert files
    for file in files:
        name = str(file.relative_to(tmp_path))
        assert re.fullmatch(r"[A-Za-z0-9_./-]+", name), "names of files are ours"
        check(file)
    for script in (file for file in files if file.suffix in SCRIPTS):
        subprocess.run(
            ["bash", script, "true"], cwd=work, capture_output=True, timeout=120, check=False, env=ENVIRONMENT
        )
    assert not list(tmp_path.rglob(f"*{CANARY}*"))


def check(file: Path) -> None:
    """That `file` is what its ending says, and has no character that changes how others are shown or read."""
    data = file.read_bytes()
    if file.suffix == ".bin" or b"\0" in data:
        return
    text = data.decode()
    if file.suffix not in (".json", ".csv"):  # those have names as they are, in quotes
        odd = {c for c in text if unicodedata.category(c) in ("Cf", "Cc", "Cs", "Zl", "Zp") and c not in "\n\t"}
        assert not odd, f"{file.name} has {odd}"
    if file.suffix == ".json":
        json.loads(text)
    elif file.suffix == ".py":
        compile(text, str(file), "exec")
    elif file.suffix in SCRIPTS:
        subprocess.run(["bash", "-n", file], check=True, timeout=20)
    elif file.suffix == ".md":
        check_markdown(text)


def check_markdown(text: str) -> None:
    """Names are inline code on one line, so neither HTML nor links nor the shape of the document come from them."""
    prose = re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", text)
    assert CANARY not in prose and "script>" not in prose
    assert len([line for line in text.splitlines() if line.startswith("# ")]) == 1


def test_json_has_the_names_as_they_are(tmp_path: Path) -> None:
    (file,) = exported(TARGETS["json"], tmp_path / "out.json")
    document = json.loads(file.read_text())
    assert [op for stage in document["stages"] for op in stage["ops"]] == list(HOSTILE)
    assert (document["model"]["name"], document["machine"]) == (MODEL, MACHINE)


def test_csv_gives_the_names_back_and_no_spreadsheet_a_formula(tmp_path: Path) -> None:
    (file,) = exported(TARGETS["csv"], tmp_path / "out.csv")
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines, strict=True))
    cells = [row["op"] for row in rows if row["row"] == "op"]
    assert tuple(map(unguarded, cells)) == HOSTILE
    for row in rows:
        assert not any(cell.startswith(tuple(set(FORMULA) - {"'"})) for cell in row.values())


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_reads_the_dot_file(tmp_path: Path) -> None:
    (file,) = exported(TARGETS["dot"], tmp_path / "out.dot")
    done = subprocess.run(["dot", "-Tsvg", file], capture_output=True, timeout=60, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert "<script>" not in done.stdout


def test_names_in_dot_end_their_quotes_nowhere(tmp_path: Path) -> None:
    """The grammar of graphviz.org/doc/info/lang.html, as far as the file uses it."""
    (file,) = exported(TARGETS["dot"], tmp_path / "out.dot")
    quoted = r'"(?:[^"\\\n]|\\.)*"'
    attributes = rf"\[[a-z]+=(?:\w+|{quoted})(?:, [a-z]+=(?:\w+|{quoted}))*\]"
    head, *lines, tail = file.read_text().splitlines()
    assert (head, tail) == ("digraph mapping {", "}")
    for line in lines:
        assert re.fullmatch(rf"  \w+(?: -> \w+)? {attributes};", line), line
        assert not re.search(r"&(?!amp;)", line)
    assert len(lines) == 3 + 3 + 4, "feeder, three stages and four edges beside what all nodes have"
