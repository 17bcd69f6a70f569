"""Model cards: where a model comes from, and what an item of it is, as a TOML file."""

from __future__ import annotations

import importlib.resources
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from mapper import jsonio
from mapper.errors import BadInput, UnknownName, UsageError
from mapper.jsonio import Record


class CardInput(Record):
    """A tensor of an item. `"batch"` in the shape stands for the items per call, `"length"` for the length of a
    sequence; integers are drawn below `high`."""

    name: str
    shape: tuple[int | Literal["batch", "length"], ...]
    dtype: str
    high: int | None = Field(default=None, gt=0)

    @field_validator("dtype")
    @classmethod
    def _known(cls, dtype: str) -> str:
        if dtype not in ("float32", "float16", "bfloat16", "float64", "int64", "int32", "bool"):
            raise ValueError(f"{dtype!r} is no dtype of an input")
        return dtype

    @field_validator("shape")
    @classmethod
    def _positive(cls, shape: tuple[int | str, ...]) -> tuple[int | str, ...]:
        if any(isinstance(n, int) and n < 1 for n in shape):
            raise ValueError("sizes must be at least 1")
        return shape

    def sized(self, batch: int, length: int | None) -> tuple[int, ...]:
        """The shape in numbers."""
        numbers = {"batch": batch, "length": length or 0}
        return tuple(n if isinstance(n, int) else numbers[n] for n in self.shape)


class ModelCard(Record):
    """A model: the class to build, the configuration to build it from, the item that it takes.

    `{length}` in the title and in `item` stands for the length of a sequence; an option that is `"{length}"` or
    `"{batch}"` becomes that number.
    """

    schema_: Literal["mapper-model/1"] = Field(default="mapper-model/1", alias="schema")
    name: str
    title: str = ""
    source: str = ""
    class_: str = Field(alias="class", pattern=r"^[\w.]+:[\w.]+$", description="package.module:Name")
    config: str | None = Field(default=None, pattern=r"^[\w.]+:[\w.]+$", description="configuration class")
    options: dict[str, Any] = Field(default={}, description="arguments of the configuration, else of the class")
    inputs: tuple[CardInput, ...] = Field(min_length=1)
    item: str = Field(default="item", description="what one element of the batch is: image, sequence of 128 tokens")
    length: int | None = Field(default=None, ge=1, description='what "length" is unless --length says otherwise')
    max_length: int | None = Field(default=None, ge=1, description="the longest sequence that the model has")
    seed: int = 0
    initialisation: Literal["class", "kaiming"] = Field(
        default="class",
        description="how random weights are drawn: by the class, or those of convolutions so that a deep CNN keeps the "
        "scale of what goes through it (He et al. 2015), with batch normalisations neutral",
    )

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if self.length is None and (self.max_length is not None or next(self._uses_of_length(), None) is not None):
            raise ValueError("/length: missing, but the card has a size called length")
        if self.length is not None and next(self._uses_of_length(), None) is None:
            raise ValueError('/length: no input has a size "length", and no option is "{length}"')
        if self.length is not None and self.max_length is not None and self.length > self.max_length:
            raise ValueError("/length: more than max_length")
        return self

    def _uses_of_length(self) -> Iterator[Any]:
        yield from (size for given in self.inputs for size in given.shape if size == "length")
        yield from (value for value in self.options.values() if value == "{length}")

    def length_for(self, wanted: int | None) -> int | None:
        """The length of a sequence: `wanted`, else the card's; None for a model without one.

        Raises: UsageError when the model has none, or not so long a one.
        """
        if wanted is None:
            return self.length
        if self.length is None:
            shapes = ", ".join(f"{i.name} [{', '.join(map(str, i.shape))}]" for i in self.inputs)
            raise UsageError(
                f"the model {self.name} has no length to choose: its input is {shapes}", advice="Leave out --length."
            )
        if self.max_length is not None and wanted > self.max_length:
            raise UsageError(
                f"a length of {wanted} is too long for the model {self.name}, which has positions for "
                f"{self.max_length}",
                advice=f"Choose --length {self.max_length} or less.",
            )
        return wanted

    def worded(self, text: str, length: int | None) -> str:
        """`text`, a title or the name of an item, for sequences of `length`."""
        return text if length is None else text.replace("{length}", str(length))

    def arguments(self, batch: int, length: int | None) -> dict[str, Any]:
        """The options in numbers."""
        numbers = {"{batch}": batch, "{length}": length}
        return {k: numbers.get(v, v) if isinstance(v, str) else v for k, v in self.options.items()}


def card_names() -> list[str]:
    """Names of the cards in `./models` and of the bundled ones."""
    local = [path.stem for path in Path("models").glob("*.toml")]
    bundled = [entry.name.removesuffix(".toml") for entry in _bundled().iterdir() if entry.name.endswith(".toml")]
    return sorted({*local, *bundled})


def is_bundled(source: str) -> bool:
    """Whether `source` is the name of a bundled card that no other card of the working folder stands before."""
    bundled, local = _bundled() / f"{source}.toml", Path("models") / f"{source}.toml"
    if not source.isidentifier() or not bundled.is_file():
        return False
    return not local.is_file() or jsonio.read_bytes(local) == bundled.read_bytes()  # such as in mapper's own folder


def load_card(source: str) -> ModelCard:
    """The card called `source`, or in the file `source`. The working folder's `models/` comes before the bundled ones.

    Raises: UnknownName with near names; BadInput with the place of the first violation.
    """
    if source.endswith(".toml"):
        return _parse(jsonio.read_bytes(Path(source)), source)
    local = Path("models") / f"{source}.toml"
    if local.is_file():
        return _parse(jsonio.read_bytes(local), str(local))
    entry = _bundled() / f"{source}.toml"
    if "/" not in source and entry.is_file():
        return _parse(entry.read_bytes(), f"models/{source}.toml")
    raise UnknownName("model", source, card_names())


def _bundled() -> Any:
    return importlib.resources.files("mapper.models")


def _parse(data: bytes, source: str) -> ModelCard:
    try:
        document = tomllib.loads(data.decode())
    except UnicodeDecodeError:
        raise BadInput(source, "not TOML: not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise BadInput(source, f"not TOML: {error}") from None
    jsonio.require_schema(document, "mapper-model/1", source)
    return jsonio.validated(ModelCard, document, source)
