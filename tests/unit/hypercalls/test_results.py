"""What each served hypercall answers, as rows of (call, arguments, result); results are Xen 4.17's to a PV domU.

The guest of guest_kit makes the calls, each row on a machine of its own. An argument that is bytes is put into the
guest's memory and passed by address; a function is asked with the guest first. A row may say `bug`: what hv does wrong;
it fails once that is repaired. What is expected is no opinion: tests/oracle/test_results_as_on_xen.py asks real Xen.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Any

import pytest
from guest_kit import CONSOLE_PORT, MACHPHYS, PAGE, READ_ONLY, UNMAPPED, Puppet, error_name, known_bug, puppet

from hv.abi import hypercalls as abi
from hv.abi import xen
from hv.abi.xen import DOMID_SELF
from hv.hypercalls.registry import states

Argument = int | bytes | Callable[[Puppet], Any]
NON_CANONICAL = 1 << 47
HV_RANGE = 0xFFFF_8700_0000_0000
NOBODY = 999
ROWS: list[Any] = []


def row(
    call: str | int,
    *arguments: Argument,
    gives: str | int,
    bug: str | None = None,
    note: str = "",
) -> None:
    """`note` tells rows with equal arguments apart in the test's name."""
    texts = [
        hex(a) if isinstance(a, int) else f"{len(a)} bytes" if isinstance(a, bytes) else a.__name__ for a in arguments
    ]
    name = f"{call}({', '.join(texts)}){' ' + note if note else ''}"
    again = sum(parameters.id.startswith(name) for parameters in ROWS)
    name = f"{name} #{again + 1}" if again else name
    ROWS.append(pytest.param(call, arguments, gives, id=name, marks=[known_bug(bug)] if bug else []))


def u32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *(value & 0xFFFFFFFF for value in values))


def u64(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *(value & (1 << 64) - 1 for value in values))


def named(name: str, function: Callable[[Puppet], Any]) -> Callable[[Puppet], Any]:
    function.__name__ = name
    return function


def read_only_page(p: Puppet) -> int:
    """An address that the guest may read but not write."""
    assert p.map(p.page(9), p.mfn(p.page(9)), READ_ONLY) == 0
    return p.page(9)


def end_of_memory(size: int) -> Callable[[Puppet], int]:
    """An address with `size` bytes before a page that is not mapped."""

    def place(p: Puppet) -> int:
        assert p.hypercall("update_va_mapping", p.page(11), 0, 2) == 0
        return p.page(11) - size

    return named(f"{size} bytes before a hole", place)


def own_domid(p: Puppet) -> int:
    return int(p.domain.domid)


def page_frame(p: Puppet) -> bytes:
    """A list with the frame of a page that can hold descriptors."""
    return u64(p.read_only(5))


def writable_frame(p: Puppet) -> bytes:
    return u64(p.mfn(p.page(5)))


def data_frame(p: Puppet) -> int:
    return p.mfn(p.page(5))


# --- every pointer of every served operation ---------------------------------------------------------------------

POINTERS = {"unmapped": UNMAPPED, "not canonical": NON_CANONICAL, "of hv": HV_RANGE, "of the M2P": MACHPHYS, "null": 0}
RESERVATIONS = {"XENMEM_increase_reservation", "XENMEM_decrease_reservation", "XENMEM_populate_physmap"}


def pointer_rows() -> None:
    served = {(state.number, state.operation) for state in states() if state.state.startswith("served")}
    for call in abi.HYPERCALLS:
        kinds = [argument.kind for argument in call.arguments]
        for operation in call.operations:
            if (
                (call.number, operation.name) not in served
                or operation.argument is None
                or call.name in ("mmu_update", "mmuext_op")
            ):
                continue
            for name, pointer in POINTERS.items():
                arguments = [
                    operation.number if kind == "op" else pointer if kind == "arg" else 1 if kind == "count" else 0
                    for kind in kinds
                ]
                gives: str | int = "-EFAULT"
                if operation.name in RESERVATIONS:
                    gives = 0  # how many extents were done
                row(call.name, *arguments, gives=gives, note=f"{operation.name}, {name}")


pointer_rows()
for pointer in (UNMAPPED, NON_CANONICAL, HV_RANGE, MACHPHYS):
    row("mmu_update", pointer, 1, 0, DOMID_SELF, gives="-EFAULT")
    row("mmuext_op", pointer, 1, 0, DOMID_SELF, gives="-EFAULT")
    row("multicall", pointer, 1, gives="-EFAULT")
    row("set_gdt", pointer, 1, gives="-EFAULT")
    row("set_trap_table", pointer, gives="-EFAULT")
    row("console_io", 0, 5, pointer, gives="-EFAULT")
for size, operation in (
    (15, "XENVER_extraversion"),
    (63, "XENVER_changeset"),
    (7, "XENVER_platform_parameters"),
    (7, "XENVER_get_features"),
):
    row("xen_version", abi.BY_NAME["xen_version"].operation(operation).number, end_of_memory(size), gives="-EFAULT")
row("xen_version", 1, end_of_memory(16), gives=0)
row("xen_version", 4, end_of_memory(64), gives=0)
row("xen_version", 5, end_of_memory(8), gives=0)
row("xen_version", 1, read_only_page, gives="-EFAULT")
row("xen_version", 9, end_of_memory(9), gives=0)
row("event_channel_op", 7, read_only_page, gives="-EFAULT", note="the port is lost, as on Xen")
row("grant_table_op", 6, read_only_page, 1, gives="-EFAULT")
row("memory_op", 12, read_only_page, gives="-EFAULT", note="machphys_mapping")
row("mmu_update", end_of_memory(15), 1, 0, DOMID_SELF, gives="-EFAULT")
row("multicall", end_of_memory(63), 1, gives="-EFAULT")

# --- operations and numbers that do not exist --------------------------------------------------------------------

for number in (11, 56, 57, 62, 63, 64, 100, 0x1000, 1 << 31, 1 << 32, (1 << 32) + 17, (1 << 64) - 1):
    row(number, 0, 0, gives="-ENOSYS", note="no such hypercall")
for operation in (11, 12, 100, 1 << 31, (1 << 32) - 1):
    row("xen_version", operation, 0, gives="-ENOSYS")
for operation in (15, 100, 1 << 31):
    row("event_channel_op", operation, bytes(64), gives="-ENOSYS")
for operation in (8, 100, 1 << 31):
    row("sched_op", operation, bytes(64), gives="-ENOSYS")
for operation in (2, 100, 1 << 31):
    row("callback_op", operation, bytes(64), gives="-ENOSYS")
for operation in (40, 100, 1 << 31):
    row("physdev_op", operation, bytes(64), gives="-ENOSYS")
for operation in (14, 100):
    row("vcpu_op", operation, 0, bytes(64), gives="-ENOSYS")
for operation in (13, 50):
    row("grant_table_op", operation, bytes(64), 1, gives="-ENOSYS")
for operation in (29, 31, 34, 63):
    row("memory_op", operation, bytes(64), gives="-ENOSYS")
for operation in (17, 21, 22, 100, 1 << 31):
    row("mmuext_op", u32(operation, 0) + bytes(16), 1, 0, DOMID_SELF, gives="-ENOSYS" if operation >= 21 else "-EINVAL")
for which in (4, 5, 1 << 31, (1 << 32) - 1):
    row("set_segment_base", which, 0, gives="-EINVAL")
row(
    "console_io",
    2,
    0,
    0,
    gives="-EPERM",
)
row("console_io", 1, 10, bytes(16), gives="-EPERM", note="read")
row("console_io", 0, 0, UNMAPPED, gives=0, note="write nothing")
row("console_io", 0, 3, b"abc", gives=0, note="the hypervisor log")
row("vm_assist", 2, 0, gives="-ENOSYS")
row("vm_assist", 1 << 31, 4, gives="-ENOSYS")

# --- what Xen refuses a domU -------------------------------------------------------------------------------------

for call in ("platform_op", "sysctl", "domctl"):
    row(call, UNMAPPED, gives="-EFAULT")
    row(call, u32(0, 0) + bytes(256), gives="-EACCES", note="interface version 0")
row("platform_op", u32(0, 0x03000000) + bytes(256), gives="-EACCES")
row("platform_op", u32(0, 0x03000001) + bytes(256), gives="-EPERM")
row("sysctl", u32(0, 0x15) + bytes(256), gives="-EPERM", note="interface version 0x15")
row("domctl", u32(0, 0x15) + bytes(256), gives="-EPERM", note="interface version 0x15")
for call, error in {
    "xsm_op": "-ENOSYS",
    "kexec_op": "-EPERM",
    "tmem_op": "-ENOSYS",
    "argo_op": "-ENOSYS",
    "xenpmu_op": "-EOPNOTSUPP",
    "hypfs_op": "-EPERM",
    "arch_0": "-EPERM",
    **{f"arch_{i}": "-ENOSYS" for i in range(2, 8)},
}.items():
    row(call, 0, bytes(256), gives=error)

row("arch_1", UNMAPPED, gives="-EFAULT")
row("arch_1", u32(10, 0) + bytes(256), gives="-EOPNOTSUPP", note="interface version 0")
row("arch_1", u32(11, 0x15) + bytes(256), gives="-EOPNOTSUPP", note="not the shadow operation")
for domid in (DOMID_SELF, NOBODY):
    row("arch_1", u32(10, 0x15, domid) + bytes(256), gives="-ESRCH")
for domid in (0, 1):
    row("arch_1", u32(10, 0x15, domid) + bytes(256), gives="-EPERM")
row("dm_op", 0, 3, bytes(64), gives="-E2BIG")
row("dm_op", 0, 2, UNMAPPED, gives="-EFAULT")
row("dm_op", 0, 0, UNMAPPED, gives="-EINVAL", note="a PV domain")
for domid, gives in ((DOMID_SELF, "-ESRCH"), (NOBODY, "-ESRCH"), (1, "-EPERM"), (0, "-EINVAL")):
    row("dm_op", domid, 1, bytes(64), gives=gives)


def refused_rows() -> None:
    """Every operation whose row says that a domU is always refused, with an argument and without one."""
    for call in abi.HYPERCALLS:
        for operation in call.operations:
            if operation.domu:
                kinds = [argument.kind for argument in call.arguments]
                for pointer in (bytes(128), 0):
                    arguments = [
                        operation.number if kind == "op" else pointer if kind == "arg" else 0 for kind in kinds
                    ]
                    row(call.name, *arguments, gives=f"-{operation.domu}", note=operation.name)


refused_rows()

# --- xen_version --------------------------------------------------------------------------------------------------

row("xen_version", 0, 0, gives=4 << 16 | 17)
row("xen_version", 0, UNMAPPED, gives=4 << 16 | 17)
row("xen_version", 7, 0, gives=PAGE, note="pagesize")
row(
    "xen_version",
    7,
    b"x",
    gives="-EINVAL",
    note="pagesize with a pointer",
)
row("xen_version", 6, u32(1, 0), gives="-EINVAL", note="features, submap 1")
row("xen_version", 6, u32(0, 0), gives=0, note="features, submap 0")
row("xen_version", 10, u32(0) + bytes(28), gives="-EPERM", note="build id")
row("xen_version", (1 << 32) | 0, 0, gives=4 << 16 | 17, note="an int: the upper half does not count")

