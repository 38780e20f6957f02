# What hv changes in the code that Unicorn generates. Part of cpu.pyx, which is linked with the library.
#
# Rules:
# * The emitters below are Unicorn's own; only the numbers of four operations are private. self_check proves them.
# * Nothing is changed while no domain runs on this thread (hv_running): the self-check's instance is plain Unicorn.
#
# A block starts with its charge to the clock, in line, where Unicorn would call a helper: the budget `left` goes down by
# the block's bytes, and only a budget that is used up calls handlers.block. A hypercall ends in a look-up of the next
# block instead of a way through Unicorn's main loop: whoever must leave after one does so at once (leave_now).

cdef extern from * nogil:
    """
    enum { HV_OP_SET_LABEL = 1, HV_OP_LD16U_I64 = 69, HV_OP_LD_I64 = 73, HV_OP_ST_I64 = 77, HV_OP_SUB_I64 = 79 };
    enum { HV_TYPE_I64 = 1, HV_COND_GE = 3 };
    typedef uintptr_t hv_value;     /* Unicorn's TCGv: the offset of a temporary in its context */
    extern hv_value tcg_const_i64_x86_64(void *context, int64_t value);
    extern hv_value tcg_const_i32_x86_64(void *context, int32_t value);
    extern void *tcg_temp_new_internal_x86_64(void *context, int type, unsigned char local);
    extern void tcg_temp_free_internal_x86_64(void *context, void *temporary);
    extern void tcg_gen_op1_x86_64(void *context, int operation, uintptr_t a);
    extern void tcg_gen_op3_x86_64(void *context, int operation, uintptr_t a, uintptr_t b, uintptr_t c);
    extern void tcg_gen_brcondi_i64_x86_64(void *context, int condition, hv_value a, int64_t b, void *label);
    extern void *gen_new_label_x86_64(void *context);
    extern void tcg_gen_lookup_and_goto_ptr_x86_64(void *context);
    extern void helper_rechecking_single_step_x86_64(hv_env *);
    extern void __real_tcg_gen_callN_x86_64(void *context, void *helper, void *result, int count, void **arguments);
    extern void __real_tcg_gen_exit_tb_x86_64(void *context, void *block, unsigned index);
    extern void __real_gen_intermediate_code_x86_64(void *cpu, hv_block *block, int most);
    static __thread hv_block *hv_translating;       /* the block whose start is being generated */
    static __thread int hv_stops_here;              /* look closer at each of its instructions */
    static __thread int hv_after_syscall;

    #define HV_IS_RECHECK(helper) ((helper) == (void *)helper_rechecking_single_step_x86_64)

    /* left -= block->size, block noted; `helper` is called where less than nothing is left, or always. */
    static void hv_emit_charge(void *context, hv_block *block, int64_t *left, void **noted, void *helper, void *uc,
                               int always)
    {
        char *base = context;
        void *label = always ? NULL : gen_new_label_x86_64(context), *arguments[2];
        hv_value budget = tcg_const_i64_x86_64(context, (int64_t)left);
        hv_value self = tcg_const_i64_x86_64(context, (int64_t)block);
        void *rest = tcg_temp_new_internal_x86_64(context, HV_TYPE_I64, 0);
        void *size = tcg_temp_new_internal_x86_64(context, HV_TYPE_I64, 0);
        uintptr_t at_budget = (uintptr_t)(base + budget), at_self = (uintptr_t)(base + self);

        tcg_gen_op3_x86_64(context, HV_OP_ST_I64, at_self, at_budget, (char *)noted - (char *)left);
        tcg_gen_op3_x86_64(context, HV_OP_LD16U_I64, (uintptr_t)size, at_self, offsetof(hv_block, size));
        tcg_gen_op3_x86_64(context, HV_OP_LD_I64, (uintptr_t)rest, at_budget, 0);
        tcg_gen_op3_x86_64(context, HV_OP_SUB_I64, (uintptr_t)rest, (uintptr_t)rest, (uintptr_t)size);
        tcg_gen_op3_x86_64(context, HV_OP_ST_I64, (uintptr_t)rest, at_budget, 0);
        if (!always)
            tcg_gen_brcondi_i64_x86_64(context, HV_COND_GE, (hv_value)((char *)rest - base), 0, label);
        arguments[0] = base + tcg_const_i64_x86_64(context, (int64_t)uc);
        arguments[1] = base + tcg_const_i32_x86_64(context, 0);
        __real_tcg_gen_callN_x86_64(context, helper, NULL, 2, arguments);
        if (!always) {
            *(unsigned *)label |= 1;                /* its place is known */
            tcg_gen_op1_x86_64(context, HV_OP_SET_LABEL, (uintptr_t)label);
        }
        tcg_temp_free_internal_x86_64(context, base + budget);
        tcg_temp_free_internal_x86_64(context, base + self);
        tcg_temp_free_internal_x86_64(context, rest);
        tcg_temp_free_internal_x86_64(context, size);
        tcg_temp_free_internal_x86_64(context, arguments[0]);
        tcg_temp_free_internal_x86_64(context, arguments[1]);
    }
    """
    void __real_tcg_gen_callN_x86_64(void *context, void *helper, void *result, int count, void **arguments)
    void __real_tcg_gen_exit_tb_x86_64(void *context, void *block, unsigned int index)
    void __real_gen_intermediate_code_x86_64(void *cpu, hv_block *block, int most)
    void tcg_gen_lookup_and_goto_ptr_x86_64(void *context)
    void hv_emit_charge(void *context, hv_block *block, int64_t *left, void **noted, void *helper, void *uc,
                        bint always)
    bint HV_IS_RECHECK(void *helper)
    hv_block *hv_translating
    bint hv_stops_here, hv_after_syscall


