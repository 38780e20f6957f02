"""Commands about the debugger itself, and the guest's console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hv.debug.command import Command, resolve
from hv.errors import ConfigError, HvError
from hv.machine import expression

if TYPE_CHECKING:
    from hv.debug.session import Session


def help_(session: Session, text: str) -> None:
    if text == "expressions":
        session.write((expression.__doc__ or "").partition("The language")[2].partition("\n")[2].strip("\n"))
    elif text:
        row, _ = resolve(text)
        others = f"\nalso: {', '.join(row.abbreviations)}" if row.abbreviations else ""
        session.write(f"{row.usage}\n{row.help}{others}")
    else:
        _list(session)


def _list(session: Session) -> None:
    from hv.debug.commands import GROUPS

    for title, rows in GROUPS:
        session.write(f"{title}:")
        for row in rows:
            also = f" ({row.abbreviations[0]})" if row.abbreviations else ""
            session.write(f"  {row.name + also:<24} {row.summary}")
    session.write("help COMMAND tells more; help expressions has the language of LOCATION, ADDRESS and EXPRESSION.")


def quit_(session: Session, text: str) -> None:
    session.over = True


def send(session: Session, text: str) -> None:
    """The text as Python would read it between quotes: \\r is Enter."""
    try:
        typed = text.encode().decode("unicode_escape").encode("latin-1")
    except (UnicodeDecodeError, UnicodeEncodeError):
        raise ConfigError(f"{text!r} cannot be typed: write special characters as \\r, \\t or \\x1b") from None
    session.domain.console.send(typed)


def echo(session: Session, text: str) -> None:
    session.write(text)


def source(session: Session, text: str) -> None:
    """Commands from a file."""
    for number, line in enumerate(read_script(text), 1):
        try:
            session.execute(line)
        except HvError as error:
            raise ConfigError(f"{text}, line {number}: {error}") from None
        if session.over:
            return


def read_script(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().splitlines()
    except OSError as error:
        raise ConfigError(f"{path or 'a script without a name'}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is no text: a script has one command a line") from None


COMMANDS = (
    Command("help", ("h", "?"), "[COMMAND | expressions]", "List the commands, or explain one.", help_, "command"),
    Command("send", (), "TEXT", "Type TEXT into the guest's console; \\r is Enter.", send),
    Command("echo", (), "TEXT", "Say TEXT: for scripts.", echo),
    Command("source", (), "FILE", "Do the commands in FILE, one a line; # starts a comment.", source),
    Command("quit", ("q", "exit"), "", "End the session; guests that still run are destroyed.", quit_),
)
