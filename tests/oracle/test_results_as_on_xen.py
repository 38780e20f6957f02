"""Every row of tests/unit/hypercalls/test_results.py, asked of real Xen: one start, one domain 0, the same results.

A row that domain 0 can not be asked, or that it gets another answer to, is in one of the two lists with the reason.
What is said of an answer must be true: a pattern that no row needs fails.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from guest_kit import error_name
from xen_puppet import XenPuppet, image

from hv.testing import xen_in_qemu

# Rows that would end the oracle, or whose setting only hv has.
NEVER_ASKED = {
    "it would shut itself down": [r"sched_op\(0x4, .*remote_shutdown #4"],
    "there is no other guest": [r"another (guest|domain's frame)"],
    "interrupts are granted by hv's API": [
        r"(granted|shared) PIRQ",
        r"PIRQ$",
        r"\(0x2, twice\) a PIRQ",
        r"eoi of granted",
    ],
    "hv's guest is asked directly for the pages before": [r"FIFO\) expand_array, (128|the last)"],
    "it would lose its own map of memory": [r"memory_op\(0xd, 2 entries for 0x7ff0", r"an E820 of its own"],
    "which frames lie side by side is chance": [r"the second of two frames"],
}
# Rows that domain 0 gets another answer to.
OTHER_ANSWERS = {
    "it is told the command line and the build": [r"^xen_version\((0x9, 9 bytes|0xa)"],
    "the console is its own": [r"^console_io\((0x2|0x1)"],
    "it may, and what comes then is another question": [r"^(platform_op|sysctl|domctl|kexec_op|hypfs_op|arch_0)\("],
    "its number is 0, where a guest of hv has 1 and is not alone": [
        r"^(arch_1|dm_op)\(",
        r"remote_shutdown #3",
        r"access_op #[34]",
        r"claim_pages #[34]",
        r"acquire_resource #3",
        r"get_vnumainfo #3",
        r"maximum_gpfn #[24]",
        r"^hvm_op\(0x(9|f), 16 bytes\) #2",
        r"get_version of domain 0",
        r"status of domain 0",
        r"for domain 0$",
        r"^update_va_mapping_otherdomain",
        r"^memory_op\(0x(3|4), 4 bytes",
        r"^memory_op\(0x(0|1|6|7|17), .*for 0x[01]\)?$",
        r"by its own number",
        r"for 1 of order 0\) #10",
        r"2 entries for 0x0",
        r"reset 0$",
        r"never began #2",
        r"one that waits for another",
    ],
    "the hardware domain's": [r"machine_memory_map", r"get_physid", r"pin_override"],
    "it may set up devices and interrupts, and has more of them": [r"^physdev_op(_compat)?\(", r"PIRQ 0x38"],
    "QEMU's CPU has counters that Xen knows": [r"^xenoprof_op\("],
    "its memory is not limited in these ways": [r"of order 10", r"exactly on NUMA node", r"at the limit"],
    "it has no port of a console": [
        r"the console$",
        r"FIFO\) 0x1 to",
        r"FIFO without array",
        r"^sched_op\(0x3, (1|128) ports",
    ],
    "it may flush caches": [r"#18$", r"flush the cache everywhere"],
    "once a start: only the first row's answer is the same": [r"register_vcpu_info"],
}
# Xen keeps the frames that these were given, or has given them away: the next row gets other ones.
KEEPS_FRAMES = re.compile(r"^memory_op\(0x(1|41|b), |^physdev_op\(0x(11|1c), |register_vcpu_info")


def rows() -> list[Any]:
    place = Path(__file__).parents[1] / "unit" / "hypercalls" / "test_results.py"
    specification = importlib.util.spec_from_file_location("rows_of_results", place)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return list(module.ROWS)


def pattern_for(name: str, table: dict[str, list[str]]) -> str | None:
    return next((pattern for patterns in table.values() for pattern in patterns if re.search(pattern, name)), None)


def test_real_xen_gives_the_same_results() -> None:
    made, where = image()
    wrong: list[str] = []
    compared = 0
    needless = {pattern for patterns in OTHER_ANSWERS.values() for pattern in patterns}
    with xen_in_qemu.Session(made, memory=256, share_ram=True) as session:
        p = XenPuppet(session, where)
        for row in rows():
            call, arguments, gives = row.values
            if pattern_for(row.id, NEVER_ASKED):
                continue
            given = [argument(p) if callable(argument) else argument for argument in arguments]
            answer = error_name(p.hypercall(call, *given))
            known = pattern_for(row.id, OTHER_ANSWERS)
            if known is None:
                compared += 1
                wrong += [f"{row.id}: hv {gives}, Xen {answer}"] if answer != gives else []
            elif answer != gives:
                needless.discard(known)
            p.clean(fresh_frames=bool(KEEPS_FRAMES.search(row.id)))
    assert not wrong, "\n".join(wrong)
    assert not needless, f"no row needs: {needless}"
    assert compared >= 1000


def test_what_is_never_asked_is_there() -> None:
    names = [row.id for row in rows()]
    assert all(
        any(re.search(pattern, name) for name in names) for patterns in NEVER_ASKED.values() for pattern in patterns
    )