# --- memory_op ----------------------------------------------------------------------------------------------------


def reservation(
    extents: Callable[[Puppet], int] | int, count: int, order: int = 0, domid: int = DOMID_SELF, flags: int = 0
) -> Callable[[Puppet], bytes]:
    def make(p: Puppet) -> bytes:
        return struct.pack("<QQIIH6x", extents if isinstance(extents, int) else extents(p), count, order, flags, domid)

    return named(f"{count} extents of order {order} for {domid:#x}", make)


def frame_list(p: Puppet) -> int:
    """The frames of pages 1 and 2."""
    return p.place(u64(p.mfn(p.page(1)), p.mfn(p.page(2))))


def twice_the_same(p: Puppet) -> int:
    return p.place(u64(p.mfn(p.page(1)), p.mfn(p.page(1))))


def foreign_list(p: Puppet) -> int:
    q = Puppet(p.machine)
    return p.place(u64(q.mfn(q.page(1))))


for operation in (0, 1, 6):
    for domid in (0, NOBODY):
        row("memory_op", operation, reservation(frame_list, 1, domid=domid), gives=0)
    row("memory_op", operation, reservation(frame_list, 0), gives=0)
    row("memory_op", operation, reservation(frame_list, 1, order=10), gives=0)
    row("memory_op", operation, reservation(frame_list, 1, order=(1 << 32) - 1), gives=0)
    for pointer in (UNMAPPED, NON_CANONICAL, HV_RANGE):
        row("memory_op", operation, reservation(pointer, 1), gives=0, note=hex(pointer))
row("memory_op", 1, reservation(frame_list, 2), gives=2, note="decrease")
row("memory_op", 1, reservation(twice_the_same, 2), gives=2, note="decrease a mapped page twice")
row("memory_op", 1, reservation(frame_list, 2, domid=1), gives=2, note="decrease, by its own number")
row("memory_op", 1, reservation(foreign_list, 1), gives=0, note="decrease another domain's frame")
row("memory_op", 1, reservation(named("hv's frame", lambda p: p.place(u64(16))), 1), gives=0, note="decrease")
row("memory_op", 1, reservation(named("beyond RAM", lambda p: p.place(u64(1 << 40, 0))), 1), gives=0, note="decrease")
row(
    "memory_op",
    1,
    reservation(named("one good, one bad", lambda p: p.place(u64(p.mfn(p.page(1)), 0))), 2),
    gives=1,
    note="decrease",
)
row("memory_op", 0, reservation(0, 1), gives=0, note="increase at the limit")
row("memory_op", 6, reservation(named("a pfn", lambda p: p.place(u64(5000))), 1), gives=0, note="populate at the limit")
row("memory_op", 1 | 1 << 6, reservation(frame_list, 2), gives=2, note="decrease from extent 1 on")
row("memory_op", 1 | 2 << 6, reservation(frame_list, 2), gives=2, note="decrease from extent 2 on: nothing")
row(
    "memory_op",
    1 | 5 << 6,
    reservation(frame_list, 2),
    gives=5,
    note="decrease behind the end",
)
for operation in (2, 3, 4):
    row(
        "memory_op",
        operation | 1 << 6,
        u32(DOMID_SELF),
        gives="-EINVAL",
    )
for operation in (3, 4):
    row("memory_op", operation, u32(DOMID_SELF), gives=2048)
    row("memory_op", operation, u32(1), gives=2048)
    row("memory_op", operation, u32(0), gives="-EPERM")
    row("memory_op", operation, u32(NOBODY), gives="-ESRCH")
    row(
        "memory_op",
        operation,
        named("of another guest", lambda p: u32(Puppet(p.machine).domain.domid)),
        gives="-EPERM",
    )

# What begins with a later extent, what does not, and what does not know its number then.
for operation in (5, 9, 10, 12, 13, 16, 17, 18, 19, 20, 22, 25):
    row("memory_op", operation | 1 << 6, bytes(128), gives="-ENOSYS", note="from extent 1 on")
for operation in (29, 40, 63):
    row("memory_op", operation | 1 << 6, bytes(128), gives="-ENOSYS", note="no such operation")
for operation in (2, 3, 4, 11, 14, 15, 24, 26, 27):
    row("memory_op", operation | 1 << 6, bytes(128), gives="-EINVAL", note="from extent 1 on")
for operation in (7, 23):
    row("memory_op", operation | 1 << 22, bytes(128), gives="-EDOM", note="from extent 65536 on")


def traded(
    given: Callable[[Puppet], int] | int,
    given_order: int,
    wanted: int,
    wanted_order: int,
    *,
    counts: tuple[int, int] = (1, 1),
    domids: tuple[int, int] = (DOMID_SELF, DOMID_SELF),
    done: int = 0,
    flags: int = 0,
) -> Callable[[Puppet], bytes]:
    """A struct xen_memory_exchange; `wanted` 1 is room for the new frames' numbers."""

    def make(p: Puppet) -> bytes:
        source = given if isinstance(given, int) else given(p)
        target = p.place(u64(*range(0x700, 0x700 + min(counts[1], 8)))) if wanted == 1 else wanted
        first = struct.pack("<QQIIH6x", source, counts[0], given_order, 0, domids[0])
        second = struct.pack("<QQIIH6x", target, counts[1], wanted_order, flags, domids[1])
        return first + second + u64(done)

    return named(f"{counts[0]} of order {given_order} for {counts[1]} of order {wanted_order}", make)


def idle_frames(*indexes: int) -> Callable[[Puppet], int]:
    """Frames that nothing maps any more, as a list."""

    def make(p: Puppet) -> int:
        mfns = [p.mfn(p.page(i)) for i in indexes]
        for i in indexes:
            assert p.map(p.page(i), 0, 2) == 0
        return p.place(u64(*mfns))

    return make


row("memory_op", 11, traded(idle_frames(1), 0, 1, 0), gives=0)
row("memory_op", 11, traded(idle_frames(1, 2), 0, 1, 1, counts=(2, 1)), gives=0)
row("memory_op", 11, traded(idle_frames(1), 0, 1, 0, domids=(1, 1)), gives=0, note="by its own number")
row("memory_op", 11, traded(idle_frames(1, 2, 3), 0, 1, 1, counts=(3, 1)), gives="-EINVAL", note="sizes differ")
row("memory_op", 11, traded(frame_list, 0, 1, 0), gives="-EINVAL", note="a frame that is mapped")
row(
    "memory_op",
    11,
    traded(foreign_list, 0, 1, 0),
    gives="-EINVAL",
    note="another domain's frame",
)
row("memory_op", 11, traded(idle_frames(1), 1, 1, 1), gives="-EINVAL", note="the second of two frames is not there")
row(
    "memory_op",
    11,
    traded(
        named("the same twice", lambda p: p.place(bytes(p.guest.read(idle_frames(1)(p), 8)) * 2)),
        0,
        1,
        0,
        counts=(2, 2),
    ),
    gives="-EINVAL",
    note="the same frame twice: the first was traded",
)
row("memory_op", 11, traded(named("beyond RAM", lambda p: p.place(u64(1 << 40))), 0, 1, 0), gives="-EINVAL")
row("memory_op", 11, traded(idle_frames(1), 0, 1, 0, done=1), gives=0, note="all done before")
row("memory_op", 11, traded(idle_frames(1), 0, 1, 0, done=2), gives="-EINVAL", note="more done than there is")
row("memory_op", 11, traded(idle_frames(1), 0, 1, 0, domids=(DOMID_SELF, 1)), gives="-EINVAL", note="two domains")
row("memory_op", 11, traded(idle_frames(1), 0, 1, 0, domids=(NOBODY, NOBODY)), gives="-ESRCH")
row("memory_op", 11, traded(idle_frames(1), 0, 1, 0, domids=(0, 0)), gives="-EPERM")
row("memory_op", 11, traded(idle_frames(1), 10, 1, 10), gives="-EPERM")
row("memory_op", 11, traded(idle_frames(1), 0, 1, 0, counts=(0, 0)), gives=0, note="nothing")
row("memory_op", 11, traded(0, 9, 1, 9, counts=(1 << 60, 1 << 60)), gives="-EINVAL", note="overflows")
row("memory_op", 11, traded(UNMAPPED, 0, 1, 0), gives="-EFAULT")
row("memory_op", 11, traded(NON_CANONICAL, 0, 1, 0), gives="-EFAULT")
row("memory_op", 11, traded(HV_RANGE, 0, 1, 0), gives="-EFAULT")
row("memory_op", 11, traded(idle_frames(1), 0, HV_RANGE, 0), gives="-EFAULT", note="no room for the answer")
row("memory_op", 11, traded(idle_frames(1), 0, UNMAPPED, 0), gives="-EFAULT", note="the answer is lost")
row("memory_op", 11, traded(idle_frames(1), 0, 1, 0, flags=12), gives="-ENOMEM", note="frames below 4 KiB")
row(
    "memory_op",
    11,
    traded(idle_frames(1), 0, 1, 0, flags=1 << 8 | 1 << 17),
    gives="-EINVAL",
    note="exactly on NUMA node 0",
)
for flags, note in ((12, "frames below 4 KiB"), (1 << 8 | 1 << 17, "exactly on NUMA node 0")):
    for operation in (0, 1, 6):
        row(
            "memory_op",
            operation,
            reservation(frame_list, 2, flags=flags),
            gives=0,
            note=note,
        )
row("memory_op", 6, reservation(frame_list, 2, flags=1 << 16), gives=0, note="populate on demand: never oneself")


def physmap(domid: int, space: int = 0) -> bytes:
    return struct.pack("<HHIQQ", domid, 1, space, 0, 5)


def physmap_batch(domid: int, space: int = 0) -> bytes:
    return struct.pack("<HHHHQQQ", domid, space, 1, 0, 0, 0, 0)


for operation, argument in ((7, physmap), (23, physmap_batch)):
    for domid, gives in ((DOMID_SELF, "-EACCES"), (1, "-EACCES"), (0, "-EACCES"), (NOBODY, "-ESRCH")):
        row(
            "memory_op",
            operation,
            argument(domid),
            gives=gives,
            note=f"for {domid:#x}",
        )
row("memory_op", 7, physmap(DOMID_SELF, 4), gives="-ENOSYS", note="foreign frames")
row("memory_op", 23, physmap_batch(DOMID_SELF, 3), gives="-EOPNOTSUPP", note="a range")
for domid, gives in ((DOMID_SELF, "-EACCES"), (0, "-EACCES"), (NOBODY, "-ESRCH")):
    row("memory_op", 15, struct.pack("<H6xQ", domid, 5), gives=gives, note="remove_from_physmap")
for operation in (16, 17):
    for domid, gives in ((DOMID_SELF, "-EINVAL"), (0, "-EINVAL"), (NOBODY, "-ESRCH")):
        row("memory_op", operation, u64(0, 0, 0, 0, domid), gives=gives, note="populate on demand")
for operation in (18, 19):
    row("memory_op", operation, 0, gives=0, note="pages shared between domains")
for domid, gives in ((DOMID_SELF, "-ESRCH"), (NOBODY, "-ESRCH"), (1, "-EPERM"), (0, "-EINVAL")):
    row(
        "memory_op",
        21,
        struct.pack("<BBHI24x", 0, 0, domid, 0),
        gives=gives,
        note="access_op",
    )
