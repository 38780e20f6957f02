"""XenStore in a machine's trace: requests, replies, and the watch events that a request caused.

A note of a request or reply holds the message as it travels; that of an event its path and token as WATCH_EVENT has
them, under the domain that gets it. hv/trace/decoders/xenstore.py reads them.
"""

from __future__ import annotations

from hv.core.xenstore.connection import Connection
from hv.core.xenstore.watches import Watch
from hv.core.xenstore.wire import Packet, encode
from hv.machine.trace import Effect, Trace

SOURCE = "xenstore"


class Reporter:
    """Tells a trace what a store does (hv.core.xenstore.state.Observer)."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._effect: Effect | None = None

    def request(self, connection: Connection, packet: Packet) -> None:
        if self._trace.attached:
            note = self._trace.note(connection.domid, SOURCE, "request", encode(packet))
            self._effect = self._trace.as_effect_of(note)
            self._effect.__enter__()

    def reply(self, connection: Connection, request: Packet, reply: Packet) -> None:
        if self._effect is not None:
            self._trace.note(connection.domid, SOURCE, "reply", encode(reply))
            self._effect.__exit__()
            self._effect = None

    def event(self, watch: Watch, path: str) -> None:
        if self._trace.attached:
            data = path.encode("latin-1") + b"\0" + watch.token + b"\0"
            self._trace.note(watch.connection.domid, SOURCE, "event", data)
