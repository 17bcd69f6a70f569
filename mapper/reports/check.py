"""What a check of a plan found, in words."""

from __future__ import annotations

from mapper.plans.check import Report


def check_text(report: Report) -> list[str]:
    """Lines for people: what holds, then what could not be derived again. What does not hold is the error's."""
    return [
        *(f"holds: {what}" for what in report.verified),
        *(f"not derived again: {what}" for what in report.not_verified),
    ]
