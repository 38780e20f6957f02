"""The puppet of guest_kit as domain 0 of real Xen in QEMU: the same orders, by way of the machine's RAM.

Rules:

1. Nothing of hv is asked: addresses are translated by the guest's own page tables as they stand in RAM, which is a
   file that QEMU and the test share.
2. The guest looks at its mailbox all the time; it writes a number that is not in its image, and so is found.
3. `clean` undoes what a row may leave behind, so that many rows share one start of Xen.
"""

from __future__ import annotations

import mmap
import struct
import time
from typing import Any

from guest_kit import ADDRESS, ARENA_PAGES, KERNEL_PAGE, PAGE, PRESENT, PUPPET, Puppet, assemble, symbols

from hv.abi.xen import DOMID_SELF
from hv.builder.image import load
from hv.testing import xen_in_qemu

COOKIE = 0x5AFE_C0DE_0F_D0_A110
WAITS = "1:      hypercall sched_op, $SCHEDOP_poll, $poll\n"
BY_EVENT = """        xor     %eax, %eax
        xchg    %rax, go
        lock btrl $2, shared_info + shared_info_evtchn_pending
        adc     $0, %rax
        jz      1b
"""
# No xchg: with one CPU QEMU reads and then writes, and what the test writes in between would be lost.
BY_LOOKING = """
        mov     go, %rax
        test    %rax, %rax
        jz      1b
        movq    $0, go
"""
LOOKS = f"""
        mov     start_info, %rdi
        mov     start_info_pt_base(%rdi), %rdi
        call    virt_to_mfn
        mov     %rax, cookie + 8
        mov     ${~COOKIE & (1 << 64) - 1:#x}, %rax
        not     %rax
        mov     %rax, cookie
1:      pause
"""
SPACE = """
        .data
        .balign 16
        .globl  cookie, traps
cookie: .quad   0, 0
"""
ORDER_SECONDS = 10
ROWS_PAGES = 12  # of the arena, that rows use as pages
CLOSE_PORTS, UNPIN, SET_LDT, NEW_USER_BASEPTR, STOP_PERIODIC, STOP_SINGLESHOT, WATCHDOG = 10, 4, 13, 15, 7, 9, 6
FREE_SLOT = 300  # of the tables above the arena, where rows put entries


def image() -> tuple[bytes, dict[str, int]]:
    assert WAITS in PUPPET and BY_EVENT in PUPPET, "guest_kit's puppet waits in another way"
    text = PUPPET.replace(WAITS, LOOKS).replace(BY_EVENT, BY_LOOKING) + SPACE
    made = assemble(text, "xenpuppet")
    return made, {name: address for address, _, name in symbols(load(made, "xenpuppet"))}


