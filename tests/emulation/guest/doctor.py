"""Whether `mapper doctor` says what is so on this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path

from commands import succeed
from report import check


def main() -> None:
    """The doctor's facts, which are kept; none of them may be bad."""
    with check("doctor") as told:
        found = json.loads(succeed("doctor", "--json").out)["facts"]
        (Path(os.environ["MAPPER_OUT"]) / "doctor.json").write_text(json.dumps(found, indent=1) + "\n")
        facts = {fact["name"]: fact for fact in found}
        for name, fact in facts.items():
            print(f"{fact['state']:4} {name}: {fact['value']}. {fact['consequence']}")
        bad = [name for name, fact in facts.items() if fact["state"] == "bad"]
        told.require(not bad, f"bad: {', '.join(bad)}")
        told.require(facts["PUs"]["value"].startswith("0-63"), f"the PUs are {facts['PUs']['value']}")
        told.require(facts["python"]["value"].endswith("riscv64"), facts["python"]["value"])
        for name in ("ortools", "transformers"):
            told.require(facts[name]["value"] == "not installed", f"{name} is there: {facts[name]['value']}")
        limited = [name for name, fact in facts.items() if fact["state"] == "warn"]
        told.detail = f"{len(found)} facts, none bad; limited: {', '.join(limited)}"


if __name__ == "__main__":
    main()
