/* What hv's event channels are measured against: the shapes of Linux's and Xen's code, the best that plain C does, and
 * the least that any of them has to do. Ports have the layout of hv.fastpath.state's entry_t. */
#ifndef HV_BENCH_REFERENCE_H
#define HV_BENCH_REFERENCE_H

#include <stdint.h>

typedef struct ref_port ref_port;
struct ref_port {
    int (*call)(struct ref_port *port, uint32_t number);
    void *context;
    void *number;
    uint64_t delivered;
};

/* One vCPU's events, by either ABI. Who sends and who takes them share this. */
typedef struct ref_events {
    uint64_t *pending, *mask, *selector; /* 2-level */
    uint8_t *upcall;
    uint32_t *ready, *heads, *words; /* FIFO; heads has 16 */
    uint32_t tails[16];              /* the sender's */
    uint32_t taken[16];              /* the consumer's copy of the heads */
    uint32_t word, bit;              /* where Linux's next scan begins */
    struct ref_port *ports;
    uint8_t *priority; /* of each port */
} ref_events;

/* Receive all events: the upcall's whole loop. */
void ref_linux_scan_2l(ref_events *e);
void ref_best_scan_2l(ref_events *e);
void ref_linux_scan_fifo(ref_events *e);
void ref_best_scan_fifo(ref_events *e);

/* The locked operations that no scan can do without, and the handlers: `ports` is the finished list. */
void ref_floor_scan_2l(ref_events *e, const uint16_t *ports, uint32_t count, const uint8_t *words, uint32_t nr_words);

/* One event. */
void ref_xen_send_2l(ref_events *e, uint32_t port);
void ref_best_send_2l(ref_events *e, uint32_t port);
void ref_xen_send_fifo(ref_events *e, uint32_t port);
void ref_best_send_fifo(ref_events *e, uint32_t port);

int ref_count(struct ref_port *port, uint32_t number);

#endif
