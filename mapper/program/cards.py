"""Model cards: where a model comes from, and what an item of it is, as a TOML file.

A *source* is a card's name (`vit`), a card file (`mine.toml`) or `package.module:callable`, which returns a module
and its example inputs.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.resources
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import Field, field_validator

from mapper import jsonio
from mapper.errors import BadInput, MapperError, MissingFeature, UnknownName
from mapper.jsonio import Record

if TYPE_CHECKING:
    import torch


class CardInput(Record):
    """A tensor of an item. `"batch"` in the shape stands for the items per call; integers are drawn below `high`."""

    name: str
    shape: tuple[int | Literal["batch"], ...]
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


class ModelCard(Record):
    """A model: the class to build, the configuration to build it from, the item that it takes."""

    schema_: Literal["mapper-model/1"] = Field(default="mapper-model/1", alias="schema")
    name: str
    title: str = ""
    source: str = ""
    class_: str = Field(alias="class", pattern=r"^[\w.]+:[\w.]+$", description="package.module:Name")
    config: str | None = Field(default=None, pattern=r"^[\w.]+:[\w.]+$", description="configuration class")
    options: dict[str, Any] = Field(default={}, description="arguments of the configuration, else of the class")
    inputs: tuple[CardInput, ...] = Field(min_length=1)
    item: str = Field(default="item", description="what one element of the batch is: image, sequence of 128 tokens")
    seed: int = 0


class Options(Record):
    """What may be chosen of a model: items per call, seed of the random weights, a file that replaces them."""

    batch: int = Field(default=1, ge=1)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    weights: str | None = None


class ItemSpec(Protocol):
    """What `random_items` needs to know of an input."""

    @property
    def name(self) -> str:
        """The input's name."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape, batch included."""

    @property
    def dtype(self) -> str:
        """Its dtype, such as `float32`."""

    @property
    def high(self) -> int | None:
        """Integers are drawn below this; None for floating point."""


