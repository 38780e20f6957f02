# The yardstick of `hv bench`: what a `syscall` costs under plain Unicorn, with a hook in C that reads the number and
# writes a result, and does nothing else. Part of cpu.pyx, because only that is linked with Unicorn; bench/plain_hook.c is
# the same with the wheel's library, without anything of hv.

cdef void _plain_syscall(uc_engine *uc, void *user) noexcept nogil:
    cdef uint64_t number
    uc_reg_read(uc, UC_X86_REG_RAX, &number)
    number += 1
    uc_reg_write(uc, UC_X86_REG_RAX, &number)
    (<uint64_t *>user)[0] += 1


def plain_hook(uint64_t count) -> float:
    """ns for one round of a loop of `count` with a `syscall` in it, in an instance of Unicorn that hv does not manage."""
    cdef uc_engine *uc = NULL
    cdef uc_hook hook
    cdef uint64_t calls = 0
    cdef int rc
    # 1: xor %edi,%edi; mov $17,%eax; syscall; add %rax,%r13; dec %rbx; jnz 1b; hlt
    cdef bytes code = b"\x31\xff\xb8\x11\x00\x00\x00\x0f\x05\x49\x01\xc5\x48\xff\xcb\x75\xef\xf4"
    page = bytearray(0x2000)
    cdef uint64_t base = <uint64_t><uintptr_t><uint8_t *>page
    cdef char *start = <char *>((base + 0xfff) & ~<uint64_t>0xfff)
    memcpy(start, <char *>code, len(code))
    rc = uc_open(UC_ARCH_X86, UC_MODE_64, &uc)
    if rc == 0:
        rc = uc_mem_map_ptr(uc, 0x1000, 0x1000, UC_PROT_ALL, start)
    if rc == 0:
        rc = uc_reg_write(uc, UC_X86_REG_RBX, &count)
    if rc == 0:
        rc = uc_hook_add(uc, &hook, UC_HOOK_INSN, <void *>_plain_syscall, &calls, 1, 0, UC_X86_INS_SYSCALL)
    if rc == 0:
        rc = uc_ctl_exits_enable(uc)
    before = perf_counter_ns()
    if rc == 0:
        with nogil:
            rc = uc_emu_start(uc, 0x1000, 0, 0, 0)
    after = perf_counter_ns()
    if uc != NULL:
        uc_close(uc)
    if rc or calls != count:
        raise EngineError(f"plain Unicorn could not be measured (error {rc}, {calls} of {count} calls)")
    return (after - before) / count
