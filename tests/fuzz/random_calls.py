"""Random hypercalls: numbers, registers, pointers and structures, of the right shape and often of the wrong value.

What the rows of hv.abi.hypercalls say decides what a register is filled with; one call in eight is noise.
"""

from __future__ import annotations

import ctypes
import random
import struct
from dataclasses import dataclass, field
from typing import Any

from hv.abi import hypercalls, xen
from hv.abi.rows import Hypercall, Operation

PAGE = 4096
REGISTERS = 6
WORD = 1 << 64
SMALL_MISTAKES = (
    0,
    1,
    2,
    3,
    7,
    8,
    63,
    64,
    127,
    128,
    511,
    512,
    4095,
    4096,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
)
# How often each is asked for, beside the others: seldom what ends the domain or is refused, often what has state.
WEIGHTS = {"iret": 0.02, "set_trap_table": 0.2, "set_callbacks": 0.2, "callback_op": 0.3} | dict.fromkeys(
    (
        "mmu_update",
        "mmuext_op",
        "update_va_mapping",
        "memory_op",
        "multicall",
        "set_gdt",
        "update_descriptor",
        "vcpu_op",
    ),
    3.0,
)
REFUSED = 0.1
ENDS = {"SCHEDOP_shutdown", "VCPUOP_down", "VCPUOP_initialise"}
CHECK = 62  # no hypercall of Xen's: the guest asks it after each of its own
ELSEWHERE = (CHECK, 6, 23, 29)  # the others may end the guest
ENTRY = struct.Struct("<8Q")


@dataclass
class Pools:
    """Values that mean something to the guest: whatever it fills in, some of them fit."""

    pointers: list[int]
    mfns: list[int]
    entries: list[int]  # machine addresses of page-table entries
    domids: list[int]
    ports: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4, 5, 63, 64, 1023, 1024, 4095])


