"""The sections of a report: what each is called, what it says in a sentence, its pictures, tables and texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from mapper.machine.pus import format_pus
from mapper.plans.model import Plan
from mapper.reports import style
from mapper.reports.gantt import gantt_sheet, steady_part
from mapper.reports.machine import stages_of
from mapper.reports.page.charts import Bars, Flow, Missing, Table
from mapper.reports.page.contents import Contents, Model
from mapper.reports.page.drawing.bars import bars_sheet
from mapper.reports.page.drawing.flow import flow_sheet
from mapper.reports.page.drawing.roof import roof_sheet
from mapper.reports.page.loads import period_of_call
from mapper.reports.page.modules import MOST_OPS_IN_TREE, Module
from mapper.reports.picture import machine_sheet
from mapper.reports.sheet import Box, Sheet
from mapper.simulator.result import Simulated
from mapper.units import format_bytes, format_rate, format_seconds

WIDE, NARROW = 10.0, 3.9
"""Inches of a picture on a screen, and on a phone."""
SCREENS = (("wide", WIDE), ("narrow", NARROW))
"""What a picture is drawn for: its class on the page, and inches."""
MOST_CORES, MOST_CORES_NARROW = 4096, 1024
"""Cores that the page draws, and that it draws for phones besides: more would make it too large."""
MOST_ROWS = 32
"""Replicas that a Gantt chart on the page shows."""
_ITEM = 0.4
"""Inches that an item takes of a Gantt chart at least, about."""
Draw = Callable[[float], tuple[Sheet, float, float]]
"""From a width in inches to marks with their width and height; pictures of a size of their own have that when wide."""


@dataclass(frozen=True)
class Picture:
    """A picture: `name` is that of its file, `about` tells who cannot see it what is in it. It is drawn for each of
    `screens`: `wide` ones fill the page, `fixed` ones have a size of their own, `sole` ones also on phones."""

    name: str
    title: str
    about: str
    draw: Draw
    screens: tuple[tuple[str, float], ...] = SCREENS


@dataclass(frozen=True)
class Section:
    """A part of the report. `tree` is a model to unfold; `text` are lines as they are; `missing` says what is not
    there, and why."""

    name: str
    title: str
    lead: str
    pictures: tuple[Picture, ...] = ()
    tables: tuple[tuple[str, Table], ...] = ()
    text: tuple[str, ...] = ()
    text_title: str = ""
    tree: Module | None = None
    missing: tuple[Missing, ...] = field(default=())


def sections_of(found: Contents) -> tuple[Section, ...]:
    """The sections, in the order of the page."""
    return (
        _machine(found), _model(found), _loads(found), _gantt(found), _roof(found), _traffic(found), _measured(found),
        _alternatives(found), _explained(found), _provenance(found.plan),
    )  # fmt: skip


def _machine(found: Contents) -> Section:
    plan = found.plan
    machine, stage_of = plan.machine, stages_of(plan)
    free = len(machine.cores) - len(stage_of)
    lead = (f"{len(stage_of)} of {len(machine.cores)} cores work" + (f", {free} are free. " if free else ". ") +
            "Each core has the colour and the number of its stage.")  # fmt: skip
    title = f"{machine.title or machine.name}, its cores by stage"
    text = tuple(found.machine)
    if len(machine.cores) > MOST_CORES:
        missing = (Missing(f"{len(machine.cores)} cores are too many to draw: {MOST_CORES} are shown at most."),)
        return Section("machine", "The machine", lead, missing=missing, text=text, text_title="Figures and sources")
    screens = (("fixed", WIDE), ("narrow", NARROW)) if len(machine.cores) <= MOST_CORES_NARROW else (("sole", WIDE),)
    draw = partial(_machine_sheet, plan, found.simulated)
    picture = Picture("machine", title, f"{lead} {_homes(plan)}", draw, screens)
    tables = (("Cores and memory of each stage", _cores(plan)),)
    return Section("machine", "The machine", lead, (picture,), tables, text, "Figures and sources")


def _homes(plan: Plan) -> str:
    """Where stages are, for who cannot see it."""
    told = [
        f"stage {stage.id} on cores {format_pus(sorted(c for r in stage.replicas for c in r.cores))}"
        for stage in plan.stages[:MOST_ROWS]
    ]
    return "; ".join(told) + ("; and more." if len(plan.stages) > MOST_ROWS else ".")


def _machine_sheet(plan: Plan, seen: Simulated, width: float) -> tuple[Sheet, float, float]:
    """The machine with what each core says of itself."""
    machine, stage_of = plan.machine, stages_of(plan)
    narrow = width if width < WIDE else None
    sheet, own, height = machine_sheet(machine, stage_of, heading=False, narrow=narrow)
    marks = Sheet()
    for mark in sheet.marks:
        kind, _, number = mark.name.partition("-") if isinstance(mark, Box) else ("", "", "")
        if isinstance(mark, Box) and kind == "core":
            core = machine.cores[int(number)]
            stage = stage_of.get(core.logical)
            doing = "free" if stage is None else f"stage {stage}, at work {seen.utilisation.cores[core.logical]:.0%}"
            tip = f"core {core.logical} (PU {format_pus(core.pus)}), group {core.group}, node {core.node}: {doing}"
            mark = replace(mark, stage=stage, tip=tip)
        elif isinstance(mark, Box) and kind == "legend":
            mark = replace(mark, stage=int(number))
        marks.add(mark)
    return marks, own, height


def _cores(plan: Plan) -> Table:
    rows = []
    for stage in plan.stages:
        cores = sorted(core for replica in stage.replicas for core in replica.cores)
        nodes = sorted({plan.machine.cores[core].node for core in cores})
        held = sorted({node for replica in stage.replicas for node in replica.weights.nodes})
        config = stage.replicas[0].configuration
        rows.append((f"stage {stage.id}", str(len(stage.replicas)), str(config.threads), format_pus(cores),
                     format_pus(nodes), format_pus(held)))  # fmt: skip
    heads = ("stage", "copies", "threads each", "cores (logical numbers)", "nodes", "weights on nodes")
    return Table(heads, tuple(rows), (1, 2))


def _model(found: Contents) -> Section:
    name = found.plan.model.title or found.plan.model.name
    if isinstance(found.model, Missing):
        lead = f"{name}: {sum(len(stage.ops) for stage in found.plan.stages)} ops in {len(found.plan.stages)} stages."
        table = Table(("stage", "ops", "from", "to"), tuple(
            (f"stage {s.id}", str(len(s.ops)), s.ops[0], s.ops[-1]) for s in found.plan.stages), (1,))  # fmt: skip
        return Section("model", "The model", lead, tables=(("Ops of each stage", table),), missing=(found.model,))
    model, flow = found.model, found.model.flow
    drawn = flow_sheet(flow, WIDE)
    more = (
        f" {drawn.arrows_left_out} arrows that go further are in the table below only." if drawn.arrows_left_out else ""
    )
    lead = (f"{len(model.graph.ops)} ops of {name}, folded into {len(flow.blocks)} modules. Colours are stages, as "
            f"wide as their share of {_unit(model)}.{more}")  # fmt: skip
    picture = Picture("model", f"{name}, its modules by stage", f"{lead} {_blocks(flow)}", partial(_flow_sheet, flow))
    tree = model.tree if len(model.graph.ops) <= MOST_OPS_IN_TREE else None
    missing = () if tree else (Missing(f"{len(model.graph.ops)} ops are too many to list here."),)
    tables = (("What modules hand to each other", _handed(flow)),)
    return Section("model", "The model", lead, (picture,), tables, tree=tree, missing=missing)


def _handed(flow: Flow) -> Table:
    rows = tuple((flow.blocks[a].name, flow.blocks[b].name, format_bytes(size)) for a, b, size in flow.arrows)
    return Table(("from", "to", "an item"), rows, (2,))


def _flow_sheet(flow: Flow, width: float) -> tuple[Sheet, float, float]:
    drawn = flow_sheet(flow, width)
    return drawn.sheet, drawn.width, drawn.height


def _unit(model: Model) -> str:
    return {"seconds": "its seconds", "FLOP": "its FLOP", "ops": "its ops"}[model.shares.unit]


def _blocks(flow: Flow) -> str:
    return "; ".join(block.tip for block in flow.blocks[:MOST_ROWS]) + "."


def _loads(found: Contents) -> Section:
    plan, period = found.plan, period_of_call(found.plan)
    slowest = max(plan.stages, key=lambda stage: stage.load.total_s / len(stage.replicas))
    fastest = min(plan.stages, key=lambda stage: stage.load.total_s / len(stage.replicas))
    calls = plan.request.micro_batches
    result = "a result" if calls == 1 else "a micro-batch"
    lead = f"Every {format_seconds(period)} {result} comes out, limited by {plan.predicted.limited_by}."
    if len(plan.stages) > 1:
        waits = 1 - fastest.load.total_s / len(fastest.replicas) / period
        lead += f" Stage {slowest.id} takes longest; stage {fastest.id} waits most, {waits:.0%} of the time."
    if calls > 1:
        lead += f" Loads are of one of the {calls} micro-batches of an item."
    picture = Picture("loads", "Load of each stage and the period", lead, partial(bars_sheet, found.loads))
    return Section("loads", "What the period consists of", lead, (picture,), (("Loads by cause", found.load_table),))


def _gantt(found: Contents) -> Section:
    seen = found.simulated
    lead = (f"A few items of a simulation with shared memory bandwidth: {format_rate(seen.throughput_per_s)} items a "
            f"second, {format_seconds(seen.latency_s.p50)} each. Numbers are items; gaps are waiting.")  # fmt: skip
    draw = partial(_gantt_sheet, found)
    rows = tuple(
        (f"stage {s.id}", f"{s.busy:.0%}", format_seconds(s.load_s), f"{s.slowed:.2f}", format_seconds(s.wait_in_s),
         format_seconds(s.wait_out_s))
        for s in seen.stages
    )  # fmt: skip
    heads = ("stage", "busy", "load", "slowed by sharing DRAM", "waits for items", "waits for room")
    picture = Picture("gantt", "Who computes which item, and when", lead, draw)
    return Section("gantt", "A few items on their way", lead, (picture,),
                   (("What stages do, simulated", Table(heads, rows, (1, 2, 3, 4, 5))),))  # fmt: skip


def _gantt_sheet(found: Contents, width: float) -> tuple[Sheet, float, float]:
    """The end of the timeline, as much of it as leaves the numbers of items legible."""
    start, end = steady_part(found.timeline)
    shortest = min(stage.load.total_s for stage in found.plan.stages)
    part = max(start, end - width / _ITEM * shortest), end
    return gantt_sheet(found.timeline, part, width=width, most=MOST_ROWS, heading=False)


def _roof(found: Contents) -> Section:
    title = "Arithmetic against memory"
    if isinstance(found.roof, Missing):
        return Section("roofline", title, "The roofline of ops and stages.", missing=(found.roof,))
    lead = ("Dots are ops, discs are stages: to the right more is computed with each byte, above faster. Under a "
            "rising line memory limits, under a flat one arithmetic.")  # fmt: skip
    told = "; ".join(dot.tip for dot in found.roof.stages[:MOST_ROWS])
    picture = Picture("roofline", "Roofline of one core", f"{lead} {told}.", partial(roof_sheet, found.roof))
    rows = tuple(
        (f"stage {dot.stage}", f"{dot.intensity:.3g}", f"{dot.flop_per_s / 1e9:.3g}") for dot in found.roof.stages
    )
    table = Table(("stage", "FLOP a byte", "GFLOP/s a core"), rows, (1, 2))
    return Section("roofline", title, lead, (picture,), (("Stages in the roofline", table),))


def _traffic(found: Contents) -> Section:
    title, size = "What DRAM serves", found.plan.predicted.dram_bytes_per_item
    lead = f"An item moves {format_bytes(size)} from and to DRAM, over {len(found.plan.machine.nodes)} controllers."
    calls = found.plan.request.micro_batches
    if calls > 1:
        lead += f" The bars are of one of its {calls} micro-batches."
    if isinstance(found.traffic, Missing):
        return Section("traffic", title, "Bytes by memory controller.", missing=(found.traffic,))
    picture = Picture("traffic", "DRAM traffic by controller", lead, partial(bars_sheet, found.traffic))
    return Section("traffic", title, lead, (picture,), (("Bytes of an item by stage and node", found.traffic_table),))


def _measured(found: Contents) -> Section:
    title = "Predicted against measured"
    pictures, missing = _beside(found)
    for i, (name, bars) in enumerate(found.compared):
        about = f"Measured beside each other by mapper bench ({name})."
        pictures.append(Picture(f"bench{i or ''}", f"Alternatives as measured, {name}", about,
                                partial(bars_sheet, bars)))  # fmt: skip
    lead = " ".join(found.notes)
    if not lead:
        lead = "What a run on the machine gives beside what the cost model says."
    tables = (("", found.figures),) if len(found.figures.rows) > 1 else ()
    return Section("measured", title, lead, tuple(pictures), tables, missing=missing)


def _beside(found: Contents) -> tuple[list[Picture], tuple[Missing, ...]]:
    if isinstance(found.beside, Missing):
        return [], () if found.compared else (found.beside,)
    bars: Bars = found.beside
    about = "; ".join(f"{bar.label} {bar.told}" for bar in bars.bars[:64])
    return [Picture("measured", "Loads predicted and measured", f"{about}.", partial(bars_sheet, bars))], ()


def _alternatives(found: Contents) -> Section:
    rows = found.alternatives.bars
    lead = "This plan, what people do without a planner, and other trades of rate for latency, all by the cost model."
    if len(rows) == 1:
        lead = "The plan's file names no other plan."
    about = "; ".join(f"{bar.label} {bar.told}" for bar in rows)
    pictures = [Picture("alternatives", "Other plans of the request", f"{about}.",
                        partial(bars_sheet, found.alternatives))]  # fmt: skip
    tables = [("Other plans and the options that make them", found.alternatives_table)]
    missing: tuple[Missing, ...] = ()
    if isinstance(found.strategies, Missing):
        missing = (replace(found.strategies, reason=f"Other placements of the stages: {found.strategies.reason}"),)
    else:
        told = "; ".join(f"{bar.label} {bar.told}" for bar in found.strategies.bars)
        pictures.append(Picture("strategies", "The same stages placed by other strategies", f"{told}.",
                                partial(bars_sheet, found.strategies)))  # fmt: skip
    if found.strategies_table is not None:
        tables.append(("Placements and who describes them", found.strategies_table))
    return Section("alternatives", "Instead of this plan", lead, tuple(pictures), tuple(tables), missing=missing)


def _explained(found: Contents) -> Section:
    lead = "What binds, what the limits cost, what a little more of the machine would bring, and why not otherwise."
    if isinstance(found.explained, Missing):
        return Section("explained", "Why this plan", lead, missing=(found.explained,))
    return Section("explained", "Why this plan", lead, text=found.explained)


def _provenance(plan: Plan) -> Section:
    solver, model = plan.solver, plan.model
    rows: list[tuple[str, str]] = [
        ("model", f"{model.title or model.name} ({model.source or 'no source'})"),
        ("options of the model", ", ".join(f"{k} {v}" for k, v in model.options.items()) or "none"),
        ("weights", model.weights), ("dtype", model.dtype), ("graph, SHA-256", model.graph_sha256),
        ("torch", model.torch or "not used"), ("machine", f"{plan.machine.name}, fingerprint {plan.fingerprint}"),
        ("back end", plan.request.backend),
        ("costs", ", ".join(f"{k} {v}" for k, v in plan.request.costs.items()) or "not said"),
        ("limits", ", ".join(f"{k} {v}" for k, v in plan.request.limits.items()) or "none"),
        ("status", f"{solver.status}, gap {solver.gap:.2%}"), ("proved over", solver.proved.space),
        ("proof assumes", "; ".join(solver.proved.assumptions) or "nothing more"),
        ("tie break", solver.tie_break), *((f"version of {k}", str(v)) for k, v in solver.versions.items()),
        *((f"provenance, {k}", str(v)) for k, v in plan.provenance.items()),
        ("colours", f"Okabe and Ito (2008), {len(style.STAGES)} hues in {len(style.SHADES)} shades"),
    ]  # fmt: skip
    lead = "All that another machine needs to make the same plan again."
    return Section("provenance", "Where it is from", lead, tables=(("", Table(("", ""), tuple(rows))),))
