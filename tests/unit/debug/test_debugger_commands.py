"""The debugger's commands: what each says, and what it refuses, line by line."""

import re
from typing import Any

import pytest
from guest_kit import assemble

import hv
from hv.debug.command import resolve
from hv.debug.commands import COMMANDS, GROUPS
from hv.debug.completion import SOURCES, candidates
from hv.debug.session import Session

GUEST = """
main:   call    outer
        ret
        .globl  outer
outer:  push    %rbx
        mov     $3, %ebx
        .globl  loop
loop:   call    inner
        dec     %ebx
        jnz     loop
        .globl  behind
behind: pop     %rbx
        ret
        .globl  inner
inner:  push    %rax
        incl    counter
        pop     %rax
        ret
        .data
        .balign 8
        .globl  counter
counter: .quad  0
        .globl  message
message: .asciz "Hi\\n"
"""


class Sitting:
    def __init__(self, machine: hv.Machine) -> None:
        self.said: list[str] = []
        self.machine = machine
        self.session = Session(machine, lambda line, style: self.said.append(line), timeout=30)

    def do(self, *lines: str) -> list[str]:
        self.said.clear()
        for line in lines:
            self.session.execute(line)
        return list(self.said)

    def refuses(self, line: str) -> str:
        with pytest.raises(hv.HvError) as caught:
            self.session.execute(line)
        sentence = str(caught.value)
        assert sentence and "\n" not in sentence
        return sentence


@pytest.fixture
def sitting() -> Any:
    with hv.Machine() as machine:
        machine.create(assemble(GUEST))
        yield Sitting(machine)


def of(image: str) -> Sitting:
    machine = hv.Machine()
    machine.create(image)
    return Sitting(machine)


def place(line: str) -> str:
    """`main+0x5` of the line that tells where the machine stands."""
    match = re.search(r"<(.+?)>: ", line)
    assert match, line
    return match[1]


# --- rows


@pytest.mark.parametrize(
    ("line", "name", "rest"),
    [
        ("step", "step", ""),
        ("s 3", "step", "3"),
        ("ste 3", "step", "3"),
        ("n", "next", ""),
        ("b main if rax == 1", "break", "main if rax == 1"),
        ("x/4xg $rsp", "x", "/4xg $rsp"),
        ("x /4xg $rsp", "x", "/4xg $rsp"),
        ("p/x rax", "print", "/x rax"),
        ("i r rax", "info registers", "rax"),
        ("info b", "info breakpoints", ""),
        ("inf tr", "info traps", ""),
        ("i sh", "info shared", ""),
        ("i s main", "info symbol", "main"),
        ("regs", "info registers", ""),
        ("bt 3", "backtrace", "3"),
        ("q", "quit", ""),
        ("?", "help", ""),
    ],
)
def test_resolve(line: str, name: str, rest: str) -> None:
    row, behind = resolve(line)
    assert (row.name, behind) == (name, rest)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("wr", "'wr' is no command: help lists them"),
        ("di", "'di' can be disable, disassemble: type more of it"),
        ("info", "'info' needs a second word"),
        ("info x", "'info' needs a second word"),
        ("/x", "'' can be"),
    ],
)
def test_what_is_no_command(line: str, sentence: str) -> None:
    with pytest.raises(hv.HvError) as caught:
        resolve(line)
    assert str(caught.value).startswith(sentence)


def test_rows_are_well_formed() -> None:
    names = [row.name for row in COMMANDS]
    words = [*names, *(word for row in COMMANDS for word in row.abbreviations)]
    assert len(set(words)) == len(words)
    for row in COMMANDS:
        assert row.summary.endswith(".") and (not row.completes or row.completes in SOURCES)
        for word in (row.name, *row.abbreviations):
            assert resolve(word)[0] is row, word
    assert sum(len(rows) for _, rows in GROUPS) == len(COMMANDS)


@pytest.mark.parametrize("row", COMMANDS, ids=lambda row: row.name)
def test_help_of_each(row: Any, sitting: Sitting) -> None:
    said = sitting.do(f"help {row.name}")
    assert said[0] == row.usage and said[1] == row.summary


def test_help(sitting: Sitting) -> None:
    said = sitting.do("help")
    assert [line for line in said if line.endswith(":")] == [f"{title}:" for title, _ in GROUPS]
    assert any("[address]" in line for line in sitting.do("help expressions"))


