"""What docs/machines.md shows is true."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema

from mapper.cli.schema import Kind, schema_of
from mapper.jsonio import plain
from mapper.machine.complete import completed
from mapper.machine.files import bundled_names, load_machine, machine_text
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


def test_the_published_schema_takes_every_form_of_a_file() -> None:
    validator = jsonschema.Draft202012Validator(schema_of(Kind.topology))
    by_hand = json.loads(next(re.finditer(r"```json\n(.*?)```", PAGE, re.DOTALL))[1])
    validator.validate(by_hand)
    for name in bundled_names():
        machine = load_machine(name)
        validator.validate(json.loads(machine_text(machine)))
        validator.validate(plain(machine))
    for wrong in ({"nodes": "core:4"}, {"caches": [{"name": "L2"}]}, {"colour": 1}, {"frequency_hz": "2 GHz"}):
        assert list(validator.iter_errors(by_hand | wrong)), wrong


def test_the_shape_in_one_line_is_one() -> None:
    text = next(re.finditer(r"`(pack:1\(.*?isa=avx2\))`", PAGE, re.DOTALL))[1]
    assert load_machine(" ".join(text.split())).fingerprint == load_machine("sg2042").fingerprint
