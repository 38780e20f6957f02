# echo: a device that another domain provides, from the first handshake to the end: xenbus.
#
# Each end of a split device publishes its state in XenStore and watches the other's. The frontend starts (1,
# Initialising); the backend says that it waits for details (2, InitWait). The frontend grants a page, allocates a port,
# writes both down and says so (3, Initialised). The backend maps, binds, and is there (4, Connected), and so is the
# frontend. Then lines go through the page, each with an event, and come back in capitals. In the end the frontend closes
# (5, Closing); the backend gives everything back and is gone (6, Closed), and the frontend too. Here the keys lie in each
# domain's own data directory, which it may write, with the permission for the other to read.
#
# Title: A split device between two domains: an echo through xenbus
# Exit: 0
# Domains: 2
# Output:
#   frontend: Initialising
#   backend: InitWait
#   frontend: Initialised
#   backend: maps grant 8: 0
#   backend: Connected
#   frontend: Connected
#   frontend: the device says HELLO, DEVICE
#   frontend: the device says FROM ONE DOMAIN TO THE OTHER AND BACK
#   frontend: Closing
#   backend: Closed
#   frontend: the page is free: yes
#   frontend: Closed

        .include "guest.inc"
        .include "grants.inc"
        .include "store.inc"
        .include "partner.inc"
        guest   "echo"
        use_shared_info
        use_grants
        use_store
        use_partner

        .set    PAGE_REF, GNTTAB_NR_RESERVED_ENTRIES
        .set    Initialising, 1
        .set    InitWait, 2
        .set    Initialised, 3
        .set    Connected, 4
        .set    Closing, 5
        .set    Closed, 6

# become WHO, STATE: print it, and publish it.
        .macro  become who, state
        println "\who: \state"
        offer   state, $\state
        .endm

# await STATE: of the partner.
        .macro  await state
        mov     $\state, %r12d
        call    await_state
        .endm

# say TEXT: a line through the device, and what comes back.
        .macro  say text
        .pushsection .rodata
.Lline\@:
        .asciz  "\text"
        .popsection
        mov     $.Lline\@, %rsi
        call    through_device
        .endm

main:
        call    map_shared_info
        call    find_partner
        jz      1f
        call    find_store
        call    map_grant_table
        mov     $.Lkey_state, %rbx              # watch the partner's state
        call    partner_key
        movw    $'w', (%rdi)                    # the token
        add     $2, %rdi
        mov     $XS_WATCH, %eax
        call    ask_about
        cmpl    $1, place
        je      frontend
        jmp     backend
1:      ret

# Until the partner's state is %r12d. An event of the watch that comes before a reply is older than the reply.
await_state:
        mov     $.Lkey_state, %rbx
        call    partner_key
        mov     $XS_READ, %eax
        call    ask_about
        cmpl    $XS_READ, message + xsd_sockmsg_type
        jne     3f
        mov     $message + sizeof_header, %rdi
        call    number
        cmp     %r12d, %eax
        je      2f
        jmp     1f
3:      cmp     $Closed, %r12d                  # a domain that has ended has no keys any more
        je      2f
1:      movq    $0, store_poll + sched_poll_timeout
        call    receive
        jmp     await_state
2:      ret

frontend:
        become  frontend, Initialising
        await   InitWait
        mov     $PAGE_REF, %edi
        mov     $page, %rsi
        mov     partner, %edx
        mov     $GTF_permit_access, %ecx
        call    grant_page
        offer   ring, $PAGE_REF
        call    offer_bell
        become  frontend, Initialised
        await   Connected
        become  frontend, Connected
        say     "hello, device"
        say     "from one domain to the other and back"
        become  frontend, Closing
        await   Closed
        print   "frontend: the page is free: "
        testw   $GTF_reading | GTF_writing, grant_table + PAGE_REF * sizeof_grant_entry_v1
        print_if z
        become  frontend, Closed
        ret

through_device:
        mov     $page, %rdi
        call    put_text
        movb    $0, (%rdi)
        call    ring_bell
        call    wait_bell
        print   "frontend: the device says "
        mov     $page, %rdi
        call    print_string
        println
        ret

backend:
        await   Initialising
        become  backend, InitWait
        await   Initialised
        seek    ring
        mov     %eax, map + gnttab_map_grant_ref_ref
        mov     partner, %eax
        mov     %ax, map + gnttab_map_grant_ref_dom
        grants  map_grant_ref, map
        print   "backend: maps grant "
        mov     map + gnttab_map_grant_ref_ref, %eax
        print_dec %rax
        print   ": "
        print_status map + gnttab_map_grant_ref_status
        println
        call    bind_bell
        become  backend, Connected
        await   Connected
        mov     $2, %r13d                       # lines
1:      call    wait_bell
        mov     $window, %rdi
2:      movzbl  (%rdi), %eax                    # what stands there is read once, and at most a page of it
        test    %al, %al
        jz      3f
        lea     -'a'(%rax), %ecx
        cmp     $25, %ecx
        ja      4f
        sub     $32, %al
        mov     %al, (%rdi)
4:      inc     %rdi
        cmp     $window + PAGE_SIZE, %rdi
        jb      2b
3:      call    ring_bell
        dec     %r13d
        jnz     1b
        await   Closing
        mov     map + gnttab_map_grant_ref_handle, %eax
        mov     %eax, unmap + gnttab_unmap_grant_ref_handle
        grants  unmap_grant_ref, unmap
        hypercall event_channel_op, $EVTCHNOP_close, $bell_port
        become  backend, Closed
        await   Closed
        ret

        .data
        .balign 8
        map_op  map, window, 0
        unmap_op unmap, window

        .bss
        .balign PAGE_SIZE
page:   .skip   PAGE_SIZE
window: .skip   PAGE_SIZE
