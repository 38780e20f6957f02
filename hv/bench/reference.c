#include "reference.h"

#define NOINLINE __attribute__((noinline))
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define FIRST(x) ((uint32_t)__builtin_ctzll(x))
#define WITHOUT_FIRST(x) ((x) & ((x) - 1))
#define EXCHANGE(p, v) __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST)
#define CLEAR(p, bits) ((void)__atomic_fetch_and(p, ~(bits), __ATOMIC_SEQ_CST))
#define REPLACE(p, expected, v) __atomic_compare_exchange_n(p, expected, v, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)

enum { PENDING = 31, MASKED = 30, LINKED = 29, BUSY = 28 };
#define LINK_MASK 0x1ffffu

static inline void lock_btr(uint64_t *word, uint64_t bit)
{
    __asm__ volatile("lock btrq %1, %0" : "+m"(*word) : "r"(bit) : "memory", "cc");
}

static inline void lock_btr32(uint32_t *word, uint32_t bit)
{
    __asm__ volatile("lock btrl %1, %0" : "+m"(*word) : "r"(bit) : "memory", "cc");
}

static inline int lock_bts(uint64_t *word, uint64_t bit)
{
    int was;
    __asm__ volatile("lock btsq %2, %0" : "+m"(*word), "=@ccc"(was) : "r"(bit) : "memory");
    return was;
}

static inline int lock_bts32(uint32_t *word, uint32_t bit)
{
    int was;
    __asm__ volatile("lock btsl %2, %0" : "+m"(*word), "=@ccc"(was) : "r"(bit) : "memory");
    return was;
}

static inline void deliver(ref_events *e, uint32_t port)
{
    e->ports[port].delivered++;
    e->ports[port].call(&e->ports[port], port);
}

int NOINLINE ref_count(struct ref_port *port, uint32_t number)
{
    (void)number;
    ++*(uint64_t *)port->context;
    return 0;
}

/* --- 2-level: receiving --- */

/* As Linux does it: every port is cleared by a locked operation of its own. */
static inline void linux_scan_word(ref_events *e, uint32_t word, uint32_t bit)
{
    uint64_t bits = e->pending[word] & ~e->mask[word] & (~0ull << bit);

    while (bits) {
        bit = FIRST(bits);
        lock_btr(&e->pending[word], bit);
        deliver(e, word * 64 + bit);
        e->bit = (bit + 1) % 64;
        e->word = e->bit ? word : (word + 1) % 64;
        if (bit == 63)
            break;
        bits &= ~0ull << (bit + 1);
    }
}

void NOINLINE ref_linux_scan_2l(ref_events *e)
{
    while (*e->upcall) {
        uint64_t words, left;
        uint32_t start = e->word, start_bit = e->bit, word = start, turn;

        *e->upcall = 0;
        words = EXCHANGE(e->selector, 0);
        for (turn = 0; words; turn++) {
            left = words & (~0ull << word);
            if (!left) {
                word = 0;
                continue;
            }
            word = FIRST(left);
            linux_scan_word(e, word, word == start && turn == 0 ? start_bit : 0);
            if (word != start || turn != 0)
                words &= ~(1ull << word);
            word = (word + 1) % 64;
        }
    }
}

/* One locked operation a word; sparse words by a list, without a branch for each port; no other duties. */
static inline void best_one_word(ref_events *e, uint32_t word, uint64_t within)
{
    uint64_t bits = e->pending[word] & ~e->mask[word] & within;

    if (!bits)
        return;
    CLEAR(&e->pending[word], bits);
    do {
        deliver(e, word * 64 + FIRST(bits));
        bits = WITHOUT_FIRST(bits);
    } while (bits);
}

static inline uint32_t best_words(ref_events *e, uint64_t words)
{
    uint16_t list[64 * 5 + 2];
    uint32_t count, i, word = 0;

    while (words) {
        for (count = 0; words; words = WITHOUT_FIRST(words)) {
            uint64_t bits, second, third, more;

            word = FIRST(words);
            bits = e->pending[word] & ~e->mask[word];
            second = WITHOUT_FIRST(bits);
            third = WITHOUT_FIRST(second);
            more = WITHOUT_FIRST(third);
            if (UNLIKELY(more) && WITHOUT_FIRST(WITHOUT_FIRST(more)))
                break;
            CLEAR(&e->pending[word], bits);
            list[count] = word * 64 | (FIRST(bits | 1ull << 63));
            list[count + 1] = word * 64 | (FIRST(second | 1ull << 63));
            list[count + 2] = word * 64 | (FIRST(third | 1ull << 63));
            count += (bits != 0) + (second != 0) + (third != 0);
            for (; UNLIKELY(more); more = WITHOUT_FIRST(more))
                list[count++] = word * 64 | FIRST(more);
        }
        for (i = 0; i < count; i++)
            deliver(e, list[i]);
        if (words) {
            best_one_word(e, FIRST(words), ~0ull);
            words = WITHOUT_FIRST(words);
        }
    }
    return word;
}

void NOINLINE ref_best_scan_2l(ref_events *e)
{
    while (*e->upcall) {
        uint64_t words;
        uint32_t start = e->word;
        uint64_t beginning = 1ull << start, above = (~0ull << start) ^ beginning;

        *e->upcall = 0;
        words = EXCHANGE(e->selector, 0);
        if (words & beginning)
            best_one_word(e, start, ~0ull << e->bit);
        if (words & above)
            e->word = best_words(e, words & above);
        if (words & ~above & ~beginning)
            e->word = best_words(e, words & ~above & ~beginning);
        if (words & beginning)
            best_one_word(e, start, ~0ull);
    }
}

