# The proof that Unicorn's private layout is the one that unicorn.pxd says. Part of cpu.pyx, which is linked with the library.
#
# Rules:
# * It runs once, before the first machine, on an instance of its own that no guest ever sees.
# * Registers are found by known values, exception fields and the budget by a small program; what is not where it should be
#   is an EngineError.

ctypedef struct probe_t:
    hv_env *env
    uint64_t block
    uint32_t seen
    uint32_t wrong


cdef void _probe_block(uc_engine *uc, uint64_t address, uint32_t size, void *user) noexcept nogil:
    (<probe_t *>user).block = address


cdef void _probe_interrupt(uc_engine *uc, uint32_t vector, void *user) noexcept nogil:
    """`int $0x80` first, then `div %ecx` by zero in the middle of a block."""
    cdef probe_t *p = <probe_t *>user
    p.seen += 1
    if vector == 0x80:
        p.wrong |= p.env.exception_is_int != 1 or p.env.next_eip != 0x1002 or p.env.eip != 0x1002
    elif vector == 0:
        p.wrong |= p.env.exception_is_int != 0 or p.env.old_exception != 0 or p.env.eip != 0x1004 or p.block != 0x1002
        p.env.old_exception = -1
        p.env.eip += 2
    else:
        p.wrong = 1


cdef const char *_layout_error(uc_engine *uc, hv_env *env, uint64_t *page) noexcept:
    cdef uint64_t value, i
    cdef uc_hook hook
    cdef probe_t p
    cdef int[6] ids = [UC_X86_REG_RBX, UC_X86_REG_R15, UC_X86_REG_RIP, UC_X86_REG_CR2, UC_X86_REG_GS_BASE, UC_X86_REG_DR7]
    cdef uint64_t *fields[6]
    fields[:] = [&env.regs[RBX], &env.regs[15], &env.eip, &env.cr[2], &env.segs[SEG_GS].base, &env.dr[7]]
    for i in range(6):
        value = 0x1122334400 + i
        if uc_reg_write(uc, ids[i], &value) or fields[i][0] != value:
            return b"a register is not where it should be"
    if HV_CFLAGS_NEXT(HV_CPU_OF(uc)) != <uint32_t>-1:
        return b"cflags_next_tb is not where it should be"
    for i in range(40):
        if HV_BANKS(env)[i] != (0 if i % 4 else <uint64_t>-1):
            return b"the machine-check banks are not where they should be"
    memcpy(page, b"\xcd\x80\x31\xc9\xf7\xf1\xf4", 7)     # int $0x80; xor %ecx,%ecx; div %ecx; hlt
    memcpy(<char *>page + 0x100, b"\xeb\x00\x90\xeb\x00\xf4", 6)     # jmp; nop; jmp; hlt
    memset(&p, 0, sizeof(p))
    p.env = env
    uc_mem_map_ptr(uc, 0x1000, 0x1000, UC_PROT_ALL, page)
    uc_hook_add(uc, &hook, UC_HOOK_INTR, <void *>_probe_interrupt, &p, 1, 0)
    uc_hook_add(uc, &hook, UC_HOOK_BLOCK, <void *>_probe_block, &p, 1, 0)
    value = 0
    uc_reg_write(uc, UC_X86_REG_DR7, &value)
    if uc_emu_start(uc, 0x1000, 0, 0, 0) or p.seen != 2 or p.wrong:
        return b"the exception fields are not where they should be"
    return NULL


cdef void _probe_budget(machine_t *m, uint64_t address, uint32_t size) noexcept nogil:
    """The budget is used up at the second block: 0x1102, of 3 bytes, with the first one charged."""
    m.armed = address == 0x1102 and size == 3 and m.budget.left == 1 and m.budget.block == NULL
    m.budget.left = 1000


cdef const char *_codegen_error(uc_engine *uc) noexcept:
    """Three blocks of 2, 3 and 1 bytes with a budget of 3."""
    global hv_running
    cdef domain_t d
    cdef machine_t m
    cdef handlers_t keep = handlers
    cdef int rc
    memset(&d, 0, sizeof(d))
    memset(&m, 0, sizeof(m))
    d.machine, d.uc, d.cpu, d.env = &m, uc, HV_CPU_OF(uc), HV_ENV_OF(HV_CPU_OF(uc))
    m.own_budget.left = 3
    m.budget = &m.own_budget
    handlers.block = _probe_budget
    (<hv_env *>d.env).eip = 0x1100
    rc = enter(&d)
    handlers.block = keep.block
    if rc or not m.armed or m.budget.left != 1000 - 4 or m.budget.block == NULL or (<hv_block *>m.budget.block).pc != 0x1105:
        return b"generated code does not count what it should"
    return NULL


def version() -> tuple[int, int]:
    """(major, minor) of the Unicorn inside this build."""
    cdef unsigned int major = 0, minor = 0
    uc_version(&major, &minor)
    return major, minor


_checked = False


def self_check() -> None:
    """Prove that Unicorn's private layout is the one this build was made for; EngineError otherwise. Runs once."""
    global _checked
    cdef uc_engine *uc = NULL
    cdef const char *problem
    if _checked:
        return
    if version() != (2, 1):
        raise EngineError(f"hv needs Unicorn 2.1 but was linked with {version()}: reinstall hv-xen")
    if _open(&uc):
        raise EngineError("Unicorn cannot be started: is there enough memory?")
    page = bytearray(0x2000)
    cdef uint64_t base = <uint64_t><uintptr_t><uint8_t *>page
    problem = _layout_error(uc, HV_ENV_OF(HV_CPU_OF(uc)), <uint64_t *>((base + 0xfff) & ~<uint64_t>0xfff))
    if problem == NULL:
        problem = _codegen_error(uc)
    uc_close(uc)
    if problem != NULL:
        raise EngineError(f"this build's Unicorn has another private layout ({problem.decode()}): reinstall hv-xen")
    _checked = True