for domid, gives in ((DOMID_SELF, "-EINVAL"), (NOBODY, "-EINVAL"), (1, "-EPERM"), (0, "-EPERM")):
    row(
        "memory_op",
        24,
        struct.pack("<QQIIH6x", 0, 1, 0, 0, domid),
        gives=gives,
        note="claim_pages",
    )
for words in ((1, 1, 0, 0), (0, 1, 1, 0), (0, 1, 0, 1)):
    row("memory_op", 24, struct.pack("<QQIIH6x", *words, DOMID_SELF), gives="-EINVAL", note="claim_pages")
for domid, gives in ((DOMID_SELF, "-EOPNOTSUPP"), (NOBODY, "-ESRCH"), (0, "-EPERM")):
    row(
        "memory_op",
        26,
        struct.pack("<HHIIIQQQ", domid, 0, 8, 8, 8, 0, 0, 0),
        gives=gives,
        note="get_vnumainfo",
    )
row(
    "memory_op",
    26,
    struct.pack("<HHIIIQQQ", DOMID_SELF, 1, 8, 8, 8, 0, 0, 0),
    gives="-EINVAL",
    note="get_vnumainfo, padding",
)
row("memory_op", 27, struct.pack("<IIQ16x", 0, 0, 0), gives=0, note="reserved_device_memory_map")
row("memory_op", 27, struct.pack("<IIQ16x", 2, 0, 0), gives="-EINVAL", note="reserved_device_memory_map")
row("memory_op", 27, struct.pack("<IIQ16x", 1, 1, HV_RANGE), gives="-EFAULT", note="reserved_device_memory_map")


def resource(domid: int, nr_frames: int = 1, pad: int = 0, frame: int = 0) -> bytes:
    return struct.pack("<HHIIIQQ", domid, 1, 0, nr_frames, pad, frame, 0)


for domid, gives in ((DOMID_SELF, "-ESRCH"), (NOBODY, "-ESRCH"), (1, "-EPERM"), (0, "-EPERM")):
    row(
        "memory_op",
        28,
        resource(domid),
        gives=gives,
        note="acquire_resource",
    )
row("memory_op", 28, resource(DOMID_SELF, pad=1), gives="-EINVAL", note="acquire_resource, padding")
row("memory_op", 28, resource(DOMID_SELF, frame=1 << 32), gives="-EINVAL", note="acquire_resource")
row("memory_op", 28, resource(DOMID_SELF, 2, frame=(1 << 32) - 1), gives="-EINVAL", note="acquire_resource")
for domid, gives in ((DOMID_SELF, 0), (1, 0), (NOBODY, "-ESRCH"), (0, "-EPERM")):
    row("memory_op", 14, u32(domid), gives=gives, note="maximum_gpfn")


def e820(domid: int, entries: int, buffer: bytes | int = bytes(64)) -> Callable[[Puppet], bytes]:
    return named(
        f"{entries} entries for {domid:#x}",
        lambda p: struct.pack("<H6xI4xQ", domid, entries, p.place(buffer) if isinstance(buffer, bytes) else buffer),
    )


row("memory_op", 9, u64(4, UNMAPPED), gives="-ENOSYS", note="no E820")
row("memory_op", 13, e820(DOMID_SELF, 2), gives=0, note="set_memory_map")
row("memory_op", 13, e820(DOMID_SELF, 1025), gives="-EINVAL", note="set_memory_map")
row("memory_op", 13, e820(DOMID_SELF, 2, UNMAPPED), gives="-EFAULT", note="set_memory_map")
row("memory_op", 13, e820(NOBODY, 2), gives="-ESRCH", note="set_memory_map")
row("memory_op", 13, e820(0, 2), gives="-EPERM", note="set_memory_map")
row(
    "memory_op",
    9,
    named(
        "an E820 of its own",
        lambda p: (p.hypercall("memory_op", 13, e820(DOMID_SELF, 2)(p)), u64(4, p.place(bytes(64))))[1],
    ),
    gives=0,
)
row(
    "memory_op",
    5,
    named("room for 2", lambda p: struct.pack("<I4xQQ", 2, p.place(bytes(16)), 0)),
    gives=0,
    note="mfn_list",
)
row("memory_op", 5, struct.pack("<I4xQQ", 0, UNMAPPED, 0), gives=0, note="machphys_mfn_list, none asked for")
row("memory_op", 5, struct.pack("<I4xQQ", 2, UNMAPPED, 0), gives="-EFAULT", note="machphys_mfn_list")

# --- debug registers -----------------------------------------------------------------------------------------------

for index in (0, 1, 2, 3):
    row("set_debugreg", index, 0x1000, gives=0)
    row("set_debugreg", index, HV_RANGE, gives="-EPERM")
    row("set_debugreg", index, NON_CANONICAL, gives="-EPERM")
    row("get_debugreg", index, gives=0)
for index in (4, 6):
    row("set_debugreg", index, 0, gives=0)
    row("set_debugreg", index, 1 << 32, gives="-EINVAL")
    row("get_debugreg", index, gives=0xFFFF0FF0)
for index in (5, 7):
    row("set_debugreg", index, 0, gives=0)
    row("set_debugreg", index, 1 << 32, gives="-EINVAL")
    row("set_debugreg", index, 0x2000, gives="-EPERM", note="general detect")
    row("set_debugreg", index, 1 | 2 << 16, gives="-EPERM", note="an I/O breakpoint without CR4.DE")
    row("set_debugreg", index, 2 << 16, gives=0, note="an I/O breakpoint that is not enabled")
    row("get_debugreg", index, gives=0x400)
for index in (8, 9, 100, 1 << 31, (1 << 32) - 1):
    row("set_debugreg", index, 0, gives="-ENODEV")
    row("get_debugreg", index, gives="-ENODEV")
row("set_debugreg", (1 << 32) | 7, 0, gives=0, note="an int: the upper half does not count")


def written_back(index: int, value: int) -> Callable[[Puppet], int]:
    return named(f"DR{index} = {value:#x}", lambda p: (p.hypercall("set_debugreg", index, value), index)[1])


row("get_debugreg", written_back(2, 0x1234), gives=0x1234)
row("get_debugreg", written_back(6, 0xFFFFFFFF), gives=0xFFFFEFFF, note="bit 12 is always 0")
row("get_debugreg", written_back(7, 0xFFFFD855), gives=0x0000_0000_FFFF_0455)

# --- NMIs ------------------------------------------------------------------------------------------------------------

row("nmi_op", 0, u64(0x1000, 0), gives=0)
row("nmi_op", 0, u64(NON_CANONICAL, 0), gives="-EINVAL")
row("nmi_op", 1, 0, gives=0)
row("nmi_op", 1, UNMAPPED, gives=0)
row("nmi_op", 2, 0, gives="-ENOSYS")
row("vcpu_op", 11, 0, 0, gives=0, note="send_nmi: it has no handler")
row("vcpu_op", 11, 0, 1, gives="-EINVAL", note="send_nmi with an argument")
row("vcpu_op", 11, 7, 0, gives="-ENOENT", note="send_nmi")

# --- the old calls ------------------------------------------------------------------------------------------------

row("sched_op_compat", 0, 0, gives=0, note="yield")
row("sched_op_compat", 3, 0, gives="-ENOSYS", note="poll")
row("sched_op_compat", 100, 0, gives="-ENOSYS")
for pointer in POINTERS.values():
    row("event_channel_op_compat", pointer, gives="-EFAULT")
    row("physdev_op_compat", pointer, gives="-EFAULT")
row("event_channel_op_compat", end_of_memory(27), gives="-EFAULT")
row("physdev_op_compat", end_of_memory(23), gives="-EFAULT")
row("event_channel_op_compat", u32(6, DOMID_SELF | DOMID_SELF << 16, 0) + bytes(16), gives=0, note="alloc_unbound")
row("event_channel_op_compat", u32(4, 500) + bytes(20), gives="-EINVAL", note="send to no port")
row("event_channel_op_compat", u32(9, 500) + bytes(20), gives="-EINVAL", note="unmask no port")
row("event_channel_op_compat", u32(7, 0, 0) + bytes(16), gives=0, note="bind_ipi")
for operation in (10, 11, 12, 13, 14, 1 << 31):
    row("event_channel_op_compat", u32(operation, 0) + bytes(20), gives="-ENOSYS", note=f"{operation:#x}")
row("physdev_op_compat", u32(6, 0, 1) + bytes(12), gives=0, note="set_iopl")
row("physdev_op_compat", u32(6, 0, 4) + bytes(12), gives="-EINVAL", note="set_iopl")
row("physdev_op_compat", u32(100, 0) + bytes(16), gives="-ENOSYS")
row("physdev_op_compat", u32(8, 0) + bytes(16), gives="-EPERM", note="apic_read")
for domid, gives in (
    (DOMID_SELF, 0),
    (1, "-ESRCH"),
    (NOBODY, "-ESRCH"),
    (0, "-EPERM"),
    (xen.DOMID_IO, "-EPERM"),
    (xen.DOMID_XEN, "-EPERM"),
):
    row(
        "update_va_mapping_otherdomain",
        named("page 3", lambda p: p.page(3)),
        named("its frame", lambda p: p.mfn(p.page(3)) << 12 | 0x63),
        0,
        domid,
        gives=gives,
    )

# --- sched_op, hvm_op and xenoprof_op, as far as they are refused behind checks --------------------------------------

for domid, gives in ((DOMID_SELF, "-ESRCH"), (NOBODY, "-ESRCH"), (1, "-EPERM"), (0, "-EPERM")):
    row(
        "sched_op",
        4,
        struct.pack("<H2xI", domid, 0),
        gives=gives,
        note="remote_shutdown",
    )
for operation in (0, 1):
    for domid, index, gives in (
        (DOMID_SELF, 0, "-EINVAL"),
        (DOMID_SELF, 39, "-EINVAL"),
        (NOBODY, 0, "-ESRCH"),
        (0, 0, "-EINVAL"),
    ):
        row("hvm_op", operation, struct.pack("<HHIQ", domid, 0, index, 0), gives=gives, note="parameters")
for operation, domid, gives in (
    (9, DOMID_SELF, "-EINVAL"),
    (9, 0, "-EOPNOTSUPP"),
    (9, NOBODY, "-ESRCH"),
    (15, DOMID_SELF, "-EINVAL"),
    (15, 0, "-EPERM"),
    (15, NOBODY, "-ESRCH"),
):
    row("hvm_op", operation, struct.pack("<H14x", domid), gives=gives)
row("hvm_op", 10, bytes(8), gives=0, note="get_time")
row("hvm_op", 11, bytes(32), gives=0, note="xentrace")
row("hvm_op", 11, struct.pack("<HH28x", 0, 29), gives="-EINVAL", note="xentrace, too long")
row("hvm_op", 11, struct.pack("<HH28x", 0x1000, 0), gives="-EINVAL", note="xentrace, no event")
row("hvm_op", 24, 0, gives=0, note="guest_request_vm_event")
row("hvm_op", 24, UNMAPPED, gives="-EINVAL", note="guest_request_vm_event")
for operation in (2, 12, 26, 100):
    row("hvm_op", operation, bytes(64), gives="-ENOSYS")
row("xenoprof_op", 0, bytes(72), gives="-ENODEV", note="init")
row("xenoprof_op", 18, 0, gives="-EINVAL")
row("xenoprof_op", (1 << 32) - 1, 0, gives="-EINVAL")