void NOINLINE ref_floor_scan_2l(ref_events *e, const uint16_t *ports, uint32_t count, const uint8_t *words,
                                uint32_t nr_words)
{
    uint32_t i;

    *e->upcall = 0;
    EXCHANGE(e->selector, 0);
    for (i = 0; i < nr_words; i++)
        CLEAR(&e->pending[words[i]], ~0ull);
    for (i = 0; i < count; i++)
        deliver(e, ports[i]);
}

/* --- 2-level: sending --- */

void NOINLINE ref_xen_send_2l(ref_events *e, uint32_t port)
{
    if (lock_bts(&e->pending[port / 64], port % 64))
        return;
    if (!(e->mask[port / 64] >> port % 64 & 1) && !lock_bts(e->selector, port / 64))
        EXCHANGE(e->upcall, 1);
}

void NOINLINE ref_best_send_2l(ref_events *e, uint32_t port)
{
    if (lock_bts(&e->pending[port / 64], port % 64) || e->mask[port / 64] >> port % 64 & 1)
        return;
    if (!(*e->selector >> port / 64 & 1))
        lock_bts(e->selector, port / 64);
    if (!*e->upcall)
        EXCHANGE(e->upcall, 1);
}

/* --- FIFO: receiving --- */

static inline uint32_t linux_clear_linked(uint32_t *word)
{
    uint32_t before = *word, after;

    do
        after = before & ~(1u << LINKED | LINK_MASK);
    while (!REPLACE(word, &before, after));
    return before & LINK_MASK;
}

void NOINLINE ref_linux_scan_fifo(ref_events *e)
{
    while (*e->upcall) {
        uint32_t ready;

        *e->upcall = 0;
        ready = EXCHANGE(e->ready, 0);
        while (ready) {
            uint32_t queue = FIRST(ready), port = e->taken[queue] ? e->taken[queue] : e->heads[queue], next;

            next = linux_clear_linked(&e->words[port]);
            if (!next)
                ready &= ~(1u << queue);
            if (e->words[port] >> PENDING & 1 && !(e->words[port] >> MASKED & 1)) {
                lock_btr32(&e->words[port], PENDING);
                deliver(e, port);
            }
            e->taken[queue] = next;
            ready |= EXCHANGE(e->ready, 0);
        }
    }
}

/* PENDING and LINKED go by one locked operation, and `ready` is looked at before it is exchanged. */
void NOINLINE ref_best_scan_fifo(ref_events *e)
{
    while (*e->upcall) {
        uint32_t ready;

        *e->upcall = 0;
        ready = EXCHANGE(e->ready, 0);
        while (ready) {
            uint32_t queue = FIRST(ready), port = e->taken[queue] ? e->taken[queue] : e->heads[queue];
            uint32_t before = e->words[port], after, wanted;

            do {
                wanted = (before >> MASKED) == 2;
                after = before & ~(1u << LINKED | LINK_MASK | wanted << PENDING);
            } while (!REPLACE(&e->words[port], &before, after));
            e->taken[queue] = before & LINK_MASK;
            if (!e->taken[queue])
                ready &= ~(1u << queue);
            if (wanted)
                deliver(e, port);
            if (*e->ready)
                ready |= EXCHANGE(e->ready, 0);
        }
    }
}

/* --- FIFO: sending --- */

/* Whether the tail was still on its queue and leads to `port` now. As Xen: BUSY first, then the link. */
static inline int xen_set_link(uint32_t *word, uint32_t port)
{
    uint32_t before = *word;

    if (!(before >> LINKED & 1))
        return 0;
    if (!REPLACE(word, &before, (before & ~(1u << BUSY | LINK_MASK)) | port))
        return 0;
    return 1;
}

void NOINLINE ref_xen_send_fifo(ref_events *e, uint32_t port)
{
    uint32_t *word = &e->words[port], queue = e->priority[port], tail;

    if (lock_bts32(word, PENDING) || *word >> MASKED & 1 || lock_bts32(word, LINKED))
        return;
    tail = e->tails[queue];
    e->tails[queue] = port;
    if (tail && tail != port && xen_set_link(&e->words[tail], port))
        return;
    EXCHANGE(&e->heads[queue], port);
    if (!lock_bts32(e->ready, queue))
        EXCHANGE(e->upcall, 1);
}

void NOINLINE ref_best_send_fifo(ref_events *e, uint32_t port)
{
    uint32_t *word = &e->words[port], before = *word, after, queue = e->priority[port], tail;

    do {
        after = before | 1u << PENDING;
        if (!(before >> MASKED & 1))
            after |= 1u << LINKED;
        if (after == before)
            return;
    } while (!REPLACE(word, &before, after));
    if (before >> LINKED & 1 || !(after >> LINKED & 1))
        return;
    tail = e->tails[queue];
    e->tails[queue] = port;
    if (tail && tail != port && xen_set_link(&e->words[tail], port))
        return;
    e->heads[queue] = port;
    if (!(*e->ready >> queue & 1))
        lock_bts32(e->ready, queue);
    if (!*e->upcall)
        EXCHANGE(e->upcall, 1);
}
