"""Breakpoints by XenStore path: a request about a node, or a watch event that names one, stops the machine.

A path stands for its node and all below it; a relative one is below the domain's own directory. Requests of a domain's
own connection count, and those of tools about its paths; a request is told with its reply, once it is served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hv.core.xenstore.connection import Connection
from hv.core.xenstore.paths import absolute, domain_path
from hv.core.xenstore.watches import Watch
from hv.core.xenstore.wire import Packet, encode
from hv.machine.xenstore_trace import SOURCE
from hv.trace.decoders.xenstore import xenstore as described
from hv.trace.events import Note

if TYPE_CHECKING:
    from hv.machine.breakpoints import Breakpoint, Breakpoints
    from hv.machine.domain import Domain
    from hv.machine.machine import Machine


class StoreBreakpoints:
    """An observer of the store (hv.core.xenstore.state.Observer) while there is a path to look for."""

    def __init__(self, machine: Machine, breakpoints: Breakpoints) -> None:
        self._machine, self._breakpoints = machine, breakpoints
        self._paths: dict[Breakpoint, str] = {}

    def add(self, breakpoint: Breakpoint, path: str) -> None:
        if not self._paths:
            self._machine.store.observe(self)
        self._paths[breakpoint] = path

    def keep(self, rows: list[Breakpoint]) -> None:
        """The others were deleted."""
        if not self._paths:
            return
        self._paths = {breakpoint: path for breakpoint, path in self._paths.items() if breakpoint in rows}
        if not self._paths:
            self._machine.store.unobserve(self)

    # --- Observer

    def request(self, connection: Connection, packet: Packet) -> None:
        """Told with its reply."""

    def reply(self, connection: Connection, request: Packet, reply: Packet) -> None:
        path = self._machine.store.path_of(connection, request)
        if path is not None:
            asked = _words(connection.domid, "request", encode(request))
            answer = _words(connection.domid, "reply", encode(reply)).removeprefix("XenStore: ")
            self._look(connection.domid, path, f"{asked}, answer: {answer}")

    def event(self, watch: Watch, path: str) -> None:
        domid = watch.connection.domid
        data = path.encode("latin-1") + b"\0" + watch.token + b"\0"
        self._look(domid, absolute(path, domain_path(domid)), _words(domid, "event", data))

    def _look(self, domid: int, path: str, description: str) -> None:
        for breakpoint, wanted in self._paths.items():
            domain = self._whose(breakpoint, domid)
            if domain is None:
                continue
            node = absolute(wanted, domain_path(domain.domid)).rstrip("/")
            if path == node or path.startswith(f"{node}/"):
                self._breakpoints.note(breakpoint, domain, description)

    def _whose(self, breakpoint: Breakpoint, domid: int) -> Domain | None:
        """The domain that stops: who asked, or for a tool's request the one that the breakpoint is for."""
        living = [domain for domain in self._machine.domains if not domain.ended]
        asking = next((domain for domain in living if domain.domid == domid), None)
        wanted = breakpoint.domain
        if asking is None:
            return wanted if wanted in living else next(iter(living), None)
        return asking if wanted in (None, asking) else None


def _words(domid: int, what: str, data: bytes) -> str:
    return described(Note(0, 0, 0, domid, None, SOURCE, what, data))
