# cython: language_level=3
from libc.stdint cimport uint32_t, uint64_t
from hv.engine.unicorn cimport hv_env, uc_engine
from hv.fastpath.state cimport domain_t, machine_t, vcpu_t

# What the rest of the engine does when the CPU traps. run_loop.pyx fills it once.
ctypedef struct handlers_t:
    void (*syscall)(vcpu_t *v) noexcept nogil               # env.eip is at the instruction
    void (*exception)(vcpu_t *v, int vector) noexcept nogil
    void (*block)(machine_t *m, uint64_t address, uint32_t size) noexcept nogil      # the budget is used up
    void (*cpuid)(vcpu_t *v) noexcept nogil
    uint64_t (*tsc)(vcpu_t *v) noexcept nogil

cdef handlers_t handlers

cdef int open_instance(domain_t *d, uint64_t ram_size) noexcept
cdef void close_instance(domain_t *d) noexcept
cdef int enter(domain_t *d) noexcept nogil                   # runs until somebody leaves
cdef void leave(domain_t *d) noexcept nogil                  # from an exception handler: takes effect at its return
cdef void leave_now(domain_t *d) noexcept nogil              # from a block or helper: does not return
cdef void restart_block(domain_t *d) noexcept nogil          # continue at env.eip; does not return
cdef void one_instruction_next(domain_t *d) noexcept nogil
cdef void block_ends_at(machine_t *m, uint64_t pc) noexcept nogil     # the clock's charge for the block, corrected
cdef void flush_tlb(domain_t *d) noexcept nogil
cdef void flush_user(domain_t *d) noexcept nogil
cdef void flush_wanted(domain_t *d) noexcept nogil            # what has been asked for by need_flush
cdef void leave_wrapped(domain_t *d) noexcept nogil          # at an exception: the wrapped instruction does not go on
cdef void set_ring(vcpu_t *v) noexcept nogil                 # after a change of mode, and whenever CS or SS was loaded
cdef void debug_registers_changed(vcpu_t *v) noexcept nogil
cdef void forget_code(domain_t *d) noexcept nogil
cdef void flush_page(domain_t *d, uint64_t va) noexcept nogil
cdef uint64_t get_flags(domain_t *d) noexcept nogil
cdef void set_flags(domain_t *d, uint64_t flags) noexcept nogil
cdef void save_context(vcpu_t *v) noexcept nogil
cdef void load_context(vcpu_t *v) noexcept nogil
cdef void set_task_switched(vcpu_t *v, bint on) noexcept nogil
cdef void model_cpuid(domain_t *d, uint32_t leaf, uint32_t subleaf, uint32_t *out) noexcept nogil
