"""The console of a domain: expect and send, and what becomes of console_io."""

from __future__ import annotations

import re
from typing import Any

import pytest
from guest_kit import assemble

import hv

# Prints a line, then echoes what it gets, each read in brackets; "q" ends it.
ECHO = """
        use_shared_info
main:   call    map_shared_info
        println "ready> "
1:      hypercall sched_op, $SCHEDOP_poll, $poll
        lock btrl $2, shared_info + shared_info_evtchn_pending
        mov     console, %rbx
        mov     xencons_interface_in_cons(%rbx), %ebp
        cmp     xencons_interface_in_prod(%rbx), %ebp
        je      1b
        print   "["
2:      cmp     xencons_interface_in_prod(%rbx), %ebp
        je      3f
        mov     %ebp, %edx
        and     $CONSOLE_IN_SIZE - 1, %edx
        movzbl  xencons_interface_in(%rbx, %rdx), %eax
        mov     %al, text
        mov     $text, %rdi
        call    print_string
        inc     %ebp
        cmp     $'q', %al
        jne     2b
        println "] bye"
        ret
3:      mov     %ebp, xencons_interface_in_cons(%rbx)
        println "]"
        jmp     1b
        .data
        .balign 8
poll:   .quad   ports
        .long   1, 0
        .quad   0
ports:  .long   2
text:   .byte   0, 0
"""
SAY = """
        .macro  hypervisor_says text
        .pushsection .rodata
.Lsaid\\@:
        .ascii  "\\text\\n"
.Lsaid_end\\@:
        .popsection
        hypercall console_io, $CONSOLEIO_write, $.Lsaid_end\\@-.Lsaid\\@, $.Lsaid\\@
        .endm
        .macro  spin_for loops
        mov     $\\loops, %ecx
9:      dec     %ecx
        jnz     9b
        .endm
"""
LONG = 20_000_000  # rounds of a loop of 4 bytes: 20 ms


def run(text: str, **options: Any) -> tuple[bytes, bytes, int | None]:
    """(console, hypervisor log, exit code)"""
    with hv.Machine() as machine:
        log = bytearray()
        machine.log_listeners.append(lambda name, data: log.extend(data))
        domain = machine.create(assemble(SAY + text), **options)
        machine.run(timeout=30)
        return domain.console.output, bytes(log), domain.exit_code


class TestExpect:
    def test_consumes_up_to_the_end_of_the_match(self) -> None:
        with hv.Machine() as machine:
            console = machine.create(assemble('main: println "one two one three"\nret')).console
            assert console.expect("one").span() == (0, 3)
            assert console.expect("one").span() == (8, 11)
            assert console.expect("three").span() == (12, 17)
            with pytest.raises(hv.DomainEnded):
                console.expect("one")

    @pytest.mark.parametrize(
        ("pattern", "matched"),
        [
            ("a.b", b"a.b"),
            (b"a.b", b"a.b"),
            (bytearray(b"[x]"), b"[x]"),
            (re.compile("a.b"), b"aXb"),
            (re.compile(b"a.b"), b"aXb"),
            (re.compile(r"\[(x)\]"), b"[x]"),
            (re.compile("^the END$", re.MULTILINE | re.IGNORECASE), b"The end"),
            (re.compile(r"\w+\n"), b"end\n"),
        ],
    )
    def test_patterns(self, pattern: Any, matched: bytes) -> None:
        """Text and bytes are literal, compiled expressions are expressions, whichever they were compiled from."""
        with hv.Machine() as machine:
            domain = machine.create(assemble('main: print "aXb a.b [x]\\n"\n println "The end"\n ret'))
            assert domain.console.expect(pattern)[0] == matched

    def test_groups(self) -> None:
        with hv.Machine() as machine:
            domain = machine.create(assemble('main: println "answer: 42"\n ret'))
            assert domain.console.expect(re.compile(r"answer: (\d+)"))[1] == b"42"

    def test_a_match_that_is_there_needs_no_run(self) -> None:
        with hv.Machine() as machine:
            domain = machine.create(assemble('main: println "one two"\n ret'))
            machine.run(timeout=20)
            assert domain.ended
            assert domain.console.expect("one", timeout=0)
            assert domain.console.expect("two", timeout=0)

    def test_ended(self) -> None:
        with hv.Machine() as machine:
            domain = machine.create(assemble('main: println "last words"\n ret'))
            with pytest.raises(hv.DomainEnded) as error:
                domain.console.expect("never")
            assert error.value.reason == "powered off"
            assert error.value.domain is domain
            assert domain.console.expect("last words")  # what was not consumed stays

    def test_crashed(self) -> None:
        with hv.Machine() as machine:
            domain = machine.create(assemble("main: ud2"))
            with pytest.raises(hv.DomainEnded, match="invalid opcode #UD"):
                domain.console.expect("never")

    def test_timeout(self) -> None:
        with hv.Machine() as machine:
            domain = machine.create(assemble('main: println "on and on"\n1: jmp 1b'))
            with pytest.raises(hv.Timeout) as error:
                domain.console.expect("never", timeout=0.1)
            assert "'never' did not appear within 0.1 s" in str(error.value)
            assert "on and on" in str(error.value)
            assert domain.console.expect("and on")

    def test_idle(self) -> None:
        """Nobody will ever say anything: that is known at once, not after the timeout."""
        with hv.Machine() as machine:
            domain = machine.create(assemble(ECHO))
            with pytest.raises(hv.Timeout, match="'never' can not appear any more"):
                domain.console.expect("never", timeout=1000)
            domain.console.send("q")
            domain.console.expect("[q] bye")
            machine.run(timeout=20)
            assert domain.exit_code == 0

    def test_stops_where_the_pattern_appears(self) -> None:
        """Time stands at the match, so that a conversation is the same every time."""

        def times() -> list[int]:
            with hv.Machine() as machine:
                domain = machine.create(
                    assemble(
                        'main: println "first"\n mov $3000000, %ecx\n1: dec %ecx\n jnz 1b\n println "second"\n ret'
                    )
                )
                result = []
                for word in ("first", "second"):
                    domain.console.expect(word)
                    result.append(machine.engine.ticks)
                return result

        assert times() == times()
        assert times()[0] < 100_000


