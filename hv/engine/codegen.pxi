# What hv changes in the code that Unicorn generates. Part of cpu.pyx, which is linked with the library.
#
# Rules:
# * The emitters below are Unicorn's own; only the numbers of four operations are private. self_check proves them.
# * Nothing is changed while no domain runs on this thread (hv_running): the self-check's instance is plain Unicorn.
#
# A block starts with its charge to the clock, in line, where Unicorn would call a helper: the budget goes down by the
# block's bytes, and only a budget that is used up calls handlers.block, by code behind the block's end. The budget lies in
# the CPU state, in reach of the register that always points to it. A hypercall ends in a look-up of the next block
# instead of a way through Unicorn's main loop: whoever must leave after one does so at once (leave_now).

cdef extern from * nogil:
    """
    enum { HV_OP_SET_LABEL = 1, HV_OP_MOVI_I64 = 64, HV_OP_LD_I64 = 73, HV_OP_ST_I64 = 77, HV_OP_SUB_I64 = 79 };
    enum { HV_TYPE_I64 = 1, HV_COND_ALWAYS = 1, HV_COND_LT = 2 };
    typedef uintptr_t hv_value;     /* Unicorn's TCGv: the offset of a temporary in its context */
    extern hv_value tcg_const_i64_x86_64(void *context, int64_t value);
    extern hv_value tcg_const_i32_x86_64(void *context, int32_t value);
    extern void *tcg_temp_new_internal_x86_64(void *context, int type, unsigned char local);
    extern void tcg_temp_free_internal_x86_64(void *context, void *temporary);
    extern void tcg_gen_op1_x86_64(void *context, int operation, uintptr_t a);
    extern void tcg_gen_op3_x86_64(void *context, int operation, uintptr_t a, uintptr_t b, uintptr_t c);
    typedef struct { uint32_t operation; void *next, *previous; uintptr_t arguments[2]; } hv_operation;
    extern hv_operation *tcg_emit_op_x86_64(void *context, int operation);
    extern void tcg_gen_brcondi_i64_x86_64(void *context, int condition, hv_value a, int64_t b, void *label);
    extern void *gen_new_label_x86_64(void *context);
    extern void tcg_gen_lookup_and_goto_ptr_x86_64(void *context);
    extern void helper_rechecking_single_step_x86_64(hv_env *);
    extern uintptr_t __real_tcg_global_mem_new_internal_x86_64(void *, int type, uintptr_t base, int64_t, const char *);
    extern void __real_tcg_gen_callN_x86_64(void *context, void *helper, void *result, int count, void **arguments);
    extern void __real_tcg_gen_exit_tb_x86_64(void *context, void *block, unsigned index);
    extern void __real_gen_intermediate_code_x86_64(void *cpu, hv_block *block, int most);
    static __thread hv_block *hv_translating;       /* the block whose start is being generated */
    static __thread int hv_stops_here;              /* look closer at each of its instructions */
    static __thread int hv_after_syscall;
    static __thread hv_value hv_state;              /* the temporary that points to the CPU state */
    static __thread struct { void *context, *entered, *used_up, *helper, *uc; hv_operation *size; } hv_charge;

    #define HV_IS_RECHECK(helper) ((helper) == (void *)helper_rechecking_single_step_x86_64)

    static void hv_emit_call(void *context, void *helper, void *uc)
    {
        char *base = context;
        void *arguments[2];
        arguments[0] = base + tcg_const_i64_x86_64(context, (int64_t)uc);
        arguments[1] = base + tcg_const_i32_x86_64(context, 0);
        __real_tcg_gen_callN_x86_64(context, helper, NULL, 2, arguments);
        tcg_temp_free_internal_x86_64(context, arguments[0]);
        tcg_temp_free_internal_x86_64(context, arguments[1]);
    }

    static void hv_emit_label(void *context, void *label)
    {
        *(unsigned *)label |= 1;                    /* its place is known */
        tcg_gen_op1_x86_64(context, HV_OP_SET_LABEL, (uintptr_t)label);
    }

    /* left -= size, block noted; `helper` is called where less than nothing is left, or always. */
    static void hv_emit_charge(void *context, hv_block *block, void *helper, void *uc, int always)
    {
        char *base = context;
        uintptr_t state = (uintptr_t)(base + hv_state);
        hv_value self = tcg_const_i64_x86_64(context, (int64_t)block);
        void *size = tcg_temp_new_internal_x86_64(context, HV_TYPE_I64, 0);
        void *rest = tcg_temp_new_internal_x86_64(context, HV_TYPE_I64, 0);

        tcg_gen_op3_x86_64(context, HV_OP_ST_I64, (uintptr_t)(base + self), state, HV_BUDGET + 8);
        hv_charge.size = tcg_emit_op_x86_64(context, HV_OP_MOVI_I64);
        hv_charge.size->arguments[0] = (uintptr_t)size;
        tcg_gen_op3_x86_64(context, HV_OP_LD_I64, (uintptr_t)rest, state, HV_BUDGET);
        tcg_gen_op3_x86_64(context, HV_OP_SUB_I64, (uintptr_t)rest, (uintptr_t)rest, (uintptr_t)size);
        tcg_gen_op3_x86_64(context, HV_OP_ST_I64, (uintptr_t)rest, state, HV_BUDGET);
        if (always) {
            hv_emit_call(context, helper, uc);
        } else {
            hv_charge.context = context;
            hv_charge.helper = helper;
            hv_charge.uc = uc;
            hv_charge.used_up = gen_new_label_x86_64(context);
            hv_charge.entered = gen_new_label_x86_64(context);
            tcg_gen_brcondi_i64_x86_64(context, HV_COND_LT, (hv_value)((char *)rest - base), 0, hv_charge.used_up);
            hv_emit_label(context, hv_charge.entered);
        }
        tcg_temp_free_internal_x86_64(context, base + self);
        tcg_temp_free_internal_x86_64(context, size);
        tcg_temp_free_internal_x86_64(context, rest);
    }

    static void hv_translation_begins(hv_block *block)
    {
        hv_translating = block;
        hv_after_syscall = 0;
        memset(&hv_charge, 0, sizeof(hv_charge));
    }

    /* The block's size is known now; what runs when the budget is used up stands out of the way. */
    static void hv_translation_ends(hv_block *block)
    {
        if (hv_charge.size)
            hv_charge.size->arguments[1] = block->size;
        if (hv_charge.context) {
            hv_emit_label(hv_charge.context, hv_charge.used_up);
            hv_emit_call(hv_charge.context, hv_charge.helper, hv_charge.uc);
            tcg_gen_brcondi_i64_x86_64(hv_charge.context, HV_COND_ALWAYS, 0, 0, hv_charge.entered);
        }
    }
    """
    void __real_tcg_gen_callN_x86_64(void *context, void *helper, void *result, int count, void **arguments)
    void __real_tcg_gen_exit_tb_x86_64(void *context, void *block, unsigned int index)
    void __real_gen_intermediate_code_x86_64(void *cpu, hv_block *block, int most)
    void tcg_gen_lookup_and_goto_ptr_x86_64(void *context)
    void hv_emit_charge(void *context, hv_block *block, void *helper, void *uc, bint always)
    void hv_translation_begins(hv_block *block)
    void hv_translation_ends(hv_block *block)
    uintptr_t __real_tcg_global_mem_new_internal_x86_64(void *context, int type, uintptr_t base, int64_t offset, const char *name)
    bint HV_IS_RECHECK(void *helper)
    hv_block *hv_translating
    bint hv_stops_here, hv_after_syscall
    uintptr_t hv_state


