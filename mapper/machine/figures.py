"""Numbers of a machine, each with where it is from."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from mapper.jsonio import Record

Kind = Literal["specified", "measured", "inferred", "assumed"]
"""How a figure is known: by its maker (or firmware, or kernel), by a measurement, by deduction, or not really."""


class Figure(Record):
    """A number with where it is from. `low` and `high` bound it where the source gives a range.

    In a file, a bare number stands for a figure that somebody assumed. A `source` that begins with a name in
    brackets, such as `[trm] 16 slices of 4 MiB`, cites an entry of the file's `sources`.
    """

    value: float
    low: float | None = None
    high: float | None = None
    kind: Kind = "assumed"
    source: str = ""

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "number"}, handler.resolve_ref_schema(handler(core))]}

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, given: Any) -> Any:
        return {"value": given} if isinstance(given, int | float) and not isinstance(given, bool) else given

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if (self.low is not None and self.low > self.value) or (self.high is not None and self.high < self.value):
            raise ValueError("low, value and high must be in this order")
        return self


def _positive(figure: Figure) -> Figure:
    if figure.value <= 0:
        raise ValueError(f"must be greater than zero, not {figure.value:g}")
    return figure


def _not_negative(figure: Figure) -> Figure:
    if figure.value < 0:
        raise ValueError(f"must not be negative, not {figure.value:g}")
    return figure


def _fraction(figure: Figure) -> Figure:
    if not 0 < figure.value <= 1:
        raise ValueError(f"must be in (0, 1], not {figure.value:g}")
    return figure


Positive = Annotated[Figure, AfterValidator(_positive)]
NotNegative = Annotated[Figure, AfterValidator(_not_negative)]
Fraction = Annotated[Figure, AfterValidator(_fraction)]
