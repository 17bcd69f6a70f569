"""An exploration as one offline page: a scatter of all plans, parallel coordinates, and the command behind each point.

The page loads nothing and needs nothing else. Its policy lets only the script and the style apply that it names by
their hash. Names come as JSON and are shown as text.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from pathlib import Path
from typing import Any

from mapper import jsonio
from mapper.reports import style
from mapper.reports.explore import kind_of_row, noun_of, subject
from mapper.reports.explore_answers import ANSWERS
from mapper.reports.explore_frame import PAGE, STYLE
from mapper.reports.explore_script import SCRIPT
from mapper.reports.plan import plural
from mapper.study.exploration.dimensions import FIGURE
from mapper.study.exploration.explore import Exploration
from mapper.study.exploration.rows import Row


def save_page(found: Exploration, path: Path) -> None:
    """Writes the page to `path`: whole, or not at all. Raises: SystemRefused."""
    jsonio.write_text(path, page(found))


def page(found: Exploration) -> str:
    """The page as text; the same for the same rows."""
    usable = sum(row.made is not None for row in found.rows)
    front = sum(row.front for row in found.rows)
    script = SCRIPT + ANSWERS
    parts = {
        "policy": _policy(script, STYLE),
        "title": html.escape(subject(found)),
        "told": html.escape(f"{usable} plans; {front} of them are on the front: none is better in everything"),
        "style": STYLE,
        "script": script,
        "rows": _safe(document(found)),
    }
    out = []
    for i, piece in enumerate(PAGE.split("@@")):  # every second one is the name of a part
        out.append(parts[piece] if i % 2 else piece)
    return "".join(out)


def document(found: Exploration) -> dict[str, Any]:
    """What the page shows: fields with their labels and values, a name and the options of each plan."""
    rows = [row for row in found.rows if row.made is not None]
    flat = [row.flat() for row in rows]
    fields = [field | {"values": [_rounded(line[field["key"]]) for line in flat]} for field in _fields(found)]
    return {
        "fields": [field for field in fields if any(value is not None for value in field["values"])],
        "names": [_name(row) for row in rows],
        "front": [row.front for row in rows],
        "options": [row.options for row in rows],
        "stages": [list(zip(row.made.replicas, row.made.threads, strict=True)) for row in rows if row.made],
        "palette": [style.stage_colour(i) for i in range(24)],
    }


def _fields(found: Exploration) -> list[dict[str, Any]]:
    """The columns that the page has, with words for them; `text` are names, `log` spans orders of magnitude."""
    noun = noun_of(found)
    texts = {"machine": "machine", "strategy": "strategy", "status": "status", "limited_by": "limited by"}
    asked = {"batch": f"{plural(noun)} an item", "stages_made": "stages", "threads": "threads a replica (asked)",
             "replicas": "most replicas (asked)"}  # fmt: skip
    made = {
        "elements_per_s": f"{plural(noun)} a second", "latency_s": "latency of an item (s)", "cores_used": "cores used",
        "element_energy_j": f"energy of one {noun} (J)", "dram_bytes_per_item": "DRAM bytes an item",
        "gap": "gap to the bound", "simulated_throughput_per_s": "items a second, simulated",
        "simulated_latency_p99_s": "latency simulated, 99th percentile (s)",
    }  # fmt: skip
    logarithmic = {"elements_per_s", "latency_s", "element_energy_j"}
    figures = {FIGURE + figure.name: figure.name for figure in found.dimensions.figures}
    return [
        *({"key": key, "label": label, "text": False, "log": key in logarithmic} for key, label in made.items()),
        *({"key": key, "label": label, "text": False, "log": False} for key, label in (asked | figures).items()),
        *({"key": key, "label": label, "text": True, "log": False} for key, label in texts.items()),
    ]


def _name(row: Row) -> str:
    return f"{kind_of_row(row)}, {row.strategy}, items of {row.batch}, {row.machine}"


def _rounded(value: Any) -> Any:
    """Six digits are more than can be seen."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _safe(content: Any) -> str:
    """JSON that stays inside its element whatever names it has."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(script: str, look: str) -> str:
    """The content security policy under which only these apply and nothing is loaded."""
    allowed = [f"'sha256-{base64.b64encode(hashlib.sha256(x.encode()).digest()).decode()}'" for x in (script, look)]
    return f"default-src 'none'; script-src {allowed[0]}; style-src {allowed[1]}; base-uri 'none'; form-action 'none'"
