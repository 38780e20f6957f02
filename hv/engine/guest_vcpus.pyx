# cython: language_level=3
"""A domain's vCPUs: bringing them up and down, their state, and the areas in which the guest sees it."""
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset
from xen_abi cimport *
from hv.engine.cpu cimport flush_tlb, save_context
from hv.engine.emulate cimport guest_cr4
from hv.engine.guest_registers cimport GuestRegisters
from hv.engine.traps cimport flat_segments, load_ldt, set_flat_segments
from hv.engine.unicorn cimport *
from hv.fastpath.breakpoints cimport arm, set_debug_register
from hv.fastpath.domain cimport shutdown
from hv.fastpath.memory cimport HV_END, canonical, copy_to_guest, frame_pointer
from hv.fastpath.paging cimport get_page_and_type, put_page_and_type
from hv.fastpath.state cimport *
from hv.fastpath.vcpu cimport runstate_now, sleep, unblock, update_time, wake

RUNSTATES = ("running", "runnable", "blocked", "offline")


cdef bint _context_is_sane(const xen_vcpu_guest_context *c) noexcept nogil:
    cdef uint32_t i
    if not (canonical(c.user_regs.rip) and canonical(c.user_regs.rsp) and canonical(c.kernel_sp)
            and canonical(c.fs_base) and canonical(c.gs_base_kernel) and canonical(c.gs_base_user)
            and canonical(c.event_callback_eip) and canonical(c.syscall_callback_eip)
            and canonical(c.failsafe_callback_eip)):
        return False
    for i in range(256):
        if not canonical(c.trap_ctxt[i].address):
            return False
    if (c.ldt_base >> 47 and c.ldt_base < HV_END) or c.ldt_base & (PAGE_SIZE - 1) or c.ldt_ents > 8192 or c.gdt_ents > 14 * 512:
        return False
    return c.flags & VGCF_in_kernel != 0 or c.ctrlreg[1] != 0


