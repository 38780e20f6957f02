# cython: language_level=3
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy
from hv.fastpath.state cimport PAGE_SHIFT, PAGE_SIZE, SEEN_PAGES, domain_t, machine_t, seen_t, vcpu_t

cdef enum:
    ACCESS_READ = 0
    ACCESS_WRITE = 1
    ACCESS_FETCH = 2
    ACCESS_LOOK = 3          # a read by hv itself, for people: leaves no trace in the page tables

cdef enum:                   # results of walk()
    WALK_OK = 0
    WALK_FAULT = 1           # a page fault: `error` holds its code
    WALK_NONCANONICAL = 2

cdef enum:                   # page-fault error code
    PF_PRESENT = 1
    PF_WRITE = 2
    PF_USER = 4
    PF_RESERVED = 8
    PF_FETCH = 16

cdef enum:                   # page-table entry bits
    PTE_PRESENT = 1
    PTE_RW = 2
    PTE_USER = 4
    PTE_ACCESSED = 0x20
    PTE_DIRTY = 0x40
    PTE_PSE = 0x80
    PTE_GLOBAL = 0x100

cdef enum:
    LDT_OFFSET = 0x10000     # of a vCPU's LDT behind its GDT

cdef enum:
    PROT_READ = 1
    PROT_WRITE = 2
    PROT_EXEC = 4

cdef extern from * nogil:
    """
    #define PTE_NX             0x8000000000000000ULL
    #define PTE_GUEST_KERNEL   0x0010000000000000ULL   /* software bit 52: hv added USER */
    #define ADDRESS_MASK       0x000ffffffffff000ULL
    #define HV_START           0xffff800000000000ULL   /* L4 slots 256..271 are the hypervisor's */
    #define HV_END             0xffff880000000000ULL
    #define canonical(va)      ((uint64_t)(va) + 0x0000800000000000ULL < 0x0001000000000000ULL)
    #define PERDOMAIN_START    0xffff820000000000ULL   /* slot 260: descriptor tables, 32 pages a vCPU */
    """
    const uint64_t PTE_NX, PTE_GUEST_KERNEL, ADDRESS_MASK, HV_START, HV_END, PERDOMAIN_START
    bint canonical(uint64_t va)

ctypedef struct walk_t:
    uint64_t mfn
    uint32_t prot
    uint32_t error
    uint32_t level           # of the entry that ended the walk: 4..1, 0 for a complete one
    uint64_t entries[5]      # [level] as read
    uint64_t slots[5]        # [level] machine address of the entry

cdef int walk(vcpu_t *v, uint64_t root, uint64_t va, int access, bint user, walk_t *w) noexcept nogil
cdef uint64_t active_root(vcpu_t *v) noexcept nogil
cdef int read_pages(vcpu_t *v, void *to, uint64_t va, uint64_t size) noexcept nogil
cdef int write_pages(vcpu_t *v, uint64_t va, const void *source, uint64_t size) noexcept nogil
cdef void code_written(machine_t *m, uint64_t mfn) noexcept nogil
cdef void set_code_listener(void (*listener)(machine_t *, uint64_t) noexcept nogil) noexcept


cdef inline uint8_t *frame_pointer(machine_t *m, uint64_t mfn) noexcept nogil:
    return m.ram + (mfn << PAGE_SHIFT)


cdef inline bint owns(domain_t *d, uint64_t mfn) noexcept nogil:
    return mfn < d.machine.nr_frames and d.machine.frames[mfn].owner == d.domid + 1


cdef inline void frame_written(machine_t *m, uint64_t mfn) noexcept nogil:
    """hv, a backend or another domain has written the frame: translated code of it is stale."""
    if m.frames[mfn].code:
        code_written(m, mfn)


cdef inline seen_t *seen_range(vcpu_t *v, uint64_t va, uint64_t size) noexcept nogil:
    """The remembered walk for a range inside one page, or NULL."""
    cdef seen_t *seen = &v.domain.seen[(va >> PAGE_SHIFT) % SEEN_PAGES]
    if seen.tag == (va >> PAGE_SHIFT) + 1 and v.domain.current == v and (va & (PAGE_SIZE - 1)) + size <= PAGE_SIZE:
        return seen
    return NULL


cdef inline int copy_from_guest(vcpu_t *v, void *to, uint64_t va, uint64_t size) noexcept nogil:
    """0, or -1 where any byte is not readable by the guest's kernel."""
    cdef seen_t *seen = seen_range(v, va, size)
    if seen == NULL:
        return read_pages(v, to, va, size)
    memcpy(to, v.domain.machine.ram + (seen.mfn << PAGE_SHIFT) + (va & (PAGE_SIZE - 1)), size)
    return 0


cdef inline int copy_to_guest(vcpu_t *v, uint64_t va, const void *source, uint64_t size) noexcept nogil:
    """0, or -1 where any byte is not writable by the guest's kernel (bytes before it are written)."""
    cdef seen_t *seen = seen_range(v, va, size)
    if seen == NULL or not seen.prot & PROT_WRITE or v.domain.machine.frames[seen.mfn].code:
        return write_pages(v, va, source, size)
    memcpy(v.domain.machine.ram + (seen.mfn << PAGE_SHIFT) + (va & (PAGE_SIZE - 1)), source, size)
    return 0
