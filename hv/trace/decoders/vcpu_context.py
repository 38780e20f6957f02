"""The state that VCPUOP_initialise gives a vCPU: what one looks at, not its 5 KB."""

from __future__ import annotations

from typing import Any

from hv.abi.arch_x86_xen import vcpu_guest_context
from hv.trace import words
from hv.trace.structures import special


@special(vcpu_guest_context)
def context(c: Any) -> str:
    registers = ", ".join(f"{name}={getattr(c.user_regs, name):#x}" for name in ("rip", "rsp", "rflags", "rdi", "rsi"))
    traps = sum(1 for trap in c.trap_ctxt if trap.address)
    others = (
        ("flags", c.flags),
        ("kernel_sp", c.kernel_sp),
        ("cr3", c.ctrlreg[3]),
        ("gdt_ents", c.gdt_ents),
        ("event_callback", c.event_callback_eip),
    )
    named = ", ".join(f"{name}={words.number(value)}" for name, value in others)
    return f"{{{registers}, {named}, {traps} trap handlers}}"