# --- physdev_op: what is left of it ----------------------------------------------------------------------------------

row("physdev_op", 7, struct.pack("<QI4x", UNMAPPED, 65536), gives=0, note="set_iobitmap")
row("physdev_op", 7, struct.pack("<QI4x", 0, 65537), gives="-EINVAL", note="set_iobitmap")
row("physdev_op", 7, struct.pack("<QI4x", HV_RANGE, 1), gives="-EINVAL", note="set_iobitmap")
for operation in (8, 9, 10, 15, 16, 30, 31):
    row("physdev_op", operation, bytes(32), gives="-EPERM")
row("physdev_op", 20, bytes(32), gives="-EPERM", note="manage_pci_add_ext")
row("physdev_op", 20, struct.pack("<BB2xII4x", 0, 0, 2, 0), gives="-EINVAL", note="manage_pci_add_ext")
row("physdev_op", 20, struct.pack("<BB2xII4x", 0, 0, 0, 2), gives="-EINVAL", note="manage_pci_add_ext")
row("physdev_op", 21, struct.pack("<iBB2x", 20, 0, 0), gives="-EPERM", note="setup_gsi")
row("physdev_op", 21, struct.pack("<iBB2x", -1, 0, 0), gives="-EINVAL", note="setup_gsi")
row("physdev_op", 21, struct.pack("<iBB2x", 24, 0, 0), gives="-EINVAL", note="setup_gsi")
row("physdev_op", 19, bytes(2), gives="-ENODEV", note="restore_msi")
row("physdev_op", 27, bytes(8), gives="-ENODEV", note="restore_msi_ext")
row("physdev_op", 23, struct.pack("<iI", 1, 0), gives=0, note="get_free_pirq for a GSI")
row("physdev_op", 23, struct.pack("<iI", 0, 0), gives=0, note="get_free_pirq for an MSI")

# --- grant_table_op -----------------------------------------------------------------------------------------------

row(
    "grant_table_op",
    2,
    bytes(24),
    0,
    gives="-EINVAL",
    note="setup_table, no element",
)
row(
    "grant_table_op",
    2,
    bytes(48),
    2,
    gives="-EINVAL",
    note="setup_table, two elements",
)
row(
    "grant_table_op",
    6,
    bytes(16),
    0,
    gives="-EINVAL",
    note="query_size, no element",
)
row(
    "grant_table_op",
    6,
    bytes(48),
    3,
    gives="-EINVAL",
    note="query_size, three elements",
)
for operation in (2, 6, 8, 10):
    row(
        "grant_table_op",
        operation,
        bytes(64),
        1 << 31,
        gives="-EINVAL",
        note="a negative count",
    )
    row(
        "grant_table_op",
        operation | 1 << 12,
        bytes(64),
        1,
        gives="-EINVAL",
        note="opaque bits",
    )
row("grant_table_op", 8, u32(0), 1, gives="-EINVAL", note="set_version 0")
row("grant_table_op", 8, u32(1), 1, gives=0, note="set_version 1")
row("grant_table_op", 8, u32(3), 1, gives="-EINVAL", note="set_version 3")
row("grant_table_op", 10, struct.pack("<HHI", DOMID_SELF, 0, 0), 1, gives=0, note="get_version")
row(
    "grant_table_op",
    10,
    struct.pack("<HHI", NOBODY, 0, 0),
    1,
    gives="-ESRCH",
    note="get_version of nobody",
)
row(
    "grant_table_op",
    10,
    struct.pack("<HHI", 0, 0, 0),
    1,
    gives="-EPERM",
    note="get_version of domain 0",
)

# --- event_channel_op ---------------------------------------------------------------------------------------------

INTERDOMAIN, VIRQ, PIRQ, CLOSE, SEND, STATUS, UNBOUND, IPI, VCPU, UNMASK = range(10)
RESET, INIT_CONTROL, EXPAND, PRIORITY = range(10, 14)
STATUS_QUERY, EOI, MAP_PIRQ, UNMAP_PIRQ, EOI_PAGE_1, EOI_PAGE = 5, 12, 13, 14, 17, 28


def unbound_by(remote: int) -> Callable[[Puppet], bytes]:
    return named(f"a port for {remote:#x}", lambda p: struct.pack("<HHI", DOMID_SELF, remote, 0))


def bound(operation: int, argument: bytes, at: int) -> Callable[[Puppet], int]:
    """The port that an operation gives."""

    def make(p: Puppet) -> int:
        where = p.place(argument)
        assert p.hypercall("event_channel_op", operation, where) == 0
        return int.from_bytes(p.guest.read(where + at, 4), "little")

    return make


AN_UNBOUND = bound(UNBOUND, struct.pack("<HHI", DOMID_SELF, DOMID_SELF, 0), 4)
FOR_DOMAIN_0 = bound(UNBOUND, struct.pack("<HHI", DOMID_SELF, 0, 0), 4)
AN_IPI = bound(IPI, u32(0, 0), 4)
A_TIMER = bound(VIRQ, u32(0, 0, 0), 8)
A_GLOBAL_VIRQ = bound(VIRQ, u32(2, 0, 0), 8)


def A_LOOPBACK(p: Puppet) -> int:
    return bound(INTERDOMAIN, struct.pack("<HHII", DOMID_SELF, 0, AN_UNBOUND(p), 0), 8)(p)


def A_PIRQ(p: Puppet) -> int:
    p.domain.grant_pirq(9, "level")
    return bound(PIRQ, u32(9, 0, 0), 8)(p)


def pirq_of(number: int, request: bytes) -> Callable[[Puppet], bytes]:
    """A request of a guest that was granted this interrupt."""
    kind = "edge" if number == 9 else "level"
    return named(f"{kind} {number}", lambda p: (p.domain.grant_pirq(number, kind), request)[1])


def control(frame: Callable[[Puppet], int], offset: int, vcpu: int) -> Callable[[Puppet], bytes]:
    return named(f"offset {offset:#x}", lambda p: struct.pack("<QIIB7x", frame(p), offset, vcpu, 0))


def fifo(request: Callable[[Puppet], bytes]) -> Callable[[Puppet], bytes]:
    """A request of a guest that has changed to the FIFO ABI."""

    def change(p: Puppet) -> bytes:
        assert p.hypercall("event_channel_op", INIT_CONTROL, struct.pack("<QII8x", p.mfn(p.page(20)), 0, 0)) == 0
        return request(p)

    return named("FIFO", change)


def full_fifo(pages: int) -> Callable[[Puppet], bytes]:
    """A request for one more page, where the array has that many (the same one again and again)."""

    def fill(p: Puppet) -> bytes:
        frame = p.mfn(p.page(21))
        assert all(p.guest.expand_array(frame) == 0 for _ in range(pages))
        return u64(frame)

    return fifo(fill)


def own_domid_as_u16(p: Puppet) -> bytes:
    return struct.pack("<HH", p.domain.domid, 0)


def table_frame(p: Puppet) -> bytes:
    return u64(p.table(1, p.page(1)))


BAD_FRAMES: dict[str, Callable[[Puppet], int]] = {
    "frame 0": lambda p: 0,
    "beyond RAM": lambda p: 1 << 40,
    "no frame at all": lambda p: (1 << 64) - 1,
    "a page table": lambda p: p.table(1, p.page(1)),
    "the L4 table": lambda p: p.table(4, p.page(1)),
    "descriptors": lambda p: (p.hypercall("set_gdt", u64(p.read_only(5)), 1), p.mfn(p.page(5)))[1],
    "another guest's frame": lambda p: (q := Puppet(p.machine)).mfn(q.page(1)),
}


def port(make: Callable[[Puppet], int], *more: int, before: bytes = b"") -> Callable[[Puppet], bytes]:
    return named("a port", lambda p: before + u32(make(p), *more))


for number in (0, 4096, 4097, 1 << 31, (1 << 32) - 1):
    row("event_channel_op", SEND, u32(number), gives="-EINVAL", note=f"send {number:#x}")
    row("event_channel_op", CLOSE, u32(number), gives="-EINVAL", note=f"close {number:#x}")
    row("event_channel_op", VCPU, u32(number, 0), gives="-EINVAL", note=f"bind_vcpu {number:#x}")
    if number:
        row("event_channel_op", UNMASK, u32(number), gives="-EINVAL", note=f"unmask {number:#x}")
        row(
            "event_channel_op",
            STATUS,
            struct.pack("<HHI", DOMID_SELF, 0, number) + bytes(16),
            gives="-EINVAL",
            note=f"status {number:#x}",
        )
row("event_channel_op", STATUS, struct.pack("<HHI", DOMID_SELF, 0, 0) + bytes(16), gives=0, note="status 0: closed")
row(
    "event_channel_op",
    UNMASK,
    u32(0),
    gives=0,
    note="unmask 0",
)
row(
    "event_channel_op",
    UNMASK,
    u32(40),
    gives=0,
    note="unmask closed",
)
row("event_channel_op", SEND, u32(40), gives="-EINVAL", note="send, closed")
row("event_channel_op", CLOSE, u32(40), gives="-EINVAL", note="close, closed")
row("event_channel_op", VCPU, u32(40, 0), gives="-EINVAL", note="bind_vcpu, closed")
row("event_channel_op", STATUS, struct.pack("<HHI", DOMID_SELF, 0, 40) + bytes(16), gives=0, note="status, closed")
row("event_channel_op", STATUS, struct.pack("<HHI", 0, 0, 1) + bytes(16), gives="-EPERM", note="status of domain 0")
row("event_channel_op", STATUS, struct.pack("<HHI", NOBODY, 0, 1) + bytes(16), gives="-ESRCH", note="status of nobody")
row(
    "event_channel_op",
    STATUS,
    named("of another guest", lambda p: struct.pack("<HHI", Puppet(p.machine).domain.domid, 0, 1) + bytes(16)),
    gives="-EPERM",
)
for remote in (DOMID_SELF, 0, 1, NOBODY, 0x7FF1):
    row("event_channel_op", UNBOUND, unbound_by(remote), gives=0)
row("event_channel_op", UNBOUND, struct.pack("<HHI", 0, 0, 0), gives="-EPERM", note="for domain 0")
row(
    "event_channel_op",
    UNBOUND,
    struct.pack("<HHI", NOBODY, 0, 0),
    gives="-ESRCH",
    note="for nobody",
)
row("event_channel_op", INTERDOMAIN, struct.pack("<HHII", NOBODY, 0, 1, 0), gives="-ESRCH", note="nobody")
for remote_port in (0, 1, 2, 40, 4096, (1 << 32) - 1):
    row(
        "event_channel_op",
        INTERDOMAIN,
        struct.pack("<HHII", DOMID_SELF, 0, remote_port, 0),
        gives="-EINVAL",
        note=f"own port {remote_port:#x}",
    )
    row(
        "event_channel_op",
        INTERDOMAIN,
        struct.pack("<HHII", 0, 0, remote_port, 0),
        gives="-EINVAL",
        note=f"domain 0's port {remote_port:#x}",
    )