class XenGuest:
    """What the puppet asks of hv's GuestDomain, answered from RAM."""

    def __init__(self, ram: mmap.mmap, root: int) -> None:
        self._ram, self._root = ram, root

    def walk(self, va: int) -> tuple[list[tuple[int, int, int]], int | None]:
        """([(level, machine address, entry)], mfn or None), as GuestDomain.walk."""
        steps, table = [], self._root
        for level in (4, 3, 2, 1):
            where = (table << 12) + (va >> 12 + 9 * (level - 1) & 511) * 8
            entry = struct.unpack_from("<Q", self._ram, where)[0]
            steps.append((level, where, entry))
            if not entry & PRESENT:
                return steps, None
            table = (entry & ADDRESS) >> 12
        return steps, table

    def _place(self, va: int) -> int:
        mfn = self.walk(va)[1]
        assert mfn is not None, f"{va:#x} is not mapped"
        return (mfn << 12) + va % PAGE

    def read(self, va: int, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = min(size - len(data), PAGE - (va + len(data)) % PAGE)
            where = self._place(va + len(data))
            data += self._ram[where : where + part]
        return data

    def write(self, va: int, data: bytes) -> None:
        done = 0
        while done < len(data):
            part = min(len(data) - done, PAGE - (va + done) % PAGE)
            where = self._place(va + done)
            self._ram[where : where + part] = data[done : done + part]
            done += part

    def wake(self, vcpu: int) -> None:
        """It never sleeps."""


class XenDomain:
    """Domain 0."""

    domid = 0


class XenPuppet(Puppet):
    """A puppet that real Xen runs. Use `clean` between rows."""

    def __init__(self, session: xen_in_qemu.Session, where: dict[str, int], timeout: float = 60) -> None:
        ram = session.ram
        assert ram is not None
        self._session = session
        cookie = self._find(ram, struct.pack("<Q", COOKIE), timeout)
        root = struct.unpack_from("<Q", ram, cookie + 8)[0]
        self.guest: Any = XenGuest(ram, root)
        self.domain: Any = XenDomain()
        self._mailbox, self.arena, self._traps = where["request"], where["arena"], where["traps"]
        self._bump = self.arena + 32 * PAGE
        self._clean_pages = [self.leaf(self.arena + i * PAGE)[1] for i in range(ARENA_PAGES)]

    def _find(self, ram: mmap.mmap, cookie: bytes, timeout: float) -> int:
        deadline = time.monotonic() + timeout
        assert self._session.wait(lambda: b"(XEN) Freed " in self._session.serial, timeout), "Xen did not start"
        while time.monotonic() < deadline:
            at = ram.find(cookie)
            if at >= 0:
                return at
            time.sleep(0.1)
        raise AssertionError(f"the guest did not start: {self._session.output}")

    def _wait(self) -> None:
        deadline = time.monotonic() + ORDER_SECONDS
        while self._word(104) or self._word(96) != self._expected:
            assert time.monotonic() < deadline, f"no answer: {bytes(self._session.serial)[-500:].decode()}"

    def _order(self, action: str, *words: int) -> int:
        self._expected = self._word(96) + 1
        return super()._order(action, *words)

    # --- between rows

    def clean(self, fresh_frames: bool = False) -> None:
        """Ports, timers, descriptor tables, traps, pins and the arena's mappings as they were at the start.

        With fresh frames for the pages that rows use as such: Xen keeps some of what it was given.
        """
        self._bump = self.arena + 32 * PAGE
        self.hypercall("set_gdt", 0, 0)
        self.mmuext(NEW_USER_BASEPTR, 0)
        self._restore_pages()
        for i in range(1, ROWS_PAGES) if fresh_frames else ():
            self._new_frame(self.page(i))
            self._clean_pages[i] = self.leaf(self.page(i))[1]
        self.hypercall("set_trap_table", self._traps)
        self.hypercall("event_channel_op", CLOSE_PORTS, struct.pack("<H", DOMID_SELF))
        self.hypercall("vcpu_op", STOP_PERIODIC, 0, 0)
        self.hypercall("vcpu_op", STOP_SINGLESHOT, 0, 0)
        for watchdog in (1, 2):
            self.hypercall("sched_op", WATCHDOG, struct.pack("<2I", watchdog, 0))
        self.mmuext(SET_LDT)
        for register in range(4):
            self.hypercall("set_debugreg", register, 0)
        self.hypercall("set_debugreg", 7, 0)
        self.hypercall("set_debugreg", 6, 0xFFFF0FF0)
        self._bump = self.arena + 32 * PAGE
        self.guest.write(self.arena, bytes(ARENA_PAGES * PAGE))

    def _restore_pages(self) -> None:
        """Pages that are mapped in another way, or no more, get a frame again."""
        for level in (2, 3, 4):
            self.mmu_update((self.table(level, self.arena) << 12) + 8 * FREE_SLOT, 0)
            self.mmuext(UNPIN, self.table(level - 1, self.arena))
        changed = [i for i, entry in enumerate(self._clean_pages) if self.leaf(self.arena + i * PAGE)[1] != entry]
        for i in changed:
            self.mmuext(UNPIN, (self._clean_pages[i] & ADDRESS) >> 12)
        for i in changed:
            va = self.arena + i * PAGE
            if self.map(va, (self._clean_pages[i] & ADDRESS) >> 12):
                self._new_frame(va)
            self._clean_pages[i] = self.leaf(va)[1]

    def _new_frame(self, va: int) -> None:
        """Another frame for a page. The request stands in the arena's last page, which rows never use as such."""
        request = self.arena + (ARENA_PAGES - 1) * PAGE
        self.guest.write(request, struct.pack("<QQIIH6xQ", request + 32, 1, 0, 0, DOMID_SELF, 0))
        assert self.hypercall("memory_op", 0, request) == 1, "no frame for a page that was given away"
        mfn = struct.unpack("<Q", self.guest.read(request + 32, 8))[0]
        assert self.map(va, mfn, KERNEL_PAGE) == 0