# --- running


def test_step_goes_into_calls(sitting: Sitting) -> None:
    sitting.do("tbreak main", "c")
    assert place(sitting.do("s")[-1]) == "outer"
    assert place(sitting.do("s 3")[-1]) == "inner"


def test_next_goes_over_calls(sitting: Sitting) -> None:
    sitting.do("tbreak loop", "c")
    assert place(sitting.do("n")[-1]) == "loop+0x5"
    assert place(sitting.do("n 2")[-1]) == "loop"
    assert sitting.do("p [counter]")[0].startswith("0x1 = 1")


def test_next_stops_at_a_breakpoint_inside(sitting: Sitting) -> None:
    said = sitting.do("tbreak loop", "c", "b inner", "n")
    assert said[-2].endswith("at inner") and place(said[-1]) == "inner"
    assert not [line for line in sitting.do("i b") if "loop" in line]


def test_next_goes_over_upcalls() -> None:
    sitting = of("timer")
    sitting.do("tbreak upcall", "c")
    back = sitting.machine.stopped
    assert back is not None and place(sitting.said[-1]) != sitting.session.place(back.rip)  # type: ignore[attr-defined]
    again = of("timer")
    again.do("tbreak hypercall sched_op.SCHEDOP_block", "c")
    rip = again.session.registers["rip"]
    again.do("n")
    assert again.session.registers["rip"] == rip + 2, "not in the event callback"
    assert again.session.guest.vcpu_counters(0)["upcalls"] == 1


def test_finish(sitting: Sitting) -> None:
    sitting.do("tbreak inner", "c", "s")
    said = sitting.do("fin")
    assert place(said[-2]) == "loop+0x5" and said[-1] == f"rax = {sitting.session.registers['rax']:#x}"
    assert place(sitting.do("fin")[-2]) == "main+0x5"


def test_finish_of_a_handler() -> None:
    sitting = of("timer")
    sitting.do("tbreak upcall", "c")
    stop = sitting.machine.stopped
    sitting.do("fin")
    assert sitting.session.registers["rip"] == stop.rip  # type: ignore[union-attr]


def test_until_leaves_a_loop(sitting: Sitting) -> None:
    sitting.do("tbreak loop", "c", "n 2")
    assert place(sitting.said[-1]) == "loop+0x7"
    assert place(sitting.do("until")[-1]) == "behind"
    assert place(sitting.do("until main+5")[-1]) == "main+0x5"


def test_wait(sitting: Sitting) -> None:
    timer = of("timer")
    assert timer.do("wait 5ms")[0] == "the time asked for is reached"
    assert timer.machine.now_ns == 5_000_000
    assert "is no time" in sitting.refuses("wait a moment")


def test_the_end(sitting: Sitting) -> None:
    assert sitting.do("c") == ["image powered off"]
    for line in ("s", "n", "fin", "regs", "x/i main", "p rax", "i e", "i v", "bt", "b main+rax", "set rax = 1"):
        assert "powered off" in sitting.refuses(line)


def test_a_crash() -> None:
    sitting = of("crash")
    said = sitting.do("c")
    assert said[0].startswith("crash crashed: page fault #PF at address 0xdead0000")
    assert sitting.do("p rbx") == ["0xdead0000 = 3735879680"]
    assert sitting.do("c")[0].startswith("crash crashed")


# --- breakpoints


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("b main", "breakpoint 1: address 0xffffffff8000026c <main>"),
        ("b *main+5 if rax == 1", "breakpoint 1: address 0xffffffff80000271 <main+0x5> if rax == 1"),
        ("tb 0x1000", "temporary breakpoint 1: address 0x1000"),
        ("b hypercall sched_op", "breakpoint 1: hypercall sched_op"),
        ("b hypercall sched_op.SCHEDOP_block after", "breakpoint 1: hypercall sched_op.SCHEDOP_block after"),
        ("b event 3 if port", "breakpoint 1: event on port 3 if port"),
        ("b event", "breakpoint 1: event on any port"),
        ("b upcall", "breakpoint 1: upcall"),
        ("b upcall 4", "breakpoint 1: upcall with port 4 pending"),
        ("b xenstore data/x", "breakpoint 1: xenstore data/x"),
        ("b exception", "breakpoint 1: any exception"),
        ("b exception #PF", "breakpoint 1: exception page fault #PF"),
        ("b exception gp", "breakpoint 1: exception general protection #GP"),
        ("b exception 0x20", "breakpoint 1: exception vector 0x20"),
        ("watch counter", "breakpoint 1: write of 8 bytes at 0xffffffff80003000 <counter>"),
        ("rwatch counter, 2", "breakpoint 1: read of 2 bytes at 0xffffffff80003000 <counter>"),
        ("awatch counter+1, 1 if old != new", "breakpoint 1: access of 1 bytes at 0xffffffff80003001 <counter+0x1>"),
    ],
)
def test_making_breakpoints(line: str, said: str, sitting: Sitting) -> None:
    found = sitting.do(line)[0]
    assert re.sub(r"0xffffffff8\w+ ", "ADDRESS ", found).startswith(re.sub(r"0xffffffff8\w+ ", "ADDRESS ", said))
    assert sitting.do("info b") == [found]