row(
    "event_channel_op",
    INTERDOMAIN,
    port(AN_UNBOUND, 0, before=struct.pack("<HH", DOMID_SELF, 0)),
    gives=0,
    note="to itself",
)
row(
    "event_channel_op",
    INTERDOMAIN,
    port(FOR_DOMAIN_0, 0, before=struct.pack("<HH", DOMID_SELF, 0)),
    gives="-EINVAL",
    note="one that waits for another",
)
row(
    "event_channel_op",
    INTERDOMAIN,
    port(AN_IPI, 0, before=struct.pack("<HH", DOMID_SELF, 0)),
    gives="-EINVAL",
    note="an IPI port",
)
for virq, vcpu, error in (
    (0, 0, 0),
    (1, 0, 0),
    (0, 1, "-ENOENT"),
    (0, 64, "-ENOENT"),
    (0, (1 << 32) - 1, "-ENOENT"),
    (24, 0, "-EINVAL"),
    (100, 0, "-EINVAL"),
    ((1 << 32) - 1, 0, "-EINVAL"),
    (24, 99, "-EINVAL"),
    (2, 1, "-EINVAL"),
    (2, 0, 0),
    (3, 0, 0),
    (16, 1, "-EINVAL"),
    (16, 0, 0),
    (23, 0, 0),
):
    row("event_channel_op", VIRQ, u32(virq, vcpu, 0), gives=error, note=f"VIRQ {virq:#x} of vCPU {vcpu:#x}")
row(
    "event_channel_op", VIRQ, named("twice", lambda p: (A_TIMER(p), u32(0, 0, 0))[1]), gives="-EEXIST", note="the timer"
)
for vcpu, error in ((0, 0), (1, "-ENOENT"), (64, "-ENOENT"), ((1 << 32) - 1, "-ENOENT")):
    row("event_channel_op", IPI, u32(vcpu, 0), gives=error, note=f"IPI of vCPU {vcpu:#x}")
    row("event_channel_op", VCPU, port(AN_UNBOUND, vcpu), gives=error, note=f"to vCPU {vcpu:#x}")
row("event_channel_op", VCPU, port(AN_IPI, 0), gives="-EINVAL", note="an IPI port")
row("event_channel_op", VCPU, port(A_TIMER, 0), gives="-EINVAL", note="the timer")
row("event_channel_op", VCPU, port(A_GLOBAL_VIRQ, 0), gives=0, note="a global VIRQ")
row("event_channel_op", VCPU, u32(CONSOLE_PORT, 0), gives=0, note="the console")
row("event_channel_op", VCPU, named("moved", lambda p: u32(A_GLOBAL_VIRQ(p), 1)), gives="-ENOENT", note="no vCPU 1")
row("event_channel_op", CLOSE, port(A_GLOBAL_VIRQ), gives=0, note="a global VIRQ")
row("event_channel_op", CLOSE, port(A_LOOPBACK), gives=0, note="interdomain")
row("event_channel_op", SEND, port(A_LOOPBACK), gives=0, note="interdomain")
row("event_channel_op", UNMASK, port(A_LOOPBACK), gives=0, note="interdomain")
row("event_channel_op", VCPU, port(A_LOOPBACK, 0), gives=0, note="interdomain")
row("event_channel_op", VCPU, port(A_LOOPBACK, 1), gives="-ENOENT", note="interdomain, no vCPU 1")
row("event_channel_op", VCPU, u32(40, 1), gives="-ENOENT", note="closed, and no vCPU 1: the vCPU counts first")
row("event_channel_op", SEND, port(A_GLOBAL_VIRQ), gives="-EINVAL", note="a global VIRQ")
row("event_channel_op", STATUS, struct.pack("<HHI", 0, 0, 100) + bytes(16), gives="-EINVAL", note="beyond domain 0's")
row(
    "event_channel_op",
    INTERDOMAIN,
    named("the other end", lambda p: struct.pack("<HHII", DOMID_SELF, 0, A_LOOPBACK(p), 0)),
    gives="-EINVAL",
    note="bound already",
)
row("event_channel_op", UNBOUND, struct.pack("<HHI", 0x7FF2, 0, 0), gives="-ESRCH", note="for DOMID_XEN")
row("event_channel_op", INTERDOMAIN, struct.pack("<HHII", 0x7FF2, 0, 1, 0), gives="-ESRCH", note="DOMID_XEN")

# PIRQs: of a guest that was granted an edge (9) and a level interrupt (10), behind bound ones.
for pirq, error in (
    (0, "-EPERM"),
    (1, "-EPERM"),
    (2, "-EPERM"),
    (55, "-EPERM"),
    (56, "-EINVAL"),
    (1 << 31, "-EINVAL"),
    ((1 << 32) - 1, "-EINVAL"),
):
    row("event_channel_op", PIRQ, u32(pirq, 0, 0), gives=error, note=f"PIRQ {pirq:#x}")
for pirq in (9, 10):
    row("event_channel_op", PIRQ, pirq_of(pirq, u32(pirq, 0, 0)), gives=0, note=f"granted PIRQ {pirq}")
    row("event_channel_op", PIRQ, pirq_of(pirq, u32(pirq, 1, 0)), gives=0, note=f"shared PIRQ {pirq}")
row("event_channel_op", PIRQ, named("twice", lambda p: (A_PIRQ(p), u32(9, 0, 0))[1]), gives="-EEXIST", note="a PIRQ")
row("event_channel_op", SEND, port(A_PIRQ), gives="-EINVAL", note="PIRQ")
row("event_channel_op", CLOSE, port(A_PIRQ), gives=0, note="PIRQ")
row("event_channel_op", UNMASK, port(A_PIRQ), gives=0, note="PIRQ")
row("event_channel_op", VCPU, port(A_PIRQ, 0), gives=0, note="PIRQ")
for irq, error in ((0, "-EINVAL"), (1, "-EINVAL"), (2, 0), (9, "-EINVAL"), (55, "-EINVAL"), (56, "-EINVAL")):
    row("physdev_op", EOI, u32(irq), gives=error, note=f"eoi {irq}")
for irq in (9, 10):
    row("physdev_op", EOI, pirq_of(irq, u32(irq)), gives=0, note=f"eoi of granted {irq}")
for irq, error in ((0, 0), (9, 0), (55, 0), (56, "-EINVAL"), (1 << 31, "-EINVAL"), ((1 << 32) - 1, "-EINVAL")):
    row("physdev_op", STATUS_QUERY, u32(irq, 0), gives=error, note=f"irq_status_query {irq:#x}")
row("physdev_op", 4, 0, gives=0, note="IRQ_UNMASK_NOTIFY")
for operation in (EOI_PAGE, EOI_PAGE_1):
    row("physdev_op", operation, writable_frame, gives=0, note="pirq_eoi_gmfn")
    row(
        "physdev_op",
        operation,
        named("twice", lambda p: (p.hypercall("physdev_op", EOI_PAGE, writable_frame(p)), writable_frame(p))[1]),
        gives="-EBUSY",
        note="pirq_eoi_gmfn",
    )
    row("physdev_op", operation, u64(1 << 40), gives="-EINVAL", note="pirq_eoi_gmfn beyond RAM")
    row("physdev_op", operation, table_frame, gives="-EINVAL", note="pirq_eoi_gmfn, a page table")
for operation, size in ((MAP_PIRQ, 40), (UNMAP_PIRQ, 8)):
    for domid, error in ((DOMID_SELF, "-EPERM"), (0, "-EPERM"), (NOBODY, "-ESRCH")):
        request = struct.pack("<H", domid) + bytes(size - 2)
        row("physdev_op", operation, request, gives=error, note=f"map or unmap for {domid}")
MULTI_MSI = struct.pack("<H2xIIIIIH6xQ", NOBODY, 4, 0, 0, 0, 0, 0, 1)
row("physdev_op", MAP_PIRQ, MULTI_MSI, gives="-EINVAL", note="several MSIs with a table")

# The FIFO ABI. A guest that has changed to it is told of its orders all the same (guest_kit.Puppet).
for offset, vcpu, error in (
    (0, 0, 0),
    (8, 0, 0),
    (4024, 0, 0),
    (4032, 0, "-EINVAL"),
    (4096, 0, "-EINVAL"),
    (1 << 31, 0, "-EINVAL"),
    ((1 << 32) - 8, 0, "-EINVAL"),
    (4, 0, "-EINVAL"),
    (1, 0, "-EINVAL"),
    (0, 1, "-ENOENT"),
    (4, 64, "-ENOENT"),
    (0, (1 << 32) - 1, "-ENOENT"),
):
    row("event_channel_op", INIT_CONTROL, control(data_frame, offset, vcpu), gives=error, note=f"vCPU {vcpu:#x}")
for name, frame in BAD_FRAMES.items():
    row("event_channel_op", INIT_CONTROL, control(frame, 0, 0), gives="-EINVAL", note=f"in {name}")
    row("event_channel_op", EXPAND, fifo(lambda p, frame=frame: u64(frame(p))), gives="-EINVAL", note=f"by {name}")
row("event_channel_op", INIT_CONTROL, fifo(lambda p: control(data_frame, 0, 0)(p)), gives="-EINVAL", note="again")
row("event_channel_op", EXPAND, u64(0), gives="-EOPNOTSUPP", note="expand_array before init_control")
row("event_channel_op", EXPAND, writable_frame, gives="-EOPNOTSUPP", note="expand_array before init_control")
row("event_channel_op", EXPAND, fifo(writable_frame), gives=0, note="expand_array")
row("event_channel_op", EXPAND, full_fifo(128), gives="-ENOSPC", note="expand_array, 128 pages are there")
row("event_channel_op", EXPAND, full_fifo(127), gives=0, note="expand_array, the last page")
for number, priority, error in (
    (1, 0, "-ENOSYS"),
    (1, 16, "-ENOSYS"),
    (0, 0, "-ENOSYS"),
    (40, 0, "-ENOSYS"),
    (64, 0, "-EINVAL"),
    ((1 << 32) - 1, 0, "-EINVAL"),
):
    row("event_channel_op", PRIORITY, u32(number, priority), gives=error, note=f"2-level: {number:#x} to {priority}")
for number, priority, error in (
    (1, 0, 0),
    (1, 15, 0),
    (1, 16, "-EINVAL"),
    (1, (1 << 32) - 1, "-EINVAL"),
    (0, 0, "-EACCES"),
    (40, 0, "-EACCES"),
    (40, 16, "-EACCES"),
    (64, 0, "-EINVAL"),
    (1 << 17, 0, "-EINVAL"),
):
    request = u32(number, priority)
    row("event_channel_op", PRIORITY, fifo(lambda p, r=request: r), gives=error, note=f"{number:#x} to {priority:#x}")
for operation, request in ((SEND, u32(1)), (UNMASK, u32(1)), (UNMASK, u32(40)), (CLOSE, u32(1)), (VCPU, u32(1, 0))):
    row("event_channel_op", operation, fifo(lambda p, r=request: r), gives=0, note=f"{operation}, FIFO without array")
row("event_channel_op", SEND, fifo(lambda p: u32(40)), gives="-EINVAL", note="FIFO, closed")
row("event_channel_op", IPI, fifo(lambda p: u32(0, 0)), gives=0, note="FIFO")

# reset
for domid, error in ((DOMID_SELF, 0), (0, "-EPERM"), (NOBODY, "-ESRCH"), (0x7FF2, "-ESRCH")):
    row("event_channel_op", RESET, struct.pack("<HH", domid, 0), gives=error, note=f"reset {domid}")
