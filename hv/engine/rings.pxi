# Instructions whose result depends on the CPL, or which read descriptor tables. Part of cpu.pyx.
#
# A guest's kernel runs at CPL 1 but must find ring 3 there. SMAP in hflags, with AC as it is, sends what the CPU reads
# meanwhile to a TLB of its own (MMU_CPU), because only it may see hv's descriptor pages. An instruction that faults does
# not come back here: on_exception calls leave_wrapped, which also finds the pc, because Unicorn's own helper looked for
# it with a return address into the wrapper.

cdef extern from * nogil:
    """
    extern void __real_helper_load_seg_x86_64(hv_env *, int, int);
    extern void __real_helper_ljmp_protected_x86_64(hv_env *, int, uint64_t, uint64_t);
    extern void __real_helper_lcall_protected_x86_64(hv_env *, int, uint64_t, int, uint64_t);
    extern void __real_helper_iret_protected_x86_64(hv_env *, int, int);
    extern void __real_helper_lret_protected_x86_64(hv_env *, int, int);
    extern uint64_t __real_helper_lsl_x86_64(hv_env *, uint64_t);
    extern uint64_t __real_helper_lar_x86_64(hv_env *, uint64_t);
    extern void __real_helper_verr_x86_64(hv_env *, uint64_t);
    extern void __real_helper_verw_x86_64(hv_env *, uint64_t);
    """
    void __real_helper_load_seg_x86_64(hv_env *, int, int)
    void __real_helper_ljmp_protected_x86_64(hv_env *, int, uint64_t, uint64_t)
    void __real_helper_lcall_protected_x86_64(hv_env *, int, uint64_t, int, uint64_t)
    void __real_helper_iret_protected_x86_64(hv_env *, int, int)
    void __real_helper_lret_protected_x86_64(hv_env *, int, int)
    uint64_t __real_helper_lsl_x86_64(hv_env *, uint64_t)
    uint64_t __real_helper_lar_x86_64(hv_env *, uint64_t)
    void __real_helper_verr_x86_64(hv_env *, uint64_t)
    void __real_helper_verw_x86_64(hv_env *, uint64_t)


cdef void set_ring(vcpu_t *v) noexcept nogil:
    """The CPL at which the vCPU's mode runs."""
    cdef hv_env *env = <hv_env *>v.domain.env
    env.hflags = (env.hflags & ~<uint32_t>(HF_CPL | HF_SMAP)) | (RING_KERNEL if v.kernel_mode else RING_USER)


cdef void leave_wrapped(domain_t *d) noexcept nogil:
    if d.machine.return_address:
        cpu_restore_state_x86_64(d.cpu, d.machine.return_address, 1)
        d.machine.return_address = 0
    set_ring(d.current)


cdef inline void _as_the_guest_sees(hv_env *env, uintptr_t return_address) noexcept nogil:
    if hv_running != NULL:
        (<domain_t *>hv_running).machine.return_address = return_address
        env.hflags |= RING_USER | HF_SMAP


cdef inline void _back() noexcept nogil:
    if hv_running != NULL:
        (<domain_t *>hv_running).machine.return_address = 0
        set_ring((<domain_t *>hv_running).current)


cdef public void __wrap_helper_load_seg_x86_64(hv_env *env, int segment, int selector) noexcept nogil:
    _as_the_guest_sees(env, HV_RETURN_ADDRESS)
    __real_helper_load_seg_x86_64(env, segment, selector)
    _back()


cdef public void __wrap_helper_ljmp_protected_x86_64(hv_env *env, int cs, uint64_t rip, uint64_t after) noexcept nogil:
    _as_the_guest_sees(env, HV_RETURN_ADDRESS)
    __real_helper_ljmp_protected_x86_64(env, cs, rip, after)
    _back()


cdef public void __wrap_helper_lcall_protected_x86_64(hv_env *env, int cs, uint64_t rip, int shift,
                                                      uint64_t after) noexcept nogil:
    _as_the_guest_sees(env, HV_RETURN_ADDRESS)
    __real_helper_lcall_protected_x86_64(env, cs, rip, shift, after)
    _back()


cdef public void __wrap_helper_iret_protected_x86_64(hv_env *env, int shift, int after) noexcept nogil:
    _as_the_guest_sees(env, HV_RETURN_ADDRESS)
    __real_helper_iret_protected_x86_64(env, shift, after)
    _back()


cdef public void __wrap_helper_lret_protected_x86_64(hv_env *env, int shift, int addend) noexcept nogil:
    _as_the_guest_sees(env, HV_RETURN_ADDRESS)
    __real_helper_lret_protected_x86_64(env, shift, addend)
    _back()


cdef public uint64_t __wrap_helper_lsl_x86_64(hv_env *env, uint64_t selector) noexcept nogil:
    cdef uint64_t limit
    _as_the_guest_sees(env, HV_RETURN_ADDRESS)
    limit = __real_helper_lsl_x86_64(env, selector)
    _back()
    return limit


cdef public uint64_t __wrap_helper_lar_x86_64(hv_env *env, uint64_t selector) noexcept nogil:
    cdef uint64_t rights
    _as_the_guest_sees(env, HV_RETURN_ADDRESS)
    rights = __real_helper_lar_x86_64(env, selector)
    _back()
    return rights


cdef public void __wrap_helper_verr_x86_64(hv_env *env, uint64_t selector) noexcept nogil:
    _as_the_guest_sees(env, HV_RETURN_ADDRESS)
    __real_helper_verr_x86_64(env, selector)
    _back()


cdef public void __wrap_helper_verw_x86_64(hv_env *env, uint64_t selector) noexcept nogil:
    _as_the_guest_sees(env, HV_RETURN_ADDRESS)
    __real_helper_verw_x86_64(env, selector)
    _back()
