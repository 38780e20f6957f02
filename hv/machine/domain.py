"""A domain: its configuration, its engine side, its devices, and how it ended.

A `Domain` stays the same object when its guest reboots; each boot is a new domain of the engine with a new domid, as on
Xen.
"""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hv.abi import event_channel as evtchn
from hv.abi import sched, xen
from hv.abi.errno import XEN_EPERM, XEN_ESRCH
from hv.backends.console import ConsoleBackend
from hv.builder import image as images
from hv.builder import pv
from hv.core.event_channel import EventChannels
from hv.core.grant_table import GrantTable
from hv.core.xenstore.domain_keys import PvDomain, domain_keys
from hv.machine.console import Console

if TYPE_CHECKING:
    from hv.engine.machine import Engine, GuestDomain
    from hv.machine.machine import Machine

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


def _handle(name: str) -> bytes:
    """The domain's 16-byte handle: the same for the same name, so that runs repeat."""
    return b"".join(zlib.crc32(f"{i}:{name}".encode()).to_bytes(4, "big") for i in range(4))


def _as_uuid(handle: bytes) -> str:
    text = handle.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


@dataclass(frozen=True, slots=True)
class Config:
    """What a domain is made from."""

    name: str
    image: images.Image
    memory: int  # bytes
    vcpus: int = 1
    cmdline: str = ""
    ramdisk: bytes = b""


class Domain:
    """One guest on a machine. Made by `Machine.create`."""

    guest: GuestDomain
    events: EventChannels
    grants: GrantTable

    def __init__(self, machine: Machine, config: Config) -> None:
        self.machine = machine
        self.config = config
        self.console = Console(self)
        self.reboots = 0
        self.crash_report: str | None = None
        self._ending: tuple[str, int] | None = None
        self.handle = _handle(config.name)
        self.boot()

    # --- identity and state

    @property
    def name(self) -> str:
        return self.config.name

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

    def registers(self, vcpu: int = 0) -> dict[str, Any]:
        """The vCPU's registers by name."""
        return self.guest.registers(vcpu)

    # --- boot

    def boot(self) -> None:
        """Make a new domain of the engine and load the image into it."""
        machine, config = self.machine, self.config
        nr_pages = config.memory // pv.PAGE
        pv.plan(config.image, nr_pages, len(config.ramdisk))  # refuse before anything is made
        guest = machine.engine.create_domain(machine.next_domid(), config.vcpus, nr_pages)
        self.guest = guest
        try:
            self.events = EventChannels(guest, machine.find_events)
            self.grants = GrantTable(guest, machine.engine.page)
            host = machine.domain0
            store_port = host.connect(guest, STORE_PORT)
            console_port = host.connect(guest, CONSOLE_PORT)
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
            machine.engine.destroy_domain(guest)
            raise
        guest.handler = self._hypercall
        self._attach(built, store_port, console_port)

    def _shared_info(self) -> None:
        shared = xen.shared_info.from_buffer(self.engine.page(self.guest.shared_mfn))
        virtual = self.engine.clock == "virtual"
        now = BOOT_EPOCH * 10**9 if virtual else time.time_ns() - self.engine.now_ns
        shared.wc_version = 2
        shared.wc_sec, shared.wc_nsec = (now // 10**9) & 0xFFFFFFFF, now % 10**9
        shared.wc_sec_hi = now // 10**9 >> 32

    def _attach(self, built: pv.Built, store_port: int, console_port: int) -> None:
        """Connect console and store to domain 0's handlers."""
        host, engine = self.machine.domain0, self.engine

        def notifier(port: int) -> Any:
            return lambda: self.guest.raise_port(port)

        page = engine.page(built.console_mfn)
        backend = ConsoleBackend(page, notifier(CONSOLE_PORT), self.console.ring_output)
        self.console.backend = backend
        host.bind(console_port, lambda port: backend.service())
        store, domid = self.machine.store_backend, self.domid
        self._write_keys(built)
        store.connect(domid, engine.page(built.store_mfn), built.store_mfn, STORE_PORT, notifier(STORE_PORT))
        host.bind(store_port, lambda port: store.service(domid))

    def _write_keys(self, built: pv.Built) -> None:
        kib = self.config.memory >> 10
        keys = domain_keys(
            PvDomain(
                domid=self.domid,
                name=self.name,
                uuid=_as_uuid(self.handle),
                memory_kib=kib,
                store_ring_ref=built.store_mfn,
                store_port=STORE_PORT,
                console_ring_ref=built.console_mfn,
                console_port=CONSOLE_PORT,
                online_vcpus=(True,) * self.config.vcpus,
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

    def conclude(self, reboot_allowed: bool) -> bool:
        """The engine has stopped the guest: take it down. True where it boots again."""
        guest = self.guest
        if self.console.backend is not None:
            self.console.backend.service()
        rebooting = not guest.crashed and guest.shutdown_code == sched.SHUTDOWN_reboot
        ending = self._describe()
        if ending[1] == EXIT_CRASHED:
            from hv.machine.crash_report import report

            self.crash_report = report(self, ending[0])
        again = rebooting and reboot_allowed
        self.console.release_held(to_console=self.console.backend is None or not self.console.backend.used)
        self._detach()
        if again:
            self.reboots += 1
            self.boot()
        else:
            self._ending = ending
        return again

    def destroy(self) -> None:
        """End a live guest from outside."""
        self.guest.shut_down(sched.SHUTDOWN_poweroff)
        self.conclude(reboot_allowed=False)
        self._ending = ("destroyed", EXIT_OK)

    def _describe(self) -> tuple[str, int]:
        guest = self.guest
        if guest.crashed:
            return f"crashed: {guest.reason}", EXIT_CRASHED
        code = guest.shutdown_code
        bad = code in (sched.SHUTDOWN_crash, sched.SHUTDOWN_watchdog)
        return ENDINGS.get(code, f"shut down (reason {code})"), EXIT_CRASHED if bad else EXIT_OK

    def _detach(self) -> None:
        machine = self.machine
        for port in (STORE_PORT, CONSOLE_PORT):
            state, _, _, remote_port, _, _ = self.guest.port(port)
            if state == evtchn.EVTCHNSTAT_interdomain:
                machine.domain0.unbind(remote_port)
        self.events.close_all()
        machine.store_backend.disconnect(self.domid)
        for path in (f"/local/domain/{self.domid}", f"/local/domain/0/backend/console/{self.domid}"):
            machine.forget(path)
        self.console.backend = None
        machine.engine.destroy_domain(self.guest)
