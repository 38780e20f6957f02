# cython: language_level=3
"""What the CPU has of a domain's vCPUs: registers, entry points, descriptor tables, rights to ports."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset
from xen_abi cimport *
from hv.engine.cpu cimport get_flags
from hv.engine.guest_memory cimport GuestMemory
from hv.engine.unicorn cimport *
from hv.fastpath.memory cimport active_root, canonical
from hv.fastpath.paging cimport get_page_and_type, put_page_and_type, write_descriptor
from hv.fastpath.state cimport *

REGISTERS = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15")


cdef hv_env *env_of(vcpu_t *v) noexcept nogil:
    """Its registers, in the CPU or put aside."""
    return <hv_env *>v.domain.env if v.domain.current == v else <hv_env *>v.context


cdef class GuestRegisters(GuestMemory):
    """Its vCPUs' registers, entry points and descriptor tables."""

    def registers(self, uint32_t vcpu=0):
        """General registers, rip, rflags, segments and modes of a vCPU as a dict."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        cdef bint live = self.d.current == v
        cdef hv_env *env = <hv_env *>self.d.env if live else <hv_env *>v.context
        result = {name: env.regs[i] for i, name in enumerate(REGISTERS)}
        result["rip"] = env.eip
        result["rflags"] = get_flags(self.d) if live else env.eflags
        for i, name in enumerate(("es", "cs", "ss", "ds", "fs", "gs")):
            result[name] = env.segs[<int>i].selector & 0xffff
        result["fs_base"] = env.segs[SEG_FS].base
        result["gs_base"] = env.segs[SEG_GS].base
        result["cr2"] = v.cr2
        result["cr3"] = active_root(v) << PAGE_SHIFT
        result["kernel_mode"] = bool(v.kernel_mode)
        return result

    def set_register(self, uint32_t vcpu, str name, uint64_t value):
        """Change one of REGISTERS, rip, rflags, fs_base or gs_base, as the guest itself could: KeyError for another,
        ValueError for an address that is not canonical."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        cdef hv_env *env = env_of(v)
        if name in REGISTERS:
            env.regs[<int>REGISTERS.index(name)] = value
        elif name == "rflags":              # outside of a run they are complete
            env.eflags = (value & 0x3f7fd7 & ~<uint64_t>(FLAG_IOPL | FLAG_VM)) | FLAG_IF | 2
        elif name not in ("rip", "fs_base", "gs_base"):
            raise KeyError(name)
        elif not canonical(value):
            raise ValueError(f"{value:#x} is not a canonical address")
        elif name == "rip":
            env.eip = value
        else:
            env.segs[SEG_FS if name == "fs_base" else SEG_GS].base = value

    def entry_points(self, uint32_t vcpu=0):
        """Where Xen enters the guest: {"event", "failsafe", "syscall": address, or 0; "traps": {vector: address}}."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        return {"event": v.event_callback, "failsafe": v.failsafe_callback, "syscall": v.syscall_callback,
                "traps": {i: v.traps[i].address for i in range(256) if v.traps[i].address}}

    def upcall_state(self, uint32_t vcpu=0):
        """(evtchn_upcall_pending, evtchn_upcall_mask, evtchn_pending_sel) of its vcpu_info."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        return v.info.evtchn_upcall_pending, v.info.evtchn_upcall_mask, v.info.evtchn_pending_sel

    def set_trap(self, uint32_t vcpu, uint8_t vector, uint8_t flags, uint16_t cs, uint64_t address):
        cdef trap_t *t = &self._vcpu(vcpu).traps[vector]
        t.flags, t.cs, t.address = flags, cs, address

    def clear_traps(self, uint32_t vcpu):
        memset(self._vcpu(vcpu).traps, 0, sizeof(self.d.vcpus[0].traps))

    def set_callback(self, uint32_t vcpu, str kind, uint64_t address, bint mask_events=False):
        """Register an entry point; `kind` is event, failsafe, syscall, syscall32 or sysenter."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        if kind == "event":
            v.event_callback = address
        elif kind == "failsafe":
            v.failsafe_callback, v.failsafe_masks = address, mask_events
        elif kind == "syscall":
            v.syscall_callback, v.syscall_masks = address, mask_events
        elif kind == "syscall32":
            v.syscall32_callback, v.syscall32_masks = address, mask_events
        elif kind == "sysenter":
            v.sysenter_callback, v.sysenter_masks = address, mask_events
        else:
            raise KeyError(kind)

    def set_gdt(self, uint32_t vcpu, frames, uint32_t entries):
        """Replace the guest's part of the GDT: 0, or -EINVAL for a frame that can not hold descriptors."""
        cdef vcpu_t *v = self._vcpu(vcpu)
        cdef uint64_t mfn
        taken = []
        for mfn in frames:
            if get_page_and_type(self.d, mfn, TYPE_SEGDESC):
                for mfn in taken:
                    put_page_and_type(self.d, mfn)
                return -XEN_EINVAL
            taken.append(mfn)
        for i in range(14):
            if v.gdt_frames[<int>i]:
                put_page_and_type(self.d, v.gdt_frames[<int>i])
            v.gdt_frames[<int>i] = taken[i] if i < len(taken) else 0
        v.gdt_entries = entries
        request_flush(self.d)
        return 0

    def update_descriptor(self, uint64_t address, uint64_t value):
        """Write one descriptor at a machine address: 0 or -EINVAL."""
        return write_descriptor(self._live(), address, value)

    def set_iopl(self, uint32_t vcpu, uint8_t iopl):
        self._vcpu(vcpu).iopl = iopl & 3

    def set_io_bitmap(self, uint32_t vcpu, uint64_t va, uint32_t ports):
        """The address of a bitmap of so many ports: a 0 lets the guest, its user mode too, use one."""
        self._vcpu(vcpu).io_bitmap = va
        self._vcpu(vcpu).io_ports = ports

    @property
    def vm_assist(self):
        return self._live().vm_assist

    @vm_assist.setter
    def vm_assist(self, uint64_t value):
        self._live().vm_assist = value
