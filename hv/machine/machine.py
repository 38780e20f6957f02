"""A machine: engine, domains, domain 0's side, and the loop that runs them.

Rules:

1. The engine runs guests; control returns here for cold hypercalls, ended domains, input and the host's signals only.
2. Inputs are looked at when the engine comes back, never from another thread.
3. Two machines in one process share nothing.
"""

from __future__ import annotations

import heapq
import itertools
import select
import time
from collections.abc import Callable, Iterable, Mapping
from io import RawIOBase
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol

from hv.backends.store import StoreBackend
from hv.backends.xenbus import Xenbus
from hv.core.event_channel import EventChannels
from hv.core.xenstore.domain_keys import host_keys
from hv.core.xenstore.errors import XenStoreError
from hv.core.xenstore.store import Store
from hv.engine.machine import CLOCKS, Engine
from hv.errors import ConfigError, DomainEnded, HvError, Timeout
from hv.hypercalls.registry import Table
from hv.machine import images as sources
from hv.machine import interrupts, size
from hv.machine.breakpoints import Breakpoints
from hv.machine.config import configuration
from hv.machine.description import Image, resolve
from hv.machine.domain import Domain
from hv.machine.domain0 import Domain0
from hv.machine.network import Network
from hv.machine.stops import Crashed, Outcome, Stop
from hv.machine.trace import Trace
from hv.machine.xenstore import XenStore
from hv.machine.xenstore_trace import Reporter
from hv.machine.xl_devices import ChannelSpec, VifSpec
from hv.machine.xl_disk import DiskSpec

CAPACITY = 32 << 30
REBOOT_LIMIT = 10


class Input(Protocol):
    """Something outside that may have bytes for a guest."""

    def poll(self) -> None:
        """Pass on what is there, without waiting."""

    def fileno(self) -> int:
        """A descriptor that can be read when something may be there."""

    @property
    def open(self) -> bool:
        """Whether anything can still come."""


def await_any(sources: Iterable[Input], seconds: float | None) -> None:
    """Sleep until an input may have something, at most `seconds`."""
    poll = select.poll()
    for source in sources:
        poll.register(source.fileno(), select.POLLIN)
    poll.poll(None if seconds is None else max(0.0, seconds) * 1000)