cdef public void __wrap_gen_intermediate_code_x86_64(void *cpu, hv_block *block, int most) noexcept nogil:
    """What may reach a breakpoint is run instruction by instruction, each with a closer look."""
    global hv_translating, hv_stops_here, hv_after_syscall
    cdef domain_t *d = <domain_t *>hv_running
    hv_translating = block
    hv_after_syscall = 0
    hv_stops_here = d != NULL and d.current != NULL and (
        (d.current.breakpoints and own_stops_ahead(d.current, block.pc)) or (d.observed & POINT_ADDRESS and stops_ahead(d, block.pc)))
    if hv_stops_here:
        most = 1
    __real_gen_intermediate_code_x86_64(cpu, block, most)


cdef public void __wrap_tcg_gen_callN_x86_64(void *context, void *helper, void *result, int count,
                                             void **arguments) noexcept nogil:
    """A call from generated code. Two are special: the one at every block's start, and the last one of a `syscall`."""
    global hv_after_syscall, hv_translating
    cdef domain_t *d = <domain_t *>hv_running
    if d == NULL:
        __real_tcg_gen_callN_x86_64(context, helper, result, count, arguments)
    elif helper == <void *>__wrap_helper_check_exit_request_x86_64:
        if hv_translating != NULL:                  # the block's start; the calls behind loads and stores are for hooks
            hv_emit_charge(context, hv_translating, &d.machine.left, &d.machine.block, helper, d.uc,
                           hv_stops_here)
            hv_translating = NULL
    elif HV_IS_RECHECK(helper):                     # back_to_guest has looked at TF already
        hv_after_syscall = 1
    else:
        __real_tcg_gen_callN_x86_64(context, helper, result, count, arguments)


cdef public void __wrap_tcg_gen_exit_tb_x86_64(void *context, void *block, unsigned int index) noexcept nogil:
    global hv_after_syscall
    if hv_after_syscall:
        hv_after_syscall = 0
        tcg_gen_lookup_and_goto_ptr_x86_64(context)
    else:
        __real_tcg_gen_exit_tb_x86_64(context, block, index)
