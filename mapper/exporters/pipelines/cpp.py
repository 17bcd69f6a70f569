"""The target `cpp`: a CMake project, a thread for each worker and libtorch; and what it shares with `fastflow`.

The C++ program depends on no model: it reads `pipeline.txt`, which has what it needs of `pipeline.json` in fixed words
and numbers, so one build of it runs every export. Stages are libraries of AOTInductor (back end inductor) or
TorchScript (eager).
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mapper import jsonio
from mapper.backends.registry import EAGER
from mapper.errors import BadInput
from mapper.exporters.pipelines.pipeline import Pipeline, Write, compiled_stages, write_pipeline
from mapper.exporters.readme import in_markdown, write_readme
from mapper.exporters.registry import Export
from mapper.exporters.workers import require_one_host

if TYPE_CHECKING:
    from torch.fx import GraphModule

    from mapper.backends.core import Core
    from mapper.sources.source import Source

SOURCES = Path(__file__).parent / "cpp_project"
TEXT, TEXT_SCHEMA = "pipeline.txt", "mapper-pipeline-text/1"
LIBRARY, SCRIPT = ".so", ".pt"
PREFIX = "python -c 'import torch; print(torch.utils.cmake_prefix_path)'"
CONFIGURE = f'cmake -S . -B build -DCMAKE_PREFIX_PATH="$({PREFIX})"'
BUILD = ("cmake --build build", "./build/pipeline")


def write(export: Export, folder: Path) -> None:
    """Writes the project into the new `folder`. Raises: UsageError, BadInput, and what compiling stages raises."""
    write_project(export, folder, "cpp")
    write_readme(
        folder, export.plan, "a pipeline of C++ threads", [CONFIGURE, *BUILD],
        ["`std::thread` and libtorch, and nothing else: a thread for each worker, bound to its PUs before libtorch "
         "starts threads for it; between two workers a bounded queue, through which items go by reference.",
         *notes(export)],
    )  # fmt: skip


def write_project(export: Export, folder: Path, kind: str) -> None:
    """Writes the pipeline of `export` into `folder`, and the C++ project that runs it: what all have in common and what
    is in the folder `kind` of the sources."""
    plan = export.plan
    source, sample = export.model
    require_one_host(plan, kind)
    if plan.request.backend == EAGER:
        made = write_pipeline(plan, source, sample, folder, SCRIPT, _script_of(source), say=export.say)
    else:
        made = write_pipeline(plan, source, sample, folder, LIBRARY, _library_of(export), say=export.say)
    jsonio.write_text(folder / TEXT, as_text(made))
    (folder / "src").mkdir()
    for file in sorted([*(SOURCES / "shared").iterdir(), *(SOURCES / kind).iterdir()]):
        target = folder if file.name == "CMakeLists.txt" else folder / "src"
        jsonio.write_text(target / file.name, file.read_text(encoding="utf-8"))


def as_text(pipeline: Pipeline) -> str:
    """`pipeline` in fixed words and numbers: lists are a word, how many there are, and these."""
    return "\n".join(_lines(pipeline)) + "\n"


def _lines(pipeline: Pipeline) -> Iterator[str]:
    yield TEXT_SCHEMA
    yield f"backend {pipeline.backend}"
    yield f"window {pipeline.window}"
    yield f"tensors {len(pipeline.tensors)}"
    for tensor in pipeline.tensors:
        yield " ".join(map(str, [tensor.dtype, len(tensor.shape), *tensor.shape, *tensor.strides]))
    yield _list("inputs", pipeline.inputs)
    yield _list("outputs", pipeline.outputs)
    yield _list("constants", pipeline.constants)
    yield _list("tolerances", pipeline.tolerance)
    yield f"stages {len(pipeline.stages)}"
    for stage in pipeline.stages:
        yield f"computes {int(bool(stage.file))}"
        yield _list("inputs", stage.inputs)
        yield _list("outputs", stage.outputs)
        yield _list("drops", stage.drops)
        yield f"slots {stage.slots}"
        yield f"threads {stage.workers[0].threads}"
        yield f"replicas {len(stage.workers)}"
        for worker in stage.workers:
            yield _list("pus", worker.pus)
    yield "end"


def _list(word: str, numbers: Sequence[float]) -> str:
    return " ".join(map(str, [word, len(numbers), *numbers]))


def _library_of(export: Export) -> Write:
    """Copies the library of a stage from the cache, where all are compiled before."""
    from mapper.backends.inductor import LIBRARY as NAME

    found = compiled_stages(export)

    def copy(core: Core, threads: int, path: Path) -> None:
        shutil.copyfile(found[int(path.stem), threads] / NAME, path)

    return copy


def _script_of(source: Source) -> Write:
    """Traces a stage op by op into TorchScript. Its weights go along."""

    def trace(core: Core, threads: int, path: Path) -> None:
        import torch

        from mapper.backends.core import zeros
        from mapper.program.rebuild import rebuild
        from mapper.program.weights import laid_out

        program = core.program
        module = _unshared(rebuild(program, laid_out(program, source.weights)))
        given = tuple(zeros(given.type) for given in program.inputs)
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that TorchScript is not developed any further
                traced = torch.jit.trace(module, given, check_trace=False)  # type: ignore[no-untyped-call]
                traced.save(str(path))
        except (RuntimeError, IndexError, ValueError) as error:
            raise BadInput(
                f"stage {path.stem}", f"TorchScript cannot take it: {str(error).strip().splitlines()[-1]}",
                advice="--backend inductor compiles it.",
            ) from error  # fmt: skip

    return trace


def _unshared(module: GraphModule) -> GraphModule:
    """`module` with each tensor that it holds under one name only: TorchScript takes no other."""
    first: dict[int, str] = {}
    named = {name: first.setdefault(id(tensor), name) for name, tensor in module.named_buffers(remove_duplicate=False)}
    for node in module.graph.nodes:
        if node.op == "get_attr":
            node.target = named[node.target]
    for name in named.keys() - first.values():
        delattr(module, name)
    module.recompile()
    return module


def notes(export: Export) -> list[str]:
    """What holds for each program of these projects, a paragraph each."""
    import torch

    processor = in_markdown(export.plan.machine.cpu_model or export.plan.machine.name)
    version = torch.__version__
    stages = (
        f"Stages are TorchScript, made with torch {version}, and their weights are in them: outputs are those of "
        "torch's own kernels bit by bit, where libtorch has the same version and the processor the same instructions."
        if export.plan.request.backend == EAGER
        else f"Stages are libraries that AOTInductor of torch {version} made, with their weights in them: they need a "
        f"libtorch of the same version and a processor with the instructions of the one that they were made on. The "
        f"plan is for {processor}."
    )
    return [
        "`pipeline [FOLDER]` runs the sample item of the export in FOLDER [.]: `--items N` times, after `--warmup N`; "
        "`--json` prints a document. It compares all outputs with the sample's, and says which PUs each thread has. "
        "One build runs every export of this kind. Exit codes: 0 done, 2 usage, 3 a file is not what it has to be, 6 "
        "PUs are not there (`--oversubscribe` runs it all the same, for its results only), 7 a stage failed, 9 outputs "
        "differ.",
        "Without Python: unpack libtorch (the CPU build with the C++11 ABI, of the same version) and pass "
        "`-DCMAKE_PREFIX_PATH=/path/to/libtorch`. Needs CMake 3.18 and a compiler of C++20 (g++ 11 or clang++ 14).",
        stages,
        "For items of your own: `src/run.cpp` (`fill`) gives each item its inputs, and `take` has the outputs. Weights "
        "lie where the thread that loads them runs; each replica has its own where they are TorchScript.",
    ]
