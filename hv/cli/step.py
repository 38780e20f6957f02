"""`hv step`: the debugger at a terminal, from a pipe, or by a script."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import click

from hv.cli import exit_codes
from hv.cli.run import RunOptions, boot, run_options, type_into
from hv.errors import HvError

if TYPE_CHECKING:
    from hv.cli.options import GuestOptions
    from hv.debug.session import Session
    from hv.machine.domain import Domain
    from hv.machine.machine import Machine

COLOURS = {"stop": "\x1b[1;33m", "here": "\x1b[32m", "error": "\x1b[31m"}
PLAIN = "\x1b[0m"


@click.command(
    "step",
    epilog="""\b
Examples:
  hv step hello                                        a prompt; help lists the commands
  hv step hello -c 'break main' -c continue -c 'step 3' -c registers
  hv step timer --script commands.hv                   one command a line
  echo 'break hypercall sched_op\\ncontinue' | hv step hello
The guest's console is on stdout, all of the debugger's on stderr.
Exit codes: as hv run for domains that have ended; 0 where the session ends before them; 2 a command that
cannot be done, in a script.""",
)
@click.option("-c", "--command", "lines", multiple=True, metavar="COMMAND", help="Do COMMAND; several in their order.")
@click.option("--script", metavar="FILE", help="Do the commands in FILE, one a line, before those of -c.")
@run_options
def command(
    run: RunOptions, options: GuestOptions, lines: tuple[str, ...], script: str | None
) -> int:
    """Boot each IMAGE as `hv run` does, and stop before the first instruction: then step, stop, look and go on.

    Without -c and --script commands are read from stdin; with them stdin is the guest's console.
    """
    from hv.debug.commands.general import read_script

    given = [*(read_script(script) if script is not None else ()), *lines]
    by_hand = script is None and not lines
    refused = False

    def drive(machine: Machine, domain: Domain) -> str:
        from hv.cli.terminal import BetweenPrompts
        from hv.debug.session import Session

        nonlocal refused
        at_terminal = by_hand and os.isatty(0)
        session = Session(machine, _writer(), timeout=options.timeout, until_ns=options.until)
        session.select(domain, 0)
        with _interrupts(session, by_hand):
            if at_terminal:
                BetweenPrompts(0).during(lambda: _at_terminal(session, domain))
            else:
                refused = not _do(session, sys.stdin if by_hand else given)
        machine.run_until(lambda: True)  # takes down what has crashed
        return session.outcome or "stopped"

    code = boot(run, options, drive=drive, keyboard=not by_hand)
    return exit_codes.USAGE if refused else code


def _writer() -> Callable[[str, str], None]:
    """Lines to stderr, with colours where it is a terminal."""
    coloured = os.isatty(2) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def write(line: str, style: str) -> None:
        if coloured and style:
            line = f"{COLOURS[style]}{line}{PLAIN}"
        print(line, file=sys.stderr, flush=True)

    return write


@contextmanager
def _interrupts(session: Session, by_hand: bool) -> Iterator[None]:
    """At the prompt Ctrl-C only ends a run; in a script it ends hv, as everywhere."""
    if not by_hand or not os.isatty(0):
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        session.interrupted = True

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _do(session: Session, lines: Iterable[str]) -> bool:
    """The commands of a script; False where one could not be done: those behind it are left out."""
    for line in lines:
        try:
            session.execute(line)
        except HvError as error:
            session.write(f"hv: {line.strip()}: {error}", "error")
            return False
        if session.over:
            break
    return True


def _at_terminal(session: Session, domain: Domain) -> None:
    """The prompt. An empty line does the last command again."""
    from hv.cli.prompt import Prompt
    from hv.cli.terminal import ConsoleInput, Left, RawTerminal

    machine = session.machine

    def with_keys(go: Callable[[], str]) -> str:
        keyboard = ConsoleInput(0, lambda data: type_into(domain, data))
        machine.inputs.append(keyboard)
        try:
            return RawTerminal(0, quiet=True).during(go)
        except Left:
            return "satisfied"
        finally:
            machine.inputs.remove(keyboard)

    session.keyboard = with_keys
    session.write("help lists the commands; Ctrl-] comes back from a running guest", "")
    session.write(session.here(), "here")
    prompt = Prompt(session)
    last = ""
    while not session.over:
        line = prompt.read()
        if line is None:
            return
        last = line.strip() or last
        try:
            session.execute(last)
        except HvError as error:
            session.write(str(error), "error")
