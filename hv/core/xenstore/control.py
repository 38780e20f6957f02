"""The sub-commands of CONTROL that mean something without a daemon; any other is EINVAL.

Each row: the command, its parameters as "help" shows them, the handler.
"""

from collections.abc import Callable
from typing import NamedTuple

from hv.core.xenstore.errors import XenStoreError
from hv.core.xenstore.numbers import atoi
from hv.core.xenstore.quotas import DESCRIPTIONS, by_name, set_by_name
from hv.core.xenstore.state import State

OK = b"OK\0"


class Command(NamedTuple):
    """One sub-command."""

    name: str
    parameters: str
    handler: Callable[[State, list[str]], bytes]


def _expect(arguments: list[str], count: int) -> None:
    if len(arguments) != count:
        raise XenStoreError("EINVAL")


def _check(state: State, arguments: list[str]) -> bytes:
    _expect(arguments, 0)
    state.messages.extend(f"inconsistent: {path}" for path in state.tree.faults())
    return OK


def _print(state: State, arguments: list[str]) -> bytes:
    _expect(arguments, 1)
    state.messages.append(arguments[0])
    return OK


def _help(state: State, arguments: list[str]) -> bytes:
    _expect(arguments, 0)
    text = "".join(f"{command.name}\t{command.parameters}\n" for command in COMMANDS)
    return text.encode() + b"\0"


def _quota(state: State, arguments: list[str]) -> bytes:
    if not arguments:
        lines = [
            f"{name:<17}: {value:8} {DESCRIPTIONS[name]}\n"
            for name, value in by_name(state.quotas).items()
        ]
        return "".join(["Quota settings:\n", *lines]).encode() + b"\0"
    if arguments[0] == "set":
        _expect(arguments, 3)
        value = atoi(arguments[2])
        if value < 1 or not set_by_name(state.quotas, arguments[1], value):
            raise XenStoreError("EINVAL")
        return OK
    _expect(arguments, 1)
    return _usage(state, atoi(arguments[0]) & 0xFFFFFFFF)


def _usage(state: State, domid: int) -> bytes:
    domain = state.domains.get(domid)
    if domain is None:
        raise XenStoreError("ENOENT")
    connection = domain.connection
    used = {
        "nodes": domain.nodes,
        "watches": domain.watches,
        "transactions": len(connection.transactions) if connection else 0,
        "outstanding": connection.outstanding if connection else 0,
        "memory": connection.queued_bytes if connection else 0,
    }
    lines = [f"{name:<16}: {value:8}\n" for name, value in used.items()]
    return "".join([f"Domain {domid}:\n", *lines]).encode() + b"\0"


COMMANDS = (
    Command("check", "", _check),
    Command("print", "<string>", _print),
    Command("quota", "[set <name> <val>|<domid>]", _quota),
    Command("help", "", _help),
)


def control(state: State, command: str, arguments: list[str]) -> bytes:
    """The reply to a command. Raises EINVAL, ENOENT."""
    for row in COMMANDS:
        if row.name == command:
            return row.handler(state, arguments)
    raise XenStoreError("EINVAL")
