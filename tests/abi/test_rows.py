"""The table of hypercalls is complete and says only what the rest of hv.abi knows."""

import copy
import ctypes
import pickle
import subprocess
import sys

import pytest

from hv.abi import emit, errno
from hv.abi.event_channel import evtchn_status
from hv.abi.hypercalls import BY_NAME, BY_NUMBER, HYPERCALLS
from hv.abi.rows import KINDS, Argument, Hypercall, find


def test_every_number_has_one_row() -> None:
    numbers = {n for name, n in emit.constants().items() if name.startswith("__HYPERVISOR_")}
    assert sorted(numbers) == sorted(row.number for row in HYPERCALLS)
    assert len(BY_NUMBER) == len(BY_NAME) == len(HYPERCALLS)


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("mmu_update", "MMU_"),
        ("mmuext_op", "MMUEXT_"),
        ("event_channel_op", "EVTCHNOP_"),
        ("grant_table_op", "GNTTABOP_"),
        ("sched_op", "SCHEDOP_"),
        ("vcpu_op", "VCPUOP_"),
        ("xen_version", "XENVER_"),
        ("callback_op", "CALLBACKOP_"),
        ("set_segment_base", "SEGBASE_"),
    ],
)
def test_every_operation_has_one_row(name: str, prefix: str) -> None:
    declared = {key: n for key, n in emit.constants().items() if key.startswith(prefix)}
    assert {row.name: row.number for row in BY_NAME[name].operations} == declared


@pytest.mark.parametrize("row", HYPERCALLS, ids=lambda row: row.name)
def test_row_is_well_formed(row: Hypercall) -> None:
    structures = {cls.__name__ for cls in emit.structures()}
    assert len(row.arguments) <= 6
    for argument in row.arguments:
        kind, _, structure = argument.kind.partition(":")
        assert structure in structures if kind == "ptr" else argument.kind in KINDS
    kinds = [argument.kind for argument in row.arguments]
    assert ("arg" not in kinds) or row.operations
    numbers = [operation.number for operation in row.operations]
    assert len(set(numbers)) == len(numbers)
    for operation in row.operations:
        assert operation.direction != "none" or operation.argument is None
    assert row.domu is None or f"XEN_{row.domu}" in vars(errno)


def test_lookup() -> None:
    assert BY_NUMBER[32] is BY_NAME["event_channel_op"]
    assert BY_NAME["sched_op"].operation("SCHEDOP_poll").number == 3
    assert BY_NAME["sched_op"].operation(3).name == "SCHEDOP_poll"
    assert find(HYPERCALLS, "iret").hot == "hot_iret"
    with pytest.raises(KeyError):
        BY_NAME["sched_op"].operation(99)


def test_errno_names() -> None:
    assert errno.name(-22) == "EINVAL"
    assert errno.name(11) == "EAGAIN"
    with pytest.raises(ValueError, match="999 is not one of Xen's error numbers"):
        errno.name(999)


def test_structures_lie_over_memory() -> None:
    memory = bytearray(4096)
    argument = BY_NAME["event_channel_op"].operation("EVTCHNOP_status").argument
    assert argument is evtchn_status
    status = evtchn_status.from_buffer(memory, 8)
    status.u.interdomain.port = 0x1234
    assert memory[8 + 20 : 8 + 22] == b"\x34\x12"
    assert ctypes.sizeof(status) == 24


def test_only_the_standard_library_is_imported() -> None:
    program = (
        "import sys\n"
        "from hv.abi import emit\n"
        "emit.modules()\n"
        "mine = {m for m in sys.modules if m.split('.')[0] == 'hv'} - {'hv'}\n"
        "print(*(m for m in mine if not m.startswith('hv.abi')))\n"
        "print(*{m.split('.')[0] for m in sys.modules} - sys.stdlib_module_names - {'hv'})\n"
    )
    flags = [sys.executable, "-S", "-c", program]
    other, foreign = subprocess.check_output(flags, text=True).split("\n")[:2]
    assert not other
    assert set(foreign.split()) <= {"__main__"}


def test_import_stays_quick() -> None:
    """These two take longer to import than all of hv.abi, which every start of hv pays for."""
    names = [module.__name__ for module in emit.modules()]
    program = (
        f"import sys, {', '.join(names)}; print({{'typing', 'dataclasses'}} & {{*sys.modules}})"
    )
    assert subprocess.check_output([sys.executable, "-S", "-c", program], text=True) == "set()\n"


def test_rows_are_frozen_values() -> None:
    row = Argument("cmd", "op")
    assert row == Argument(name="cmd", kind="op") != Argument("cmd", "uint")
    assert hash(row) == hash(Argument("cmd", "op"))
    assert repr(row) == "Argument(name='cmd', kind='op')"
    assert copy.deepcopy(row) == pickle.loads(pickle.dumps(row)) == row
    with pytest.raises(AttributeError, match="Argument is frozen"):
        row.name = "x"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        object.__setattr__(row, "other", 1)


@pytest.mark.parametrize(
    ("values", "named"),
    [(("a",), {}), (("a", "b", "c"), {}), (("a", "b"), {"kind": "c"}), (("a", "b"), {"x": "c"})],
)
def test_wrong_fields_are_refused(values: tuple[str, ...], named: dict[str, str]) -> None:
    with pytest.raises(TypeError):
        Argument(*values, **named)
