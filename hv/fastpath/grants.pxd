# cython: language_level=3
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from hv.fastpath.state cimport active_t, domain_t, grant_table_t, machine_t, mapping_t, vcpu_t
from xen_abi cimport xen_gnttab_map_grant_ref, xen_gnttab_unmap_and_replace, xen_gnttab_unmap_grant_ref

cdef enum:
    # active_t.pin: how often a grant is used, by whom and how. Eight bits each.
    PIN_HOST_WRITE = 1
    PIN_HOST_READ = 0x100
    PIN_DEVICE_WRITE = 0x10000
    PIN_DEVICE_READ = 0x1000000
    PIN_WRITERS = 0xff00ff

cdef domain_t *find_domain(machine_t *m, uint32_t domid) noexcept nogil
cdef void end_use(domain_t *owner, uint32_t ref, uint32_t pins) noexcept nogil
cdef void map_grant_ref(vcpu_t *v, xen_gnttab_map_grant_ref *op) noexcept nogil
cdef void unmap_grant_ref(vcpu_t *v, xen_gnttab_unmap_grant_ref *op) noexcept nogil
cdef void unmap_and_replace(vcpu_t *v, xen_gnttab_unmap_and_replace *op) noexcept nogil
cdef int host_map(domain_t *host, uint32_t domid, uint32_t ref, bint readonly, uint32_t *handle, uint64_t *mfn) noexcept nogil
cdef int host_unmap(domain_t *host, uint32_t handle) noexcept nogil
cdef void release_mappings(domain_t *d) noexcept nogil
cdef void release_foreign(domain_t *d) noexcept nogil
