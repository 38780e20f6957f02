"""The CPU's exception vectors, as a guest sees them. Specified in Intel SDM volume 3, chapter 6.15."""

# vector: (mnemonic, name, whether the CPU pushes an error code)
VECTORS: dict[int, tuple[str, str, bool]] = {
    0: ("#DE", "divide error", False),
    1: ("#DB", "debug exception", False),
    2: ("NMI", "non-maskable interrupt", False),
    3: ("#BP", "breakpoint", False),
    4: ("#OF", "overflow", False),
    5: ("#BR", "bound range", False),
    6: ("#UD", "invalid opcode", False),
    7: ("#NM", "device not available", False),
    8: ("#DF", "double fault", True),
    10: ("#TS", "invalid TSS", True),
    11: ("#NP", "segment not present", True),
    12: ("#SS", "stack fault", True),
    13: ("#GP", "general protection", True),
    14: ("#PF", "page fault", True),
    16: ("#MF", "x87 error", False),
    17: ("#AC", "alignment check", True),
    18: ("#MC", "machine check", False),
    19: ("#XM", "SIMD error", False),
}


def name(vector: int) -> str:
    """`page fault #PF` for 14; `vector 33` where there is no exception of that number."""
    row = VECTORS.get(vector)
    return f"{row[1]} {row[0]}" if row else f"vector {vector:#x}"


def has_error_code(vector: int) -> bool:
    row = VECTORS.get(vector)
    return row is not None and row[2]
