"""The command line: parsing and calls, nothing else. Everything heavy is imported inside the commands."""

from __future__ import annotations

import logging
import sys

import typer

from myelos.cli import classify, count, crossval, datasets, detect, embed, evaluate, explain, phantom, system, train
from myelos.cli.common import fail
from myelos.errors import MyelosError

app = typer.Typer(
    name="myelos",
    help="Reads bone-marrow and blood smears: finds the cells, names them, counts them, and says how sure it is.",
    epilog="Example: myelos count fields/*.jpg --specimen blood -o out\n\n"
    "For research use only. Not for use in diagnostic procedures.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for family in (count, detect, classify, train, evaluate, crossval, explain, embed, datasets, phantom, system):
    family.add(app)


@app.callback(invoke_without_command=True)
def version(
    show: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
) -> None:
    if show:
        import myelos

        typer.echo(f"myelos {myelos.__version__}")
        raise typer.Exit


def main() -> int:
    """Entry of the program: an error raised on purpose is one sentence and an exit code, never a traceback."""
    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # errors of files are said once, by Myelos
    try:
        code = app(standalone_mode=False)
    except MyelosError as error:
        return fail(error)
    except typer.Exit as error:
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        sys.stderr.write("Stopped.\n")
        return 130
    except Exception as error:
        return usage(error)
    return code if isinstance(code, int) else 0


def usage(error: Exception) -> int:
    """What Typer says of a wrong call goes to the user; anything else is a fault of the program and is raised."""
    show = getattr(error, "show", None)
    if show is None:
        raise error
    show()
    return int(getattr(error, "exit_code", 2))