row("event_channel_op", RESET, own_domid_as_u16, gives=0, note="reset, by its number")
row("event_channel_op", RESET, fifo(lambda p: struct.pack("<HH", DOMID_SELF, 0)), gives=0, note="reset, FIFO")
for domid, error in ((DOMID_SELF, "-EBUSY"), (0, "-EPERM"), (NOBODY, "-ESRCH")):
    row("event_channel_op", 14, struct.pack("<HH", domid, 0), gives=error, note="a reset goes on that never began")
for name, make, error in (("unbound", AN_UNBOUND, 0), ("IPI", AN_IPI, 0), ("VIRQ", A_TIMER, "-EINVAL")):
    row("event_channel_op", SEND, port(make), gives=error, note=name)
    row("event_channel_op", CLOSE, port(make), gives=0, note=name)
    row("event_channel_op", UNMASK, port(make), gives=0, note=name)

# --- scheduling and time ------------------------------------------------------------------------------------------


def poll(ports: bytes | int, count: int, timeout: int = 1) -> Callable[[Puppet], bytes]:
    return named(
        f"{count} ports",
        lambda p: struct.pack("<QIIQ", p.place(ports) if isinstance(ports, bytes) else ports, count, 0, timeout),
    )


row("sched_op", 0, 0, gives=0, note="yield")
row("sched_op", 3, poll(b"", 0), gives=0, note="poll nothing")
row("sched_op", 3, poll(u32(1), 1), gives=0, note="poll, a timeout long past")
row("sched_op", 3, poll(u32(*[1] * 128), 128), gives=0, note="poll")
row("sched_op", 3, poll(u32(*[1] * 129), 129), gives="-EINVAL", note="poll")
row("sched_op", 3, poll(b"", (1 << 32) - 1), gives="-EINVAL", note="poll")
for pointer in (UNMAPPED, NON_CANONICAL, HV_RANGE):
    row("sched_op", 3, poll(pointer, 1), gives="-EFAULT", note=f"poll {pointer:#x}")
for number in (0, 3, 63, 64, 4096, 1 << 31, (1 << 32) - 1):
    row("sched_op", 3, poll(u32(number), 1), gives="-EINVAL", note=f"poll port {number:#x}")
row("sched_op", 5, u32(0), gives=0, note="shutdown_code")
row("sched_op", 6, u32(0, 1000), gives=1, note="a first watchdog")
for number, timeout, error in ((1, 10, "-EINVAL"), (2, 0, "-EINVAL"), (3, 10, "-EINVAL"), (1 << 31, 0, "-EINVAL")):
    row("sched_op", 6, u32(number, timeout), gives=error, note=f"watchdog {number}, which is not in use")
for timeout in (0, 1, 1 << 40, 1 << 62, 1 << 63, (1 << 64) - 1):
    row("set_timer_op", timeout, gives=0)
for vcpu in (1, 64, 1 << 31, (1 << 32) - 1):
    for operation in (3, 6, 7, 8, 9, 100):
        row("vcpu_op", operation, vcpu, bytes(16), gives="-ENOENT")
row("vcpu_op", 3, 0, 0, gives=1, note="is_up")
for period, error in (
    (0, "-EINVAL"),
    (1, "-EINVAL"),
    (999_999, "-EINVAL"),
    (1_000_000, 0),
    (1 << 59, 0),
    ((1 << 64) - 1, "-EINVAL"),
):
    row("vcpu_op", 6, 0, u64(period), gives=error, note=f"periodic timer of {period} ns")
row("vcpu_op", 7, 0, 0, gives=0, note="stop_periodic_timer")
row("vcpu_op", 9, 0, 0, gives=0, note="stop_singleshot_timer")
row("vcpu_op", 8, 0, struct.pack("<QII", 1 << 40, 0, 0), gives=0, note="singleshot")
row("vcpu_op", 8, 0, struct.pack("<QII", 1, 0, 0), gives=0, note="singleshot in the past")
row(
    "vcpu_op",
    8,
    0,
    struct.pack("<QII", 1, 1, 0),
    gives=0,
    note="singleshot in the past: 4.17.7 does not look at the flag",
)

# --- traps, callbacks, descriptors, segments ----------------------------------------------------------------------


def trap(vector: int, address: int) -> bytes:
    return struct.pack("<BBHIQ", vector, 0, 0xE033, 0, address)


row("set_trap_table", 0, gives=0, note="none")
row("set_trap_table", bytes(16), gives=0, note="an empty table")
row("set_trap_table", trap(200, 0x1000) + bytes(16), gives=0)
row("set_trap_table", trap(200, NON_CANONICAL) + bytes(16), gives="-EINVAL", note="not canonical")
row("set_trap_table", trap(200, 1 << 63) + bytes(16), gives="-EINVAL", note="bit 63")
row("set_trap_table", trap(200, HV_RANGE) + bytes(16), gives=0, note="an address of hv: taken, as on Xen")
row("set_trap_table", trap(200, 0x1000) * 300 + bytes(16), gives=0, note="longer than there are vectors")


def endless_table(p: Puppet) -> int:
    """300 rows up to a hole; no row ends the table."""
    assert p.hypercall("update_va_mapping", p.page(11), 0, 2) == 0
    p.guest.write(p.page(11) - 4800, trap(200, 0x1000) * 300)
    return p.page(11) - 4800


row("set_trap_table", endless_table, gives="-EFAULT")
for kind in (0, 1, 2, 4, 5, 7):
    row("callback_op", 0, struct.pack("<HHIQ", kind, 0, 0, 0x1000), gives=0, note=f"register type {kind}")
    row(
        "callback_op",
        0,
        struct.pack("<HHIQ", kind, 0, 0, NON_CANONICAL),
        gives="-EINVAL",
        note=f"register type {kind}, not canonical",
    )
    row(
        "callback_op",
        1,
        struct.pack("<HH", kind, 0),
        gives=0 if kind == 4 else "-EINVAL",
        note=f"unregister type {kind}",
    )
for kind in (3, 6, 8, 0xFFFF):
    row("callback_op", 0, struct.pack("<HHIQ", kind, 0, 0, 0x1000), gives="-ENOSYS", note=f"register type {kind}")
    row("callback_op", 1, struct.pack("<HH", kind, 0), gives="-ENOSYS", note=f"unregister type {kind}")
row(
    "callback_op",
    0,
    struct.pack("<HHIQ", 3, 0, 0, NON_CANONICAL),
    gives="-EINVAL",
    note="the address is looked at first",
)
row("set_callbacks", 0, 0, 0, gives=0)
row("set_callbacks", NON_CANONICAL, 1 << 63, NON_CANONICAL, gives=0, note="bad addresses are ignored")
row("stack_switch", 0, 0, gives=0)
row("stack_switch", 0xFFFF, NON_CANONICAL, gives=0)
row("fpu_taskswitch", 1, gives=0)
row("fpu_taskswitch", 0, gives=0)
row("set_gdt", 0, 0, gives=0, note="no entries")
row("set_gdt", page_frame, 512, gives=0)
row("set_gdt", page_frame, 1, gives=0)
row("set_gdt", bytes(128), 0x1C01, gives="-EINVAL", note="over the reserved entries")
row("set_gdt", UNMAPPED, 0x1C01, gives="-EINVAL", note="over the reserved entries, a bad pointer")
row("set_gdt", bytes(128), (1 << 32) - 1, gives="-EINVAL", note="over the reserved entries")
row("set_gdt", writable_frame, 512, gives="-EINVAL", note="mapped writable")
row("set_gdt", u64(0), 1, gives="-EINVAL", note="frame 0")
row("set_gdt", u64(1 << 40), 1, gives="-EINVAL", note="beyond RAM")
row("set_gdt", named("one good, one bad", lambda p: page_frame(p) + u64(0)), 513, gives="-EINVAL")
for which in (0, 1, 2):
    row("set_segment_base", which, 0x1234, gives=0)
    row("set_segment_base", which, HV_RANGE, gives=0)
    row("set_segment_base", which, NON_CANONICAL, gives="-EINVAL")
    row("set_segment_base", which, (1 << 63) - 1, gives="-EINVAL")
for selector in (0, 3, 0xE02B, 0x1234, 0xFFFF, NON_CANONICAL):
    row("set_segment_base", 3, selector, gives=0, note="a bad selector loads 0")
for kind in range(0, 70):
    good = kind in (0, 1, 2, 3, 4, 5, 32)
    if good or kind in (6, 7, 31, 33, 63, 64, 69):
        row("vm_assist", 0, kind, gives=0 if good else "-EINVAL", note="enable")
        row("vm_assist", 1, kind, gives=0 if good else "-EINVAL", note="disable")
row("vm_assist", 2, 6, gives="-EINVAL", note="the type is looked at first")
for iopl in (0, 1, 2, 3):
    row("physdev_op", 6, u32(iopl), gives=0, note="set_iopl")
for iopl in (4, 255, (1 << 32) - 1):
    row("physdev_op", 6, u32(iopl), gives="-EINVAL", note=f"set_iopl {iopl}")

# --- mmuext_op, update_va_mapping: what is not about frames (tests/unit/paging has those) -------------------------


def extended(command: int, first: int = 0, second: int = 0) -> bytes:
    return u32(command, 0) + u64(first, second)


for command in (xen.MMUEXT_TLB_FLUSH_LOCAL, xen.MMUEXT_TLB_FLUSH_ALL):
    row("mmuext_op", extended(command), 1, 0, DOMID_SELF, gives=0)
for command in (xen.MMUEXT_INVLPG_LOCAL, xen.MMUEXT_INVLPG_ALL):
    for address in (0x1000, UNMAPPED, NON_CANONICAL, HV_RANGE):
        row("mmuext_op", extended(command, address), 1, 0, DOMID_SELF, gives=0, note=f"{command}: {address:#x}")
for command in (xen.MMUEXT_TLB_FLUSH_MULTI, xen.MMUEXT_INVLPG_MULTI):
    row(
        "mmuext_op",
        named("a mask", lambda p, c=command: extended(c, 0x1000, p.place(u64(1)))),
        1,
        0,
        DOMID_SELF,
        gives=0,
        note=str(command),
    )
    row(
        "mmuext_op",
        extended(command, 0x1000, UNMAPPED),
        1,
        0,
        DOMID_SELF,
        gives="-EINVAL",
        note=f"{command}: an unmapped mask",
    )
row("mmuext_op", extended(xen.MMUEXT_FLUSH_CACHE), 1, 0, DOMID_SELF, gives="-EACCES")
row(
    "mmuext_op",
    extended(xen.MMUEXT_FLUSH_CACHE_GLOBAL),
    1,
    0,
    DOMID_SELF,
    gives="-EINVAL",
    note="flush the cache everywhere",
)
for command in (xen.MMUEXT_MARK_SUPER, xen.MMUEXT_UNMARK_SUPER):
    row("mmuext_op", extended(command), 1, 0, DOMID_SELF, gives="-EOPNOTSUPP", note=str(command))