cdef class GuestVcpus(GuestRegisters):
    """Its vCPUs: how they start, stop and wait."""

    def start_vcpu(self, uint32_t vcpu, *, uint64_t rip, uint64_t rsp, uint64_t rsi, uint64_t root, uint64_t flags=0x200):
        """Bring a vCPU up in guest kernel mode at `rip` with the L4 frame `root`; 0 or a negative errno."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        cdef hv_env *env = <hv_env *>self.d.env
        cdef bytes keep
        cdef int rc = get_page_and_type(self.d, root, TYPE_L4)
        if rc:
            return rc
        if self.d.current != NULL:
            save_context(self.d.current)
        memcpy(env, <char *>self._template, CONTEXT_SIZE)
        v.kernel_root = root
        v.kernel_mode = 1
        v.kernel_ss = 0xe02b
        v.initialised = 1
        env.gdt.base = 0xffff820000000000 + (<uint64_t>vcpu << 17)
        env.gdt.limit = 0xffff
        load_ldt(v, env)
        env.eip = rip
        env.regs[RSP] = rsp
        env.regs[RSI] = rsi
        env.eflags = flags | 2
        for segment in (SEG_ES, SEG_DS, SEG_FS, SEG_GS):
            memset(&env.segs[<int>segment], 0, sizeof(hv_segment))
        self.d.current = v
        set_flat_segments(v)
        save_context(v)
        v.pause = 0
        wake(v)
        flush_tlb(self.d)
        return 0

    def has_vcpu_info(self, uint32_t vcpu):
        """Whether it has one in memory of the guest: those behind the 32nd must register theirs."""
        return self._vcpu(vcpu).info != &self.d.vcpus[vcpu].own_info

    def initialise_vcpu(self, uint32_t vcpu, const uint8_t[::1] context):
        """VCPUOP_initialise with the bytes of a vcpu_guest_context: 0 or a negative errno."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        if context.shape[0] != sizeof(xen_vcpu_guest_context):
            raise ValueError("a vcpu_guest_context has another size")
        if v.initialised:
            return -XEN_EEXIST
        return self._load_guest_context(v, <const xen_vcpu_guest_context *>&context[0])

    cdef int _load_guest_context(self, vcpu_t *v, const xen_vcpu_guest_context *c) except? -1:
        """Xen 4.17's arch_set_info_guest for a vCPU that has never run."""
        cdef domain_t *d = self.d
        cdef int rc, i
        if not _context_is_sane(c):
            return -XEN_EINVAL
        rc = self.set_gdt(v.id, [c.gdt_frames[i] for i in range((c.gdt_ents + 511) // 512)], c.gdt_ents)
        if rc:
            return rc
        rc = get_page_and_type(d, c.ctrlreg[3] >> PAGE_SHIFT, TYPE_L4)
        if rc == 0 and c.ctrlreg[1]:
            rc = get_page_and_type(d, c.ctrlreg[1] >> PAGE_SHIFT, TYPE_L4)
            if rc:
                put_page_and_type(d, c.ctrlreg[3] >> PAGE_SHIFT)
        if rc:
            self.set_gdt(v.id, [], 0)
            return rc
        v.kernel_root = c.ctrlreg[3] >> PAGE_SHIFT
        v.user_root = c.ctrlreg[1] >> PAGE_SHIFT
        v.kernel_mode = 1 if c.flags & VGCF_in_kernel else 0
        v.kernel_ss, v.kernel_sp = c.kernel_ss, c.kernel_sp
        v.ldt_base, v.ldt_entries = c.ldt_base if c.ldt_ents else 0, c.ldt_ents
        v.iopl = c.user_regs.rflags >> 12 & 3
        v.cr4 = guest_cr4(c.ctrlreg[4])
        v.event_callback, v.failsafe_callback = c.event_callback_eip, c.failsafe_callback_eip
        v.syscall_callback = c.syscall_callback_eip
        v.syscall_masks = c.flags & VGCF_syscall_disables_events != 0
        v.failsafe_masks = c.flags & VGCF_failsafe_disables_events != 0
        v.gs_base_user, v.gs_base_kernel = c.gs_base_user, c.gs_base_kernel
        for i in range(256):
            v.traps[i].flags, v.traps[i].cs = c.trap_ctxt[i].flags, c.trap_ctxt[i].cs
            v.traps[i].address = c.trap_ctxt[i].address
        for i in range(8):
            if i != 4 and i != 5:
                set_debug_register(v, i, c.debugreg[i])
        arm(v)
        self._fill_context(v, c)
        v.initialised = 1
        if c.flags & VGCF_online:                   # no longer down, but not woken either: it will never run
            v.pause &= ~<uint32_t>PAUSE_DOWN
        else:
            v.pause |= PAUSE_DOWN
        return 0

    cdef void _fill_context(self, vcpu_t *v, const xen_vcpu_guest_context *c) noexcept:
        """The CPU state that the vCPU starts with; segments other than CS and SS start as null selectors."""
        cdef hv_env *env = <hv_env *>v.context
        cdef const xen_cpu_user_regs *r = &c.user_regs
        memcpy(env, <char *>self._template, CONTEXT_SIZE)
        env.regs[:] = [r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13,
                       r.r14, r.r15]
        env.eip = r.rip
        env.eflags = (r.rflags & ~<uint64_t>FLAG_IOPL) | FLAG_IF | 2
        env.gdt.base = 0xffff820000000000 + (<uint64_t>v.id << 17)
        env.gdt.limit = 0xffff
        load_ldt(v, env)
        for segment in (SEG_ES, SEG_DS, SEG_FS, SEG_GS):
            memset(&env.segs[<int>segment], 0, sizeof(hv_segment))
        env.segs[SEG_FS].base = c.fs_base
        env.segs[SEG_GS].base = c.gs_base_kernel if v.kernel_mode else c.gs_base_user
        flat_segments(env, v.kernel_mode)
        if c.ctrlreg[0] & 8:
            v.ts = 1
            env.cr[0] |= 8

    def vcpu_up(self, uint32_t vcpu):
        """VCPUOP_up: 0, or -EINVAL before it was initialised."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        if not v.initialised:
            return -XEN_EINVAL
        if v.pause & PAUSE_DOWN:
            v.pause &= ~<uint32_t>PAUSE_DOWN
            wake(v)
        return 0

    def vcpu_down(self, uint32_t vcpu):
        """VCPUOP_down; the last vCPU that goes down powers the domain off."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        cdef uint32_t i
        for i in range(self.d.nr_vcpus):
            if i != vcpu and not self.d.vcpus[i].pause & PAUSE_DOWN:
                v.pause |= PAUSE_DOWN
                sleep(v)
                self.d.machine.stop = self.d.machine.stop or STOP_RESCHEDULE
                return 0
        shutdown(self.d, SHUTDOWN_poweroff)
        return 0

    def register_vcpu_info(self, uint32_t vcpu, uint32_t caller, uint64_t mfn, uint32_t offset):
        """Move a vCPU's vcpu_info into a frame of the guest: 0, -EINVAL, -ENXIO. Everything is marked pending, as on Xen."""
        cdef int rc = self._move_vcpu_info(self._vcpu(vcpu), caller, mfn, offset)
        update_time(self._vcpu(vcpu), self._vcpu(caller), True)      # whether it has moved or not
        return rc

    cdef int _move_vcpu_info(self, vcpu_t *v, uint32_t caller, uint64_t mfn, uint32_t offset) except? -1:
        cdef xen_vcpu_info *info
        if offset > PAGE_SIZE - sizeof(xen_vcpu_info) or offset & 7:
            return -XEN_ENXIO
        if v.info_mfn or (v.id != caller and not v.pause & PAUSE_DOWN):
            return -XEN_EINVAL
        if get_page_and_type(self.d, mfn, TYPE_WRITABLE):
            return -XEN_EINVAL
        info = <xen_vcpu_info *>(frame_pointer(self.d.machine, mfn) + offset)
        if v.info == &v.own_info:                   # on Xen a dummy, whose contents mean nothing
            memset(info, 0, sizeof(xen_vcpu_info))
            info.evtchn_upcall_mask = 1
        else:
            memcpy(info, v.info, sizeof(xen_vcpu_info))
        v.info = info
        v.info_mfn = mfn
        info.evtchn_pending_sel = <uint64_t>-1
        if not info.evtchn_upcall_pending:
            info.evtchn_upcall_pending = 1
            unblock(v)
        return 0

    def register_runstate_area(self, uint32_t vcpu, uint32_t caller, uint64_t va):
        """Keep a vCPU's run state up to date at an address; 0 ends that. Written at once as the caller sees memory."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        cdef xen_vcpu_runstate_info info
        memcpy(&info, &v.runstate, sizeof(info))
        v.runstate_area = va
        if vcpu != caller:
            runstate_now(v, &info)
        copy_to_guest(self._vcpu(caller), va, &info, sizeof(info))

    def register_time_area(self, uint32_t vcpu, uint32_t caller, uint64_t va):
        """Keep a copy of a vCPU's clock at an address; 0 ends that."""
        self._vcpu(vcpu).time_area = va
        update_time(self._vcpu(vcpu), self._vcpu(caller), True)

    def wake(self, uint32_t vcpu):
        """Let a vCPU that blocks or polls go on and look for itself, without an event."""
        unblock(self._vcpu(vcpu))

    def vcpu_state(self, uint32_t vcpu):
        """What keeps it from running ("down", "polling", "blocked"), or "runnable"."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        if v.pause & PAUSE_DOWN:
            return "down"
        if v.pause & PAUSE_BLOCKED:
            return "polling" if is_polling(v) else "blocked"
        return "runnable"

    def runstate(self, uint32_t vcpu):
        """(state, ns of system time when it was entered, ns spent in each of RUNSTATES up to now)."""
        cdef xen_vcpu_runstate_info info
        runstate_now(self._vcpu(vcpu), &info)
        return RUNSTATES[info.state], info.state_entry_time, tuple(info.time)

    def vcpu_counters(self, uint32_t vcpu=0):
        """How many upcalls and exceptions (by vector) were delivered to it."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        return {"upcalls": v.upcalls, "exceptions": {i: v.exceptions[i] for i in range(32) if v.exceptions[i]}}

    @property
    def current_vcpu(self):
        return self._live().current.id if self._live().current != NULL else 0

    @property
    def nr_vcpus(self):
        cdef domain_t *d = self._live()
        return d.nr_vcpus if d.receiver == NULL else 0