@pytest.mark.parametrize(
    "line",
    [
        "b nowhere",
        "b main if",
        "b main if rax =",
        "b hypercall",
        "b hypercall nothing",
        "b hypercall sched_op.nothing",
        "b hypercall sched_op often",
        "b event x",
        "b event 0",
        "b upcall 999999",
        "b xenstore",
        "b xenstore a b",
        "b exception x",
        "b exception 256",
        "watch",
        "watch counter, 0",
        "delete 1",
        "delete x",
        "disable 9",
        "s 0",
        "s -1",
        "s x",
        "until nowhere",
        "x",
        "x/q main",
        "x/0x main",
        "x/99999999g main",
        "x 8",
        "x/s 8",
        "x/i 8",
        "xp/i 0",
        "xp 0xfffffffff000",
        "xm 0xfffffffffff000",
        "disas 8",
        "disas main, 0",
        "stack 0",
        "p",
        "p/q 1",
        "set",
        "set rax",
        "set cs = 1",
        "set rip = 1 << 50",
        "set [8] = 1",
        "set u7(main) = 1",
        "vcpu 1",
        "domain 9",
        "i e 77",
        "trace 0",
        "send \\xzz",
        "source /no/such/file",
        "help nothing",
    ],
)
def test_refused(line: str, sitting: Sitting) -> None:
    assert sitting.refuses(line)
    assert sitting.do("info b") == ["there are no breakpoints"]


def test_breakpoints_hit_and_counted(sitting: Sitting) -> None:
    said = sitting.do("b inner if ebx < 3", "c")
    assert said[1] == "breakpoint 1: at inner"
    assert sitting.do("disable", "i b")[0].endswith(", disabled, hit 1 time")
    sitting.do("enable 1", "c", "d 1")
    assert sitting.do("c") == ["image powered off"]


def test_watching(sitting: Sitting) -> None:
    said = sitting.do("watch counter, 4 if new == 2", "c")
    assert said[1].endswith("at counter, by inner+0x1; 0x1 -> 0x2") and place(said[2]) == "inner+0x8"


# --- looking


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("p/x 16", ["0x10"]),
        ("p/d -1", ["-1"]),
        ("p/t 5", ["0b101"]),
        ("p/c 0x41", ["'A'"]),
        ("x/s message", ["0xA <message>: 'Hi\\\\n'"]),
        ("x/2xb message", ["0xA <message>: 0x48  0x69"]),
        ("x/dw counter", ["0xA <counter>: 0"]),
        ("x/c message", ["0xA <message>: 'H'"]),
        ("x/i outer", ["   0xA <outer>: pushq %rbx"]),
        ("disas outer, 1", ["   0xA <outer>: pushq %rbx"]),
        ("info symbol outer+1", ["0xA is outer+0x1"]),
        ("i r rbx", ["rbx      0x0000000000000000"]),
        ("bt", ["#0  0xA <_start>"]),
        ("info domains", ["*   1  image: running, 1 vCPU"]),
        ("echo  a b", ["a b"]),
        ("# a comment", []),
        ("", []),
    ],
)
def test_saying(line: str, said: list[str], sitting: Sitting) -> None:
    assert [re.sub(r"0xffffffff8\w+", "0xA", found) for found in sitting.do(line)] == said


def test_x_goes_on(sitting: Sitting) -> None:
    sitting.do("x/2xb message")
    assert sitting.do("x")[0].endswith(": 0x0a")
    assert sitting.do("x/i outer", "x")[1].endswith("$3, %ebx")


