/* The yardstick: a `syscall` loop under plain Unicorn with a UC_HOOK_INSN hook in C that reads the number and writes a
 * result, and nothing else. Prints ns an iteration. Usage: plain_hook ITERATIONS */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unicorn/unicorn.h>

static void on_syscall(uc_engine *uc, void *user)
{
    uint64_t number, result;
    uc_reg_read(uc, UC_X86_REG_RAX, &number);
    result = number + 1;
    uc_reg_write(uc, UC_X86_REG_RAX, &result);
    ++*(unsigned long *)user;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

int main(int argc, char **argv)
{
    /* 1: xor %edi,%edi; mov $17,%eax; syscall; add %rax,%r13; dec %rbx; jnz 1b; hlt */
    static const char code[] = "\x31\xff\xb8\x11\x00\x00\x00\x0f\x05\x49\x01\xc5\x48\xff\xcb\x75\xef\xf4";
    uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 0) : 1000000;
    unsigned long calls = 0;
    uc_engine *uc;
    uc_hook hook;
    double start;

    if (uc_open(UC_ARCH_X86, UC_MODE_64, &uc) || uc_mem_map(uc, 0x1000, 0x1000, UC_PROT_ALL) ||
        uc_mem_write(uc, 0x1000, code, sizeof(code) - 1) || uc_reg_write(uc, UC_X86_REG_RBX, &count) ||
        uc_hook_add(uc, &hook, UC_HOOK_INSN, on_syscall, &calls, 1, 0, UC_X86_INS_SYSCALL) || uc_ctl_exits_enable(uc))
        return 1;
    start = now();
    if (uc_emu_start(uc, 0x1000, 0, 0, 0) || calls != count)
        return 1;
    printf("%.2f\n", (now() - start) / count);
    return 0;
}
