# cython: language_level=3
"""Every C declaration of Unicorn that hv uses: the public API, the internal functions, the private layout.

The private part belongs to the wheel that pyproject.toml pins; `cpu.self_check` proves at start-up that
the offsets below are right and refuses to run otherwise. Only `cpu.pyx` is linked with the library.
"""
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t

cdef extern from "unicorn/unicorn.h" nogil:
    ctypedef struct uc_engine:
        pass
    ctypedef size_t uc_hook
    int UC_ARCH_X86, UC_MODE_64, UC_PROT_ALL
    int UC_HOOK_INTR, UC_HOOK_INSN, UC_HOOK_BLOCK, UC_HOOK_INSN_INVALID
    int UC_X86_REG_RBX, UC_X86_REG_RIP, UC_X86_REG_CR2, UC_X86_REG_CR3, UC_X86_REG_CR0, UC_X86_REG_CR4
    int UC_X86_REG_RAX, UC_X86_INS_SYSCALL, UC_X86_REG_R15, UC_X86_REG_EFLAGS, UC_X86_REG_GS_BASE, UC_X86_REG_GDTR, UC_X86_REG_DR7
    int UC_X86_REG_MXCSR, UC_CPU_X86_EPYC
    int uc_open(int arch, int mode, uc_engine **uc)
    int uc_close(uc_engine *uc)
    int uc_mem_map_ptr(uc_engine *uc, uint64_t address, uint64_t size, uint32_t perms, void *ptr)
    int uc_reg_read(uc_engine *uc, int regid, void *value)
    int uc_reg_write(uc_engine *uc, int regid, const void *value)
    int uc_emu_start(uc_engine *uc, uint64_t begin, uint64_t until, uint64_t timeout, size_t count)
    int uc_emu_stop(uc_engine *uc)
    int uc_hook_add(uc_engine *uc, uc_hook *hh, int type, void *callback, void *user, uint64_t begin, uint64_t end, ...)
    int uc_ctl_set_cpu_model(uc_engine *uc, int model)
    int uc_ctl_exits_enable(uc_engine *uc)
    int uc_ctl_set_tcg_buffer_size(uc_engine *uc, uint32_t size)
    const char *uc_strerror(int code)
    unsigned int uc_version(unsigned int *major, unsigned int *minor)

