# ring: requests and responses in one shared page, as block and network drivers do it.
#
# The page holds a struct of ring.h: how many requests and responses there are so far, at which count the other side wants
# an event, and an array of slots that both use in turn. The frontend writes requests and moves req_prod; the backend
# writes each response into a slot that it has read, and moves rsp_prod. Counts only grow, and the slot is the count modulo
# the size. Nobody rings for every entry: whoever has found nothing more to do sets req_event or rsp_event to the next
# count, looks once more, and sleeps. The other rings only if it has moved across that count. The backend maps the page by
# a grant, and believes nothing that stands there: it copies a request before it looks at it, and refuses a req_prod that
# is further ahead than the ring is long, which the frontend tries at the end.
#
# Title: A ring of requests and responses between two domains
# Exit: 0
# Domains: 2
# Output:
#   frontend: requests: 1000, answered right: 1000
#   frontend: slots: 32, events sent: 32
#   frontend: now req_prod is a lie
#   backend: served 1000 requests with 32 events; the frontend claims more than the ring holds: I let go of it
#   frontend: good-bye

        .include "guest.inc"
        .include "grants.inc"
        .include "store.inc"
        .include "partner.inc"
        guest   "ring"
        use_shared_info
        use_grants
        use_store
        use_partner

        .set    REQUESTS, 1000
        .set    SLOTS, 32                       # a power of two
        .set    RING, GNTTAB_NR_RESERVED_ENTRIES
        .set    req_prod, 0                     # struct *_sring
        .set    req_event, 4
        .set    rsp_prod, 8
        .set    rsp_event, 12
        .set    slots, 64                       # of 16 bytes: an id, and a number

main:
        call    map_shared_info
        call    find_partner
        jz      1f
        call    find_store
        call    map_grant_table
        cmpl    $1, place
        je      frontend
        jmp     backend
1:      ret

# Where the slot of count %eax in the ring at %rbx is: %rdx.
slot_of:
        mov     %eax, %edx
        and     $SLOTS - 1, %edx
        shl     $4, %edx
        lea     slots(%rbx, %rdx), %rdx
        ret

# Frontend: REQUESTS numbers go out; each comes back squared.
frontend:
        movl    $1, ring + req_event
        movl    $1, ring + rsp_event
        mov     $RING, %edi
        mov     $ring, %rsi
        mov     partner, %edx
        mov     $GTF_permit_access, %ecx
        call    grant_page
        offer   ring, $RING
        call    offer_bell
        call    wait_bell                       # the backend is there
        mov     $ring, %rbx
        xor     %r12d, %r12d                    # requests made
        xor     %r13d, %r13d                    # responses taken
more:   mov     %r12d, %r14d                    # where this batch of requests begins
1:      cmp     $REQUESTS, %r12d
        jae     2f
        mov     %r12d, %eax
        sub     %r13d, %eax
        cmp     $SLOTS, %eax
        jae     2f                              # full
        mov     %r12d, %eax
        call    slot_of
        mov     %r12, (%rdx)
        mov     %r12, 8(%rdx)
        inc     %r12d
        jmp     1b
2:      mov     %r12d, req_prod(%rbx)
        mfence
        mov     req_event(%rbx), %eax           # ring if it lies in the batch: new - event < new - old
        mov     %r12d, %ecx
        sub     %eax, %ecx
        mov     %r12d, %edx
        sub     %r14d, %edx
        cmp     %edx, %ecx
        jae     take_responses
        incl    rung
        call    ring_bell
take_responses:
        cmp     rsp_prod(%rbx), %r13d
        je      3f
        mov     %r13d, %eax
        call    slot_of
        mov     (%rdx), %rax                    # the id is what was asked
        imul    %rax, %rax
        cmp     8(%rdx), %rax
        jne     4f
        incl    right
4:      inc     %r13d
        cmp     $REQUESTS, %r13d
        je      all_done
        jmp     take_responses
3:      cmp     $REQUESTS, %r12d
        jae     5f
        mov     %r12d, %eax
        sub     %r13d, %eax
        cmp     $SLOTS, %eax
        jb      more
5:      lea     1(%r13), %eax
        mov     %eax, rsp_event(%rbx)
        mfence
        cmp     rsp_prod(%rbx), %r13d
        jne     take_responses
        call    wait_bell
        jmp     take_responses
all_done:
        print   "frontend: requests: "
        print_dec $REQUESTS
        print   ", answered right: "
        mov     right, %eax
        print_dec %rax
        println
        print   "frontend: slots: "
        print_dec $SLOTS
        print   ", events sent: "
        mov     rung, %eax
        print_dec %rax
        println
        println "frontend: now req_prod is a lie"
        movl    $REQUESTS + 100000, req_prod(%rbx)
        call    ring_bell
        call    wait_bell
        println "frontend: good-bye"
        ret

# Backend
backend:
        seek    ring
        mov     %eax, map + gnttab_map_grant_ref_ref
        mov     partner, %eax
        mov     %ax, map + gnttab_map_grant_ref_dom
        call    bind_bell
        grants  map_grant_ref, map
        cmpw    $0, map + gnttab_map_grant_ref_status
        jne     failed
        call    ring_bell
        mov     $window, %rbx
        xor     %r12d, %r12d                    # requests taken, and answered
serve:  mov     req_prod(%rbx), %r15d           # once
        mov     %r15d, %eax
        sub     %r12d, %eax
        cmp     $SLOTS, %eax
        ja      lied
        mov     %r12d, %r14d
1:      cmp     %r15d, %r12d
        je      2f
        mov     %r12d, %eax
        call    slot_of
        mov     (%rdx), %rax                    # the request, copied
        mov     8(%rdx), %rcx
        imul    %rcx, %rcx
        mov     %rax, (%rdx)                    # the response, in its place
        mov     %rcx, 8(%rdx)
        inc     %r12d
        jmp     1b
2:      mov     %r12d, rsp_prod(%rbx)
        mfence
        mov     rsp_event(%rbx), %eax
        mov     %r12d, %ecx
        sub     %eax, %ecx
        mov     %r12d, %edx
        sub     %r14d, %edx
        cmp     %edx, %ecx
        jae     3f
        incl    rung
        call    ring_bell
3:      lea     1(%r12), %eax
        mov     %eax, req_event(%rbx)
        mfence
        cmp     req_prod(%rbx), %r12d
        jne     serve
        call    wait_bell
        jmp     serve
lied:
        print   "backend: served "
        print_dec %r12
        print   " requests with "
        mov     rung, %eax
        print_dec %rax
        println " events; the frontend claims more than the ring holds: I let go of it"
        mov     map + gnttab_map_grant_ref_handle, %eax
        mov     %eax, unmap + gnttab_unmap_grant_ref_handle
        grants  unmap_grant_ref, unmap
        call    ring_bell
        ret
failed: println "backend: the ring can not be mapped"
        ret

        .data
        .balign 8
        map_op  map, window, 0
        unmap_op unmap, window
rung:   .long   0
right:  .long   0

        .bss
        .balign PAGE_SIZE
ring:   .skip   PAGE_SIZE
window: .skip   PAGE_SIZE