@dataclass(frozen=True)
class InputSpec:
    """An input of a realised model: shape with the batch in it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    high: int | None = None


@dataclass(frozen=True)
class Realised:
    """A module with example inputs, and how plans refer to it."""

    module: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    name: str
    title: str
    item: str
    weights: str
    inputs: tuple[InputSpec, ...]


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
    known = card_names()
    raise UnknownName("model", source, difflib.get_close_matches(source, known), known)


def realise(source: str, options: Mapping[str, Any] | None = None, *, fake: bool = False) -> Realised:
    """The module that `source` names, in eval mode, with example inputs.

    `options`: `batch` (items per call, default 1), `seed` of the random weights, `weights` (a safetensors file that
    replaces them). `fake` builds the module without memory for its weights, which is all that planning needs; it
    applies to cards, because what a callable does is its own business.

    Raises: UnknownName, BadInput, MissingFeature when the library that a card names is not installed.
    """
    chosen = jsonio.validated(Options, dict(options or {}), "options of the model")
    if ":" in source and not source.endswith(".toml"):
        return _from_callable(source, chosen)
    card = load_card(source)
    specs = tuple(
        InputSpec(i.name, tuple(chosen.batch if n == "batch" else n for n in i.shape), i.dtype, i.high)
        for i in card.inputs
    )
    seed = card.seed if chosen.seed is None else chosen.seed
    module = _build(card, seed, fake)
    weights = _load_weights(module, Path(chosen.weights), fake) if chosen.weights else f"seed:{seed}"
    example = random_items(specs, 1, seed=0)[0]
    return Realised(module, (), example, card.name, card.title, card.item, weights, specs)


def random_items(specs: Sequence[ItemSpec], count: int, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """`count` items of random content: normal numbers, integers below `high`, or true and false."""
    import torch

    generator = torch.Generator().manual_seed(seed)

    def one(spec: ItemSpec) -> torch.Tensor:
        dtype = getattr(torch, spec.dtype)
        if dtype.is_floating_point:
            return torch.randn(spec.shape, generator=generator).to(dtype)
        return torch.randint(0, spec.high or 2, spec.shape, generator=generator).to(dtype)

    return [{spec.name: one(spec) for spec in specs} for _ in range(count)]


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


def _look_up(path: str, wanted_by: str) -> Callable[..., Any]:
    """The object that `package.module:name` names."""
    package, _, name = path.partition(":")
    if not all(part.isidentifier() for part in [*package.split("."), *name.split(".")]):
        raise BadInput(wanted_by, f"{path!r} is not of the form package.module:name")
    top = package.partition(".")[0]
    try:
        found: Any = _import(package)
        for part in name.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        if error.name != top:
            raise BadInput(wanted_by, f"importing {package} fails: {error}") from error
        raise MissingFeature(
            f"{wanted_by} needs the package {top}, which is not installed", advice=f"python -m pip install {top}"
        ) from None
    except AttributeError as error:
        raise BadInput(wanted_by, f"{package} has no {name}") from error
    except Exception as error:  # importing runs the package's code, which raises whatever it likes
        raise BadInput(wanted_by, f"importing {package} fails: {_told(error)}") from error
    return found  # type: ignore[no-any-return]


def _called(wanted_by: str, build: Callable[[], Any]) -> Any:
    """What `build` returns; what it raises becomes a BadInput."""
    try:
        return build()
    except MapperError:
        raise
    except Exception as error:  # the code of a model raises whatever it likes
        raise BadInput(wanted_by, f"building the model fails: {_told(error)}") from error


def _told(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _import(package: str) -> Any:
    """The module `package`; the working folder is searched last, as for a script that lies there."""
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        return importlib.import_module(package)
    finally:
        sys.path.remove(here)


def _build(card: ModelCard, seed: int, fake: bool) -> torch.nn.Module:
    import torch

    from mapper.program.trace import without_weights

    kind = _look_up(card.class_, f"model {card.name}")

    def build() -> torch.nn.Module:
        if card.config is None:
            return kind(**card.options)  # type: ignore[no-any-return]
        return kind(_look_up(card.config, f"model {card.name}")(**card.options))  # type: ignore[no-any-return]

    wanted_by = f"model {card.name}"
    if fake:
        return _called(wanted_by, lambda: without_weights(build))  # type: ignore[no-any-return]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _called(wanted_by, build).eval()  # type: ignore[no-any-return]


def _load_weights(module: torch.nn.Module, path: Path, fake: bool) -> str:
    """Puts the tensors of the safetensors file `path` into `module`; its identity is the hash of the file.

    Floating-point tensors may be of another precision: they are converted to the model's.
    """
    import hashlib

    from mapper.program.weights import read_weights

    given = read_weights(path)
    with path.open("rb") as file:
        identity = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    own = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    for name, tensor in given.items():
        if name not in own:
            near = difflib.get_close_matches(name, own)
            raise BadInput(
                str(path), f"the model has no weight {name!r}", advice=f"Near: {', '.join(near)}" if near else ""
            )
        if tuple(own[name].shape) != tuple(tensor.shape):
            raise BadInput(
                str(path), f"{name!r} has shape {list(tensor.shape)}, the model's has {list(own[name].shape)}"
            )
        if own[name].is_floating_point() != tensor.is_floating_point():
            raise BadInput(str(path), f"{name!r} is {tensor.dtype}, the model's is {own[name].dtype}")
    held = {id(own[name]) for name in given}
    missing = [
        name
        for name in module.state_dict(keep_vars=True)
        if id(own[name]) not in held and not name.endswith("num_batches_tracked")  # which only training reads
    ]
    if missing:
        raise BadInput(str(path), f"{len(missing)} weights of the model are not in it, such as {missing[0]!r}")
    if not fake:
        module.load_state_dict(given, strict=False)
    return identity


def _from_callable(source: str, options: Options) -> Realised:
    """Calls `package.module:callable`: it returns a module, and a tensor, tuple or dict of example inputs."""
    import torch

    kind = _look_up(source, source)
    seed = options.seed or 0
    batch = {"batch": options.batch} if options.batch != 1 else {}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        returned = _called(source, lambda: kind(**batch))
    if not (isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[0], torch.nn.Module)):
        raise BadInput(
            source, "must return (module, example inputs)", advice="Example inputs: a tensor, a tuple or a dict."
        )
    module, example = returned[0].eval(), returned[1]
    kwargs = dict(example) if isinstance(example, Mapping) else {}
    args = () if kwargs else tuple(example) if isinstance(example, tuple | list) else (example,)
    weights = _load_weights(module, Path(options.weights), fake=False) if options.weights else f"seed:{seed}"
    named = kwargs or {f"arg{i}": tensor for i, tensor in enumerate(args)}
    for name, value in named.items():
        if not isinstance(value, torch.Tensor):
            raise BadInput(source, f"the example input {name!r} is a {type(value).__name__}, no tensor")
    specs = tuple(
        InputSpec(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), _high(tensor))
        for name, tensor in named.items()
    )
    name = source.partition(":")[2]
    return Realised(module, args, kwargs, name, name, "item", weights, specs)


def _high(tensor: torch.Tensor) -> int | None:
    """Example integers say how large integers may be."""
    if tensor.is_floating_point() or tensor.is_complex():
        return None
    return max(1, int(tensor.max()) + 1) if tensor.numel() else 1
