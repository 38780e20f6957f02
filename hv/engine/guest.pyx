# cython: language_level=3
"""What all parts of a domain share (guest_*.pyx, each one concept): its state in C, made empty."""
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc
from libc.string cimport memset
from xen_abi cimport *
from hv.engine.clock cimport FIRST_PERIOD
from hv.engine.cpu cimport open_instance
from hv.engine.emulate cimport guest_cr4
from hv.engine.unicorn cimport *
from hv.fastpath.evtchn cimport PORTS_A_BUCKET
from hv.fastpath.evtchn_2l cimport ops_2l
from hv.fastpath.frames cimport give_xenheap_frame
from hv.fastpath.memory cimport frame_pointer
from hv.fastpath.now cimport system_time
from hv.fastpath.receiver cimport open_receiver
from hv.fastpath.scheduler cimport DEFAULT_WEIGHT
from hv.fastpath.state cimport *

from hv.errors import EngineError


cdef class Guest:
    """One domain's state in C, and how it is made; `GuestDomain` of machine.pyx is the whole."""

    cdef void _make(self, machine_t *m, uint32_t domid, uint32_t vcpus, uint64_t max_pages, uint32_t max_port) except *:
        """Fill it in: without memory or code."""
        cdef domain_t *d = <domain_t *>calloc(1, sizeof(domain_t))
        if d == NULL:
            raise MemoryError
        self.domid, self.d = domid, d
        self._port_handlers = {}
        d.machine = m
        d.domid = domid
        d.python = <void *>self
        d.max_pages = max_pages
        d.max_port = max_port
        d.weight = DEFAULT_WEIGHT
        d.used = m.used
        d.nr_ports = PORTS_A_BUCKET
        d.first_closed = 1
        d.port_ops = &ops_2l
        d.ports = <port_t *>calloc((max_port | (PORTS_A_BUCKET - 1)) + 1, sizeof(port_t))     # touched as they are used
        d.vcpus = <vcpu_t *>calloc(vcpus, sizeof(vcpu_t))
        if d.ports == NULL or d.vcpus == NULL:
            raise MemoryError
        if domid == 0:
            self._make_host()
        else:
            self._make_guest(vcpus)

    cdef void _make_host(self) except *:
        """Domain 0: one vCPU, which never runs, but is told of events; every port masked until it has a handler."""
        cdef domain_t *d = self.d
        d.shared = <xen_shared_info *>calloc(1, sizeof(xen_shared_info))
        if open_receiver(d) or d.shared == NULL:
            raise MemoryError
        memset(d.shared.evtchn_mask, 0xff, sizeof(d.shared.evtchn_mask))
        d.nr_vcpus = 1
        d.vcpus[0].domain = d
        d.vcpus[0].pause = PAUSE_DOWN
        d.vcpus[0].info = &d.shared.vcpu_info[0]
        d.machine.host = d.vcpus[0].info

    cdef void _make_guest(self, uint32_t vcpus) except *:
        cdef domain_t *d = self.d
        cdef uint32_t i
        cdef int rc = open_instance(d, d.machine.nr_frames << PAGE_SHIFT)
        if rc:
            raise EngineError(f"Unicorn cannot make an instance (error {rc}): is there enough memory?")
        self._template = (<char *>d.env)[:CONTEXT_SIZE]
        d.shared_mfn = give_xenheap_frame(d)
        if d.shared_mfn == 0:
            raise MemoryError("the machine has no memory left")
        d.shared = <xen_shared_info *>frame_pointer(d.machine, d.shared_mfn)
        d.nr_vcpus = vcpus
        for i in range(vcpus):
            d.vcpus[i].domain = d
            d.vcpus[i].id = i
            d.vcpus[i].cr4 = guest_cr4(0)
            d.vcpus[i].dr[6] = 0xffff0ff0
            d.vcpus[i].dr[7] = 0x400
            d.vcpus[i].info = &d.shared.vcpu_info[i] if i < 32 else &d.vcpus[i].own_info
            d.vcpus[i].info.evtchn_upcall_mask = 1
            d.vcpus[i].pause = PAUSE_DOWN
            d.vcpus[i].runstate.state = RUNSTATE_offline
            d.vcpus[i].period = FIRST_PERIOD
            d.vcpus[i].runstate.state_entry_time = system_time(d.machine)

    cdef domain_t *_live(self) except NULL:
        if self.d == NULL:
            raise EngineError(f"domain {self.domid} has been destroyed")
        return self.d

    cdef vcpu_t *_vcpu(self, uint32_t vcpu) except NULL:
        if vcpu >= self._live().nr_vcpus or self.d.receiver != NULL:
            raise IndexError(f"domain {self.domid} has no vCPU {vcpu}")
        return &self.d.vcpus[vcpu]
