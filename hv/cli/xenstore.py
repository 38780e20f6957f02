"""The xenstore-* commands: options and output of the stock tools (package xenstore-utils of Xen 4.17).

Rules:

1. What goes to stdout, and whether the exit code is 0 or 1, is as the stock tools have it, byte for byte; bad usage and
   a service that cannot be reached are 2, as in every command of hv.
2. What reads or changes more than one thing does so in one transaction, and begins again where others were faster.

Each command is one function with its options above it; `COMMANDS` has them by name.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from hv.cli.xenstore_client import SocketClient, socket_path
from hv.core.xenstore.client import Nodes
from hv.core.xenstore.dump import escaped
from hv.core.xenstore.numbers import atoi
from hv.errors import ConfigError, StoreError

T = TypeVar("T")
COMMANDS: dict[str, click.Command] = {}
FAILED = 1
# What stands for a byte in a value that is written without --raw; a backslash before anything else just goes away.
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{1,2})|([0-7]{1,3})|(.?))", re.DOTALL)
_NAMED = {"t": "\t", "n": "\n", "r": "\r", "": "\0"}  # the stock tool takes a last backslash for a NUL


def flag(short: str, long: str, text: str) -> Callable[[Any], Any]:
    return click.option(short, long, is_flag=True, help=text)


def tool(name: str, example: str, *options: Callable[[Any], Any]) -> Callable[[Callable[..., Any]], click.Command]:
    """A command with the options that all of them have."""

    def made(function: Callable[..., Any]) -> click.Command:
        decorated: Any = function
        for option in (
            click.option("-s", "ignored", is_flag=True, hidden=True, expose_value=False),
            click.option(
                "--socket",
                "path",
                metavar="PATH",
                help="The service's socket (default: $XENSTORED_PATH, else $XENSTORED_RUNDIR/socket).",
            ),
            *reversed(options),
        ):
            decorated = option(decorated)
        command: click.Command = click.command(name, epilog=f"Example:  hv {name} {example}")(decorated)
        COMMANDS[name] = command
        return command

    return made


def keys(name: str = "keys", metavar: str = "KEY...") -> Callable[[Any], Any]:
    return click.argument(name, nargs=-1, required=True, metavar=metavar)


class Failed(Exception):
    """What makes a stock tool end with 1, after undoing its transaction."""


Action = Callable[[Nodes, "list[str]"], None]


def perform(path: str | None, action: Action, transaction: bool = True) -> int:
    """Connect, do `action(nodes, output)`, print what it put into `output`, even if it failed then; the exit code."""
    output: list[str] = []

    def afresh(nodes: Nodes) -> None:
        output.clear()
        action(nodes, output)

    code = 0
    with SocketClient(socket_path(path)) as store:
        try:
            if transaction:
                store.transact(afresh)
            else:
                afresh(store)
        except (Failed, StoreError) as failure:
            code = FAILED
            if str(failure):
                print(f"hv: {failure}", file=sys.stderr)
    write("".join(output))
    return code


def write(text: str) -> None:
    """To stdout: a character is a byte."""
    sys.stdout.buffer.write(text.encode("latin-1"))
    sys.stdout.buffer.flush()


def attempt(what: str, action: Callable[[], T]) -> T:
    """Do it; a refusal is a failure in the stock tool's words."""
    try:
        return action()
    except StoreError as error:
        if error.name == "EAGAIN":
            raise
        raise Failed(f"{what} ({error.name})") from None


@tool(
    "xenstore-read",
    "-p /local/domain/1/name /local/domain/1/memory/target",
    keys(),
    flag("-p", "--prefix", "Print each value's key before it."),
    flag("-R", "--raw", "Print the bytes of the value, without escapes and newline."),
)
def _read(keys: tuple[str, ...], prefix: bool, raw: bool, path: str | None) -> int:
    """Print the values of nodes."""

    def action(nodes: Nodes, output: list[str]) -> None:
        for key in keys:
            value = attempt(f"couldn't read path {key}", lambda key=key: nodes.read(key))  # type: ignore[misc]
            output.append(f"{key}: " if prefix else "")
            output.append(value.decode("latin-1") if raw else escaped(value) + "\n")

    return perform(path, action, transaction=len(keys) > 1)


def meant(text: str) -> bytes:
    """A value as it is typed, with the escapes that xenstore-read prints."""

    def character(match: re.Match[str]) -> str:
        hexadecimal, octal, other = match.groups()
        if hexadecimal or octal:
            return chr((int(hexadecimal, 16) if hexadecimal else int(octal, 8)) & 0xFF)
        return _NAMED.get(other, other)

    return _ESCAPE.sub(character, os.fsencode(text).decode("latin-1")).encode("latin-1")