cdef extern from * nogil:
    """
    #include <stddef.h>
    #include <stdint.h>
    /* CPUState: where the engine keeps it, and the two fields of it that hv touches. */
    #define HV_CPU_OF(uc) (*(void **)((char *)(uc) + 440))
    #define HV_ENV_OF(cpu) ((hv_env *)((char *)(cpu) + 35408))
    /* Machine-check banks that no instruction reaches, 10 of {all ones, 0, 0, 0}: the budget lies in the first zeros. */
    #define HV_BANKS(env) ((uint64_t *)((char *)(env) + 6632))
    #define HV_BUDGET (6632 + 8)
    #define HV_CFLAGS_NEXT(cpu) (*(uint32_t *)((char *)(cpu) + 0x18))

    typedef struct { uint32_t selector, pad; uint64_t base; uint32_t limit, flags; } hv_segment;
    typedef struct {
        uint64_t regs[16], eip, eflags, cc_dst, cc_src, cc_src2;
        uint32_t cc_op; int32_t df; uint32_t hflags, hflags2;
        hv_segment segs[6], ldt, tr, gdt, idt;
        uint64_t cr[9];
        char pad_a[5384 - 496];
        int32_t error_code, exception_is_int; uint64_t next_eip; uint64_t dr[8];
        char pad_b[5496 - 5464];
        int32_t old_exception;
    } hv_env;
    _Static_assert(offsetof(hv_env, eip) == 128 && offsetof(hv_env, hflags) == 176, "hv_env");
    _Static_assert(offsetof(hv_env, segs) == 184 && offsetof(hv_env, gdt) == 376, "hv_env");
    _Static_assert(offsetof(hv_env, cr) == 424 && offsetof(hv_env, error_code) == 5384, "hv_env");
    _Static_assert(offsetof(hv_env, dr) == 5400 && offsetof(hv_env, old_exception) == 5496, "hv_env");

    /* TranslationBlock: the head of it. */
    typedef struct { uint64_t pc, cs_base; uint32_t flags; uint16_t size, icount; uint32_t cflags; } hv_block;
    typedef struct { unsigned int unspecified; } hv_attributes;   /* MemTxAttrs: one word of bit fields */

    extern void cpu_loop_exit_noexc_x86_64(void *cpu) __attribute__((noreturn));
    extern void raise_exception_err_ra_x86_64(hv_env *env, int vector, int error, uintptr_t ra) __attribute__((noreturn));
    extern void tlb_set_page_with_attrs_x86_64(void *cpu, uint64_t va, uint64_t pa, hv_attributes attributes,
                                               int prot, int mmu_idx, uint64_t size);
    extern void tlb_flush_x86_64(void *cpu);
    extern void tlb_flush_page_x86_64(void *cpu, uint64_t va);
    extern void tb_invalidate_phys_range_x86_64(void *uc, uint64_t start, uint64_t end);
    extern uint64_t helper_read_eflags_x86_64(hv_env *env);
    extern void cpu_x86_update_cr0_x86_64(hv_env *env, uint32_t value);
    extern void cpu_x86_update_cr4_x86_64(hv_env *env, uint32_t value);
    extern void __real_restore_state_to_opc_x86_64(hv_env *env, hv_block *block, uint64_t *data);
    """
    void *HV_CPU_OF(uc_engine *uc)
    hv_env *HV_ENV_OF(void *cpu)
    uint64_t *HV_BANKS(void *env)
    int HV_BUDGET
    uint32_t HV_CFLAGS_NEXT(void *cpu)
    ctypedef struct hv_segment:
        uint32_t selector
        uint64_t base
        uint32_t limit
        uint32_t flags
    ctypedef struct hv_env:
        uint64_t regs[16]
        uint64_t eip, eflags, cc_dst, cc_src, cc_src2
        uint32_t cc_op
        int32_t df
        uint32_t hflags, hflags2
        hv_segment segs[6]
        hv_segment ldt, tr, gdt, idt
        uint64_t cr[9]
        int32_t error_code, exception_is_int
        uint64_t next_eip
        uint64_t dr[8]
        int32_t old_exception
    ctypedef struct hv_block:
        uint64_t pc
        uint64_t cs_base
        uint16_t size
    ctypedef struct hv_attributes:
        unsigned int unspecified
    void cpu_loop_exit_noexc_x86_64(void *cpu)
    void raise_exception_err_ra_x86_64(hv_env *env, int vector, int error, uintptr_t ra)
    void tlb_set_page_with_attrs_x86_64(void *cpu, uint64_t va, uint64_t pa, hv_attributes attributes, int prot,
                                        int mmu_idx, uint64_t size)
    void tlb_flush_x86_64(void *cpu)
    void tlb_flush_page_x86_64(void *cpu, uint64_t va)
    void tb_invalidate_phys_range_x86_64(void *uc, uint64_t start, uint64_t end)
    uint64_t helper_read_eflags_x86_64(hv_env *env)
    void cpu_x86_update_cr0_x86_64(hv_env *env, uint32_t value)
    void cpu_x86_update_cr4_x86_64(hv_env *env, uint32_t value)
    void __real_restore_state_to_opc_x86_64(hv_env *env, hv_block *block, uint64_t *data)

# Indices into regs and segs, and flag bits, as the architecture numbers them.
cdef enum:
    RAX = 0
    RCX = 1
    RDX = 2
    RBX = 3
    RSP = 4
    RBP = 5
    RSI = 6
    RDI = 7
    R8 = 8
    R9 = 9
    R10 = 10
    R11 = 11

cdef enum:
    SEG_ES = 0
    SEG_CS = 1
    SEG_SS = 2
    SEG_DS = 3
    SEG_FS = 4
    SEG_GS = 5

cdef enum:
    FLAG_CF = 0x1
    FLAG_TF = 0x100
    FLAG_IF = 0x200
    FLAG_DF = 0x400
    FLAG_IOPL = 0x3000
    FLAG_NT = 0x4000
    FLAG_RF = 0x10000
    FLAG_VM = 0x20000
    FLAG_AC = 0x40000
    FLAGS_CC = 0x8d5         # CF PF AF ZF SF OF: Unicorn keeps them apart while it runs
    CC_OP_EFLAGS = 1

cdef enum:                   # hflags
    HF_CPL = 3
    HF_INHIBIT_IRQ = 8
    HF_CS32 = 0x10
    HF_SS32 = 0x20
    HF_ADDSEG = 0x40
    HF_TF = 0x100
    HF_CS64 = 0x8000
    HF_SMAP = 0x800000

cdef enum:                   # at which CPL the modes of a PV guest run (see cpu.pyx)
    RING_KERNEL = 1
    RING_USER = 3