class TestSend:
    def test_conversation(self) -> None:
        with hv.Machine() as machine:
            console = machine.create(assemble(ECHO)).console
            console.expect("ready> ")
            for text in ("hello\r", b"\x00\xff\x1b[A", "äöü", "x" * 500):
                console.send(text)
                data = text.encode() if isinstance(text, str) else text
                printed = data.replace(b"\0", b"")  # print_string ends at a zero
                assert console.expect(b"[" + printed + b"]")
            console.send("")  # nothing
            console.send("q")
            console.expect("bye")

    def test_before_the_guest_runs(self) -> None:
        with hv.Machine() as machine:
            domain = machine.create(assemble(ECHO))
            domain.console.send("early")
            domain.console.send("q")
            domain.console.expect("[earlyq] bye")

    def test_more_than_the_ring_holds(self) -> None:
        """What does not fit waits on the host side, in order."""
        text = "".join(chr(97 + i % 16) for i in range(5000))
        with hv.Machine() as machine:
            domain = machine.create(assemble(ECHO))
            domain.console.send(text + "q")
            machine.run(timeout=30)
            echoed = b"".join(re.findall(rb"\[(.*?)\]", domain.console.output, re.DOTALL))
            assert echoed.decode() == text + "q"

    def test_to_the_dead(self) -> None:
        with hv.Machine() as machine:
            domain = machine.create(assemble("main: ret"))
            machine.run(timeout=20)
            with pytest.raises(hv.DomainEnded, match="powered off"):
                domain.console.send("hello?")

    def test_listeners_get_everything_in_order(self) -> None:
        with hv.Machine() as machine:
            domain = machine.create(assemble('main: print "one, "\n print "two, "\n println "three"\n ret'))
            heard: list[bytes] = []
            domain.console.listeners.append(heard.append)
            machine.run(timeout=20)
            assert b"".join(heard) == domain.console.output == b"one, two, three\n"


class TestConsoleIo:
    """A guest that never uses its ring is heard by console_io; for one that does, console_io is a log."""

    @pytest.mark.parametrize(
        ("text", "console", "log"),
        [
            ('hypervisor_says "log"\n println "ring"', b"ring\n", b"log\n"),
            ('println "ring"\n hypervisor_says "log"', b"ring\n", b"log\n"),
            ('hypervisor_says "one"\n hypervisor_says "two"\n shut_down SHUTDOWN_poweroff', b"one\ntwo\n", b""),
            (
                f'hypervisor_says "early"\n spin_for {LONG}\n hypervisor_says "late"\n shut_down SHUTDOWN_poweroff',
                b"early\nlate\n",
                b"",
            ),
            ('hypervisor_says "only"\n ud2', b"only\n", b""),
            ('println "ring"\n hypervisor_says "before the end"\n ud2', b"ring\n", b"before the end\n"),
            ('hypervisor_says "good night"\n shut_down SHUTDOWN_suspend', b"good night\n", b""),
            ("shut_down SHUTDOWN_poweroff", b"", b""),
        ],
    )
    def test_where_it_goes(self, text: str, console: bytes, log: bytes) -> None:
        assert run(f"main: {text}\n ret")[:2] == (console, log)

    def test_is_held_for_ten_milliseconds(self) -> None:
        """It is shown while the guest still runs, if that says nothing else."""
        text = SAY + f'main: hypervisor_says "one"\n spin_for {LONG}\n hypervisor_says "two"\n1: jmp 1b'
        with hv.Machine() as machine:
            domain = machine.create(assemble(text))
            machine.run(until_ns=5_000_000, timeout=20)
            assert domain.console.output == b""
            machine.run(until_ns=25_000_000, timeout=20)
            assert domain.console.output == b"one\ntwo\n"

    def test_a_late_ring(self) -> None:
        """What was shown stays shown; from then on the ring is the console."""
        early = f'main: hypervisor_says "one"\n spin_for {LONG}\n hypervisor_says "two"\n'
        text = early + ' println "ring"\n hypervisor_says "three"\n ret'
        assert run(text)[:2] == (b"one\ntwo\nring\n", b"three\n")
