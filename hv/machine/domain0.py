"""Domain 0: hv's own side of event channels and grants.

Its ports have handlers instead of a kernel. A handler runs at the end of the hypercall or input that raised its event,
before any guest goes on; a port without a handler is masked, and its events wait. How they are found and delivered is
hv/fastpath/receiver.pyx, in the order in which Linux would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from hv.abi import event_channel as abi
from hv.core.event_channel import EventChannels
from hv.core.grant_table import HostGrants
from hv.errors import ConfigError
from hv.fastpath.handlers import Batch, Handler

if TYPE_CHECKING:
    from hv.engine.machine import Engine, GuestDomain

PAGE = 4096
WORDS_A_PAGE = PAGE // 4
ABIS = ("2-level", "fifo")


class Domain0:
    """Ports of domain 0, and who takes their events."""

    def __init__(self, engine: Engine, find: Callable[[int], EventChannels | None], events: str) -> None:
        if events not in ABIS:
            raise ConfigError(f"{events!r} is no ABI of event channels: choose 2-level or fifo")
        fifo = events == "fifo"
        last = (abi.EVTCHN_FIFO_NR_CHANNELS if fifo else abi.EVTCHN_2L_NR_CHANNELS) - 1
        self.guest: GuestDomain = engine.create_domain(0, max_port=last)
        self.events = EventChannels(self.guest, find)
        self.grants = HostGrants(self.guest, engine.page, engine.written)
        if fifo:
            self._change_to_fifo(engine)

    def _change_to_fifo(self, engine: Engine) -> None:
        """A control block, and the whole array, in frames of domain 0's own; every port is masked until it is bound."""
        pages = abi.EVTCHN_FIFO_NR_CHANNELS // WORDS_A_PAGE
        control, *words = (self.guest.populate(pfn) for pfn in range(1 + pages))
        masked = (1 << abi.EVTCHN_FIFO_MASKED).to_bytes(4, "little") * WORDS_A_PAGE
        assert self.guest.init_control(0, control, 0) == 0
        for mfn in words:
            engine.page(mfn)[:] = masked
            assert self.guest.expand_array(mfn) == 0

    # --- ports

    def connect(self, guest: GuestDomain, port: int) -> int:
        """Connect a port of a new domain to a fresh one here; the number of that."""
        if not 0 < port < guest.nr_ports or guest.port(port)[0] != abi.EVTCHNSTAT_closed:
            raise ConfigError(f"domain {guest.domid} has no free event channel {port} below {guest.nr_ports}")
        own = self.events.alloc_unbound(guest.domid)
        if own < 0:
            raise ConfigError("domain 0 has no event channel left: the machine has too many domains")
        guest.set_port(port, abi.EVTCHNSTAT_interdomain, 0, 0, own, self.guest, True)
        self.guest.set_port(own, abi.EVTCHNSTAT_interdomain, 0, guest.domid, port, guest)
        return own

    def notify(self, port: int) -> None:
        """Send an event to whoever is connected to a port of domain 0; to nobody, if the guest has closed its end."""
        self.guest.send(port)

    # --- handlers

    def bind(self, port: int, handler: Callable[[int], object] | Handler) -> None:
        """Run `handler(port)` for every event of a port in use, in place of a handler that it had; unmasks it."""
        self._check(port)
        if not isinstance(handler, Handler) and not callable(handler):
            raise ConfigError(f"{handler!r} is not callable: a handler is a function of the port")
        if type(handler) is Handler:
            raise ConfigError("a bare Handler does nothing: derive from it in Cython, or bind a function")
        self.guest.bind_handler(port, handler)

    def bind_batch(self, ports: Iterable[int], handler: Callable[[list[int]], object]) -> None:
        """Run `handler(list of ports)` once for all events of these ports that one scan finds, in their order."""
        ports = list(ports)
        for port in ports:
            self._check(port)
        batch = Batch(handler)
        for port in ports:
            self.guest.bind_handler(port, batch)

    def unbind(self, port: int) -> None:
        """Close a port, with the events that wait at it. One that is closed already stays so."""
        self.guest.unbind_handler(port)
        self.events.close(port)

    def mask(self, port: int) -> None:
        """Let a port's events wait until `unmask`."""
        self._check(port)
        self.guest.mask(port)

    def unmask(self, port: int) -> None:
        """An event that waited is delivered before any guest goes on. Without a handler the port stays masked."""
        self._check(port)
        self.guest.unmask(port)

    def delivered(self, port: int) -> int:
        """How many events of a port its handlers have had since it was made."""
        self._check(port)
        return self.guest.delivered(port)

    def settle(self) -> None:
        """Run the handlers of all events that wait. What one raises is raised here; the rest waits then."""
        self.guest.drain()

    def _check(self, port: int) -> None:
        if not 0 < port < self.guest.nr_ports or self.guest.port(port)[0] == abi.EVTCHNSTAT_closed:
            raise ConfigError(f"domain 0 has no event channel {port}: domain0.events.alloc_unbound makes one")
