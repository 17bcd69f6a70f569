"""Payloads, what is packed of them, and what is made of the checks that come back."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.emulation.board import SLOWER
from tests.emulation.boot import Ended, pack
from tests.emulation.corpus import pack_tree
from tests.emulation.cpio import archive
from tests.emulation.outcome import Booted, Line, document, judge, kept, read, table, write
from tests.emulation.parts import GUEST, Part, make_payload, selected
from tests.emulation.topology import nothing


def part(name: str, *checks: str, needs: tuple[str, ...] = (), boards: tuple[str, ...] = ("boot0", "boot8")) -> Part:
    return Part(name, f"{name}.py", checks, nothing, needs=needs, boards=boards)


INSTALL, RUN, KILL = part("install", "it installs"), part("run", "it runs", "it is bound", needs=("install",)), part(
    "kill", "it is cleaned up", needs=("run",), boards=("boot8",)
)  # fmt: skip
PARTS = (INSTALL, RUN, KILL)
ENDED = Ended(0, "the payload ended with 0", 12.0)


def test_parts_are_selected_with_what_they_need_in_order() -> None:
    assert selected(PARTS, ["kill"], "boot8") == [INSTALL, RUN, KILL]
    assert selected(PARTS, [], "boot0") == [INSTALL, RUN]
    assert selected(PARTS, ["kill"], "boot0") == []
    with pytest.raises(KeyError, match="nothing"):
        selected(PARTS, ["nothing"], "boot0")


def test_a_part_is_prepared_once_for_all_boards(tmp_path: Path) -> None:
    made: list[Path] = []

    def prepare(folder: Path) -> None:
        made.append(folder)
        (folder / "plan.json").write_text("{}")

    parts = [Part("run", "run.py", ("it runs",), prepare, limit_s=60)]
    for board in ("boot0", "boot8"):
        make_payload(tmp_path / board, parts, board, tmp_path / "prepared")
        assert (tmp_path / board / "run/plan.json").read_text() == "{}"
        assert f"MAPPER_BOARD={board} " in (tmp_path / board / "run.sh").read_text()
        assert (tmp_path / board / "guest/runner.py").is_file()
        assert json.loads((tmp_path / board / "parts.json").read_text()) == [
            {"name": "run", "script": "run.py", "limit_s": 60 / SLOWER}
        ]
    assert len(made) == 1


def test_a_payload_becomes_a_disk_of_whole_mebibytes_that_root_owns(tmp_path: Path) -> None:
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/x.pyc").write_bytes(b"0")
    (tmp_path / "run.sh").write_text("true\n")
    (tmp_path / "large").write_bytes(bytes(1 << 20))
    disk = pack(tmp_path)
    assert len(disk) % (1 << 20) == 0
    with tarfile.open(fileobj=io.BytesIO(disk)) as tar:
        assert {entry.name for entry in tar} == {".", "./run.sh", "./large"}
        assert {(entry.uid, entry.gid, entry.uname) for entry in tar} == {(0, 0, "root")}


def test_an_initramfs_has_folders_files_and_links() -> None:
    made = archive(["bin"], {"init": b"#!/bin/sh\n"}, {"bin/sh": "busybox"})
    modes, at = {}, 0
    while at < len(made):
        assert made[at : at + 6] == b"070701"
        fields = [int(made[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name = made[at + 110 : at + 110 + fields[11] - 1].decode()
        content = at + (110 + fields[11] + 3) // 4 * 4
        modes[name] = (stat.S_IFMT(fields[1]), made[content : content + fields[6]])
        at = content + (fields[6] + 3) // 4 * 4
    assert modes == {
        "bin": (stat.S_IFDIR, b""), "init": (stat.S_IFREG, b"#!/bin/sh\n"), "bin/sh": (stat.S_IFLNK, b"busybox"),
        "TRAILER!!!": (0, b""),
    }  # fmt: skip


def told(out: Path, *lines: dict[str, object]) -> None:
    out.mkdir(exist_ok=True)
    (out / "checks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"check": "cut o')


def test_a_check_that_is_not_reported_has_failed(tmp_path: Path) -> None:
    told(tmp_path, {"check": "it runs", "passed": True, "detail": "well", "seconds": 3.0})
    stopped = judge("boot0", [RUN], tmp_path, Ended(None, "stopped after 5 s", 5.0))
    assert [(line.check, line.passed) for line in stopped.lines] == [("it runs", True), ("it is bound", False)]
    assert stopped.lines[0].seconds == 3 * SLOWER
    assert stopped.lines[1].detail == "not reported: stopped after 5 s"
    assert not stopped.passed


def test_a_machine_that_was_stopped_has_told_its_console(tmp_path: Path) -> None:
    line = json.dumps({"check": "it runs", "passed": True, "detail": "with {braces}", "seconds": 3.0})
    (tmp_path / "console.log").write_text(f"guest: up\nrun| check {line}\nrun| passed: it runs\nrun| check {{cut o\n")
    stopped = judge("boot0", [RUN], tmp_path, Ended(None, "stopped after 5 s", 5.0))
    assert [(line.check, line.passed, line.detail) for line in stopped.lines] == [
        ("it runs", True, "with {braces}"), ("it is bound", False, "not reported: stopped after 5 s"),
    ]  # fmt: skip


def test_a_script_that_fails_after_its_checks_passed_is_a_failure(tmp_path: Path) -> None:
    passed = [{"check": name, "passed": True, "detail": "", "seconds": 1.0} for name in RUN.checks]
    told(tmp_path, *passed)
    assert judge("boot0", [RUN], tmp_path, ENDED).passed
    told(tmp_path, *passed, {"check": "run: its script", "passed": False, "detail": "it ended with 1", "seconds": 9.0})
    assert not judge("boot0", [RUN], tmp_path, ENDED).passed


def test_a_machine_without_checks_has_not_passed(tmp_path: Path) -> None:
    assert not judge("boot0", [RUN], tmp_path / "nothing", ENDED).passed


def test_the_table_has_a_row_a_check_and_a_column_a_board() -> None:
    first = Booted("boot0", ENDED, (Line("boot0", "run", "it runs", True, 3.2, "well"),))
    second = Booted("boot8", ENDED, (Line("boot8", "run", "it runs", False, 4.0, "worker 3 is on PU 7"),))
    lines = table([first, second]).splitlines()
    assert lines[0].startswith("1 of 2 checks passed on 2 boards. ")
    assert "nothing about performance" in lines[0]
    assert [word for word in lines[2].split("  ") if word.strip()] == ["check", "boot0", "boot8"]
    assert [word.strip() for word in lines[3].split("  ") if word.strip()] == [
        "run: it runs",
        "passed, 3 s",
        "FAILED, 4 s",
    ]
    assert lines[-1] == "FAILED on boot8: it runs: worker 3 is on PU 7"
    whole = document([first, second])
    assert whole["passed"] is False
    assert document([first])["passed"] is True


SCRIPTS = {
    "good.py": "from report import check\nwith check('good') as told: told.detail = 'well'\n",
    "bad.py": "from report import check\nwith check('bad') as told: told.require(1 > 2, 'one is less')\n",
    "broken.py": "raise SystemExit(3)\n",
    "slow.py": "import time\nprint('waiting')\ntime.sleep(100)\n",
}


def test_the_runner_tells_of_scripts_that_fail_and_runs_the_next(tmp_path: Path) -> None:
    payload, out = tmp_path / "payload", tmp_path / "out"
    out.mkdir()
    limits = {name: int(SLOWER * (1 if name == "slow.py" else 60)) for name in SCRIPTS}
    parts = [Part(name[:-3], name, (), nothing, limit_s=limits[name]) for name in SCRIPTS]
    make_payload(payload, [*parts[1:], parts[0]], "boot0", tmp_path / "prepared")
    for name, text in SCRIPTS.items():
        (payload / "guest" / name).write_text(text)
    for name in ("runner.py", "report.py"):  # the guest's folders are elsewhere here
        text = (GUEST / name).read_text().replace('"/payload"', repr(str(payload))).replace('"/out', f'"{out}')
        (payload / "guest" / name).write_text(text)
    done = subprocess.run([sys.executable, payload / "guest/runner.py"], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 1, done.stderr
    lines = {line["check"]: line for line in map(json.loads, (out / "checks.jsonl").read_text().splitlines())}
    assert {check: line["passed"] for check, line in lines.items()} == {
        "good": True, "bad": False, "broken: its script": False, "slow: its script": False,
    }  # fmt: skip
    assert lines["bad"]["detail"] == "one is less"
    assert lines["broken: its script"]["detail"] == "its script ended with 3"
    assert lines["slow: its script"]["detail"] == "not done after 1 s of the guest's time"
    assert (out / "slow.log").read_text() == "waiting\n"
    assert f"check {json.dumps(lines['broken: its script'])}" in done.stdout
    assert "runner: 2 of 4 parts went well" in done.stdout


def test_what_a_board_showed_is_packed_by_names_and_contents_alone(tmp_path: Path) -> None:
    for name in ("here", "there"):
        for number in (3, 1, 2) if name == "here" else (1, 2, 3):
            file = tmp_path / name / f"sys/cpu{number}/online"
            file.parent.mkdir(parents=True)
            file.write_text(f"{number}\n")
            os.utime(file, (number, 10**9 if name == "here" else 10**8))
    packed = pack_tree(tmp_path / "here")
    assert packed == pack_tree(tmp_path / "there")
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert tar.getnames() == [f"sys/cpu{number}/online" for number in (1, 2, 3)]
        assert {(entry.mtime, entry.uid, entry.uname) for entry in tar} == {(0, 0, "")}


def test_an_earlier_run_is_kept_but_for_what_runs_again(tmp_path: Path) -> None:
    ended = [Ended(0, "the payload ended with 0", 12.0), Ended(None, "stopped after 5 s", 5.0)]
    first = Booted(
        "boot0", ended[0], (Line("boot0", "run", "it runs", True, 3.0), Line("boot0", "kill", "it dies", True))
    )
    second = Booted("boot8", ended[1], (Line("boot8", "run", "it runs", False, None, "not reported"),))
    assert read(tmp_path) == []
    write([first, second], tmp_path)
    assert read(tmp_path) == [first, second]
    assert kept(read(tmp_path), {"boot8": [RUN]}) == [first]
    assert kept(read(tmp_path), {"boot0": [RUN]}) == [Booted("boot0", ended[0], first.lines[1:]), second]
    again = [
        *kept(read(tmp_path), {"boot8": [RUN]}),
        Booted("boot8", ended[0], (Line("boot8", "run", "it runs", True),)),
    ]
    assert table(again).startswith("3 of 3 checks passed on 2 boards. ")
    (tmp_path / "checks.json").write_text("{}")
    with pytest.raises(ValueError, match="is not of mapper-emulated-checks/1"):
        read(tmp_path)
