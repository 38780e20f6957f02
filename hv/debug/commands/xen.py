"""Commands about what the hypervisor knows: domains, vCPUs, events, shared_info, the trap table, the trace."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from hv.abi import vectors, xen
from hv.debug.command import Command
from hv.debug.commands.code import counted
from hv.errors import ConfigError
from hv.machine import event_table

if TYPE_CHECKING:
    from hv.debug.session import Session

EVENTS = 20


def domains(session: Session, text: str) -> None:
    for domain in session.machine.domains:
        mark = "*" if domain is session.domain else " "
        vcpus = "" if domain.ended else f", {domain.guest.nr_vcpus} vCPU{'s' if domain.guest.nr_vcpus > 1 else ''}"
        session.write(f"{mark} {domain.domid:3}  {domain.name}: {domain.reason}{vcpus}")


def domain(session: Session, text: str) -> None:
    found = [d for d in session.machine.domains if text in (d.name, str(d.domid))]
    if not found:
        raise ConfigError(f"there is no domain {text!r}: info domains lists them")
    session.select(found[0], 0)
    session.write(session.here(), "here")


def vcpus(session: Session, text: str) -> None:
    guest = session.guest
    for i in range(guest.nr_vcpus):
        state = guest.vcpu_state(i)
        mark = "*" if i == session.vcpu else " "
        if state == "down":
            session.write(f"{mark} {i:3}  down")
            continue
        registers = guest.registers(i)
        pending, masked, _ = guest.upcall_state(i)
        mode = "kernel" if registers["kernel_mode"] else "user"
        upcalls = f"upcalls {'masked' if masked else 'unmasked'}{', pending' if pending else ''}"
        session.write(f"{mark} {i:3}  {state}, {mode} mode, {session.place(registers['rip'])}, {upcalls}")


def vcpu(session: Session, text: str) -> None:
    number = session.value(text)
    if number >= session.guest.nr_vcpus:
        raise ConfigError(f"{session.domain.name} has no vCPU {number}: info vcpus lists them")
    session.select(session.domain, number)
    session.write(session.here(), "here")


def events(session: Session, text: str) -> None:
    rows = list(session.domain.events) if session.guest else []
    if text:
        port = session.value(text)
        rows = [row for row in rows if row.port == port]
        if not rows:
            raise ConfigError(f"event channel {port} is not in use: info events lists those that are")
    session.write("\n".join(event_table.lines(rows)))


def shared_info(session: Session, text: str) -> None:
    page = session.machine.engine.page(session.guest.shared_mfn)
    shared = xen.shared_info.from_buffer_copy(page)
    session.write(f"shared_info, machine frame {session.guest.shared_mfn:#x}")
    for i in range(session.guest.nr_vcpus):
        pending, masked, selector = session.guest.upcall_state(i)
        if i == session.vcpu or pending or selector:
            names = f"upcall_pending {pending}, upcall_mask {masked}, pending_sel {selector:#x}"
            session.write(f"  vcpu_info of vCPU {i}: {names}")
    for name in ("evtchn_pending", "evtchn_mask"):
        for word, bits in enumerate(getattr(shared, name)):
            if bits and not (name == "evtchn_mask" and bits == (1 << 64) - 1):
                session.write(f"  {name}[{word}] = {bits:#018x}")
    session.write(
        f"  wall clock: {shared.wc_sec | shared.wc_sec_hi << 32}.{shared.wc_nsec:09} s, version {shared.wc_version}"
    )
    for field in shared.arch._fields_:
        value = getattr(shared.arch, field[0])
        if not isinstance(value, ctypes.Array):
            session.write(f"  arch.{field[0]} = {value:#x}")


def traps(session: Session, text: str) -> None:
    points = session.guest.entry_points(session.vcpu)
    for kind in ("event", "failsafe", "syscall"):
        address = points[kind]
        session.write(f"{kind + ' callback':<29} {session.place(address) if address else 'none'}")
    for vector, address in points["traps"].items():
        session.write(f"{vector:#04x} {vectors.name(vector):<24} {session.place(address)}")
    if not points["traps"]:
        session.write("the trap table is empty (set_trap_table)")


def trace(session: Session, text: str) -> None:
    for line in session.recent(counted(session, text, EVENTS)):
        session.write(line)


COMMANDS = (
    Command("trace", ("t",), "[COUNT]", "Show the last COUNT events of the trace (20 without).", trace),
    Command("info events", ("i e", "events"), "[PORT]", "The event channels, with pending and mask bits.", events),
    Command("info shared", ("i sh",), "", "The shared_info page.", shared_info),
    Command("info traps", ("i t",), "", "The trap table and the callbacks of the vCPU that is looked at.", traps),
    Command("info vcpus", ("i v", "vcpus"), "", "The vCPUs: what each does, and where.", vcpus),
    Command("vcpu", ("v",), "NUMBER", "Look at another vCPU.", vcpu),
    Command("info domains", ("i d", "domains"), "", "The domains of the machine.", domains),
    Command("domain", (), "NAME|NUMBER", "Look at another domain.", domain),
)
