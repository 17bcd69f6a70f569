"""What commands share about problem files: `--problem`, `--problem-out`, and plans of such files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mapper.cli.output import Progress, emit_json, emit_text

if TYPE_CHECKING:
    from mapper.cost.table import CostTable
    from mapper.graph.model import Graph
    from mapper.machine.model import Machine
    from mapper.plans.check import Report
    from mapper.solver.problem import Limits, Objective

_LIMITS = ("stages", "max_stages", "max_cores", "max_latency", "min_throughput", "together", "apart")
_OTHERS = ("replicas", "memory_per_node", "configurations", "objective", "near_optimal", "time_limit", "json", "output",
           "quiet")  # fmt: skip
"""Options of `mapper plan` that go with `--problem`."""

ProblemFile = Annotated[
    Path | None, typer.Option("--problem", help="A problem file (mapper-problem/1): ops, machine and costs in one.")
]
ProblemOut = Annotated[
    Path | None, typer.Option("--problem-out", help="Write the instance here as a problem file, for other planners.")
]


def plan_problem_file(
    path: Path, limits: Limits, near_optimal: str | None, json: bool, output: Path | None, progress: Progress,
    *, objective: Objective = "throughput", configurations: str | None = None, time_limit: str | None = None,
) -> None:  # fmt: skip
    """Plans the problem file in `path`, prints the plan, and writes it to `output`.

    `configurations` are names of the file's, with commas between; `near_optimal` is 0 where not given. Interrupted, it
    prints and writes the best plan so far, and ends as interrupted.
    """
    from mapper.jsonio import plain
    from mapper.plans.problem_file import read_problem
    from mapper.plans.problem_plan import save_problem_plan
    from mapper.reports.problem import problem_text
    from mapper.solver.problem_plan import plan_of_file
    from mapper.solver.stop import Stop
    from mapper.units import parse_fraction, parse_seconds

    stop = Stop(parse_seconds(time_limit) if time_limit else None)
    progress.say(f"Reading {path} ...")
    file, reference = read_problem(path)
    plan = plan_of_file(
        file, reference, limits, parse_fraction(near_optimal or "0"), objective=objective, progress=progress.say,
        configurations=[name.strip() for name in configurations.split(",")] if configurations else None, stop=stop,
    )  # fmt: skip
    progress.clear()
    if output is not None:
        save_problem_plan(plan, output)
    if json:
        emit_json(plain(plan))
    else:
        emit_text(problem_text(plan, file))
        if output is not None:
            typer.echo(f"Written to {output}. Next: mapper check {output} --problem {path}")
    if stop.interrupted:
        raise KeyboardInterrupt


def plan_given_problem(path: Path, context: typer.Context) -> None:
    """`mapper plan --problem`: the plan of `path`, with the options of the command in `context`.

    Raises: UsageError for an option about what the file has in it: the ops, the machine and the costs.
    """
    from mapper.cli.graph import most_replicas
    from mapper.cli.limits import limits_of, objective_of

    _refuse_others(context)
    given = context.params
    limits = limits_of(
        **{name: given[name] for name in _LIMITS},
        memory=given["memory_per_node"],
        replicas=most_replicas(given["replicas"], False),
    )
    with Progress(given["quiet"] or given["json"]) as progress:
        plan_problem_file(
            path, limits, given["near_optimal"], given["json"], given["output"], progress,
            objective=objective_of(given["objective"]), configurations=given["configurations"],
            time_limit=given["time_limit"],
        )  # fmt: skip


def _refuse_others(context: typer.Context) -> None:
    """Options that were typed and say nothing to a problem file are an error."""
    from mapper.errors import UsageError

    known = {"problem", *_LIMITS, *_OTHERS}
    names = [
        parameter.opts[-1]
        for parameter in context.command.params
        if parameter.name not in known and _typed(context, str(parameter.name))
    ]
    if names:
        raise UsageError(f"{', '.join(names)} {'do' if len(names) > 1 else 'does'} not go with --problem",
                         advice="The file has the ops, the machine and the costs in it.")  # fmt: skip


def _typed(context: typer.Context, name: str) -> bool:
    """Whether the option was given on the command line, not by default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def write_problem(
    path: Path, graph: Graph, machine: Machine, table: CostTable | None, limits: Limits, progress: Progress,
    length: int | None = None,
) -> None:  # fmt: skip
    """Writes the instance of a request to `path`, and says on stderr what the format cannot: stdout is for the plan.

    `length`, one of several, goes into the file's name, as in those of plans.
    """
    from mapper.cost.configurations import configurations
    from mapper.cost.imported import given_costs
    from mapper.cost.roofline import roofline
    from mapper.jsonio import write_text
    from mapper.reports.problem import left_out_text
    from mapper.solver.problem import problem_of
    from mapper.solver.problem_file import left_out_of_machine, problem_text

    costs = table or (given_costs(graph) if graph.costed else roofline(graph, machine, configurations(machine)))
    text, left_out = problem_text(
        problem_of(graph, machine, costs, limits), [op.name for op in graph.ops], [op.kind for op in graph.ops],
        name=f"{graph.name}.{machine.name}", limits=limits,
    )  # fmt: skip
    file = path if length is None else path.parent / f"{path.stem}.{length}{path.suffix}"
    write_text(file, text)
    progress.clear()
    typer.echo("\n".join(left_out_text(str(file), (*left_out, *left_out_of_machine(machine)))), err=True)


def checked_problem_plan(path: Path, problem: Path | None) -> Report:
    """What can be derived again of the plan in `path`: with its problem file, or from the plan alone."""
    from mapper.plans.problem_check import check_problem_plan
    from mapper.plans.problem_file import read_problem
    from mapper.plans.problem_plan import load_problem_plan

    plan = load_problem_plan(path)
    if problem is None:
        return check_problem_plan(plan)
    return check_problem_plan(plan, *read_problem(problem))