@tool(
    "xenstore-write",
    "/local/domain/1/control/shutdown poweroff",
    keys("pairs", "KEY VALUE..."),
    flag("-R", "--raw", "The value has no escapes."),
)
def _write(pairs: tuple[str, ...], raw: bool, path: str | None) -> int:
    """Set the values of nodes, and make those that are missing."""
    if len(pairs) % 2:
        raise click.UsageError(f"{pairs[-1]} has no value")

    def action(nodes: Nodes, output: list[str]) -> None:
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            data = os.fsencode(value) if raw else meant(value)
            attempt(f"could not write path {key}", lambda key=key, data=data: nodes.write(key, data))  # type: ignore[misc]

    return perform(path, action, transaction=len(pairs) > 2)


@tool("xenstore-rm", "-t /data/1", keys(), flag("-t", "--tidy", "Remove the directories above that are left empty."))
def _rm(keys: tuple[str, ...], tidy: bool, path: str | None) -> int:
    """Remove nodes with all below them."""

    def remove(nodes: Nodes, key: str) -> None:
        attempt(f"could not remove path {key}", lambda: nodes.rm(key))
        above = key.rpartition("/")[0]
        if tidy and "/" in key and is_bare(nodes, above):
            remove(nodes, above)

    def action(nodes: Nodes, output: list[str]) -> None:
        for key in keys:
            remove(nodes, key)

    return perform(path, action)


def is_bare(nodes: Nodes, key: str) -> bool:
    """Whether a node is there, and has neither value nor children."""
    try:
        return not nodes.read(key) and not nodes.ls(key)
    except StoreError as error:
        if error.name == "EAGAIN":
            raise
        return False


@tool("xenstore-list", "-p /local/domain", keys(), flag("-p", "--prefix", "Print the whole path of each child."))
def _list(keys: tuple[str, ...], prefix: bool, path: str | None) -> int:
    """Print the names of the children of nodes."""

    def action(nodes: Nodes, output: list[str]) -> None:
        for key in keys:
            names = attempt(f"could not list path {key}", lambda key=key: nodes.ls(key))  # type: ignore[misc]
            output += (f"{key}/{name}\n" if prefix else f"{name}\n" for name in names)

    return perform(path, action)


@tool("xenstore-exists", "/local/domain/1", keys())
def _exists(keys: tuple[str, ...], path: str | None) -> int:
    """Exit with 0 if all nodes exist, else with 1; nothing is printed."""

    def action(nodes: Nodes, output: list[str]) -> None:
        for key in keys:
            if not nodes.exists(key):
                raise Failed

    return perform(path, action)


@tool(
    "xenstore-chmod",
    "-r /data n0 r1",
    keys("words", "KEY MODE..."),
    flag("-u", "--upto", "Change the nodes above, too."),
    flag("-r", "--recurse", "Change all nodes below, too."),
)
def _chmod(words: tuple[str, ...], upto: bool, recurse: bool, path: str | None) -> int:
    """Set the permissions of a node.

    MODE is n (none), r (read), w (write) or b (both), and a domain's number. The first one names the owner, with what
    everybody else may do.
    """
    key, modes = words[0], words[1:]
    for mode in modes:
        if mode[:1] not in ("n", "r", "w", "b"):
            raise ConfigError(f"{mode!r} is no permission: write n, r, w or b with a domain's number, such as n0 or r1")
    permissions = [f"{mode[0]}{atoi(mode[1:])}" for mode in modes]

    def change(nodes: Nodes, key: str, upto: bool, recurse: bool) -> None:
        if not key:
            return
        what = f"Error occurred setting permissions on '{key}'"
        attempt(what, lambda: nodes.set_permissions(key, permissions))
        if upto:
            change(nodes, key.rpartition("/")[0], True, False)
        if recurse:
            for name in nodes.ls(key):
                change(nodes, f"{key}/{name}", False, True)

    def action(nodes: Nodes, output: list[str]) -> None:
        change(nodes, key, upto, recurse)

    return perform(path, action)


@tool(
    "xenstore-watch",
    "-n 3 /local/domain",
    keys(),
    click.option("-n", "--number", type=int, metavar="N", help="End after so many events."),
)
def _watch(keys: tuple[str, ...], number: int | None, path: str | None) -> int:
    """Print the path of each change of nodes, or of nodes below them, when it happens."""
    left = -1 if number is None else number
    with SocketClient(socket_path(path)) as store:
        for key in keys:
            try:
                store.watch(key, key)
            except StoreError as error:
                print(f"hv: Unable to add watch on {key}: {error}", file=sys.stderr)
                return FAILED
        while left:
            write(store.next_event() + "\n")
            left -= left > 0
    return 0


@tool(
    "xenstore-ls",
    "-f -p /local/domain/1",
    click.argument("paths", nargs=-1, metavar="[PATH...]"),
    flag("-f", "--flat", "Print whole paths, and values in full length."),
    flag("-p", "--prefix", "Print the permissions, too."),
)
def _ls(paths: tuple[str, ...], flat: bool, prefix: bool, path: str | None) -> int:
    """Print the nodes below a path as a tree."""
    from hv.cli.xenstore_tree import Tree

    with SocketClient(socket_path(path)) as store:
        tree = Tree(store, flat, prefix, write)
        for top in paths or ("/",):
            try:
                tree.show(top)
            except StoreError as error:
                print(f"hv: {error}", file=sys.stderr)
                return FAILED
    return 0