LDT = xen.MMUEXT_SET_LDT
row("mmuext_op", extended(LDT, 0x1000, 8192), 1, 0, DOMID_SELF, gives=0, note="LDT")
row("mmuext_op", extended(LDT, 0x1000, 8193), 1, 0, DOMID_SELF, gives="-EINVAL", note="LDT too long")
row("mmuext_op", extended(LDT, 0x1008, 1), 1, 0, DOMID_SELF, gives="-EINVAL", note="LDT not aligned")
row("mmuext_op", extended(LDT, HV_RANGE, 1), 1, 0, DOMID_SELF, gives="-EINVAL", note="LDT of hv")
row("mmuext_op", extended(LDT, NON_CANONICAL, 1), 1, 0, DOMID_SELF, gives="-EINVAL", note="LDT not canonical")
row("mmuext_op", extended(LDT, 0, 0), 1, 0, DOMID_SELF, gives=0, note="no LDT")
row(
    "mmuext_op",
    extended(LDT, 0x1008, 0),
    1,
    0,
    DOMID_SELF,
    gives=0,
    note="no LDT, any address",
)
row("mmuext_op", 0, 0, 0, DOMID_SELF, gives=0, note="nothing to do")
row("mmu_update", 0, 0, 0, DOMID_SELF, gives=0, note="nothing to do")
row("mmu_update", 0, 0, UNMAPPED, DOMID_SELF, gives=0, note="a counter that can not be written is ignored")
for flags in (0, 1, 2, 4 | 1, 4 | 2):
    row("update_va_mapping", named("page 1", lambda p: p.page(1)), 0, flags, gives=0)
row(
    "update_va_mapping",
    named("page 1", lambda p: p.page(1)),
    0,
    UNMAPPED | 1,
    gives="-EFAULT",
    note="a bad mask of vCPUs",
)
row("update_va_mapping", named("page 1", lambda p: p.page(1)), 0, UNMAPPED, gives=0, note="a mask that nobody needs")


# --- update_descriptor --------------------------------------------------------------------------------------------


def descriptor_at(frame: Callable[[Puppet], int], offset: int = 8) -> Callable[[Puppet], int]:
    return named(f"an entry at {offset}", lambda p: (frame(p) << 12) + offset)


def gdt_frame_in_use(p: Puppet) -> int:
    mfn = p.read_only(5)
    assert p.hypercall("set_gdt", u64(mfn), 512) == 0
    return mfn


CODE_64, DATA_DPL_0, TSS, CALL_GATE_RESERVED = (
    0x00AF_FB00_0000_FFFF,
    0x00CF_9300_0000_FFFF,
    0x0000_8900_0000_0067,
    0x0000_8CFF_E033_0000,
)
for name, where, value, error in (
    ("code", descriptor_at(data_frame), CODE_64, 0),
    ("data", descriptor_at(data_frame), DATA_DPL_0, 0),
    ("nothing", descriptor_at(data_frame), 0, 0),
    ("not present", descriptor_at(data_frame), TSS & ~(1 << 47), 0),
    ("in a GDT in use", descriptor_at(gdt_frame_in_use), CODE_64, 0),
    ("the last of its page", descriptor_at(data_frame, 4088), CODE_64, 0),
    ("a TSS", descriptor_at(data_frame), TSS, "-EINVAL"),
    ("a call gate with reserved bits", descriptor_at(data_frame), CALL_GATE_RESERVED, "-EINVAL"),
    ("a TSS in a GDT in use", descriptor_at(gdt_frame_in_use), TSS, "-EINVAL"),
    ("not aligned", descriptor_at(data_frame, 12), CODE_64, "-EINVAL"),
    ("in frame 0", descriptor_at(lambda p: 0), CODE_64, "-EINVAL"),
    ("beyond RAM", descriptor_at(lambda p: 1 << 40), CODE_64, "-EINVAL"),
    ("in a page table", descriptor_at(lambda p: p.table(1, p.page(1))), CODE_64, "-EINVAL"),
    ("in the L4 table", descriptor_at(lambda p: p.table(4, p.page(1))), CODE_64, "-EINVAL"),
):
    row("update_descriptor", where, value, gives=error, note=name)

# --- vCPUs --------------------------------------------------------------------------------------------------------


def vcpu_info(frame: Callable[[Puppet], int], offset: int) -> Callable[[Puppet], bytes]:
    return named(f"offset {offset}", lambda p: struct.pack("<QII", frame(p), offset, 0))


INITIALISE, UP, REGISTER_INFO = 0, 1, 10
row("vcpu_op", UP, 0, 0, gives=0, note="up: it is")
row("vcpu_op", INITIALISE, 0, bytes(6000), gives="-EEXIST", note="initialise what runs")
row("vcpu_op", REGISTER_INFO, 0, vcpu_info(data_frame, 64), gives=0, note="register_vcpu_info")
row("vcpu_op", REGISTER_INFO, 0, vcpu_info(data_frame, 4032), gives=0, note="register_vcpu_info at the end of a page")
row(
    "vcpu_op",
    REGISTER_INFO,
    0,
    vcpu_info(data_frame, 4040),
    gives="-ENXIO",
    note="register_vcpu_info across the end",
)
row(
    "vcpu_op",
    REGISTER_INFO,
    0,
    vcpu_info(data_frame, 1 << 31),
    gives="-ENXIO",
    note="register_vcpu_info far off",
)
row(
    "vcpu_op",
    REGISTER_INFO,
    0,
    vcpu_info(data_frame, 60),
    gives="-ENXIO",
    note="register_vcpu_info not aligned",
)
for name, frame in {
    "frame 0": lambda p: 0,
    "beyond RAM": lambda p: 1 << 40,
    "a page table": lambda p: p.table(1, p.page(1)),
}.items():
    row("vcpu_op", REGISTER_INFO, 0, vcpu_info(frame, 0), gives="-EINVAL", note=f"register_vcpu_info in {name}")
for operation in (INITIALISE, UP, REGISTER_INFO):
    row("vcpu_op", operation, 1, bytes(6000), gives="-ENOENT", note="of a vCPU that is not there")


RUNSTATE_AREA, TIME_AREA, RUNSTATE, PHYSID = 5, 13, 4, 12
for operation in (RUNSTATE_AREA, TIME_AREA):
    for address, error in (
        (0, 0),  # no area any more
        (UNMAPPED, 0),  # shows when it is written, and then nobody hears of it
        (NON_CANONICAL - 1, 0),
        (NON_CANONICAL, "-EFAULT"),
        (MACHPHYS, "-EFAULT"),
        (HV_RANGE, "-EFAULT"),
        ((0xFFFF << 48) | 0x8800_0000_0000 - 1, "-EFAULT"),
        ((0xFFFF << 48) | 0x8800_0000_0000, 0),
        ((1 << 64) - 1, 0),
    ):
        row("vcpu_op", operation, 0, u64(address), gives=error, note=f"{operation}: an area at {address:#x}")
    row("vcpu_op", operation, 0, named("data page", lambda p: u64(p.page(3))), gives=0)
    row("vcpu_op", operation, 1, u64(0), gives="-ENOENT")
row("vcpu_op", RUNSTATE, 0, bytes(48), gives=0, note="get_runstate_info")
row("vcpu_op", RUNSTATE, 0, read_only_page, gives="-EFAULT", note="get_runstate_info")
row("vcpu_op", RUNSTATE, 0, end_of_memory(47), gives="-EFAULT", note="get_runstate_info")
row("vcpu_op", RUNSTATE, 1, bytes(48), gives="-ENOENT", note="get_runstate_info")
row("vcpu_op", PHYSID, 0, bytes(8), gives="-EINVAL", note="get_physid")
row("vcpu_op", 6, 0, u64((1 << 62) - 1), gives=0, note="the longest period")
row("vcpu_op", 6, 0, u64(1 << 62), gives="-EINVAL", note="a period that is too long")
row("vcpu_op", 8, 0, struct.pack("<QII", (1 << 64) - 1, 0, 0), gives=0, note="singleshot, negative for Xen")

# --- multicall ----------------------------------------------------------------------------------------------------


def entry(call: str, *arguments: int) -> bytes:
    return u64(abi.BY_NAME[call].number, 0x5A5A, *arguments, *[0] * (6 - len(arguments)))


row("multicall", 0, 0, gives=0, note="nothing")
row("multicall", entry("xen_version"), 1, gives=0)
row("multicall", entry("multicall", 0, 0), 1, gives=0, note="inside itself: the entry's result is the error")
row(
    "multicall",
    named(
        "a result that can not be written",
        lambda p: (p.guest.write(p.page(9), entry("xen_version")), read_only_page(p))[1],
    ),
    1,
    gives="-EFAULT",
)


@pytest.mark.parametrize(("call", "arguments", "gives"), ROWS)
def test_result(call: str | int, arguments: tuple[Argument, ...], gives: str | int) -> None:
    with puppet() as p:
        given = [argument(p) if callable(argument) else argument for argument in arguments]
        assert error_name(p.hypercall(call, *given)) == gives
        if call not in ("set_trap_table", "set_callbacks", "callback_op"):
            assert p.alive


def test_there_are_enough() -> None:
    assert len(ROWS) >= 1200


# --- results in memory --------------------------------------------------------------------------------------------


def test_multicall_results_stand_in_the_entries() -> None:
    with puppet() as p:
        calls = [
            (entry("xen_version", 0), 4 << 16 | 17),
            (entry("xen_version", 99), "-ENOSYS"),
            (entry("multicall", 0, 0), "-EINVAL"),
            (u64(63) + bytes(56), "-ENOSYS"),
            (u64(1 << 40) + bytes(56), "-ENOSYS"),
            (entry("vm_assist", 0, 99), "-EINVAL"),
            (entry("xen_version", 7, 0), 4096),
        ]
        where = p.place(b"".join(call for call, _ in calls))
        assert p.hypercall("multicall", where, len(calls)) == 0
        results = [struct.unpack("<q", p.guest.read(where + 64 * i + 8, 8))[0] for i in range(len(calls))]
        assert [error_name(result) for result in results] == [expected for _, expected in calls]
        for i, (call, _) in enumerate(calls):
            assert p.guest.read(where + 64 * i + 16, 48) == call[16:], "arguments of a finished call are not touched"


def test_multicall_stops_at_a_hole() -> None:
    """Entries before it have been made."""
    with puppet() as p:
        assert p.hypercall("update_va_mapping", p.page(11), 0, 2) == 0
        where = p.page(11) - 128
        p.guest.write(where, entry("xen_version", 0) * 2)
        assert error_name(p.hypercall("multicall", where, 3)) == "-EFAULT"
        assert [int.from_bytes(p.guest.read(where + 64 * i + 8, 8), "little") for i in range(2)] == [4 << 16 | 17] * 2


def test_long_multicall() -> None:
    with puppet() as p:
        count = 1500
        where = p.place(entry("xen_version", 0) * count)
        assert p.hypercall("multicall", where, count) == 0
        results = struct.unpack(f"<{count * 8}Q", p.guest.read(where, 64 * count))[1::8]
        assert set(results) == {4 << 16 | 17}


def test_vcpu_registers_after_a_hypercall() -> None:
    """rcx and r11 are what syscall and sysret leave there; the argument registers are kept."""
    with puppet() as p:
        p.hypercall("xen_version", 0, 0x1111, 0x2222, 0x3333)
        registers = p.domain.registers()
        assert registers["cs"] == 0xE033
        assert registers["ss"] == 0xE02B


