"""`mapper export`: a plan for another runtime, written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mapper import jsonio
from mapper.errors import BadInput, SystemRefused, UsageError
from mapper.exporters.readme import is_export
from mapper.exporters.registry import ONNX, TARGETS, Export, Say, Target, target_called
from mapper.plans.model import Plan

if TYPE_CHECKING:
    from mapper.sources.bundle import Sample
    from mapper.sources.source import Source


def export(
    plan: Plan, target: str, path: Path, source: Source | None = None, sample: Sample | None = None,
    say: Say = lambda message: None,
) -> Path:  # fmt: skip
    """Writes `plan` for the runtime `target` to `path`: a folder with a README, or a file. An export that was there is
    replaced; a folder that is none is left alone. `source` and `sample` are needed by targets that compute.

    Raises: UnknownName; UsageError for a plan that the target cannot express; BadInput when `path` holds something
    else; MissingFeature when a library is absent; SystemRefused when it cannot be written.
    """
    chosen = target_called(target)
    if chosen.computes and (source is None or sample is None):
        raise UsageError(f"an export to {target} takes the model along, and none was given")
    require_exportable(plan, chosen)
    what = Export(plan, source, sample, say)
    if chosen.suffix:
        chosen.write(what, path)
        return path
    if not _is_free(path):
        raise BadInput(str(path), "is there already, and is no export", advice="Name another folder, or remove it.")
    with jsonio.replacing_folder(path) as folder:
        chosen.write(what, folder)
    return path


def require_exportable(plan: Plan, target: Target) -> None:
    """Raises: UsageError when `target` computes, and cannot compute what `plan` is of."""
    if not target.computes:
        return
    if plan.request.micro_batches > 1:
        raise UsageError(
            f"the plan splits items into {plan.request.micro_batches} micro-batches, which an export does not",
            advice=f"Plan for items of a micro-batch: --batch {plan.request.batch // plan.request.micro_batches}.",
        )
    if plan.model.source.endswith(".onnx") and not ONNX & set(target.backends):
        others = [other.name for other in TARGETS.values() if ONNX & set(other.backends)]
        raise UsageError(f"{plan.model.source} is an ONNX model, which {target.name} does not compute",
                         advice=f"--to {' or '.join(others)}.")  # fmt: skip


def _is_free(path: Path) -> bool:
    """Whether an export may come to `path`: there is nothing, an empty folder, or another export."""
    try:
        return not path.exists() or (path.is_dir() and (is_export(path) or not any(path.iterdir())))
    except OSError as error:
        raise SystemRefused(f"{path} cannot be read: {error.strerror}") from error
