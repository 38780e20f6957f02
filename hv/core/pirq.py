"""Physical interrupts of a PV domain: lines of simulated hardware that it may bind to event channels.

Rules:

1. A domain binds only lines that it was granted; which, is decided outside of it.
2. An edge is one event, and nothing where nobody has bound the line. A level line gives one event when it goes up, and
   none until the guest's EOI; if it is still up then, the next one.
3. A guest that does not say EOI within 1 ms is taken to have said it, as on Xen: a line that is up would be lost.

Specification: physdev.h; behaviour of Xen 4.17's arch/x86/irq.c (pirq_guest_*) and physdev.c.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hv.abi.errno import XEN_EBUSY, XEN_EEXIST, XEN_EINVAL, XEN_ENOSPC, XEN_EPERM

NR_GSIS = 24  # the pins of one I/O APIC
NR_PIRQS = NR_GSIS + 32  # and Xen's default of extra_guest_irqs
FIRST_PCI_GSI = 16
CASCADE = 2  # the one interrupt that every domain has, though none may bind it
FORCED_EOI_NS = 1_000_000
KINDS = ("edge", "level")


class Ports(Protocol):
    """What lines need of a domain (hv.engine.machine.GuestDomain)."""

    def raise_port(self, port: int) -> None: ...
    def unmask(self, port: int) -> int: ...
    def get_type(self, mfn: int, kind: str) -> int: ...
    def put_type(self, mfn: int) -> None: ...


@dataclass(slots=True)
class Line:
    """One granted interrupt."""

    number: int
    level: bool
    on_eoi: Callable[[], None]
    port: int = 0
    up: bool = False
    in_flight: bool = False  # level: the guest has been told and has not said EOI
    told: int = 0  # how often it has been told: a forced EOI is for the last time only


class Pirqs:
    """The lines of one domain. `page` gives a frame's memory; `after(ns, action)` calls back at that virtual time."""

    def __init__(
        self,
        ports: Ports,
        page: Callable[[int], memoryview],
        after: Callable[[int, Callable[[], None]], None],
    ) -> None:
        self._ports, self._page, self._after = ports, page, after
        self._lines: dict[int, Line] = {}
        self._allocated: set[int] = set()
        self.needs_eoi_mfn: int | None = None  # its frame, which is held as writable
        self._needs_eoi: memoryview | None = None  # the guest's bitmap of lines that want an EOI
        self._unmasks = False  # EOI unmasks the port as well (pirq_eoi_gmfn_v1)

    # --- the hardware's side

    def grant(self, number: int, kind: str, on_eoi: Callable[[], None] = lambda: None) -> None:
        """Let the domain bind a line; `on_eoi` runs at its EOI, before the line is looked at again."""
        self._lines[number] = Line(number, kind == "level", on_eoi)

    def raise_line(self, number: int) -> None:
        """An edge; or the level line goes up, and stays so until `lower_line`. KeyError for one not granted."""
        line = self._lines[number]
        line.up = line.level
        if line.port and not line.in_flight:
            self._tell(line)

    def lower_line(self, number: int) -> None:
        self._lines[number].up = False

    def _tell(self, line: Line) -> None:
        line.told += 1
        if line.level:
            line.in_flight = True
            told = line.told
            self._after(FORCED_EOI_NS, lambda: self._forced_eoi(line, told))
        self._ports.raise_port(line.port)

    def _forced_eoi(self, line: Line, told: int) -> None:
        if line.told == told:
            self._end(line)

    def _end(self, line: Line) -> None:
        if not line.in_flight:
            return
        line.in_flight = False
        if line.up and line.port:
            self._tell(line)

    # --- the guest's side

    def may_bind(self, number: int) -> int:
        """0, or why EVTCHNOP_bind_pirq refuses."""
        if number >= NR_PIRQS:
            return -XEN_EINVAL
        if number not in self._lines:
            return -XEN_EPERM
        return -XEN_EEXIST if self._lines[number].port else 0

    def bind(self, number: int, port: int) -> None:
        line = self._lines[number]
        line.port = port
        if self._needs_eoi is not None:
            byte, bit = number >> 3, 1 << (number & 7)
            self._needs_eoi[byte] = self._needs_eoi[byte] | bit if line.level else self._needs_eoi[byte] & ~bit
        if line.up:
            self._tell(line)

    def unbind(self, number: int) -> None:
        self._lines[number].port = 0
        self._lines[number].in_flight = False

    def allocate(self, gsi: bool) -> int:
        """Reserve a free number for a line that will be mapped later: for a GSI one of its own first; or -ENOSPC."""
        numbers: list[int] = [*(range(FIRST_PCI_GSI, NR_GSIS) if gsi else ()), *range(NR_PIRQS - 1, NR_GSIS - 1, -1)]
        free = next((i for i in numbers if i not in self._lines and i not in self._allocated), None)
        if free is None:
            return -XEN_ENOSPC
        self._allocated.add(free)
        return free

    def eoi(self, number: int) -> int:
        """PHYSDEVOP_eoi."""
        if number >= NR_PIRQS or (number != CASCADE and number not in self._lines):
            return -XEN_EINVAL
        line = self._lines.get(number)
        if line is None:
            return 0
        if self._unmasks:
            self._ports.unmask(line.port)
        if line.in_flight:
            line.on_eoi()
            self._end(line)
        return 0

    def eoi_unmasked(self, is_masked: Callable[[int], bool]) -> None:
        """PHYSDEVOP_IRQ_UNMASK_NOTIFY: an EOI for every line whose port is not masked."""
        for line in list(self._lines.values()):
            if line.in_flight and not is_masked(line.port):
                self.eoi(line.number)

    def share_needs_eoi(self, mfn: int, unmasks: bool) -> int:
        """PHYSDEVOP_pirq_eoi_gmfn: the guest's page in which bound lines that want an EOI are marked from now on."""
        if self._ports.get_type(mfn, "writable"):
            return -XEN_EINVAL
        if self._needs_eoi is not None:
            self._ports.put_type(mfn)
            return -XEN_EBUSY
        self._needs_eoi = self._page(mfn)
        self.needs_eoi_mfn = mfn
        self._unmasks = unmasks
        return 0
