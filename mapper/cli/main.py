"""`mapper`: the command line. Commands live one a file; errors become one message and an exit code here."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import sys
import threading
from types import FrameType

import typer

from mapper.cli import (
    bench,
    bundle,
    calibrate,
    check,
    compare,
    completion,
    doctor,
    explain,
    explore,
    export,
    host,
    import_mapping,
    man,
    model,
    plan,
    profile,
    report,
    run,
    schema,
    simulate,
    study,
    topo,
    tune,
)
from mapper.cli.help import Group, with_examples
from mapper.errors import MapperError, MissingFeature, SystemRefused

OPTIONAL = {"ortools": "ortools>=9.14,<9.15", "transformers": "transformers>=4.50", "safetensors": "safetensors>=0.4"}
"""What a board that only runs plans lacks, and how pip is asked for it."""

_ENDED = (130, 143)
"""Exit codes of what was told to end."""

app = typer.Typer(
    cls=Group,
    help="Which cores of a many-core CPU compute which part of a neural network: planned, proved, run, measured.",
    epilog="Exit codes: 0 done, 1 a bug in mapper, 2 usage, 3 bad input, 4 infeasible, 5 no plan in time, 6 plan and "
    "machine do not fit, 7 execution failed, 8 optional feature missing, 9 outputs differ or a promise is broken, "
    "10 the system refused, 130 interrupted, 143 terminated.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("plan")(plan.plan_command)
app.command("check")(check.check_command)
app.command("explain")(explain.explain_command)
app.command("compare")(compare.compare_command)
app.command("explore")(explore.explore_command)
app.command("export")(export.export_command)
app.command("import")(import_mapping.import_command)
app.command("report")(report.report_command)
app.command("run")(run.run_command)
app.command("host")(host.host_command)
app.command("bench")(bench.bench_command)
app.command("bundle")(bundle.bundle_command)
app.command("calibrate")(calibrate.calibrate_command)
app.command("profile")(profile.profile_command)
app.command("simulate")(simulate.simulate_command)
app.command("study")(study.study_command)
app.command("tune")(tune.tune_command)
app.add_typer(topo.app, name="topo")
app.add_typer(model.app, name="model")
app.command("schema")(schema.schema_command)
app.command("doctor")(doctor.doctor_command)
app.command("man")(man.man_command)
with_examples(app)


def main() -> None:
    """The console script: runs a command and leaves with its exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    sys.unraisablehook = _unraisable
    try:
        try:
            code: str | int | None = _code()
        finally:  # it is decided: while libraries unload, a signal would end the process with a code of its own
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except SystemExit as error:
        code = error.code
    except KeyboardInterrupt:  # the second one, while the first was told
        code = 130
    if code in _ENDED:
        os._exit(int(code))  # all is cleaned up and told; unloading libraries takes seconds on a busy machine
    sys.exit(code)


def _code() -> int:
    """The exit code of the command in `sys.argv`; what went wrong is told on stderr."""
    try:
        completion.join_words(os.environ)
        returned = app(standalone_mode=False, prog_name="mapper")
        sys.stdout.flush()
        if returned == 130:  # so newer versions of typer tell of Ctrl-C
            return _interrupted()
        return returned if isinstance(returned, int) else 0
    except MapperError as error:
        sys.stdout.flush()
        print(f"mapper: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return _interrupted()
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # typer leaves so, whichever pipe it was
            return _unwritten(error.__context__)
        raise
    except OSError as error:
        return _unwritten(error)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package not in OPTIONAL:
            raise
        missing = MissingFeature(
            f"this command needs the package {package}, which is not installed",
            advice=f"python -m pip install '{OPTIONAL[package]}'",
        )
        print(f"mapper: {missing}", file=sys.stderr)
        return missing.exit_code
    except Exception as error:
        # typer brings its own copy of click in some versions and uses the installed one in others
        if type(error).__name__ == "Abort":
            return _interrupted()
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            error.show()
            return int(error.exit_code)
        raise


def _interrupted() -> int:
    print("mapper: interrupted", file=sys.stderr)
    return 130


def _unwritten(error: OSError) -> int:
    """The exit code when stdout cannot be written; any other `error` of the system is a bug and is raised."""
    poll = select.poll()
    poll.register(1, 0)
    unread = any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))
    if not unread and (error.errno != errno.ENOSPC or error.filename is not None):
        raise error
    with contextlib.suppress(OSError):
        sys.stdout.close()  # what it still holds would be tried again on the way out
    if unread:
        return 0  # whoever read has seen enough
    print("mapper: stdout cannot be written: no space left on the device", file=sys.stderr)
    return SystemRefused.exit_code


def _terminated(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends the command like an exception, so that workers and files are cleaned up."""
    raise _Terminated(128 + number)


class _Terminated(SystemExit):
    """SIGTERM came."""


def _unraisable(ignored: sys.UnraisableHookArgs) -> None:
    """Where Python ignores exceptions (in destructors, in callbacks of weak references) a signal that comes just then
    would be lost: it is sent again a moment later."""
    numbers = {KeyboardInterrupt: signal.SIGINT, _Terminated: signal.SIGTERM}
    if (number := numbers.get(ignored.exc_type)) is None:
        sys.__unraisablehook__(ignored)
        return
    again = threading.Timer(0.01, signal.pthread_kill, [threading.main_thread().ident, number])
    again.daemon = True
    again.start()