class Machine:
    """A machine without guests; `create` adds them, `run` runs them. Usable as a context manager.

    `clock` is "virtual" (deterministic, idle time skipped), "paced" (idle follows the host's clock) or "host".
    `domain0_events` is the ABI of domain 0's event channels: "2-level" (4,095 of them) or "fifo" (131,071).
    """

    def __init__(
        self, *, clock: str = "virtual", memory: str | int = CAPACITY >> 20, domain0_events: str = "2-level"
    ) -> None:
        if clock not in CLOCKS:
            raise ConfigError(f"{clock!r} is not a clock: choose virtual, paced or host")
        self.engine = Engine(size.parse(memory), clock)
        self.trace = Trace(self.engine)
        self.hypercalls = Table()
        self.domains: list[Domain] = []
        self.inputs: list[Input] = []
        self.log_listeners: list[Callable[[str, bytes], None]] = []
        self.warning_listeners: list[Callable[[str], None]] = []
        self.crash_listeners: list[Callable[[Domain], None]] = []  # a crashed domain, not yet taken down
        self.reboot_limit = REBOOT_LIMIT
        self.store = Store(lambda domid: domid == 0 or self.find_events(domid) is not None)
        for key in host_keys():
            self.store.write(key.path, key.value.encode(), key.permissions)
        self.store_backend = StoreBackend(self.store)
        self.breakpoints = Breakpoints(self)
        self.stop_at_crash = False  # come back with a crashed domain before it is taken down
        self.stopped: Stop | None = None  # why the last run came back with "stopped"
        self._held: Domain | None = None
        self.xenstore = XenStore(self)
        self.store.observe(Reporter(self.trace))
        self.xenbus = Xenbus(self.store_backend)
        self.network = Network(self)
        self._last_domid = 0
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._agenda_order = itertools.count()
        self.domain0 = Domain0(self.engine, self.find_events, domain0_events)

    # --- domains

    def create(
        self,
        image: Image | Mapping[str, Any],
        *,
        settings: Iterable[str] = (),
        memory: str | int | None = None,
        max_memory: str | int | None = None,
        vcpus: int | None = None,
        max_vcpus: int | None = None,
        cmdline: str | None = None,
        ramdisk: str | Path | bytes | None = None,
        name: str | None = None,
        max_event_channels: int | None = None,
        max_grant_frames: int | None = None,
        max_grant_version: int | None = None,
        max_maptrack_frames: int | None = None,
        weight: int | None = None,
        cap: int | None = None,
        actions: Mapping[str, str] | None = None,
        disks: Iterable[str | DiskSpec] | None = None,
        vifs: Iterable[str | VifSpec] | None = None,
        channels: Iterable[str | ChannelSpec] | None = None,
        pirqs: Iterable[str] | None = None,
    ) -> Domain:
        """A new domain from an image or an xl.cfg file: a path, the name of a bundled or fetched guest, or bytes.

        Instead of a file, `image` may be a mapping of xl.cfg's settings: {"kernel": "hello", "memory": 32}. `settings`
        are further lines of xl.cfg, as behind `xl create FILE`. What is not given comes from there, from what a bundled
        or fetched guest is made for, or is xl's default: docs/domains.md. HvError with one sentence where it can not
        boot; the machine is unchanged then.
        """
        given = {k: v for k, v in locals().items() if k not in ("self", "image", "settings") and v is not None}
        described = resolve(image, settings)
        for warning in described.warnings:
            self.warn(warning)
        given = described.options | given
        data, source = described.data, described.source
        given["name"] = self._free_name(given.get("name"), source)
        pirq_specs = given.pop("pirqs", ())
        hardware = {interrupt.pirq: interrupt for interrupt in map(interrupts.parse, pirq_specs)}
        config = configuration(data, source, self.warn, **given)
        try:
            domain = Domain(self, config)
        except MemoryError:
            raise ConfigError(f"{source}: the machine has no {config.memory >> 20}M of memory left for it") from None
        self.domains.append(domain)
        for interrupt in hardware.values():
            interrupts.Source(domain, interrupt)
        return domain

    def create_together(
        self, image: str | Path, count: int | None = None, *, name: str | None = None, **options: Any
    ) -> list[Domain]:
        """All domains of a bundled guest that is made for several, or `count` of any image; else just one.

        The command line of each of several begins with its place among them and the domids of all: "2 1 2".
        """
        if count is None:
            bundled = sources.bundled_guest(image)
            count = bundled.domains if bundled else 1
        if count == 1:
            return [self.create(image, name=name, **options)]
        cmdline = options.pop("cmdline", None) or ""
        domids = " ".join(str(self._last_domid + 1 + i) for i in range(count))
        stem = name or Path(image).name
        names = [f"{stem}-{i + 1}" if name else self._free_name(None, f"{stem}-{i + 1}") for i in range(count)]
        return [
            self.create(image, name=names[i], cmdline=f"{i + 1} {domids} {cmdline}".strip(), **options)
            for i in range(count)
        ]

    def _free_name(self, name: str | None, source: str) -> str:
        """A name that no other domain has: a given one or none, else the image's, with a number if need be."""
        used = {domain.name for domain in self.domains if domain.preserved or not domain.ended}
        if name is not None:
            if name in used:
                raise ConfigError(f'there is a domain with the name "{name}" already: choose another (name, --name)')
            return name
        others = (f"{source}-{number}" for number in itertools.count(2))
        return source if source not in used else next(other for other in others if other not in used)

    def warn(self, sentence: str) -> None:
        """Something of a configuration that is ignored."""
        for listener in self.warning_listeners:
            listener(sentence)

    def next_domid(self) -> int:
        self._last_domid += 1
        return self._last_domid

    def connect(self, one: Domain, other: Domain) -> tuple[int, int]:
        """A new event channel between two domains: its port in each. As on Xen, the second one's is pending at first.

        Guests connect themselves, as bundled ones do; this is for tests and experiments with guests that can not.
        """
        port = one.events.alloc_unbound(other.domid)
        bound = other.events.bind_interdomain(one.domid, port) if port > 0 else port
        if bound < 0:
            if port > 0:
                one.events.close(port)
            full = one if port < 0 else other
            raise ConfigError(f"{full.name} has no event channel left: give it more (max_event_channels)")
        return port, bound

    def find_events(self, domid: int) -> EventChannels | None:
        if domid == 0:
            return self.domain0.events
        return next((domain.events for domain in self.domains if not domain.ended and domain.domid == domid), None)

    def forget(self, path: str) -> None:
        """Remove a store path if it is there."""
        try:
            self.store.rm(path)
        except XenStoreError:
            pass

    def connect_log(self, file: RawIOBase | BinaryIO) -> None:
        """Write the hypervisor log to a file object."""

        def listener(name: str, text: bytes) -> None:
            file.write(text)

        self.log_listeners.append(listener)

    def log(self, domain: Domain, text: bytes) -> None:
        """The hypervisor log: what guests say by console_io."""
        for listener in self.log_listeners:
            listener(domain.name, text)

    # --- running

    @property
    def now_ns(self) -> int:
        """Virtual (or host) time since the machine was made."""
        return int(self.engine.now_ns)

    def at(self, time_ns: int, action: Callable[[], None]) -> None:
        """Run `action()` when the clock reaches that time (at once, if it has), before any guest's next instruction.

        This is how simulated hardware acts: it may raise interrupts, and ask for its next moment.
        """
        heapq.heappush(self._agenda, (time_ns, next(self._agenda_order), action))
        self.engine.come_back_by(max(time_ns, 0))

    def raise_pirq(self, domain: Domain, pirq: int) -> None:
        """A physical interrupt that `domain.grant_pirq` gave to it: an edge, or the level line goes up."""
        domain.raise_pirq(pirq)

    def lower_pirq(self, domain: Domain, pirq: int) -> None:
        """The level line goes down."""
        domain.lower_pirq(pirq)

    def _act(self) -> None:
        """Do what is due on the agenda."""
        while self._agenda and self._agenda[0][0] <= self.now_ns:
            heapq.heappop(self._agenda)[2]()

    def _horizon(self, until_ns: int | None) -> int | None:
        """How far the engine may run."""
        if not self._agenda:
            return until_ns
        return self._agenda[0][0] if until_ns is None else min(until_ns, self._agenda[0][0])

    def settle(self) -> None:
        """Run domain 0's handlers for events that the host side raised."""
        self.store_backend.flush()
        self.domain0.settle()

    def run(self, timeout: float | None = None, until_ns: int | None = None) -> str:
        """Run until every domain has ended ("ended"), nothing can ever happen again ("idle"), or `until_ns` ("until").

        At a breakpoint it comes back with "stopped", and `machine.stopped` says why; run it again to go on. `timeout`
        is host seconds: Timeout is raised when it passes. `until_ns` is virtual time.
        """
        outcome = self.run_until(lambda: False, timeout, until_ns)
        if outcome == "timeout":
            raise Timeout(f"the guests were still running after {timeout:g} s")
        return outcome

    def run_until(
        self, satisfied: Callable[[], bool], timeout: float | None = None, until_ns: int | None = None
    ) -> str:
        """As `run`, and "satisfied" as soon as the condition holds; "timeout" is returned instead of raised."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self._conclude()  # a crashed domain that was held for a look
            if satisfied():
                return "satisfied"
            if all(domain.ended for domain in self.domains):
                return "ended"
            self._act()
            self._poll()
            self.breakpoints.arm()
            reason = self.engine.run(self._horizon(until_ns))
            for domain in self.domains:
                domain.console.look_at_held(idle=reason in ("idle", "wait"))
            if self._stops(reason):
                return "stopped"
            self._conclude()
            self.trace.flush()
            if reason == "until" and until_ns is not None and self.now_ns >= until_ns:
                self._act()
                return "until"
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0 and not satisfied():
                return "timeout"
            if reason in ("idle", "wait") and not self._wait(reason, left):
                return "idle"

    def step(
        self, count: int = 1, domain: Domain | None = None, vcpu: int | None = None, *, timeout: float | None = None
    ) -> Stop:
        """Run `count` instructions and say where the machine stands: `hv.machine.stops` has the reasons.

        With `domain` (and `vcpu`, else 0) only that vCPU's instructions count; the others run as their turn comes.
        A hypercall is one instruction, and so is one that raises an exception. Stepping is invisible to the guests.
        """
        if count < 1:
            raise ConfigError(f"{count} instructions cannot be stepped: choose 1 or more")
        if domain is None:
            self.engine.set_stepping(True, count)
        elif domain.ended:
            raise DomainEnded(domain.reason, domain)
        else:
            self.engine.step_vcpu(domain.guest, vcpu or 0, count)
        return self.finish_step(timeout)

    def finish_step(self, timeout: float | None = None) -> Stop:
        """Run until the step that the engine was told is over, or something else is the reason to stop."""
        try:
            outcome = self.run_until(lambda: False, timeout)
        finally:
            self.engine.set_stepping(False)
        if outcome == "stopped" and self.stopped is not None:
            return self.stopped
        return Outcome(now_ns=self.now_ns, outcome=outcome)

    def _stops(self, reason: str) -> bool:
        """Whether the machine comes back to its user: a step, a breakpoint, or a crash that is to be looked at."""
        stop = None
        if reason in ("point", "step"):
            stop = self.breakpoints.judge() if reason == "point" else self.breakpoints.stepped()
        if stop is None and self.stop_at_crash:
            stop = self._crash()
        if stop is not None:
            self.stopped = stop
        return stop is not None

    def _crash(self) -> Stop | None:
        for domain in self.domains:
            if not domain.ended and domain.guest.ended and domain is not self._held and domain.end_in_words()[1]:
                self._held = domain
                vcpu = domain.guest.current_vcpu
                return Crashed(now_ns=self.now_ns, domain=domain, vcpu=vcpu, reason=domain.end_in_words()[0])
        return None

    def _poll(self) -> None:
        for source in self.inputs:
            source.poll()
        self.settle()

    def _wait(self, reason: str, left: float | None) -> bool:
        """Nothing runs now: sleep for the clock or for input. False where neither can come."""
        sources = [source for source in self.inputs if source.open]
        pause = left
        if reason == "wait":
            wake = (self.engine.wake_in_ns or 0) / 1e9
            pause = wake if left is None else min(left, wake)
        elif not sources:
            return all(domain.ended for domain in self.domains)
        if sources:
            await_any(sources, pause)
        elif pause is not None:
            time.sleep(min(pause, 1.0))
        return True

    def _conclude(self) -> None:
        for domain in list(self.domains):
            if not domain.ended and domain.guest.ended:
                domain.conclude(domain.reboots < self.reboot_limit)

    def succeed(self, old: Domain) -> None:
        """on_…="rename-restart": a new domain takes the old one's place and name; the old one is kept as it ended."""
        new = Domain(self, old.config)
        new.reboots = old.reboots + 1
        new.console.listeners += old.console.listeners
        old.name = f"{old.name}-{new.reboots}"
        self.domains.append(new)

    # --- end

    def close(self) -> None:
        """Give everything back; live guests are destroyed."""
        for domain in self.domains:
            domain.destroy()
        self.network.close()
        self.trace.close()

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


__all__ = ["Domain0", "HvError", "Input", "Machine"]
