# cython: language_level=3, overflowcheck=False
"""The loops that are timed: sending, scanning and delivering events, by hv's data plane and by what it is compared with.

Rules:
* Everybody works on the same memory, and gets the same images: random sets of ports, at least 512 of them in a pool.
* An image is laid down by plain stores before each scan; `load` is that alone, to be subtracted.
* A function that is compared is called through a pointer or from another file: never inlined here.
* After each sample everything has been delivered that was expected, and nothing is left (`check`).
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from xen_abi cimport EVTCHNSTAT_ipi, xen_evtchn_fifo_control_block, xen_shared_info
from hv.fastpath.evtchn cimport send
from hv.fastpath.evtchn_2l cimport ops_2l
from hv.fastpath.evtchn_fifo cimport ops_fifo
from hv.fastpath.handlers cimport Handler, attach
from hv.fastpath.receiver cimport close_receiver, open_receiver, receive
from hv.fastpath.state cimport domain_t, fifo_t, machine_t, port_t, vcpu_t

from hv.fastpath.handlers import Batch, Counter, PythonHandler

cdef extern from "reference.h" nogil:
    ctypedef struct ref_port:
        pass
    ctypedef struct ref_events:
        uint64_t *pending
        uint64_t *mask
        uint64_t *selector
        uint8_t *upcall
        uint32_t *ready
        uint32_t *heads
        uint32_t *words
        uint32_t tails[16]
        uint32_t taken[16]
        uint32_t word
        uint32_t bit
        ref_port *ports
        uint8_t *priority
    void ref_linux_scan_2l(ref_events *)
    void ref_best_scan_2l(ref_events *)
    void ref_linux_scan_fifo(ref_events *)
    void ref_best_scan_fifo(ref_events *)
    void ref_floor_scan_2l(ref_events *, const uint16_t *, uint32_t, const uint8_t *, uint32_t)
    void ref_xen_send_2l(ref_events *, uint32_t)
    void ref_best_send_2l(ref_events *, uint32_t)
    void ref_xen_send_fifo(ref_events *, uint32_t)
    void ref_best_send_fifo(ref_events *, uint32_t)

cdef extern from "Python.h":
    """
    #define hv_vectorcall(callable, arguments) PyObject_Vectorcall( \\
        (PyObject *)(callable), (PyObject *const *)(arguments), 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)
    #define hv_barrier() __asm__ volatile("" ::: "memory")
    """
    void *vectorcall "hv_vectorcall"(void *callable, void **arguments)
    void barrier "hv_barrier"() nogil
    void Py_INCREF(void *)
    void Py_DECREF(void *)
    void *PyList_New(Py_ssize_t size)
    void PyList_SET_ITEM(void *list, Py_ssize_t i, void *item)

cdef enum:
    NR_PORTS = 4096
    NR_WORDS = 64
    WORDS_A_PAGE = 1024

ctypedef struct image_t:
    uint64_t selector
    uint64_t bits[NR_WORDS]
    uint8_t words[NR_WORDS]
    uint32_t nr_words
    uint32_t nr_ports
    uint16_t *ports          # in a random order

SCANS = ("load", "floor", "linux", "best", "hv")
FIFOS = ("linux", "best", "hv")
SENDS = ("xen", "best", "hv")
CALLS = ("raw", "hv")


cdef inline double _now() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return t.tv_sec * 1e9 + t.tv_nsec


cdef class EventLoops:
    """One set of ports, of either ABI, with a pool of images. `images` is a list of lists of port numbers below 4096."""

    cdef machine_t m
    cdef domain_t *d
    cdef ref_events e
    cdef image_t *pool
    cdef uint32_t nr_images
    cdef uint32_t at                 # the image that comes next
    cdef uint64_t delivered          # by C handlers
    cdef list _bound
    cdef bint fifo

    def __cinit__(self, list images, bint fifo=False, handlers="c", callable=None):
        cdef uint32_t i
        self.fifo = fifo
        self.nr_images = len(images)
        self.pool = <image_t *>calloc(len(images), sizeof(image_t))
        self.d = <domain_t *>calloc(1, sizeof(domain_t))
        if self.pool == NULL or self.d == NULL:
            raise MemoryError
        self._make_domain()
        for i, ports in enumerate(images):
            self._make_image(&self.pool[i], ports)
        self._bind(handlers, callable)

    cdef int _make_domain(self) except -1:
        cdef domain_t *d = self.d
        cdef uint32_t port
        d.machine = &self.m
        self.m.budget = &self.m.own_budget
        d.ports = <port_t *>calloc(NR_PORTS, sizeof(port_t))
        d.vcpus = <vcpu_t *>calloc(1, sizeof(vcpu_t))
        d.shared = <xen_shared_info *>calloc(1, sizeof(xen_shared_info))
        if d.ports == NULL or d.vcpus == NULL or d.shared == NULL or open_receiver(d):
            raise MemoryError
        d.nr_ports, d.nr_vcpus, d.max_port = NR_PORTS, 1, NR_PORTS - 1
        d.vcpus[0].domain = d
        d.vcpus[0].info = &d.shared.vcpu_info[0]
        d.port_ops = &ops_2l
        if self.fifo:
            self._make_fifo()
        for port in range(NR_PORTS):
            d.ports[port].state = EVTCHNSTAT_ipi
            d.ports[port].priority = 7
        self.e.pending, self.e.mask = d.shared.evtchn_pending, d.shared.evtchn_mask
        self.e.selector = &d.shared.vcpu_info[0].evtchn_pending_sel
        self.e.upcall = &d.shared.vcpu_info[0].evtchn_upcall_pending
        self.e.ports = <ref_port *>d.receiver.entries
        return 0

    cdef int _make_fifo(self) except -1:
        cdef domain_t *d = self.d
        cdef uint32_t *words = <uint32_t *>calloc(NR_PORTS, 4)
        cdef uint32_t i
        d.fifo = <fifo_t *>calloc(1, sizeof(fifo_t))
        self.e.priority = <uint8_t *>calloc(NR_PORTS, 1)
        if d.fifo == NULL or words == NULL or self.e.priority == NULL:
            raise MemoryError
        d.fifo.vcpus[0].control = <xen_evtchn_fifo_control_block *>calloc(1, sizeof(xen_evtchn_fifo_control_block))
        if d.fifo.vcpus[0].control == NULL:
            raise MemoryError
        d.fifo.nr_pages = NR_PORTS // WORDS_A_PAGE
        for i in range(d.fifo.nr_pages):
            d.fifo.words[i] = words + i * WORDS_A_PAGE
        memset(self.e.priority, 7, NR_PORTS)
        d.port_ops = &ops_fifo
        self.e.words = words
        self.e.ready, self.e.heads = &d.fifo.vcpus[0].control.ready, d.fifo.vcpus[0].control.head
        return 0

    cdef int _make_image(self, image_t *image, list ports) except -1:
        cdef uint32_t i, port
        cdef dict words = {}
        image.nr_ports = len(ports)
        image.ports = <uint16_t *>calloc(len(ports), 2)
        if image.ports == NULL:
            raise MemoryError
        for i, port in enumerate(ports):
            image.ports[i] = port
            words[port >> 6] = words.get(port >> 6, 0) | (<uint64_t>1 << (port & 63))
        for i, word in enumerate(sorted(words)):
            image.words[i], image.bits[i] = word, words[word]
            image.selector |= <uint64_t>1 << <uint32_t>word
        image.nr_words = len(words)
        return 0

    cdef int _bind(self, handlers, callable) except -1:
        """Every port has a handler: counting in C, the callable one by one, or the callable with lists."""
        cdef uint32_t port
        cdef Handler handler
        handler = Counter() if handlers == "c" else Batch(callable) if handlers == "batch" else PythonHandler(callable)
        self._bound = []
        for port in range(NR_PORTS):
            self._bound.append(attach(self.d, port, handler))
            if handlers == "c":
                self.d.receiver.entries[port].context = &self.delivered

        return 0

    def __dealloc__(self):
        cdef uint32_t i
        if self.pool != NULL:
            for i in range(self.nr_images):
                free(self.pool[i].ports)
            free(self.pool)
        if self.d == NULL:
            return
        if self.d.fifo != NULL:
            free(self.d.fifo.vcpus[0].control)
            free(self.d.fifo)
        free(self.e.words)
        free(self.e.priority)
        close_receiver(self.d)
        free(self.d.shared)
        free(self.d.vcpus)
        free(self.d.ports)
        free(self.d)

    # --- what is timed: ns an event over `count` images

    def scan(self, str what, uint32_t count):
        """2-level: receive an image's events; `what` is one of SCANS."""
        cdef int kind = SCANS.index(what)
        cdef uint64_t events, before = self.delivered
        cdef double ns
        with nogil:
            ns = self._scan(kind, count, &events)
        if kind:
            self.check(self.delivered - before, events)
        else:
            memset(self.e.pending, 0, NR_WORDS * 8)
            self.e.selector[0] = 0
            self.e.upcall[0] = 0
        return ns / events

    cdef double _scan(self, int kind, uint32_t count, uint64_t *events) noexcept nogil:
        cdef image_t *image
        cdef uint32_t i
        cdef double start
        events[0] = 0
        for i in range(count):
            events[0] += self.pool[(self.at + i) % self.nr_images].nr_ports
        start = _now()
        for i in range(count):
            image = self._load()
            if kind == 1:
                ref_floor_scan_2l(&self.e, image.ports, image.nr_ports, image.words, image.nr_words)
            elif kind == 2:
                ref_linux_scan_2l(&self.e)
            elif kind == 3:
                ref_best_scan_2l(&self.e)
            elif kind == 4:
                receive(self.d)
        return _now() - start

    cdef inline image_t *_load(self) noexcept nogil:
        cdef image_t *image = &self.pool[self.at]
        cdef uint32_t i
        cdef uint32_t following = self.at + 1
        self.at = following if following < self.nr_images else 0
        for i in range(image.nr_words):
            self.e.pending[image.words[i]] = image.bits[i]
        self.e.selector[0] = image.selector
        self.e.upcall[0] = 1
        barrier()
        return image

    def fifo_round(self, str what, uint32_t count):
        """FIFO: send an image's events, and receive them: ns an event of (both, sending alone)."""
        cdef int kind = FIFOS.index(what)
        cdef uint64_t events = 0, before = self.delivered
        cdef double sending = 0, both
        with nogil:
            self._forget_queues()
            both = self._fifo_round(kind, count, &events, &sending)
        self.check(self.delivered - before, events)
        return both / events, sending / events

    cdef double _fifo_round(self, int kind, uint32_t count, uint64_t *events, double *sending) noexcept nogil:
        cdef double start, middle, both = 0
        cdef image_t *image
        cdef uint32_t i
        for i in range(count):
            image = self._next()
            events[0] += image.nr_ports
            start = _now()
            self._fill_queues(kind, image)
            middle = _now()
            if kind == 0:
                ref_linux_scan_fifo(&self.e)
            elif kind == 1:
                ref_best_scan_fifo(&self.e)
            else:
                receive(self.d)
            both += _now() - start
            sending[0] += middle - start
        return both

    cdef void _fill_queues(self, int kind, image_t *image) noexcept nogil:
        cdef uint32_t i
        if kind == 0:
            for i in range(image.nr_ports):
                ref_xen_send_fifo(&self.e, image.ports[i])
        elif kind == 1:
            for i in range(image.nr_ports):
                ref_best_send_fifo(&self.e, image.ports[i])
        else:
            for i in range(image.nr_ports):
                send(self.d, image.ports[i])

    cdef void _forget_queues(self) noexcept nogil:
        """The queues are empty; the next sender begins anew, whoever it is."""
        memset(self.e.tails, 0, sizeof(self.e.tails))
        memset(self.e.taken, 0, sizeof(self.e.taken))
        memset(self.d.receiver.head, 0, sizeof(self.d.receiver.head))
        memset(self.d.fifo.vcpus[0].tail, 0, sizeof(self.d.fifo.vcpus[0].tail))

    cdef image_t *_next(self) noexcept nogil:
        cdef image_t *image = &self.pool[self.at]
        cdef uint32_t following = self.at + 1
        self.at = following if following < self.nr_images else 0
        return image

    def send(self, str what, uint32_t count, bint again=False):
        """2-level: ns to send one event; with `again` to ports that are all pending already."""
        cdef int kind = SENDS.index(what)
        cdef uint64_t events = 0
        cdef double ns = 0, start
        cdef image_t *image
        cdef uint32_t i
        with nogil:
            for i in range(count):
                image = self._next()
                events += image.nr_ports
                if again:
                    self._send(kind, image)
                start = _now()
                self._send(kind, image)
                ns += _now() - start
                memset(self.e.pending, 0, NR_WORDS * 8)
                self.e.selector[0] = 0
                self.e.upcall[0] = 0
        return ns / events

    cdef void _send(self, int kind, image_t *image) noexcept nogil:
        cdef uint32_t i
        if kind == 0:
            for i in range(image.nr_ports):
                ref_xen_send_2l(&self.e, image.ports[i])
        elif kind == 1:
            for i in range(image.nr_ports):
                ref_best_send_2l(&self.e, image.ports[i])
        else:
            for i in range(image.nr_ports):
                send(self.d, image.ports[i])

    def call(self, str what, uint32_t count, bint batch, callable):
        """Receive an image's events with Python handlers; "raw" calls the callable with the same arguments, and no more."""
        cdef int kind = CALLS.index(what)
        cdef uint64_t events = 0
        cdef image_t *image
        cdef uint32_t i
        cdef double start = _now()
        for i in range(count):
            image = self._next() if kind == 0 else self._load()
            events += image.nr_ports
            if kind == 1:
                receive(self.d)
            elif batch:
                self._raw_batch(image, <void *>callable)
            else:
                self._raw_calls(image, <void *>callable)
        return (_now() - start) / events

    cdef int _raw_calls(self, image_t *image, void *callable) except -1:
        cdef void *arguments[2]
        cdef void *result
        cdef uint32_t i
        for i in range(image.nr_ports):
            arguments[1] = self.d.receiver.entries[image.ports[i]].number
            result = vectorcall(callable, arguments + 1)
            if result == NULL:
                return -1
            Py_DECREF(result)
        return 0

    cdef int _raw_batch(self, image_t *image, void *callable) except -1:
        cdef void *arguments[2]
        cdef void *result
        cdef void *number
        cdef void *ports = PyList_New(image.nr_ports)
        cdef uint32_t i
        if ports == NULL:
            return -1
        for i in range(image.nr_ports):
            number = self.d.receiver.entries[image.ports[i]].number
            Py_INCREF(number)
            PyList_SET_ITEM(ports, i, number)
        arguments[1] = ports
        result = vectorcall(callable, arguments + 1)
        Py_DECREF(ports)
        if result == NULL:
            return -1
        Py_DECREF(result)
        return 0

    # --- whether it was right

    cdef int check(self, uint64_t delivered, uint64_t expected) except -1:
        cdef uint32_t i
        if delivered != expected:
            raise AssertionError(f"{delivered} events were delivered, not {expected}")
        for i in range(NR_WORDS):
            if self.e.pending[i]:
                raise AssertionError(f"word {i} has pending events left: {self.e.pending[i]:#x}")
        if self.fifo:
            for i in range(NR_PORTS):
                if self.e.words[i]:
                    raise AssertionError(f"port {i} is not clear: {self.e.words[i]:#x}")
        return 0
