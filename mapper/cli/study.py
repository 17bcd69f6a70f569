"""`mapper study`: what pipelines, copies and the planner gain over native PyTorch, by a model of the SG2042 or another
machine that is not at hand, or measured on this one; and where splitting a model pays at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mapper.cli import completion
from mapper.cli.output import Json, Progress, Quiet, emit_json, emit_text

if TYPE_CHECKING:
    from mapper.study.host.study import Settings as HostSettings
    from mapper.study.sg2042.study import Settings

HOST = "host"
SG2042 = "sg2042"
Topo = Annotated[
    str | None,
    typer.Option(
        help="The machine: a name of the library or a file [sg2042; with --map four]; host measures this one.",
        autocompletion=completion.machines,
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(help="A model; several times for several [the study's seven].", autocompletion=completion.models),
]
Items = Annotated[
    str | None, typer.Option(help="Elements of native items, such as 1,8,64 [ten sizes; host: 1,2,8,64].")
]
Calls = Annotated[str | None, typer.Option(help="Elements of the calls of mappings, such as 1,4 [1,4,16; host: 1,4].")]
Samples = Annotated[int | None, typer.Option(min=0, help="Samples of the uncertain figures [200].")]
Processes = Annotated[int, typer.Option(min=1, help="Models that are studied at the same time.")]
Map = Annotated[
    bool,
    typer.Option("--map", help="Instead: where splitting a model pays, over work per weight byte and weights relative "
                 "to the caches."),
]  # fmt: skip
Figures = Annotated[Path | None, typer.Option(help="Write pictures into this folder.")]
FigureFormat = Annotated[
    str, typer.Option(help="Of pictures: svg or png.", autocompletion=completion.one("svg", "png"))
]
Quick = Annotated[bool, typer.Option("--quick", help="host: two models, two sizes, few short rounds.")]
Rounds = Annotated[int | None, typer.Option(min=1, help="host: interleaved rounds [7].")]
Seconds = Annotated[float | None, typer.Option(min=0.01, help="host: about how long a round takes [1].")]
Limit = Annotated[
    str | None, typer.Option(help="host: most time for a model with one item size; more is left out [10min].")
]
Like = Annotated[Path | None, typer.Option(help="host: a description of this machine to predict with [as measured].")]
WithoutOnednn = Annotated[
    bool, typer.Option("--without-onednn", help="host: compute as torch does where it has no oneDNN (RISC-V).")
]
Fresh = Annotated[bool, typer.Option("--fresh", help="host: begin anew, also where one could go on.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Write everything here (JSON).")]


@dataclass(frozen=True)
class _Told:
    """How the result is told."""

    json: bool
    output: Path | None
    quiet: bool


def study_command(
    topo: Topo = None, model: Models = None, items: Items = None, calls: Calls = None, samples: Samples = None,
    seed: Annotated[int, typer.Option(help="Of the samples.")] = 0, processes: Processes = 2, map_: Map = False,
    figures: Figures = None, figure_format: FigureFormat = "svg", quick: Quick = False, rounds: Rounds = None,
    seconds: Seconds = None, limit: Limit = None, like: Like = None, without_onednn: WithoutOnednn = False,
    fresh: Fresh = False, json: Json = False, output: Output = None, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Compare native PyTorch, copies, pipelines and the planner's choice, on a machine that is not at hand or (--topo
    host) measured on this one."""
    measured = topo == HOST and not map_
    _refuse(measured, {"--samples": samples is not None, "--figures": figures is not None}, f"not with --topo {HOST}")
    own = {"--quick": quick, "--rounds": rounds, "--seconds": seconds, "--limit": limit, "--like": like,
           "--without-onednn": without_onednn, "--fresh": fresh}  # fmt: skip
    _refuse(not measured, own, f"only with --topo {HOST}")
    told = _Told(json, output, quiet)
    if measured:
        _measured(_host_settings(quick, model, items, calls, rounds, seconds, limit, like, without_onednn), fresh, told)
        return
    _require(figures, figure_format)
    if map_:
        _mapped(topo, model, processes, figures, figure_format, told)
    else:
        settings = _settings(model, items, calls, samples, seed, processes)
        _simulated(topo or SG2042, settings, figures, figure_format, told)


def _refuse(wrong: bool, options: dict[str, Any], how: str) -> None:
    """Refuses options of another way, where it is `wrong` to give them. Raises: UsageError."""
    from mapper.errors import UsageError

    given = [name for name, value in options.items() if value]
    if wrong and given:
        raise UsageError(f"{' and '.join(given)}: {how}")


