"""What mappings gain over native, of one model on one machine: the number that the rest of the study is made of."""

from __future__ import annotations

from collections.abc import Mapping as Table
from collections.abc import Sequence
from dataclasses import dataclass

from mapper.machine.model import Machine
from mapper.machine.parts import Path
from mapper.study.sg2042.cases import Case
from mapper.study.sg2042.mappings import Mapping, costed, table_of
from mapper.study.sg2042.native import Native, native_s


@dataclass(frozen=True)
class Rate:
    """Elements a second of a mapping, with calls of so many elements, and seconds of one call."""

    per_s: float
    calls_of: int
    latency_s: float


@dataclass(frozen=True)
class Outcome:
    """A model on a machine: seconds of a native item by set-up and item size; the rate of each mapping by its name and
    the elements of a call."""

    model: str
    native_s: Table[tuple[Native, int], float]
    rates: Table[tuple[str, int], Rate]

    def native_per_s(self, native: Native, item: int) -> float:
        """Elements a second."""
        return item / self.native_s[native, item]

    def best_native(self, item: int) -> Native:
        """The fastest set-up for items of so many elements."""
        return max((n for n, b in self.native_s if b == item), key=lambda n: self.native_per_s(n, item))

    def rate(self, name: str, item: int) -> Rate | None:
        """The fastest way to run the mapping called `name` on items of `item` elements, whole or in calls of fewer;
        None where there is none."""
        ways = [rate for (known, calls_of), rate in self.rates.items() if known == name and item % calls_of == 0]
        return max(ways, key=lambda rate: rate.per_s, default=None)

    def best(self, names: Sequence[str], item: int) -> tuple[str, Rate] | None:
        """The fastest of the mappings called `names`."""
        found = [(name, rate) for name in names if (rate := self.rate(name, item)) is not None]
        return max(found, key=lambda both: both[1].per_s, default=None)

    def ratio(self, names: Sequence[str], item: int, over: Native) -> float | None:
        """How many times the rate of native `over` the best of `names` reaches."""
        best = self.best(names, item)
        return None if best is None else best[1].per_s / self.native_per_s(over, item)


def outcome(
    model: str, machine: Machine, mappings: Sequence[Mapping], natives: Sequence[Native], items: Sequence[int],
    path: Path | None = None,
) -> Outcome:  # fmt: skip
    """What `mappings` and `natives` reach on `machine`, with calls of as many elements as each mapping says."""
    cases = [Case(model, item) for item in items]
    baseline = {
        (native, case.batch): native_s(case.graph, machine, native, path, case.forms)
        for native in natives for case in cases
    }  # fmt: skip
    rates: dict[tuple[str, int], Rate] = {}
    for batch in dict.fromkeys(mapping.batch for mapping in mappings):
        case, mine = Case(model, batch), [m for m in mappings if m.batch == batch]
        table = table_of(case, machine, mine, path)
        for mapping in mine:
            predicted = costed(case.graph, machine, table, mapping)
            rates[mapping.name, batch] = Rate(batch / predicted.period_s, batch, predicted.latency_s)
    return Outcome(model, baseline, rates)