def test_the_same_memory_by_three_addresses(sitting: Sitting) -> None:
    walk = sitting.do("walk message")[-1]
    machine, pfn = re.search(r"machine address (\w+).*guest frame (\w+)", walk).groups()  # type: ignore[union-attr]
    offset = int(machine, 16) % 4096
    assert sitting.do(f"xm/2xb {machine}")[0].endswith(": 0x48  0x69")
    assert sitting.do(f"xp/2xb {int(pfn, 16) * 4096 + offset}")[0].endswith(": 0x48  0x69")


def test_a_walk_that_ends_early(sitting: Sitting) -> None:
    assert sitting.do("walk 0x600000000000")[-1] == "not present at level 4"
    assert "hypervisor" in sitting.do("walk 0xffff800000000000")[-1] or sitting.said[-1].startswith("machine address")
    assert "not canonical" in sitting.do("walk 1 << 60")[-1]


def test_setting(sitting: Sitting) -> None:
    sitting.do("tbreak loop", "c", "set rbx = 1")
    sitting.do("set u32(counter) = 0x1234", "set [counter + 8] = 0x41")
    assert sitting.do("p u16(counter)", "x/s counter+8")[0].startswith("0x1234")
    assert place(sitting.do("n 3")[-1]) == "behind"


def test_what_xen_knows() -> None:
    sitting = of("timer")
    sitting.do("b upcall", "c")
    assert any("event callback" in line and "<" in line for line in sitting.do("info traps"))
    table = sitting.do("i e")
    assert table[0].split()[:2] == ["port", "state"] and any("VIRQ_TIMER" in line for line in table)
    assert len(sitting.do("i e 3")) == 2
    assert any("upcall_pending 1" in line for line in sitting.do("info shared"))
    assert sitting.do("i v")[0].startswith("*   0  runnable, kernel mode, 0x")
    trace = sitting.do("trace 5")
    assert len(trace) == 5 and "upcall" in trace[-1]
    assert len(sitting.do("trace")) == 20


def test_another_vcpu_and_domain() -> None:
    with hv.Machine() as machine:
        machine.create("smp")
        machine.create("hello")
        sitting = Sitting(machine)
        sitting.do("tbreak hypercall vcpu_op.VCPUOP_up after", "c")
        assert sitting.do("vcpu 1")[0].startswith("[smp vCPU 1,")
        assert sitting.do("domain hello")[0].startswith("[hello vCPU 0,")
        sitting.do("tbreak main", "c")
        assert sitting.session.domain.name == "hello"
        sitting.do("domain 1", "vcpu 1", "step 3")
        assert (sitting.session.domain.name, sitting.session.vcpu) == ("smp", 1)


def test_sending_and_sourcing(tmp_path: Any) -> None:
    script = tmp_path / "script"
    script.write_text("# type a line\nbreak hypercall sched_op\nsend abc\\r\n\ndelete\ncontinue\n")
    sitting = of("console-echo")
    sitting.do(f"source {script}")
    assert sitting.machine.domains[0].console.output.decode().endswith("abc\r\nNothing to read: good-bye.\n")
    script.write_text("echo fine\nnonsense\n")
    assert sitting.refuses(f"source {script}").startswith(f"{script}, line 2: 'nonsense' is no command")


@pytest.mark.parametrize(
    ("line", "word", "some"),
    [
        ("con", "con", {"continue"}),
        ("info b", "b", {"breakpoints"}),
        ("break ma", "ma", {"main"}),
        ("break hyp", "hyp", {"hypercall"}),
        ("break hypercall sched_op.SCHEDOP_po", "sched_op.SCHEDOP_po", {"sched_op.SCHEDOP_poll"}),
        ("p $rs", "$rs", {"$rsp", "$rsi"}),
        ("help fin", "fin", {"finish"}),
        ("nonsense x", "x", set()),
    ],
)
def test_completion(line: str, word: str, some: set[str], sitting: Sitting) -> None:
    found = candidates(sitting.session, line)
    assert found[0] == word and some <= set(found[1])


def test_completion_of_numbers(sitting: Sitting) -> None:
    sitting.do("b main", "b outer")
    assert candidates(sitting.session, "delete ")[1] == ["1", "2"]
