"""The ``sws`` command: the same commands that the workflow's rules run.

Commands import what they need when they run, so that ``sws --help`` answers at once. What goes
wrong is said in one line on standard error; ``SWS_DEBUG=1`` shows the traceback instead.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sws.cli import comparison, files, paper, prior, process, stages, study
from sws.cli.process import Status
from sws.errors import SwsError
from sws.training import interruption

app = typer.Typer(
    name="sws",
    help="Soft weight-sharing: compress networks into small files that decode to working networks.",
    epilog="'sws COMMAND --help' explains a command, with an example. Exit status: 0 done, "
    "1 failed, 2 called wrongly, 3 'compare' found a difference, 75 training was told to stop "
    "and can go on, 130 Ctrl-C in another command.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _commands in (
    stages.COMMANDS,
    files.COMMANDS,
    study.COMMANDS,
    comparison.COMMANDS,
    prior.COMMANDS,
    paper.COMMANDS,
):
    for _command in _commands:
        app.command()(_command)


def _version(wanted: bool) -> None:
    if wanted:
        from sws import environment

        print(f"sws {environment.version()}")
        raise typer.Exit


@app.callback()
def options(
    log: Annotated[
        Path | None, typer.Option(help="Write all output to this file; errors are shown as well.")
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Where raw data lie; default $SWS_DATA_ROOT.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options that come before the command."""
    if data_root is not None:
        os.environ["SWS_DATA_ROOT"] = str(data_root)
    if log is not None:
        _redirect(log)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line in a process of its own and exit with its status."""
    process.prepare()
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run the command line.

    Returns
    -------
    int
        One of :class:`sws.cli.process.Status`.
    """
    screen = os.dup(2)  # --log redirects standard error; the last word still goes to the screen
    try:
        outcome = typer.main.get_command(app).main(
            args=list(arguments), prog_name="sws", standalone_mode=False
        )
        if outcome == Status.INTERRUPTED:  # how newer versions of typer pass Ctrl-C on
            raise KeyboardInterrupt
        sys.stdout.flush()
        return outcome if isinstance(outcome, int) else Status.OK
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else Status.FAILED
    except BaseException as error:
        if os.environ.get("SWS_DEBUG"):
            traceback.print_exc()
        return _report(error, screen)
    finally:
        os.close(screen)


def _report(error: BaseException, screen: int) -> int:
    """Say in one line what went wrong; return the exit status."""
    if hasattr(error, "show") and hasattr(error, "exit_code"):  # called wrongly: typer words it
        error.show()
        return error.exit_code
    _let_go_of_output()
    if isinstance(error, interruption.Interrupted):
        _say(f"{error} after the last checkpoint; run the same command again to go on", screen)
        return Status.STOPPED
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        _say("interrupted; run the same command again to go on", screen)
        return Status.INTERRUPTED
    _say(f"error: {describe(error)}", screen)
    return Status.FAILED


def describe(error: BaseException) -> str:
    """An error in one line that tells the fix."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, SwsError):
        return text
    if isinstance(error, OSError):
        if error.errno == errno.ENOSPC:
            where = f" for {error.filename}" if error.filename else ""
            return f"no space left on the disk{where}; free some and run the same command again"
        if error.filename is not None and error.strerror:
            return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
        return text
    if isinstance(error, MemoryError):
        return "out of memory; close other programs, or choose a smaller batch_size"
    if "No space left on device" in text or "code: 28" in text:  # wrapped by a library
        return "no space left on the disk; free some and run the same command again"
    if not os.environ.get("SWS_DEBUG") and not _logged():
        text += " (SWS_DEBUG=1 shows where; please report it)"
    else:
        traceback.print_exception(error)
    return f"unexpected {type(error).__name__}: {text}"


_log: Path | None = None


def _logged() -> bool:
    return _log is not None


def _redirect(log: Path) -> None:
    """Send standard output and error, of libraries too, to a file."""
    global _log
    log.parent.mkdir(parents=True, exist_ok=True)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    process.to_log(target)
    os.close(target)
    _log = log


def _let_go_of_output() -> None:
    """If standard output cannot take what is left, drop it: Python would complain at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)


def _say(line: str, screen: int) -> None:
    print(line, file=sys.stderr, flush=True)
    if _logged():
        text = f"{line} (log: {_log})\n"
        encoding = getattr(sys.__stderr__, "encoding", "utf-8")
        with contextlib.suppress(BrokenPipeError):  # nobody reads on
            os.write(screen, text.encode(encoding, process.LEGIBLE))
