"""A domain: its configuration, its engine side, its devices, and how it ended.

A `Domain` stays the same object when its guest reboots; each boot is a new domain of the engine with a new domid, as on
Xen.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hv.abi import sched, xen
from hv.abi.errno import XEN_EPERM, XEN_ESRCH
from hv.abi.grant_table import GNTTAB_RESERVED_CONSOLE, GNTTAB_RESERVED_XENSTORE
from hv.backends.console import ConsoleBackend
from hv.builder import pv
from hv.builder.image import symbol_table
from hv.core.event_channel import EventChannels
from hv.core.grant_table import GrantTable, Mapping
from hv.core.pirq import KINDS, NR_PIRQS, Pirqs
from hv.core.xenstore.domain_keys import PvDomain, domain_keys
from hv.errors import ConfigError, HvError
from hv.machine.config import Config
from hv.machine.console import Console
from hv.machine.devices import Devices
from hv.machine.toolstack import Toolstack

if TYPE_CHECKING:
    from hv.backends.device import Device
    from hv.builder.symbols import SymbolTable
    from hv.engine.machine import Engine, GuestDomain
    from hv.machine.machine import Machine
    from hv.machine.trace import Effect

STORE_PORT, CONSOLE_PORT = 1, 2  # in the guest, as xl allocates them
BOOT_EPOCH = 1_577_836_800  # the wall clock of a virtual machine starts at 2020-01-01 00:00:00 UTC
EXIT_OK, EXIT_CRASHED = 0, 6
ENDINGS = {
    sched.SHUTDOWN_poweroff: "powered off",
    sched.SHUTDOWN_reboot: "rebooted",
    sched.SHUTDOWN_suspend: "suspended",
    sched.SHUTDOWN_crash: "crashed: the guest said so (SCHEDOP_shutdown, reason crash)",
    sched.SHUTDOWN_watchdog: "crashed: its watchdog expired",
    sched.SHUTDOWN_soft_reset: "asked for a soft reset",
}
KINDS_OF_END = {  # which of on_poweroff, on_reboot, … of xl.cfg decides what follows
    sched.SHUTDOWN_reboot: "reboot",
    sched.SHUTDOWN_crash: "crash",
    sched.SHUTDOWN_watchdog: "watchdog",
    sched.SHUTDOWN_soft_reset: "soft_reset",
}


def _handle(name: str) -> bytes:
    """The domain's 16-byte handle: the same for the same name, so that runs repeat."""
    return b"".join(zlib.crc32(f"{i}:{name}".encode()).to_bytes(4, "big") for i in range(4))


def _as_uuid(handle: bytes) -> str:
    text = handle.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


