"""Entry point: a table of verbs whose modules are imported when they are used."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import FrameType

import click

from hpcsynapse import __version__
from hpcsynapse.errors import HpcSynapseError, SpecError

# verb -> (what a person is doing, summary); the module is hpcsynapse.cli.VERB and exports `command`.
VERBS = {
    "submit": ("Run", "Render, check and queue a run."),
    "study": ("Run", "Run a grid of nodes, ranks, strategies, and report on it."),
    "render": ("Run", "Print or write the job file, submitting nothing."),
    "check": ("Run", "Find out before queueing what would make a run fail."),
    "init": ("Run", "Write a site file by looking at this machine and asking."),
    "sites": ("Run", "List the site files of clusters, or print one."),
    "store": ("Run", "Keep models, loaders and data sets as folders with metadata."),
    "greasy": ("Run", "Build, check and run task lists inside an allocation."),
    "status": ("Watch", "Show state and progress of runs."),
    "nodes": ("Watch", "Show the load of every node of a run."),
    "logs": ("Watch", "Show the log of the job or of a rank."),
    "stop": ("Watch", "Ask a run to finish its step, save and end."),
    "resume": ("Watch", "Queue an ended run once more, or what a study lacks."),
    "cancel": ("Watch", "Tell the queue to end a run."),
    "remove": ("Watch", "Remove runs that have ended, with all their files."),
    "serve": ("Watch", "Show runs in a browser: a page and its API."),
    "snapshot": ("Watch", "Write the pages of a run or study as one HTML file."),
    "report": ("Measure", "Speedup and efficiency of runs."),
    "compare": ("Measure", "Whether runs have become slower, with an exit code for CI."),
    "predict": ("Measure", "What more ranks would bring; how much they exchange."),
    "records": ("Measure", "Print the step records of a run."),
    "timeline": ("Measure", "Write all ranks of a run as a trace for Perfetto."),
    "export": ("Measure", "Write runs for TensorBoard, MLflow or Prometheus."),
    "models": ("Measure", "List the built-in models: parameters, bytes, FLOPs."),
    "convert": ("Convert", "Turn a job file for one queue into one for another."),
}


class Verbs(click.Group):
    """A group that knows its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in their order of use."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import and return one verb."""
        if name not in VERBS:
            return None
        command: click.Command = import_module(f"hpcsynapse.cli.{name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb, or suggest the nearest one."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], VERBS, n=1)
            ctx.fail(f"no verb {args[0]!r}{f'; did you mean {close[0]!r}?' if close else ''}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs grouped by what a person is doing."""
        for group in dict.fromkeys(group for group, _ in VERBS.values()):
            with formatter.section(group):
                formatter.write_dl([(verb, summary) for verb, (one, summary) in VERBS.items() if one == group])


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="hpcsynapse")
def cli() -> None:
    """Train and scale neural networks through batch queues.

    \b
    hpcsynapse submit --nodes 4 --gpus 4               the built-in trainer
    hpcsynapse submit --nodes 4 --gpus 4 -- python train.py
    hpcsynapse status; hpcsynapse logs -f RUN; hpcsynapse report RUN RUN
    """


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 success, 1 the run or the queue failed, 2 wrong usage or description."""
    signal.signal(signal.SIGTERM, _terminate)
    for name in ("stdout", "stderr"):  # None where the caller closed it: what is written there is lost
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115  no pathlib here; lives as long as the process
    try:
        code = cli.main(list(argv) if argv is not None else None, prog_name="hpcsynapse", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Abort:
        click.echo("aborted", err=True)
        sys.exit(1)
    except click.ClickException as error:
        if isinstance(error, click.NoSuchOption) and error.possibilities:
            best = _best(error.option_name, _options(error.ctx), error.possibilities)
            error = click.NoSuchOption(error.option_name, possibilities=[best], ctx=error.ctx)
        error.show()
        sys.exit(error.exit_code)
    except SpecError as error:
        _say(error)
        sys.exit(2)
    except HpcSynapseError as error:
        _say(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of a pipe has gone; Python must not complain again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a full disk, a folder that went away, a name that no file can have
        shown = repr(error.filename)
        _say(OSError(f"{error.strerror or error}: {shown[:300]}" if error.filename is not None else str(error)))
        sys.exit(1)


def _options(context: click.Context | None) -> list[str]:
    """Return the options of a command; click names no more than the three that are most similar."""
    params = context.command.get_params(context) if context else []
    return [name for param in params if isinstance(param, click.Option) for name in param.opts]


def _best(typed: str, options: Sequence[str], similar: Sequence[str]) -> str:
    """Return the option that was meant most likely: one that goes on as typed, else the most similar one."""
    from difflib import SequenceMatcher

    longer = (option for option in options if option.startswith(typed))
    return min(longer, key=len, default=None) or max(similar, key=lambda one: SequenceMatcher(None, typed, one).ratio())


def _terminate(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)  # an orderly end: nothing is left half-written


def _say(error: Exception) -> None:
    for line in str(error).splitlines() or [type(error).__name__]:
        click.echo(f"hpcsynapse: {line}", err=True)


if __name__ == "__main__":
    main()