def test_status_of_each_kind_of_port() -> None:
    with puppet() as p:
        near = AN_UNBOUND(p)
        far = bound(INTERDOMAIN, struct.pack("<HHII", DOMID_SELF, 0, near, 0), 8)(p)
        me = p.domain.domid
        kinds = {
            FOR_DOMAIN_0(p): (1, 0, struct.pack("<H", 0)),
            near: (2, 0, struct.pack("<HHI", me, 0, far)),
            far: (2, 0, struct.pack("<HHI", me, 0, near)),
            A_TIMER(p): (4, 0, u32(0)),
            AN_IPI(p): (5, 0, b""),
            60: (0, 0, b""),
        }
        for number, (status, vcpu, detail) in kinds.items():
            where = p.place(struct.pack("<HHI", DOMID_SELF, 0, number) + bytes(16))
            assert p.hypercall("event_channel_op", STATUS, where) == 0
            content = p.guest.read(where, 24)
            assert struct.unpack_from("<II", content, 8) == (status, vcpu)
            assert content[16 : 16 + len(detail)] == detail


def test_closing_one_end_leaves_the_other_unbound() -> None:
    with puppet() as p:
        near = AN_UNBOUND(p)
        far = bound(INTERDOMAIN, struct.pack("<HHII", DOMID_SELF, 0, near, 0), 8)(p)
        assert p.hypercall("event_channel_op", CLOSE, u32(far)) == 0
        assert p.guest.port(far)[0] == 0
        assert p.guest.port(near)[0] == 1
        assert bound(INTERDOMAIN, struct.pack("<HHII", DOMID_SELF, 0, near, 0), 8)(p) == far


def test_ports_run_out() -> None:
    """xl's default of 1023; nothing is lost when they are closed again."""
    with puppet() as p:
        p.guest.write(p.page(8), struct.pack("<HHI", DOMID_SELF, DOMID_SELF, 0))
        count = 0
        while (result := p.hypercall("event_channel_op", UNBOUND, p.page(8))) == 0:
            count += 1
        assert error_name(result) == "-ENOSPC"
        assert count == 1023 - 2  # the store and the console have theirs
        assert error_name(p.hypercall("event_channel_op", IPI, u32(0, 0))) == "-ENOSPC"
        assert error_name(p.hypercall("event_channel_op", VIRQ, u32(0, 0, 0))) == "-ENOSPC"
        assert p.hypercall("event_channel_op", CLOSE, u32(500)) == 0
        assert AN_IPI(p) == 500


def test_a_reservation_starts_where_the_command_says() -> None:
    """Bits 6 and up of the command: the first extent to look at. Extent 0 stays the guest's."""
    with puppet() as p:
        frames = [p.mfn(p.page(index)) for index in (1, 2)]
        for index in (1, 2):
            assert p.map(p.page(index), 0, 0) == 0
        before = p.guest.nr_pages
        request = struct.pack("<QQIIH6x", p.place(u64(*frames)), 2, 0, 0, DOMID_SELF)
        assert p.hypercall("memory_op", 1 | 1 << 6, request) == 2
        assert p.guest.nr_pages == before - 1
        assert p.hypercall("memory_op", 1, request) == 1  # the first can be freed, the second is gone


def test_populate_and_increase() -> None:
    """After room was made: extents of any order up to 9, contiguous, of the guest, with their M2P entries."""
    with puppet() as p:
        p.guest.max_pages = p.guest.nr_pages + 1024
        extents = p.place(u64(10_000, 20_000))
        before = p.guest.nr_pages
        assert p.hypercall("memory_op", 6, struct.pack("<QQIIH6x", extents, 2, 3, 0, DOMID_SELF)) == 2
        for first, pfn in zip(struct.unpack("<2Q", p.guest.read(extents, 16)), (10_000, 20_000), strict=True):
            assert [p.load(MACHPHYS + 8 * (first + i)) for i in range(8)] == list(range(pfn, pfn + 8))
            assert all(p.guest.owns(first + i) for i in range(8))
        assert p.guest.nr_pages == before + 16
        assert p.hypercall("memory_op", 0, struct.pack("<QQIIH6x", extents, 1, 9, 0, DOMID_SELF)) == 1
        assert p.guest.nr_pages == before + 16 + 512
        first = struct.unpack("<Q", p.guest.read(extents, 8))[0]
        assert all(p.guest.owns(first + i) for i in range(512))
        assert p.hypercall("memory_op", 0, struct.pack("<QQIIH6x", 0, 3, 0, 0, DOMID_SELF)) == 3


def test_grant_table_set_up() -> None:
    with puppet() as p:
        size = p.place(struct.pack("<HHIIhH", DOMID_SELF, 0, 0, 0, 99, 0))
        assert p.hypercall("grant_table_op", 6, size, 1) == 0
        _, _, frames, most, status, _ = struct.unpack("<HHIIhH", p.guest.read(size, 16))
        assert (frames, most, status) == (1, 64, 0)
        frame_list = p.place(bytes(8 * 65))
        for count, expected in ((1, 0), (4, 0), (64, 0), (65, -1), (2, 0)):
            setup = p.place(struct.pack("<HHIh6xQ", DOMID_SELF, 0, count, 99, frame_list))
            assert p.hypercall("grant_table_op", 2, setup, 1) == 0
            assert struct.unpack_from("<h", p.guest.read(setup, 24), 8)[0] == expected
        frames_list = struct.unpack("<64Q", p.guest.read(frame_list, 512))
        assert len(set(frames_list)) == 64
        assert p.map(p.page(1), frames_list[0]) == 0
        p.store(p.page(1), 1)
        assert error_name(p.mmuext(xen.MMUEXT_PIN_L1_TABLE, frames_list[0])) == "-EINVAL"


@pytest.mark.parametrize(
    ("domid", "status"),
    [
        (NOBODY, -2),
        (0, -8),
    ],
)
def test_grant_table_of_others(domid: int, status: int) -> None:
    with puppet() as p:
        for operation, layout, at in ((2, "<HHIh6xQ", 8), (6, "<HHIIhH", 12)):
            fields = (domid, 0, 1, 99, 0) if operation == 2 else (domid, 0, 0, 0, 99, 0)
            where = p.place(struct.pack(layout, *fields))
            assert p.hypercall("grant_table_op", operation, where, 1) == 0
            assert struct.unpack_from("<h", p.guest.read(where, 16), at)[0] == status


def test_grant_table_list_that_can_not_be_written() -> None:
    with puppet() as p:
        setup = p.place(struct.pack("<HHIh6xQ", DOMID_SELF, 0, 1, 99, UNMAPPED))
        assert p.hypercall("grant_table_op", 2, setup, 1) == 0
        assert struct.unpack_from("<h", p.guest.read(setup, 24), 8)[0] == -5


def test_grant_version_is_reported_with_an_error() -> None:
    with puppet() as p:
        where = p.place(u32(3))
        assert error_name(p.hypercall("grant_table_op", 8, where, 1)) == "-EINVAL"
        assert p.guest.read(where, 4) == u32(1)


def test_versions_and_names() -> None:
    with puppet() as p:
        text = p.place(bytes(1100))
        assert p.hypercall("xen_version", 1, text) == 0
        assert p.guest.read(text, 16).rstrip(b"\0").startswith(b".7")
        assert p.hypercall("xen_version", 3, text) == 0
        assert b"xen-3.0-x86_64" in p.guest.read(text, 1024)
        assert p.hypercall("xen_version", 5, text) == 0
        assert p.guest.read(text, 8) == u64(0xFFFF_8000_0000_0000)
        assert p.hypercall("xen_version", 9, text) == 0
        assert p.guest.read(text, 9) == b"<denied>\0"
        assert p.hypercall("xen_version", 4, text) == 0
        assert p.guest.read(text, 64).startswith(b"hv ")
        assert p.hypercall("xen_version", 2, text) == 0
        assert p.guest.read(text + 64, 3) == b"hv\0"
        assert p.hypercall("xen_version", 8, text) == 0
        assert p.guest.read(text, 16) == p.domain.handle
        features = p.place(u32(0, 0))
        assert p.hypercall("xen_version", 6, features) == 0
        assert p.guest.read(features, 8) == u32(0, 1 << 5 | 1 << 6 | 1 << 7 | 1 << 13 | 1 << 17)


@pytest.mark.parametrize("reason", range(8))
def test_shutdown(reason: int) -> None:
    """Reasons end the domain as they say; one that Xen does not know crashes it."""
    with puppet() as p:
        where = p.place(u32(reason))
        p.guest.write(p._mailbox, struct.pack("<8Q", 0, abi.BY_NAME["sched_op"].number, 2, where, 0, 0, 0, 0))
        p.guest.raise_port(CONSOLE_PORT)
        p.machine.reboot_limit = 0
        p.machine.run(timeout=20)
        assert p.domain.ended
        assert p.domain.exit_code == (6 if reason in (3, 4) or reason > 5 else 0)


@pytest.mark.parametrize("timeout", [1 << 60, (1 << 63) + 5, (1 << 64) - 1])
def test_timer_in_the_far_future_is_taken_as_100_ms(timeout: int) -> None:
    """do_set_timer_op: wrapped jiffies of old Linux; VIRQ_TIMER comes, but not at once."""
    with puppet() as p:
        timer = A_TIMER(p)
        before = p.machine.now_ns
        assert p.hypercall("set_timer_op", timeout) == 0
        p.machine.run(until_ns=before + 99_000_000, timeout=20)
        assert p.guest.port(timer)[5] == 0
        p.machine.run(until_ns=before + 102_000_000, timeout=20)
        assert p.guest.port(timer)[5] == 1


def test_every_served_operation_has_a_row() -> None:
    """A new one needs rows here or in tests/unit/paging; with an argument structure it has pointer rows by itself."""
    elsewhere = {"mmu_update", "mmuext_op", "iret"}
    without_answer = {"SCHEDOP_block", "SCHEDOP_shutdown", "VCPUOP_down"}  # the older call's too
    called: set[object] = set()
    for parameters in ROWS:
        call, arguments, _ = parameters.values
        first = arguments[0] if arguments and isinstance(arguments[0], int) else -1
        called |= {call, (call, first & 0x3F if call == "memory_op" else first)}
    for state in states():
        if not state.state.startswith("served") or state.name in elsewhere or state.operation in without_answer:
            continue
        number = abi.BY_NAME[state.name].operation(state.operation).number if state.operation else None
        assert (state.name if number is None else (state.name, number)) in called, f"{state.name} {state.operation}"


def test_argument_sizes_are_those_of_the_abi() -> None:
    """The layouts written out above are the ABI's."""
    sizes = {name: ctypes.sizeof(getattr(module, name)) for module, name in LAYOUTS}
    assert sizes == {
        "xen_memory_reservation": struct.calcsize("<QQIIH6x"),
        "gnttab_setup_table": 24,
        "gnttab_query_size": 16,
        "evtchn_status": 24,
        "sched_poll": struct.calcsize("<QIIQ"),
        "mmuext_op": 24,
        "multicall_entry": 64,
    }


def _layouts() -> list[tuple[Any, str]]:
    from hv.abi import event_channel, grant_table, memory, sched

    return [
        (memory, "xen_memory_reservation"),
        (grant_table, "gnttab_setup_table"),
        (grant_table, "gnttab_query_size"),
        (event_channel, "evtchn_status"),
        (sched, "sched_poll"),
        (xen, "mmuext_op"),
        (xen, "multicall_entry"),
    ]


LAYOUTS = _layouts()
