"""The command group: which sub-commands there are, and what every one of them shares.

A user's mistake ends with one sentence on stderr and exit code 2; Ctrl-C with 130; a closed pipe quietly.
"""

from __future__ import annotations

import importlib
import os
import sys

import click

from hv.cli import exit_codes

# name -> one line of help; the module hv.cli.<name> holds the click command `command`, hv.cli.xenstore its own by name
COMMANDS = {
    "run": "Boot Xen guests and connect their console to this terminal.",
    "trace": "Run guests and write every hypercall, event and exception, decoded.",
    "step": "Run guests instruction by instruction, with breakpoints: a debugger.",
    "test": "Run XTF tests and report their results.",
    "guests": "List the bundled guests.",
    "fetch": "Bring guests that others wrote: Debian's Linux, GRUB.",
    "hypercalls": "List every hypercall with what hv does about it.",
    "xenstored": "Serve XenStore alone, on a Unix socket.",
    "xenstore-ls": "Print a store as a tree.",
    "xenstore-read": "Print values of a store.",
    "xenstore-write": "Set values of a store.",
    "xenstore-rm": "Remove nodes of a store.",
    "xenstore-list": "Print the children of nodes of a store.",
    "xenstore-exists": "Ask whether nodes of a store exist.",
    "xenstore-chmod": "Set the permissions of nodes of a store.",
    "xenstore-watch": "Print the changes of a store as they happen.",
    "bench": "Measure hv's event loops and guests' rates beside C's, bare Unicorn's and Xen's.",
    "doctor": "Check that hv works on this machine.",
}


class Commands(click.Group):
    """Imports a sub-command only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        home = "xenstore" if cmd_name.startswith("xenstore-") else cmd_name
        module = importlib.import_module(f"hv.cli.{home}")
        command: click.Command = module.command if home == cmd_name else module.COMMANDS[cmd_name]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from hv.version import __version__

        click.echo(f"hv {__version__}")
        ctx.exit()


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Examples:  hv run hello   |   hv run grub-x86_64-xen.bin   |   hv test test-pv64-example",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print hv's version."
)
def hv() -> None:
    """Xen guests without Xen: boot, test and look into x86-64 PV guests on any machine."""


def main() -> None:
    """The console script."""
    from hv.cli.output import secure_standard_streams
    from hv.errors import HvError

    secure_standard_streams()
    try:
        with hv.make_context("hv", sys.argv[1:]) as context:
            code = hv.invoke(context) or 0
        sys.stdout.flush()
        sys.exit(code)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        sys.exit(exit_codes.USAGE)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "hv"
        print(f"hv: {error.format_message().rstrip('.')}: {where} --help says what is possible", file=sys.stderr)
        sys.exit(exit_codes.USAGE)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except HvError as error:
        print(f"hv: {error}", file=sys.stderr)
        sys.exit(exit_codes.USAGE)
    except (KeyboardInterrupt, click.exceptions.Abort):
        sys.exit(exit_codes.INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer goes nowhere, quietly
        sys.exit(exit_codes.BROKEN_PIPE)