cdef public void __wrap_gen_intermediate_code_x86_64(void *cpu, hv_block *block, int most) noexcept nogil:
    """What may reach a breakpoint is run instruction by instruction, each with a closer look."""
    global hv_stops_here
    cdef domain_t *d = <domain_t *>hv_running
    hv_translation_begins(block)
    hv_stops_here = d != NULL and d.current != NULL and (
        (d.current.breakpoints and own_stops_ahead(d.current, block.pc)) or (d.observed & POINT_ADDRESS and stops_ahead(d, block.pc)))
    if hv_stops_here:
        most = 1
    __real_gen_intermediate_code_x86_64(cpu, block, most)
    hv_translation_ends(block)


cdef public uintptr_t __wrap_tcg_global_mem_new_internal_x86_64(void *context, int type, uintptr_t base, int64_t offset,
                                                                const char *name) noexcept nogil:
    """An instance is made: the registers in memory are told by what points to the CPU state."""
    global hv_state
    hv_state = base
    return __real_tcg_global_mem_new_internal_x86_64(context, type, base, offset, name)


cdef public void __wrap_tcg_gen_callN_x86_64(void *context, void *helper, void *result, int count,
                                             void **arguments) noexcept nogil:
    """A call from generated code. Two are special: the one at every block's start, and the last one of a `syscall`."""
    global hv_after_syscall, hv_translating
    cdef domain_t *d = <domain_t *>hv_running
    if d == NULL:
        __real_tcg_gen_callN_x86_64(context, helper, result, count, arguments)
    elif helper == <void *>__wrap_helper_check_exit_request_x86_64:
        if hv_translating != NULL:                  # the block's start; the calls behind loads and stores are for hooks
            hv_emit_charge(context, hv_translating, helper, d.uc, hv_stops_here)
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
