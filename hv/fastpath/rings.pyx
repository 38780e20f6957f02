# cython: language_level=3, overflowcheck=False
"""The backend's end of a shared ring (io/ring.h): requests out of it, responses into it.

Rules:
* A request is copied out of the shared page once; what the guest changes there afterwards is seen by nobody.
* The frontend's index is checked before it is used: more requests than there are slots without a response is RingError.
* An entry may lie across two pages: the pages of a ring are not neighbours in memory.
* Guests do not run while the host side does, so there are no barriers here.
* Indexes count modulo 2^32: the checked build's test for overflows is off in this file.
"""
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

cdef enum:
    PAGE = 4096
    HEADER = 64              # struct sring before its entries
    MAX_PAGES = 16
    REQ_PROD = 0             # offsets in the header, in words
    REQ_EVENT = 1
    RSP_PROD = 2
    RSP_EVENT = 3


class RingError(Exception):
    """The frontend's index says what can not be: the ring is not used any further."""


cdef class BackRing:
    """`pages` are writable views of 4096 bytes; `entry` is the size of a slot. `resume` goes on where a backend stopped.

    `size` is the number of slots.
    """

    cdef Py_buffer _buffers[MAX_PAGES]
    cdef int _held
    cdef uint32_t _entry
    cdef uint32_t _req_cons
    cdef uint32_t _rsp_prod
    cdef readonly uint32_t size

    def __cinit__(self, list pages, uint32_t entry, bint resume=True):
        cdef uint32_t slots
        if not 0 < len(pages) <= MAX_PAGES or not 0 < entry <= 512:
            raise ValueError("a ring has 1 to 16 pages")
        self._entry = entry
        for page in pages:
            PyObject_GetBuffer(page, &self._buffers[self._held], PyBUF_WRITABLE)
            self._held += 1
            if self._buffers[self._held - 1].len != PAGE:
                raise ValueError("a page of a ring has 4096 bytes")
        slots = (<uint32_t>len(pages) * PAGE - HEADER) // entry
        self.size = 1
        while self.size * 2 <= slots:
            self.size *= 2
        self._rsp_prod = self._req_cons = self._word(RSP_PROD)[0] if resume else 0

    def __dealloc__(self):
        self.release()

    cpdef release(self):
        """Give the pages back; the ring is not usable any more."""
        while self._held:
            self._held -= 1
            PyBuffer_Release(&self._buffers[self._held])

    cdef uint32_t *_word(self, int index) except NULL:
        if not self._held:
            raise RingError("the ring has been released")
        return <uint32_t *>self._buffers[0].buf + index

    cdef void _move(self, uint32_t slot, uint8_t *data, uint32_t count, bint out) noexcept:
        """Between an entry and the host's memory; `count` is at most the entry's size."""
        cdef uint32_t at = HEADER + (slot & (self.size - 1)) * self._entry
        cdef uint32_t first = min(count, PAGE - at % PAGE)
        cdef uint8_t *page = <uint8_t *>self._buffers[at // PAGE].buf + at % PAGE
        if out:
            memcpy(data, page, first)
        else:
            memcpy(page, data, first)
        if first < count:
            page = <uint8_t *>self._buffers[at // PAGE + 1].buf
            if out:
                memcpy(data + first, page, count - first)
            else:
                memcpy(page, data + first, count - first)

    @property
    def waiting(self):
        """How many requests have not been taken."""
        cdef uint32_t produced = self._word(REQ_PROD)[0]
        if <uint32_t>(produced - self._rsp_prod) > self.size:
            raise RingError(f"req_prod is {produced:#x}, but {self._rsp_prod:#x} requests have been answered, and the ring has "
                            f"{self.size} slots")
        return <uint32_t>(produced - self._req_cons)

    def take(self):
        """The next request as bytes, None where there is none. Raises RingError."""
        if not self.waiting:
            return None
        request = PyBytes_FromStringAndSize(NULL, self._entry)
        self._move(self._req_cons, <uint8_t *>PyBytes_AS_STRING(request), self._entry, True)
        self._req_cons = <uint32_t>(self._req_cons + 1)
        return request

    def put(self, bytes response not None):
        """A response to one of the requests taken; the guest sees it after `push`."""
        if len(response) > self._entry:
            raise ValueError("a response is no longer than a slot")
        if self._rsp_prod == self._req_cons:
            raise ValueError("there is a response for each request, not more")
        self._word(RSP_PROD)
        self._move(self._rsp_prod, <uint8_t *>PyBytes_AS_STRING(response), <uint32_t>len(response), False)
        self._rsp_prod = <uint32_t>(self._rsp_prod + 1)

    def push(self):
        """Show the responses; True where the frontend wants an event for them."""
        cdef uint32_t *shown = self._word(RSP_PROD)
        cdef uint32_t old = shown[0], new = self._rsp_prod
        shown[0] = new
        return <uint32_t>(new - self._word(RSP_EVENT)[0]) < <uint32_t>(new - old)

    def more(self):
        """Ask for an event with the next request; True where one is there already. Raises RingError."""
        return self.want(1)

    def want(self, uint32_t count):
        """True where so many requests wait; else ask for an event with the last of them. Raises RingError."""
        if self.waiting >= count:
            return True
        self._word(REQ_EVENT)[0] = <uint32_t>(self._req_cons + count)
        return False

    @property
    def open_requests(self):
        """How many requests have been taken and not answered."""
        return <uint32_t>(self._req_cons - self._rsp_prod)
