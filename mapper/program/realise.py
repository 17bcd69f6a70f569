"""From a model's source to a module with example inputs.

A *source* is a card's name (`vit`), a card file (`mine.toml`), `package.module:callable`, which returns a module and
its example inputs, or a `.pt2` file that torch.export.save wrote.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from mapper import jsonio
from mapper.errors import BadInput, MapperError, MissingFeature, UsageError, one_of
from mapper.jsonio import Record
from mapper.program.cards import ModelCard, load_card
from mapper.program.items import InputSpec, random_items, spec_of

if TYPE_CHECKING:
    import torch


class Options(Record):
    """What may be chosen of a model: items per call, length of sequences, seed of the random weights, a file that
    replaces them; and ops to be split (`program.columns`), which is done to the program that is traced."""

    batch: int = Field(default=1, ge=1)
    length: int | None = Field(default=None, ge=1)
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    weights: str | None = None
    columns: dict[str, Annotated[int, Field(ge=1)]] = Field(default={})


COLUMNS = "columns"
"""The option that is done to the traced program."""


class TrustedSource(str):
    """A source whose file the user has said may run code (`--trust`). No plan or other file can claim to be one."""


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


def realise(source: str, options: Mapping[str, Any] | None = None, *, fake: bool = False) -> Realised:
    """The module that `source` names, in eval mode, with example inputs.

    `options`: `batch` (items per call, default 1), `length` of sequences, `seed` of the random weights, `weights` (a
    safetensors file that replaces them). `fake` builds the module without memory for its weights, which is all that
    planning needs; it applies to cards, because what others do is their own business.

    Raises: UnknownName, BadInput, MissingFeature when the library that a card names is not installed; UsageError for
    an ONNX model, for a `.pt2` file that is no TrustedSource, and for a length that the model does not have.
    """
    chosen = jsonio.validated(Options, dict(options or {}), "options of the model")
    if source.endswith(".onnx"):
        raise UsageError(
            f"{source} is an ONNX model, and no module of torch",
            advice="Plans of it run with --backend onnxruntime or openvino.",
        )
    if source.endswith(".pt2"):
        return _from_file(source, chosen)
    if ":" in source and not source.endswith(".toml"):
        return _from_callable(source, chosen)
    return realise_card(load_card(source), chosen, fake=fake)


def realise_card(card: ModelCard, chosen: Options, *, fake: bool = False) -> Realised:
    """The module that `card` describes, as `realise`."""
    length = card.length_for(chosen.length)
    specs = tuple(InputSpec(i.name, i.sized(chosen.batch, length), i.dtype, i.high) for i in card.inputs)
    seed = card.seed if chosen.seed is None else chosen.seed
    module = _build(card, card.arguments(chosen.batch, length), seed, fake)
    weights = _load_weights(module, Path(chosen.weights), fake) if chosen.weights else f"seed:{seed}"
    example = random_items(specs, 1, seed=0)[0]
    title, item = card.worded(card.title, length), card.worded(card.item, length)
    return Realised(module, (), example, card.name, title, item, weights, specs)


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


def _build(card: ModelCard, arguments: dict[str, Any], seed: int, fake: bool) -> torch.nn.Module:
    import torch

    from mapper.program.trace import without_weights

    wanted_by = f"model {card.name}"
    kind = _look_up(card.class_, wanted_by)

    def build() -> torch.nn.Module:
        if card.config is None:
            return kind(**arguments)  # type: ignore[no-any-return]
        return kind(_look_up(card.config, wanted_by)(**arguments))  # type: ignore[no-any-return]

    if fake:
        return _called(wanted_by, lambda: without_weights(build))  # type: ignore[no-any-return]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module: torch.nn.Module = _called(wanted_by, build).eval()
        if card.initialisation == "kaiming":
            _draw_anew(module)
        return module


def _draw_anew(module: torch.nn.Module) -> None:
    """Draws the weights of convolutions as He et al. do (arXiv 1502.01852), and makes batch normalisations neutral.

    As some classes draw them, what goes through a deep CNN fades with every layer, until outputs are the same for all
    items, whatever the weights: to compare outputs would show nothing then.
    """
    import torch
    from torch.nn import init

    for part in module.modules():
        if isinstance(part, torch.nn.Conv1d | torch.nn.Conv2d | torch.nn.Conv3d):
            init.kaiming_normal_(part.weight, nonlinearity="relu")
        elif isinstance(part, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            part.reset_parameters()


def _load_weights(module: torch.nn.Module, path: Path, fake: bool) -> str:
    """Puts the tensors of the safetensors file `path` into `module`; its identity is the hash of the file.

    Floating-point tensors may be of another precision: they are converted to the model's.
    """
    from mapper.program.weights import read_weights

    given = read_weights(path)
    own = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    for name, tensor in given.items():
        if name not in own:
            raise BadInput(str(path), f"the model has no weight {name!r}", advice=one_of(name, own))
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
    return _identity(path)


def _identity(path: Path) -> str:
    """What plans call the weights in the file `path`."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _from_callable(source: str, options: Options) -> Realised:
    """Calls `package.module:callable`: it returns a module, and a tensor, tuple or dict of example inputs.

    `batch` and `length`, where they were given, are its arguments.
    """
    import torch

    kind = _look_up(source, source)
    seed = options.seed or 0
    given = {"batch": options.batch if options.batch != 1 else None, "length": options.length}
    arguments = {name: number for name, number in given.items() if number is not None}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        returned = _called(source, lambda: kind(**arguments))
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
        if value.device.type != "cpu":
            raise BadInput(source, f"the example input {name!r} is on {value.device}, not on the CPU")
    specs = tuple(spec_of(name, tensor) for name, tensor in named.items())
    name = source.partition(":")[2]
    return Realised(module, args, kwargs, name, name, "item", weights, specs)


def _from_file(source: str, options: Options) -> Realised:
    """The program in a `.pt2` file, which brings its weights, its shapes and an example."""
    if not isinstance(source, TrustedSource):
        raise UsageError(
            f"{source} is code: opening it can run what its maker put into it",
            advice="Say that you trust where it comes from (--trust).",
        )
    from mapper.program.exported import load_exported

    chosen = sorted(options.model_dump(exclude_defaults=True, exclude={COLUMNS}))
    if chosen:
        raise UsageError(
            f"a .pt2 file cannot be given another {' or '.join(chosen)}: it has its own",
            advice="Export the model as you want it, or name a card or package.module:callable.",
        )
    path = Path(source)
    module, inputs = load_exported(path)
    specs = tuple(spec_of(name, tensor) for name, tensor in inputs.items())
    return Realised(module, tuple(inputs.values()), {}, path.stem, path.name, "item", _identity(path), specs)
