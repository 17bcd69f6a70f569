"""What docs/machines.md shows is true."""

from __future__ import annotations

import json
import re
from pathlib import Path

from mapper.machine.complete import completed
from mapper.machine.files import load_machine
from mapper.machine.model import Machine

PAGE = (Path(__file__).parents[2] / "docs/machines.md").read_text()


def test_the_machine_by_hand_is_the_sg2042_and_fits_a_screen() -> None:
    text = next(re.finditer(r"```json\n(.*?)```", PAGE, re.DOTALL))[1]
    machine, known = Machine.model_validate(completed(json.loads(text))), load_machine("sg2042")
    assert len(text.splitlines()) <= 30
    assert [core.pus for core in machine.cores] == [core.pus for core in known.cores]
    assert machine.distances == known.distances
    assert [(c.name, c.shared_by, c.bytes.value) for c in machine.caches] == [
        (c.name, c.shared_by, c.bytes.value) for c in known.caches
    ]


def test_the_shape_in_one_line_is_one() -> None:
    text = next(re.finditer(r"`(pack:1\(.*?isa=avx2\))`", PAGE, re.DOTALL))[1]
    assert load_machine(" ".join(text.split())).fingerprint == load_machine("sg2042").fingerprint
