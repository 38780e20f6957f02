# cython: language_level=3
from libc.stdint cimport uint16_t, uint32_t
from hv.fastpath.state cimport active_t, grant_ops_t, grant_table_t

cdef grant_ops_t ops_v1
cdef grant_ops_t ops_v2

cdef void clear_status(grant_table_t *t, uint32_t ref, uint16_t flags) noexcept nogil
cdef void entry_written(grant_table_t *t, uint32_t ref) noexcept nogil
