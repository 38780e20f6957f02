# cython: language_level=3
from libc.stdint cimport uint64_t
from hv.fastpath.state cimport machine_t, step_t, vcpu_t

cdef void count_step(vcpu_t *v) noexcept nogil                       # an instruction of it is about to run alone
cdef bint step_is_over(vcpu_t *v, uint64_t address) noexcept nogil   # before the instruction at `address`
cdef void look_at_call(vcpu_t *v) noexcept nogil                     # before its hypercall
cdef void stop_here(vcpu_t *v, int reason) noexcept nogil            # does not return
cdef bint stopped_here(vcpu_t *v, uint64_t charged_for) noexcept nogil


cdef inline bint is_stepped(const vcpu_t *v) noexcept nogil:
    """While m.stepping: whether its instructions count."""
    cdef const step_t *step = &v.domain.machine.step
    return step.anybody or (step.domid == v.domain.domid and step.vcpu == v.id)


cdef inline void uncount_step(vcpu_t *v) noexcept nogil:
    """The instruction that was counted has not run."""
    if v.domain.machine.stepping and is_stepped(v):
        v.domain.machine.steps_left += 1
