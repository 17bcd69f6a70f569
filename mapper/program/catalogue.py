"""What is known of the cards at hand, kept from one listing to the next: tracing dozens of models takes minutes.

A card's row is kept under a hash of all that it follows from: the card, the module that it builds where that is one of
ours, the code that traces and counts, and the versions of torch and of the card's library. A card that builds from
other code, which may change unseen, is traced each time.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import platform
from collections.abc import Callable
from pathlib import Path

from pydantic import Field

from mapper import jsonio
from mapper.errors import MapperError
from mapper.jsonio import Record
from mapper.program.cards import ModelCard, load_card

SCHEMA = "mapper-models/1"
OURS = "mapper.models"


class Row(Record):
    """A model in a list. `parameters`, `ops` and `flop` are None where `missing` says what is not installed."""

    name: str
    title: str
    source: str
    item: str
    parameters: int | None = None
    ops: int | None = None
    flop: float | None = None
    missing: str | None = None


class _Kept(Record):
    schema_: str = Field(default=SCHEMA, alias="schema")
    rows: dict[str, Row] = Field(default={})


class Catalogue:
    """Rows of cards, kept in the file `models.json` of `folder`; where that cannot be, they are made anew."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "models.json"
        try:
            self._kept = dict(jsonio.read_record(_Kept, self.path, SCHEMA).rows)
        except MapperError:  # absent, or not what it should be: it is only a memory
            self._kept = {}
        self._used: dict[str, Row] = {}

    def row(self, name: str, make: Callable[[str], Row]) -> Row:
        """The row of the card called `name`; `make` is asked for it where none is kept.

        Raises: what `load_card` and `make` raise.
        """
        key = _key(name, load_card(name))
        row = self._kept.get(key) if key else None
        if row is None:
            row = make(name)
        if key and row.missing is None:
            self._used[key] = row
        return row

    def save(self) -> None:
        """Keeps the rows that were asked for, and no others. Not being able to is no error."""
        if self._used.items() <= self._kept.items() and len(self._used) == len(self._kept):
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            jsonio.write_text(self.path, jsonio.dumps(jsonio.plain(_Kept(rows=self._used))))
        except (OSError, MapperError):
            pass


def _key(name: str, card: ModelCard) -> str | None:
    """The hash of all that the row of `card`, listed as `name`, follows from.

    None where that cannot be told without running other code.
    """
    module = card.class_.partition(":")[0]
    library = module.partition(".")[0]
    if module.startswith(f"{OURS}."):
        found = importlib.util.find_spec(module)
        files = [Path(found.origin)] if found is not None and found.origin is not None else []
        library = "torch"
    elif library in ("torch", "transformers"):
        files = []
    else:
        return None
    try:
        versions = [platform.python_version(), *map(importlib.metadata.version, ("torch", library))]
    except importlib.metadata.PackageNotFoundError:
        return None
    here = Path(__file__).parent
    graph = [here.parent / "graph" / f"{part}.py" for part in ("measure", "model", "trace")]
    code = [*sorted(here.glob("*.py")), *graph]
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (*files, *code)]
    return jsonio.sha256([name, jsonio.plain(card), versions, digests])
