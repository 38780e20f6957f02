"""The groups of commands, in the order in which `help` shows them: a title and a module with its rows, `COMMANDS`."""

from hv.debug.command import Command
from hv.debug.commands import breaking, code, general, memory, registers, running, xen

GROUPS: tuple[tuple[str, tuple[Command, ...]], ...] = (
    ("Running", running.COMMANDS),
    ("Breakpoints", breaking.COMMANDS),
    ("Registers and expressions", registers.COMMANDS),
    ("Code and stack", code.COMMANDS),
    ("Memory", memory.COMMANDS),
    ("What Xen knows", xen.COMMANDS),
    ("The debugger", general.COMMANDS),
)
COMMANDS: tuple[Command, ...] = tuple(row for _, rows in GROUPS for row in rows)
