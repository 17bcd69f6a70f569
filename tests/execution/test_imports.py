"""What a board has to have: no solver, no model library, no safetensors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
for name in ("ortools", "transformers", "safetensors"):
    sys.modules[name] = None
import mapper.sources.bundle, mapper.execution.run, mapper.execution.workers.worker, mapper.cli.run
import mapper.machine.discover, mapper.plans.file
loaded = {name for name in sys.modules if name.startswith("mapper.")}
assert not {name for name in loaded if name.startswith(("mapper.solver", "mapper.program.trace"))}, loaded
"""


def test_the_runtime_half_imports_without_what_a_board_lacks() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], cwd=Path(__file__).resolve().parents[2], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_a_worker_binds_itself_before_torch_is_there() -> None:
    code = "import sys, mapper.execution.workers.worker; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[2], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
