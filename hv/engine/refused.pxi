# Instructions that only fault here: not for guests, or left to emulate.pyx. Part of cpu.pyx, which is linked with the library.

cdef inline void _refuse(hv_env *env, int vector, uintptr_t ra) noexcept nogil:
    """The instruction raises an exception with error code 0 instead; does not return."""
    env.old_exception = -1
    raise_exception_err_ra_x86_64(env, vector, 0, ra)


cdef public void __wrap_helper_rdpmc_x86_64(hv_env *env) noexcept nogil:
    """Performance counters are not for guests (CR4.PCE is 0). Unicorn's own helper says #UD."""
    _refuse(env, EXCEPTION_GP, HV_RETURN_ADDRESS)


cdef public uint64_t __wrap_helper_rdrand_x86_64(hv_env *env) noexcept nogil:
    """Host randomness would end determinism; CPUID hides the instruction, and so does this."""
    _refuse(env, EXCEPTION_UD, HV_RETURN_ADDRESS)
    return 0


# What Unicorn answers with #UD, or does, because its ring 0 is set up for neither.

cdef public void __wrap_helper_sysret_x86_64(hv_env *env, int dflag) noexcept nogil:
    _refuse(env, EXCEPTION_GP, HV_RETURN_ADDRESS)


cdef public void __wrap_helper_sysenter_x86_64(hv_env *env, int length) noexcept nogil:
    """An AMD CPU, which CPUID says this is, has no sysenter in long mode."""
    _refuse(env, EXCEPTION_UD, HV_RETURN_ADDRESS)


# Port I/O from ring 3 faults, as on hardware with an empty I/O bitmap; emulate.pyx decides what becomes of it.

cdef public uint64_t __wrap_helper_inb_x86_64(hv_env *env, uint32_t port) noexcept nogil:
    _refuse(env, EXCEPTION_GP, HV_RETURN_ADDRESS)
    return 0


cdef public uint64_t __wrap_helper_inw_x86_64(hv_env *env, uint32_t port) noexcept nogil:
    _refuse(env, EXCEPTION_GP, HV_RETURN_ADDRESS)
    return 0


cdef public uint64_t __wrap_helper_inl_x86_64(hv_env *env, uint32_t port) noexcept nogil:
    _refuse(env, EXCEPTION_GP, HV_RETURN_ADDRESS)
    return 0


cdef public void __wrap_helper_outb_x86_64(hv_env *env, uint32_t port, uint32_t data) noexcept nogil:
    _refuse(env, EXCEPTION_GP, HV_RETURN_ADDRESS)


cdef public void __wrap_helper_outw_x86_64(hv_env *env, uint32_t port, uint32_t data) noexcept nogil:
    _refuse(env, EXCEPTION_GP, HV_RETURN_ADDRESS)


cdef public void __wrap_helper_outl_x86_64(hv_env *env, uint32_t port, uint32_t data) noexcept nogil:
    _refuse(env, EXCEPTION_GP, HV_RETURN_ADDRESS)
