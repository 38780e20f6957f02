"""What Xen looks at in an address that a guest gives.

A pointer must lie outside of the hypervisor's range; whether it is mapped shows in the copy. An entry point must be
canonical. Source: Xen 4.17 arch/x86/include/asm/x86_64/uaccess.h and arch/x86/pv/callback.c.
"""

from hv.abi.arch_x86_64 import HYPERVISOR_VIRT_END

BYTES = 1 << 64


def canonical(address: int) -> bool:
    return address < 1 << 47 or address >= BYTES - (1 << 47)


def address_ok(address: int) -> bool:
    return address < 1 << 47 or address >= HYPERVISOR_VIRT_END


def array_ok(address: int, count: int, size: int, first: int = 0) -> bool:
    """Of an array only the address of its first element counts, and that its size is a number at all."""
    return count < (BYTES - 1) // size and address_ok((address + first * size) % BYTES)
