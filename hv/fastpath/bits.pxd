# cython: language_level=3
# Bits and locked operations of words that another side writes too. `first` of 0 is undefined.
from libc.stdint cimport uint32_t, uint64_t

cdef extern from * nogil:
    """
    #define hv_first(x) ((uint32_t)__builtin_ctzll(x))
    #define hv_without_first(x) ((x) & ((x) - 1))
    #define hv_any(x) (((x) | -(x)) >> 63)
    #define hv_from(n) (~0ull << (n))
    #define hv_exchange(p, value) __atomic_exchange_n(p, value, __ATOMIC_SEQ_CST)
    #define hv_clear(p, bits) ((void)__atomic_fetch_and(p, ~(bits), __ATOMIC_SEQ_CST))
    #define hv_set(p, bits) ((void)__atomic_fetch_or(p, bits, __ATOMIC_SEQ_CST))
    #define hv_replace(p, expected, value) \\
        __atomic_compare_exchange_n(p, expected, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
    """
    uint32_t first "hv_first"(uint64_t)
    uint64_t without_first "hv_without_first"(uint64_t)
    uint64_t any_bit "hv_any"(uint64_t)      # 1 or 0, without a branch
    uint64_t bits_from "hv_from"(uint32_t n)                # the bits n to 63
    uint64_t exchange "hv_exchange"(uint64_t *, uint64_t)
    uint32_t exchange32 "hv_exchange"(uint32_t *, uint32_t)
    void clear "hv_clear"(uint64_t *, uint64_t)
    void clear32 "hv_clear"(uint32_t *, uint32_t)
    void set "hv_set"(uint64_t *, uint64_t)
    void set32 "hv_set"(uint32_t *, uint32_t)
    bint replace32 "hv_replace"(uint32_t *, uint32_t *, uint32_t)
    bint unlikely(bint)