def _require(figures: Path | None, figure_format: str) -> None:
    """Raises: UsageError or MissingFeature where pictures could not be written in the end."""
    from mapper.reports.picture import format_of
    from mapper.reports.sheet import require_matplotlib

    format_of(Path(f"figure.{figure_format}"), "figure")
    if figures is not None:
        require_matplotlib()


def _mapped(
    topo: str | None, model: list[str] | None, processes: int, figures: Path | None, figure_format: str, told: _Told
) -> None:
    """Where splitting a model pays: on `topo`, machines with commas between them, or the four of the map."""
    from mapper.machine.files import load_machine
    from mapper.reports.where import where_text, write_where
    from mapper.study.where.chart import MACHINES, Settings, chart

    machines = [load_machine(name.strip()) for name in (topo.split(",") if topo else MACHINES)]
    with Progress(told.quiet) as line:
        found = chart(machines, Settings(models=tuple(model or Settings().models), processes=processes), line.say)
    written = [] if figures is None else write_where(found, figures, figure_format)
    _tell(told, found.model_dump(mode="json"), lambda: where_text(found), written)


def _settings(
    model: list[str] | None, items: str | None, calls: str | None, samples: int | None, seed: int, processes: int
) -> Settings:
    from mapper.study.sg2042.study import SAMPLES, Settings

    usual = Settings()
    return Settings(
        models=tuple(model or usual.models), items=_numbers(items, usual.items), calls=_numbers(calls, usual.calls),
        samples=SAMPLES if samples is None else samples, seed=seed, processes=processes,
    )  # fmt: skip


def _simulated(topo: str, settings: Settings, figures: Path | None, figure_format: str, told: _Told) -> None:
    """The study by the model of a machine."""
    from mapper.machine.files import load_machine
    from mapper.reports.study import study_text
    from mapper.study.sg2042.bands import bands_of
    from mapper.study.sg2042.study import study

    with Progress(told.quiet) as line:
        found = study(load_machine(topo), settings, line.say)
    expected = bands_of(found)
    document = found.model_dump(mode="json") | {"bands": [band.model_dump(mode="json") for band in expected]}
    written = []
    if figures is not None:
        from mapper.reports.study_figures import write_figures

        written = write_figures(found, figures, figure_format)
    _tell(told, document, lambda: study_text(found, expected), written)


def _host_settings(
    quick: bool, model: list[str] | None, items: str | None, calls: str | None, rounds: int | None,
    seconds: float | None, limit: str | None, like: Path | None, without_onednn: bool,
) -> HostSettings:  # fmt: skip
    from mapper.machine.files import load_machine
    from mapper.study.host.study import QUICK, Settings
    from mapper.units import parse_seconds

    usual = QUICK if quick else Settings()
    return Settings(
        models=tuple(model or usual.models), items=_numbers(items, usual.items), calls=_numbers(calls, usual.calls),
        images=usual.images, rounds=rounds or usual.rounds, round_s=seconds or usual.round_s,
        limit_s=usual.limit_s if limit is None else parse_seconds(limit), without_onednn=without_onednn,
        like=None if like is None else load_machine(like),
    )  # fmt: skip


def _measured(settings: HostSettings, fresh: bool, told: _Told) -> None:
    """The study of the machine at hand. Raises: KeyboardInterrupt when all is told, where it was interrupted."""
    from mapper import jsonio
    from mapper.reports.host_study import host_study_text
    from mapper.study.host.study import host_study

    with Progress(told.quiet or told.json) as line:
        found = host_study(settings, fresh=fresh, say=line.say, tell=line.tell)
    _tell(told, jsonio.plain(found), lambda: host_study_text(found), [])
    if found.interrupted:
        raise KeyboardInterrupt


def _tell(told: _Told, document: Any, text: Callable[[], list[str]], written: list[Path]) -> None:
    """Writes the file, and prints the document, or the text for people and what was `written`."""
    from mapper import jsonio

    if told.output is not None:
        jsonio.write_text(told.output, jsonio.dumps(document))
        written = [*written, told.output]
    if told.json:
        emit_json(document)
        return
    emit_text(text())
    for path in written:
        typer.echo(f"Written to {path}.")


def _numbers(text: str | None, usual: tuple[int, ...]) -> tuple[int, ...]:
    """The positive whole numbers in `text`, ascending. Raises: UsageError."""
    from mapper.errors import UsageError

    if text is None:
        return usual
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UsageError(f"{text!r}: positive whole numbers with commas between them were expected, such as 1,8,64")
    return tuple(sorted({int(part) for part in parts}))
