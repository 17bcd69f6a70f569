"""What paired rounds allow to be said of a chosen plan and its alternatives.

Each alternative is compared with the chosen plan by itself: round by round the ratio of their rates, with an interval
for the median ratio that assumes nothing of its distribution. Three things would be dishonest, and are not done: to
call a difference inside the interval a win; to pick the fastest of several noisy alternatives and compare with that as
if it had been named before; to claim for several alternatives at once what each interval says with 95 % for itself.

- Faster than *every* alternative: each interval, for itself, is above 1. No correction is needed, since the claim is
  wrong only if one certain interval is (intersection-union test, Berger 1982).
- Slower or faster than *some*: those intervals have confidence 1 - 0.05/k for k alternatives (Bonferroni).
- Not below what against the best, whichever that is: the least of the lower ends, for the first reason.
- The ratio to the best alternative: the best of the warm-up, whose rounds are not those of the interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mapper.study.statistics import Interval, median_interval

CONFIDENCE = 0.95
SAME = Interval(1.0, 1.0, 1.0, 1.0)
"""The ratio of a plan to itself."""


@dataclass(frozen=True)
class Rival:
    """An alternative: the rates of the chosen plan over its own in each round that counts, and in the warm-up."""

    name: str
    ratios: tuple[float, ...]
    warm: float


@dataclass(frozen=True)
class Compared:
    """A rival with the interval of its ratio: `own` with 95 % for itself, `joint` with 95 % for all rivals together.
    None without rounds that others left alone."""

    rival: Rival
    own: Interval | None
    joint: Interval | None

    @property
    def told(self) -> bool:
        """Whether there were enough rounds for its own interval."""
        return self.own is not None and self.own.level >= CONFIDENCE

    def joint_reached(self, count: int) -> bool:
        """Whether there were enough for the joint one among `count` rivals."""
        return self.joint is not None and self.joint.level >= 1 - (1 - CONFIDENCE) / count

    def shown(self, interval: Interval | None) -> str:
        """Such as `1.04 (1.01 to 1.08) times native`."""
        if interval is None:
            return f"not comparable with {self.rival.name}"
        return f"{interval.median:.3f} ({interval.low:.3f} to {interval.high:.3f}) times {self.rival.name}"


@dataclass(frozen=True)
class Verdict:
    """The comparison with each rival; `best`, the ratio to the best alternative, and which that is; `at_least`, which
    the ratio to the best alternative, whichever it is, is not below (95 %; None where there were too few rounds);
    and in words what may be said."""

    compared: tuple[Compared, ...]
    best: Interval | None
    best_name: str
    at_least: float | None
    words: str


def verdict(rivals: Sequence[Rival], same: Sequence[str] = ()) -> Verdict:
    """Compares a chosen plan with `rivals`. `same` are alternatives that are this very plan: their ratio is 1."""
    k = len(rivals)
    compared = tuple(
        Compared(r, _interval(r.ratios, CONFIDENCE), _interval(r.ratios, 1 - (1 - CONFIDENCE) / k)) for r in rivals
    )
    lows = [c.own.low for c in compared if c.own is not None and c.told] + [1.0] * bool(same)
    at_least = min(lows) if lows and all(c.told for c in compared) else 1.0 if not rivals else None
    best, name = _best(compared, same)
    return Verdict(compared, best, name, at_least, _words(compared, same))


def _interval(ratios: Sequence[float], level: float) -> Interval | None:
    return median_interval(ratios, level) if ratios else None


def _best(compared: Sequence[Compared], same: Sequence[str]) -> tuple[Interval | None, str]:
    """The ratio to the best alternative: one that is faster beyond the noise, else the fastest of the warm-up."""
    faster = [c for c in compared if c.joint is not None and c.joint_reached(len(compared)) and c.joint.high < 1]
    if faster:
        worst = min(faster, key=lambda c: c.own.median if c.own else 1.0)
        return worst.own, worst.rival.name
    nearest = min(compared, key=lambda c: c.rival.warm, default=None)
    if nearest is None or (same and nearest.rival.warm >= 1):
        return SAME, " = ".join(same) if same else "itself"
    return nearest.own, nearest.rival.name


def _words(compared: Sequence[Compared], same: Sequence[str]) -> str:
    """The sentence."""
    tail = f"; the chosen plan is {' and '.join(same)}" if same else ""
    if not compared:
        return f"every alternative is the chosen plan ({' = '.join(same)})" if same else "there is no alternative"
    short = [c for c in compared if not c.told]
    if short:
        n = min(len(c.rival.ratios) for c in short)
        shown = "; ".join(c.shown(c.own) for c in short if c.own is not None)
        is_so = f": the chosen plan is {shown}" if shown else ""
        return f"too few rounds to tell ({n} that other programs left alone){is_so}{tail}"
    if all(c.own is not None and c.own.low > 1 for c in compared):
        nearest = min(compared, key=lambda c: c.own.low if c.own else 0.0)
        return (
            f"the chosen plan is faster than every alternative: {nearest.shown(nearest.own)}, its nearest rival{tail}"
        )
    return "; ".join(_parts(compared)) + tail


def _parts(compared: Sequence[Compared]) -> list[str]:
    """What is said of rivals that are not all slower than the chosen plan."""
    every = len(compared)
    found: dict[str, list[Compared]] = {"slower": [], "open": [], "level": [], "faster": []}
    for c in compared:
        assert c.own is not None and c.joint is not None, "asked only where there were enough rounds"
        reached = c.joint_reached(every)
        one = c.joint if reached else c.own
        kind = "slower" if one.high < 1 else "faster" if one.low > 1 else "level"
        found[kind if reached or kind == "level" else "open"].append(c)
    parts = []
    if found["slower"]:
        parts.append(f"the chosen plan is slower: {'; '.join(c.shown(c.joint) for c in found['slower'])}")
    if found["open"]:
        shown = "; ".join(c.shown(c.own) for c in found["open"])
        parts.append(f"too few rounds for so many alternatives to tell: {shown}")
    if found["level"]:
        shown = "; ".join(c.shown(c.joint if c.joint_reached(every) else c.own) for c in found["level"])
        parts.append(f"no difference beyond the noise: the chosen plan is {shown}")
    if found["faster"]:
        parts.append(f"it is faster than {', '.join(c.rival.name for c in found['faster'])}")
    return parts
