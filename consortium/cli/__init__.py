"""The `consortium` command. Every module here whose name has no leading underscore adds its commands by itself:

it has a function `register(app: typer.Typer) -> None`. Heavy libraries are imported inside the commands that need
them, so that `--help` and `lint` stay quick.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys

import typer

from consortium.cli._common import WorkspaceOption, remember_workspace, report
from consortium.errors import EXIT_CODES, EXIT_FAILED, EXIT_OK, ConsortiumError, UsageError

HELP = """Several institutions stand up SecretFlow together, each with its own `pulumi up`.

Begin with `consortium init DIR`, then `consortium join PARTY --endpoint HOST:PORT`.
"""
EPILOG = "Exit codes: " + ", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + "."


def build() -> typer.Typer:
    """The whole command, with every group registered."""
    app = typer.Typer(
        help=HELP,
        epilog=EPILOG,
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def _root(workspace: WorkspaceOption = None) -> None:
        remember_workspace(workspace)

    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        if not module.name.startswith("_"):
            importlib.import_module(f"{__name__}.{module.name}").register(app)
    return app


def main() -> None:
    """Run the command; errors meant for people are printed without a traceback, with their exit code."""
    as_json = "--json" in sys.argv
    try:
        sys.exit(_run_for_programs() if as_json else build()())
    except ConsortiumError as error:
        report(error, as_json=as_json)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # `consortium job list | head`
        sys.exit(EXIT_FAILED)


def _run_for_programs() -> int:
    """Run the command so that wrong usage becomes an error like any other. Raises ConsortiumError."""
    try:
        code = build()(standalone_mode=False)
    except Exception as error:
        # typer may bring a click of its own, so its errors are known by what they can do
        if not hasattr(error, "format_message"):
            raise
        raise UsageError(error.format_message(), where="the command line", fix="consortium --help") from error
    return code if isinstance(code, int) else EXIT_OK