class Domain:
    """One guest on a machine. Made by `Machine.create`."""

    guest: GuestDomain
    events: EventChannels
    grants: GrantTable
    pirqs: Pirqs
    e820: bytes

    def __init__(self, machine: Machine, config: Config) -> None:
        self.machine = machine
        self.config = config
        self.console = Console(self)
        self.toolstack = Toolstack(self)
        self.name = config.name
        self.reboots = 0
        self.preserved = False  # ended, but not taken down: on_crash="preserve" and the like
        self.crash_report: str | None = None
        self._ending: tuple[str, int] | None = None
        self.handle = _handle(config.name)
        self._granted: dict[int, tuple[str, Callable[[], None]]] = {}
        self._host_ports: list[int] = []
        self._rings: list[Mapping] = []
        self.devices = Devices(self)
        try:
            self.boot()
        except BaseException:
            self.devices.close()
            raise

    # --- identity and state

    @property
    def domid(self) -> int:
        return self.guest.domid

    @property
    def engine(self) -> Engine:
        return self.machine.engine

    @property
    def ended(self) -> bool:
        """Whether the guest has stopped for good."""
        return self._ending is not None

    @property
    def reason(self) -> str:
        """How it ended, in a few words; "running" before."""
        return self._ending[0] if self._ending else "running"

    @property
    def exit_code(self) -> int | None:
        """0 after poweroff, 6 after a crash; None while it runs."""
        return self._ending[1] if self._ending else None

    @property
    def cpu_ns(self) -> int:
        """How long its vCPUs have had the processor since it booted, in ns of the machine's time."""
        return sum(self.guest.runstate(vcpu)[2][0] for vcpu in range(self.guest.nr_vcpus))

    @cached_property
    def symbols(self) -> SymbolTable:
        """Names for the addresses of the image."""
        return symbol_table(self.config.image)

    def place(self, address: int) -> str:
        """An address by its symbol, or in hexadecimal."""
        return self.symbols.name(address) or f"{address:#x}"

    def registers(self, vcpu: int = 0) -> dict[str, Any]:
        """The vCPU's registers by name."""
        return self.guest.registers(vcpu)

    def write_core(self, path: str | Path) -> bool:
        """Write an ELF core that gdb opens with the guest's image: registers, and memory as the current vCPU maps it.

        Only while the domain lives: between two runs, or in a function of `machine.crash_listeners`. False where its
        page tables map more than a core can hold, and the core ends early.
        """
        from hv.machine import core_file

        return core_file.write_file(self, path, self.crash_report or f"{self.name} (domain {self.domid}): running")

    # --- what a toolstack does to a guest, or asks it for; `toolstack` and `devices` have more

    def attach(self, kind: str, specification: str) -> Device:
        """Plug in a device while it runs: `attach("disk", "data.img,raw,xvdb,rw")`. See `Devices.attach`."""
        return self.devices.attach(kind, specification)

    def detach(self, device: Device | str, *, force: bool = False) -> None:
        """Ask the guest to let go of a device, by the object or its label ("xvdb"); with `force` it is just gone."""
        self.devices.detach(device, force=force)

    def shutdown(self, how: str = "poweroff") -> None:
        """Ask the guest to end, as `xl shutdown` does: "poweroff", "halt", "reboot" or "suspend"."""
        self.toolstack.shutdown(how)

    def reboot(self) -> None:
        """Ask the guest to reboot, as `xl reboot` does."""
        self.toolstack.shutdown("reboot")

    def sysrq(self, key: str) -> None:
        """Send a magic system request, one letter, as `xl sysrq` does."""
        self.toolstack.sysrq(key)

    # --- events

    def raise_virq(self, virq: int, vcpu: int = 0) -> None:
        """Raise a virtual interrupt, as Xen itself would; nothing happens where the guest has not bound it."""
        if not 0 <= virq < xen.NR_VIRQS or not 0 <= vcpu < self.config.vcpus:
            raise ConfigError(f"{self.name} has no VIRQ {virq} of vCPU {vcpu}")
        if not self.ended:
            with self._from_outside(f"VIRQ {virq} of vCPU {vcpu}"):
                self.guest.raise_virq(vcpu, virq)

    def debug_key(self) -> None:
        """VIRQ_DEBUG for every vCPU: what `xl debug-keys q` sends."""
        for vcpu in range(self.config.vcpus):
            self.raise_virq(xen.VIRQ_DEBUG, vcpu)

    def grant_pirq(self, pirq: int, kind: str = "edge", on_eoi: Callable[[], None] = lambda: None) -> None:
        """Give the guest a physical interrupt to bind, "edge" or "level"; it keeps it when it reboots.

        `on_eoi` runs when the guest says that it has handled a level interrupt (PHYSDEVOP_eoi): the place to lower it.
        """
        if not 0 < pirq < NR_PIRQS or kind not in KINDS:
            raise ConfigError(f"there is no {kind} interrupt {pirq}: choose 1 to {NR_PIRQS - 1}, edge or level")
        if pirq in self._granted:
            raise ConfigError(f"{self.name} has interrupt {pirq} already")
        self._granted[pirq] = kind, on_eoi
        self.pirqs.grant(pirq, kind, on_eoi)

    def raise_pirq(self, pirq: int) -> None:
        """An edge, or the level line goes up. Nothing happens once the domain has ended."""
        self._line(pirq, self.pirqs.raise_line, "up")

    def lower_pirq(self, pirq: int) -> None:
        """The level line goes down."""
        self._line(pirq, self.pirqs.lower_line, "down")

    def _from_outside(self, what: str) -> Effect:
        """A mark in the trace for what comes from outside or from hardware: what follows is its effect."""
        trace = self.machine.trace
        return trace.as_effect_of(trace.note(self.domid, "interrupt", what))

    def _line(self, pirq: int, action: Callable[[int], None], direction: str) -> None:
        if pirq not in self._granted:
            raise ConfigError(f"{self.name} was not granted interrupt {pirq}: grant_pirq")
        if not self.ended:
            with self._from_outside(f"PIRQ {pirq} {direction}"):
                action(pirq)

    def _after(self, ns: int, action: Callable[[], None]) -> None:
        """Run `action` later, if this boot's guest still lives then."""
        guest = self.guest

        def act() -> None:
            if self.guest is guest and not self.ended:
                action()

        self.machine.at(self.machine.now_ns + ns, act)

    # --- boot

    def boot(self) -> None:
        """Make a new domain of the engine and load the image into it."""
        machine, config = self.machine, self.config
        nr_pages = config.memory // pv.PAGE
        pv.plan(config.image, nr_pages, len(config.ramdisk))  # refuse before anything is made
        guest = machine.engine.create_domain(
            machine.next_domid(),
            config.vcpus,
            config.max_memory // pv.PAGE,
            max_port=config.max_event_channels,
            max_grant_frames=config.max_grant_frames,
            max_maptrack_frames=config.max_maptrack_frames,
            max_grant_version=config.max_grant_version,
        )
        guest.weight, guest.cap = config.weight, config.cap
        self.guest = guest
        machine.trace.note(guest.domid, "domain", "created", self.name.encode())
        self._host_ports = []
        self.e820 = b""
        try:
            self.pirqs = Pirqs(guest, machine.engine.page, self._after)
            for number, (kind, on_eoi) in self._granted.items():
                self.pirqs.grant(number, kind, on_eoi)
            self.events = EventChannels(guest, machine.find_events, self.pirqs)
            self.grants = GrantTable(guest)
            host = machine.domain0
            self._host_ports = [host.connect(guest, port) for port in (STORE_PORT, CONSOLE_PORT)]
            store_port, console_port = self._host_ports
            self._shared_info()
            built = pv.build(
                machine.engine,
                guest,
                config.image,
                nr_pages,
                cmdline=config.cmdline,
                ramdisk=config.ramdisk,
                store_port=STORE_PORT,
                console_port=CONSOLE_PORT,
            )
        except BaseException:
            self._disconnect()
            machine.engine.destroy_domain(guest)
            raise
        guest.handler = self._hypercall
        self._attach(built, store_port, console_port)

    def _shared_info(self) -> None:
        shared = xen.shared_info.from_buffer(self.engine.page(self.guest.shared_mfn))
        virtual = self.engine.clock == "virtual"
        now = BOOT_EPOCH * 10**9 if virtual else time.time_ns() - self.engine.host_age_ns
        shared.wc_version = 2
        shared.wc_sec, shared.wc_nsec = (now // 10**9) & 0xFFFFFFFF, now % 10**9
        shared.wc_sec_hi = now // 10**9 >> 32

    def _attach(self, built: pv.Built, store_port: int, console_port: int) -> None:
        """Connect console and store to domain 0's handlers."""
        host = self.machine.domain0

        def notifier(port: int) -> Any:
            return lambda: host.notify(port)

        page = self._ring(GNTTAB_RESERVED_CONSOLE, built.console_mfn)
        backend = ConsoleBackend(page, notifier(console_port), self.console.ring_output)
        self.console.backend = backend
        host.bind(console_port, lambda port: backend.service())
        store, domid = self.machine.store_backend, self.domid
        page = self._ring(GNTTAB_RESERVED_XENSTORE, built.store_mfn)
        self._write_keys(built)
        self.devices.plug()
        store.connect(domid, page, built.store_mfn, STORE_PORT, notifier(store_port))
        host.bind(store_port, lambda port: store.service(domid))

    def _ring(self, ref: int, mfn: int) -> memoryview:
        """A ring, mapped by its grant as xenconsoled and xenstored do: its frame stays as long as it is used."""
        self.grants.seed(ref, 0, mfn)
        mapping = self.machine.domain0.grants.map(self.domid, ref)
        self._rings.append(mapping)
        return mapping.view

    def _write_keys(self, built: pv.Built) -> None:
        kib = self.config.memory >> 10
        keys = domain_keys(
            PvDomain(
                domid=self.domid,
                name=self.name,
                uuid=_as_uuid(self.handle),
                memory_kib=kib,
                max_memory_kib=self.config.max_memory >> 10,
                store_ring_ref=built.store_mfn,
                store_port=STORE_PORT,
                console_ring_ref=built.console_mfn,
                console_port=CONSOLE_PORT,
                online_vcpus=[vcpu < self.config.online_vcpus for vcpu in range(self.config.vcpus)],
            )
        )
        for key in keys:
            self.machine.store.write(key.path, key.value.encode(), key.permissions)

    # --- serving

    def _hypercall(self, vcpu: int, number: int, *registers: int) -> int:
        return self.machine.hypercalls.serve(self, vcpu, number, *registers)

    def about(self, domid: int) -> int:
        """What a hypercall answers that names a domain: 0 for itself, -EPERM for another, -ESRCH for none."""
        if domid in (xen.DOMID_SELF, self.domid):
            return 0
        return -XEN_ESRCH if self.machine.find_events(domid) is None else -XEN_EPERM

    def hypervisor_log(self, text: bytes) -> None:
        """console_io of the guest."""
        self.console.hypervisor_output(text, self.engine.now_ns)

    # --- end

    def conclude(self, reboot_allowed: bool) -> None:
        """The engine has stopped the guest: take it down, boot it again, or keep it, as its configuration says."""
        guest = self.guest
        if self.console.backend is not None:
            self.console.backend.service()
        ending = self.end_in_words()
        if ending[1] == EXIT_CRASHED:
            from hv.machine.crash_report import report

            self.crash_report = report(self, ending[0])
            for listener in self.machine.crash_listeners:
                listener(self)
        if guest.shutdown_code == sched.SHUTDOWN_suspend and not guest.crashed:
            self.console.end()
            self._ending, self.preserved = ending, True
            return
        kind = "crash" if guest.crashed else KINDS_OF_END.get(guest.shutdown_code, "poweroff")
        action = self.config.actions[kind]
        if action.startswith("coredump-"):
            self._dump()
        if action == "soft-reset":
            self.machine.warn(f"{self.name} is destroyed: Xen resets no PV guest softly (on_{kind})")
        self.console.end()
        again = action.endswith("restart") and reboot_allowed
        if action in ("preserve", "rename-restart"):
            self._ending, self.preserved = ending, True
            if again:
                self._try_again(lambda: self.machine.succeed(self))
            return
        self._detach()
        if not (again and self._try_again(self._reboot)):
            self._ending = ending
            self.devices.close()

    def _reboot(self) -> None:
        self.reboots += 1
        machine = self.machine
        with machine.trace.as_effect_of(machine.trace.note(self.domid, "domain", "reboots", self.name.encode())):
            self.boot()

    def _try_again(self, boot: Callable[[], None]) -> bool:
        """A boot that fails, because others have taken the memory or the disk meanwhile, is this domain's end only."""
        try:
            boot()
        except (HvError, MemoryError) as error:
            self.machine.warn(f"{self.name} could not boot again: {error or 'the machine has no memory left'}")
            return False
        return True

    def resumed(self) -> None:
        """The toolstack lets a suspended guest go on."""
        self._ending, self.preserved = None, False

    def _dump(self) -> None:
        path = f"{self.name.replace('/', '_')}.core"
        try:
            self.write_core(path)
        except OSError as error:
            self.machine.warn(f"{path}: the core could not be written: {error.strerror}")
        else:
            self.machine.warn(f"the core of {self.name} is in {path}")

    def destroy(self) -> None:
        """End a live guest from outside, or give back what a preserved one holds."""
        if self.preserved:
            self.preserved = False
            self._detach()
            self.devices.close()
        elif not self.ended:
            self.guest.shut_down(sched.SHUTDOWN_poweroff)
            if self.console.backend is not None:
                self.console.backend.service()
            self.console.end()
            self._detach()
            self._ending = ("destroyed", EXIT_OK)
            self.devices.close()

    def end_in_words(self) -> tuple[str, int]:
        """How the guest that the engine has stopped ended, and the exit code for it."""
        guest = self.guest
        if guest.crashed:
            return f"crashed: {guest.reason}", EXIT_CRASHED
        code = guest.shutdown_code
        bad = code in (sched.SHUTDOWN_crash, sched.SHUTDOWN_watchdog) or code not in ENDINGS
        unknown = f"crashed: it shut down with reason {code}, which nobody knows (SCHEDOP_shutdown)"
        return ENDINGS.get(code, unknown), EXIT_CRASHED if bad else EXIT_OK

    def _detach(self) -> None:
        machine = self.machine
        self.devices.unplug()
        self.grants.end()
        self.guest.release_grants()  # Xen's order: what it had mapped, its event channels, its memory
        self._disconnect()
        machine.store.domain_shut_down(self.domid)
        machine.store_backend.disconnect(self.domid)
        for path in (f"/local/domain/{self.domid}", f"/local/domain/0/backend/console/{self.domid}"):
            machine.forget(path)
        self.console.backend = None
        while self._rings:
            self._rings.pop().unmap()
        machine.engine.destroy_domain(self.guest)

    def _disconnect(self) -> None:
        """Close every event channel, and domain 0's ends of this domain's."""
        self.events.end()
        for port in self._host_ports:
            self.machine.domain0.unbind(port)