class RandomCalls:
    """A stream of calls. Structures go to `memory`, which the guest has at `address`."""

    def __init__(self, rng: random.Random, pools: Pools, address: int, size: int) -> None:
        self._rng, self._pools, self._address = rng, pools, address
        self.memory = bytearray(size)
        self._used = 0
        self._calls = hypercalls.HYPERCALLS
        self._weights = [
            WEIGHTS.get(call.name, REFUSED if call.domu else 1.0) * (1 + len(call.operations)) ** 0.5
            for call in self._calls
        ]

    def start(self) -> None:
        """A new batch: the memory of the last one is free."""
        self._used = 0

    def call(self, nested: bool = False) -> tuple[int, list[int]]:
        """(number, registers)."""
        rng = self._rng
        if rng.random() < 0.125:
            return self._noise()
        call = rng.choices(self._calls, self._weights)[0]
        operation = rng.choice(call.operations) if call.operations else None
        if operation is not None and operation.name in ENDS and rng.random() < 0.98:
            return self.call(nested)
        return call.number, self._registers(call, operation, nested)

    def _noise(self) -> tuple[int, list[int]]:
        rng = self._rng
        number = rng.choice((rng.randrange(64), rng.randrange(64), rng.randrange(256), rng.getrandbits(64)))
        if number in ELSEWHERE:
            number = 63
        return number, [self._word() for _ in range(REGISTERS)]

    def _registers(self, call: Hypercall, operation: Operation | None, nested: bool) -> list[int]:
        count = self._count()
        registers = [self._register(call, argument.kind, operation, count, nested) for argument in call.arguments]
        if self._rng.random() < 0.05 and registers:
            registers[self._rng.randrange(len(registers))] = self._word()
        return registers + [0] * (REGISTERS - len(registers))

    def _register(self, call: Hypercall, kind: str, operation: Operation | None, count: int, nested: bool) -> int:
        rng, pools = self._rng, self._pools
        if kind == "op":
            return operation.number if operation is not None else self._small()
        if kind == "count":
            return count
        if kind == "arg":
            return self._argument(operation, count)
        if kind == "ptr:multicall_entry":
            return self._place(self._multicall(count)) if not nested else rng.choice(pools.pointers)
        if kind == "ptr:mmu_update":
            return self._place(b"".join(self._mmu_update(operation) for _ in range(min(count, 8))))
        if kind == "ptr:mmuext_op":
            return self._place(b"".join(self._mmuext(operation) for _ in range(min(count, 8))))
        if kind.startswith("ptr:"):
            return self._place(self._structure(_layout(kind[4:])) * 2)
        if kind == "u64s":
            return self._place(struct.pack("<4Q", *(rng.choice(pools.mfns) for _ in range(4))))
        if kind in ("buf", "u32"):
            return rng.choice(pools.pointers) if rng.random() < 0.5 else self._place(rng.randbytes(64))
        if kind == "va":
            return rng.choice(pools.pointers)
        if kind == "pte":
            return self._entry()
        if kind == "maddr":
            return rng.choice(pools.mfns) << 12 | rng.randrange(0, PAGE, 8)
        if kind == "domid":
            return rng.choice(pools.domids)
        if kind == "time":
            return rng.choice((0, 1, 10**6, 10**9, rng.getrandbits(64)))
        return self._small() if rng.random() < 0.7 else self._word()

    # --- values

    def _count(self) -> int:
        rng = self._rng
        return rng.randrange(4) if rng.random() < 0.95 else rng.choice((*SMALL_MISTAKES, rng.getrandbits(32)))

    def _small(self) -> int:
        rng = self._rng
        return rng.randrange(16) if rng.random() < 0.6 else rng.choice(SMALL_MISTAKES)

    def _word(self) -> int:
        rng, pools = self._rng, self._pools
        kind = rng.randrange(10)
        if kind < 4:
            return (rng.choice(pools.pointers) + rng.choice((0, 0, 0, 1, 8, -1, -8, 4088))) % WORD
        if kind < 6:
            return rng.choice(pools.mfns)
        if kind < 8:
            return self._small()
        return self._entry() if kind == 8 else rng.getrandbits(64)

    def _entry(self) -> int:
        """A page-table entry."""
        rng = self._rng
        flags = rng.choice((0, 1, 0x61, 0x63, 0x67, 0x27, 0x20063, 0x163, 0xE3, 0x9B, rng.getrandbits(12)))
        high = rng.choice((0, 0, 0, 1 << 63, 1 << 52, rng.getrandbits(12) << 52))
        return rng.choice(self._pools.mfns) << 12 & 0x000F_FFFF_FFFF_F000 | flags | high

    # --- memory

    def _place(self, data: bytes) -> int:
        """The address of a copy; a little wrong now and then."""
        rng = self._rng
        if rng.random() < 0.06:
            return rng.choice(self._pools.pointers)
        data = data[: len(self.memory)]
        if self._used + len(data) > len(self.memory):
            self._used = 0
        at = self._used
        self.memory[at : at + len(data)] = data
        self._used = at + len(data) + 15 & ~15
        return self._address + at

    def _argument(self, operation: Operation | None, count: int) -> int:
        if operation is None or operation.argument is None:
            return self._word() if self._rng.random() < 0.5 else self._place(self._rng.randbytes(32))
        many = min(count, 4) if operation.count else 1
        return self._place(b"".join(self._structure(operation.argument) for _ in range(many)))

    def _multicall(self, count: int) -> bytes:
        entries = []
        for _ in range(min(count, 6)):
            number, registers = self.call(nested=True)
            entries.append(ENTRY.pack(number if number != 23 else 17, 0, *registers))
        return b"".join(entries)

    def _mmu_update(self, operation: Operation | None) -> bytes:
        rng, pools = self._rng, self._pools
        where = (
            rng.choice(pools.entries)
            if rng.random() < 0.7
            else rng.choice(pools.mfns) << 12 | rng.randrange(0, PAGE, 8)
        )
        value = self._entry() if rng.random() < 0.9 else self._small()
        return struct.pack("<2Q", (where | (operation.number if operation else 0)) % WORD, value)

    def _mmuext(self, operation: Operation | None) -> bytes:
        rng, pools = self._rng, self._pools
        number = operation.number if operation else self._small()
        first = rng.choice(pools.mfns) if rng.random() < 0.7 else self._word()
        second = rng.choice(pools.mfns) if rng.random() < 0.3 else self._small() if rng.random() < 0.5 else self._word()
        return struct.pack("<I4x2Q", number & 0xFFFFFFFF, first, second)

    def _structure(self, layout: Any) -> bytes:
        """Bytes of a structure, field by field."""
        if not hasattr(layout, "_fields_") or issubclass(layout, ctypes.Union):
            return self._rng.randbytes(ctypes.sizeof(layout))
        value = bytearray(ctypes.sizeof(layout))
        for name, kind in layout._fields_:
            at = getattr(layout, name)
            value[at.offset : at.offset + at.size] = self._field(name, kind, at.size)
        return bytes(value)

    def _field(self, name: str, kind: Any, size: int) -> bytes:
        rng, pools = self._rng, self._pools
        if "dom" in name and size == 2:
            return struct.pack("<H", rng.choice(pools.domids) & 0xFFFF)
        if "port" in name and size == 4:
            return struct.pack("<I", rng.choice(pools.ports))
        if ("mfn" in name or "frame" in name) and size == 8:
            return struct.pack("<Q", rng.choice(pools.mfns))
        if hasattr(kind, "_fields_") and not issubclass(kind, ctypes.Union):
            return self._structure(kind)
        if size == 8:
            return struct.pack("<Q", self._word())
        if size in (1, 2, 4):
            return (self._small() % (1 << 8 * size)).to_bytes(size, "little")
        return rng.randbytes(size)


def _layout(name: str) -> Any:
    from hv.abi import emit

    return next(cls for cls in emit.structures() if cls.__name__ == name)


DOMIDS = [xen.DOMID_SELF] * 6 + [1, 1, 2, 0, xen.DOMID_IO, xen.DOMID_XEN, 999]
