"""`hv run`: what goes where, and what it exits with. contract.md is the promise."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from guest_kit import HV, ROOT, assemble

HELLO = 'main: println "hello"\n ret'
CRASH = 'main: println "about to crash"\n ud2'
SPIN = 'main: println "spinning"\n1: jmp 1b'
STUCK = """
main:   println "waiting"
        call    drain_console
        hypercall sched_op, $SCHEDOP_poll, $poll
        ret
        .data
        .balign 8
poll:   .quad   0, 0, 0
"""
LOG = """
main:   hypercall console_io, $CONSOLEIO_write, $4, $text
        println "console"
        ret
        .data
text:   .ascii "log\\n"
"""
REBOOT = 'main: println "again"\n call drain_console\n shut_down SHUTDOWN_reboot'


def hv(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own, without input unless some is given."""
    given = {"stdin": subprocess.DEVNULL} if "input" not in options and "stdin" not in options else {}
    streams = {} if "stdout" in options else {"capture_output": True}
    return subprocess.run(
        [*HV, *map(str, arguments)], cwd=ROOT, timeout=60, **streams, **given, **options
    )


@pytest.fixture
def guest(tmp_path: Path) -> Any:
    """A function that makes an image file of a snippet."""

    def make(text: str, name: str = "guest") -> Path:
        path = tmp_path / name
        path.write_bytes(assemble(text))
        return path

    return make


# --- exit codes and streams

ENDINGS = {
    "powers off": (HELLO, (), 0, b"hello\n", b""),
    "reboots to the limit": (REBOOT, (), 0, b"again\n" * 11, b""),
    "halts by reason crash": ("main: shut_down SHUTDOWN_crash", (), 6, b"", None),
    "crashes": (CRASH, (), 6, b"about to crash\n", None),
    "waits for nothing": (
        STUCK,
        (),
        125,
        b"waiting\n",
        b"hv: guest can never go on: its vCPUs wait, no timer is armed and no input can come\n",
    ),
    "runs into the timeout": (
        SPIN,
        ("--timeout", "0.3"),
        124,
        b"spinning\n",
        b"hv: guest was still running after 0.3 s (--timeout)\n",
    ),
    "is stopped by --until": (SPIN, ("--until", "1000000"), 0, b"spinning\n", b""),
    "is stopped at once": (SPIN, ("--until", "0"), 0, b"", b""),
    "logs to stderr": (LOG, (), 0, b"console\n", b"log\n"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_endings(name: str, guest: Any) -> None:
    text, options, code, output, errors = ENDINGS[name]
    done = hv("run", guest(text), *options)
    assert (done.returncode, done.stdout) == (code, output)
    if errors is not None:
        assert done.stderr == errors
    assert b"Traceback" not in done.stderr


def test_crash_report(guest: Any) -> None:
    """Registers, the code at rip, and why."""
    done = hv("run", guest(CRASH))
    report = done.stderr.decode()
    assert report.startswith("hv: guest (domain 1), vCPU 0, guest kernel mode: crashed: invalid opcode #UD")
    for word in ("rax", "rip", "rflags", "cr3", "code at rip (main", "=>", "ud2"):
        assert word in report


def test_crash_report_of_a_page_fault(guest: Any) -> None:
    report = hv("run", guest("main: mov $0xdead0000, %ebx\n mov (%rbx), %rax\n ret")).stderr.decode()
    assert "page fault #PF at address 0xdead0000 with error code 0x0" in report
    assert "page walk of 0xdead0000:" in report
    assert "not present at level" in report


def test_core(guest: Any, tmp_path: Path) -> None:
    hello, crash = guest(HELLO, "hello"), guest(CRASH, "crash")
    done = hv("run", crash, "--core", tmp_path / "core")
    assert done.returncode == 6
    assert f"hv: the core of crash is in {tmp_path}/core\n".encode() in done.stderr
    assert (tmp_path / "core").read_bytes()[:4] == b"\x7fELF"
    assert hv("run", hello, "--core", tmp_path / "none").returncode == 0
    assert hv("run", hello, crash, crash, "--core", tmp_path / "several").returncode == 6
    assert {path.name for path in tmp_path.iterdir()} == {"hello", "crash", "core", "several.2", "several.3"}


def test_core_that_cannot_be_there(guest: Any, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "core"):
        done = hv("run", guest(CRASH), "--core", path)
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr.count(b"\n") == 1 and b"a core cannot be written there" in done.stderr


def test_worst_of_several(guest: Any) -> None:
    hello, crash, spin, stuck = (
        guest(text, name) for text, name in ((HELLO, "hello"), (CRASH, "crash"), (SPIN, "spin"), (STUCK, "stuck"))
    )
    assert hv("run", hello, hello).returncode == 0
    assert hv("run", hello, stuck).returncode == 125
    assert hv("run", hello, spin, stuck, "--timeout", "0.3").returncode == 124
    assert hv("run", crash, spin, "--timeout", "0.3").returncode == 6
    assert hv("run", hello, crash, hello).returncode == 6


def test_console_byte_for_byte(guest: Any) -> None:
    """All 256 values but zero, and no line is added or changed."""
    values = ", ".join(str(i) for i in [*range(1, 256), 0])
    done = hv("run", guest(f"main: mov $bytes, %rdi\n call print_string\n ret\n .data\nbytes: .byte {values}"))
    assert (done.returncode, done.stdout, done.stderr) == (0, bytes(range(1, 256)), b"")


def test_long_output_is_complete(guest: Any) -> None:
    text = 'main: mov $5000, %ebx\n1: print "line "\n print_dec %rbx\n println\n dec %ebx\n jnz 1b\n ret'
    done = hv("run", guest(text))
    assert done.stdout == b"".join(b"line %d\n" % i for i in range(5000, 0, -1))


def test_output_comes_at_once(guest: Any) -> None:
    """A pipe gets each line when the guest says it, not at the end."""
    with subprocess.Popen(
        [*HV, "run", str(guest(SPIN))], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"spinning\n"
        run.kill()


def test_two_runs_are_equal(guest: Any) -> None:
    for text in (CRASH, LOG):
        first, second = (hv("run", guest(text)) for _ in range(2))
        assert (first.returncode, first.stdout, first.stderr) == (second.returncode, second.stdout, second.stderr)


# --- output that can not be written


def test_closed_pipe(guest: Any) -> None:
    """The reader goes away: quiet, and no traceback."""
    text = 'main: println "line"\n jmp main'
    run = subprocess.Popen(
        [*HV, "run", str(guest(text))],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert run.stdout is not None
    assert run.stderr is not None
    assert run.stdout.readline() == b"line\n"
    run.stdout.close()
    try:
        code = run.wait(timeout=20)
    finally:
        run.kill()
    errors = run.stderr.read()
    assert code == 141
    assert errors == b""


def test_slow_reader_loses_nothing(guest: Any) -> None:
    text = 'main: mov $4000, %ebx\n1: println "0123456789012345678901234567890123456789"\n dec %ebx\n jnz 1b\n ret'
    with subprocess.Popen(
        [*HV, "run", str(guest(text))], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        time.sleep(0.5)
        output = run.stdout.read()
    assert output == b"0123456789" * 4 + b"\n" + output[41:]
    assert len(output) == 4000 * 41
    assert run.returncode == 0


# --- input

ECHO = """
        use_shared_info
main:   call    map_shared_info
1:      hypercall sched_op, $SCHEDOP_poll, $poll
        lock btrl $2, shared_info + shared_info_evtchn_pending
        mov     console, %rbx
        mov     xencons_interface_in_cons(%rbx), %ebp
2:      cmp     xencons_interface_in_prod(%rbx), %ebp
        je      3f
        mov     %ebp, %edx
        and     $CONSOLE_IN_SIZE - 1, %edx
        movzbl  xencons_interface_in(%rbx, %rdx), %eax
        mov     %al, text
        mov     $text, %rdi
        call    print_string
        inc     %ebp
        mov     %ebp, xencons_interface_in_cons(%rbx)
        cmp     $'q', %al
        jne     2b
        println
        ret
3:      mov     start_info, %rdx        # there is room now
        add     $start_info_console_domU_evtchn, %rdx
        hypercall event_channel_op, $EVTCHNOP_send, %rdx
        jmp     1b
        .data
        .balign 8
poll:   .quad   ports
        .long   1, 0
        .quad   0
ports:  .long   2
text:   .byte   0, 0
"""


class TestInput:
    def test_pipe(self, guest: Any) -> None:
        done = hv("run", guest(ECHO), input=b"hello q and more")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"hello q\n", b"")

    def test_file(self, guest: Any, tmp_path: Path) -> None:
        (tmp_path / "keys").write_bytes(b"from a file q")
        with (tmp_path / "keys").open("rb") as keys:
            done = hv("run", guest(ECHO), stdin=keys)
        assert (done.returncode, done.stdout) == (0, b"from a file q\n")

    def test_more_than_the_ring(self, guest: Any) -> None:
        keys = bytes(97 + i % 16 for i in range(20_000))
        assert hv("run", guest(ECHO), input=keys + b"q").stdout == keys + b"q\n"

    def test_the_end_of_input_is_no_end_of_the_run(self, guest: Any) -> None:
        """The guest waits for more that can not come: 125, said so."""
        for done in (hv("run", guest(ECHO), input=b"abc"), hv("run", guest(ECHO), input=b""), hv("run", guest(ECHO))):
            assert done.returncode == 125
            assert b"no input can come" in done.stderr

    def test_a_pipe_that_stays_open_may_bring_more(self, guest: Any) -> None:
        command = [*HV, "run", str(guest(ECHO))]
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as run:
            assert run.stdin is not None
            assert run.stdout is not None
            for word in (b"one ", b"two ", b"q"):
                run.stdin.write(word)
                run.stdin.flush()
                assert run.stdout.read(len(word)) == word
            assert run.wait(timeout=20) == 0

    def test_waiting_for_a_pipe_takes_no_time_of_the_host(self, guest: Any) -> None:
        command = [*HV, "run", str(guest(ECHO)), "--timeout", "1"]
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as run:
            _, status, usage = os.wait4(run.pid, 0)
            run.returncode = os.waitstatus_to_exitcode(status)
        assert run.returncode == 124
        assert usage.ru_utime < 0.9

    def test_closed_stdin(self, guest: Any) -> None:
        script = f'exec {sys.executable} -m hv run "$1" <&-'
        done = subprocess.run(
            ["sh", "-c", script, "sh", str(guest(HELLO))], cwd=ROOT, capture_output=True, timeout=60
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\n", b"")

    def test_input_goes_to_the_first_guest(self, guest: Any) -> None:
        done = hv("run", guest(ECHO, "one"), guest(HELLO, "two"), input=b"for one q")
        assert done.returncode == 0
        assert sorted(done.stdout.split(b"\n")) == [b"", b"for one q", b"hello"]


# --- the hypervisor log


def test_hypervisor_log(guest: Any, tmp_path: Path) -> None:
    done = hv("run", guest(LOG), "--hypervisor-log", tmp_path / "log")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"console\n", b"")
    assert (tmp_path / "log").read_bytes() == b"log\n"


def test_hypervisor_log_that_can_not_be_written(guest: Any) -> None:
    done = hv("run", guest(LOG), "--hypervisor-log", "/no/such/folder/log")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"hv: /no/such/folder/log: cannot be written: No such file or directory\n"


# --- options

PLACES = (
    ("run", "IMAGE", "--memory", "8M", "--timeout", "20"),
    ("run", "--memory", "8M", "--timeout", "20", "IMAGE"),
    ("run", "--memory=8M", "IMAGE", "--timeout=20"),
    ("run", "--timeout", "20", "IMAGE", "--memory", "8"),
)


@pytest.mark.parametrize("words", PLACES, ids=" ".join)
def test_options_before_and_behind(words: tuple[str, ...], guest: Any) -> None:
    text = "main: mov start_info, %rdi\n print_dec start_info_nr_pages(%rdi)\n println\n ret"
    image = str(guest(text))
    assert hv(*(image if word == "IMAGE" else word for word in words)).stdout == b"2048\n"


def test_options_reach_the_guest(guest: Any, tmp_path: Path) -> None:
    text = """
main:   mov     start_info, %rbx
        lea     start_info_cmd_line(%rbx), %rdi
        call    print_string
        print   " "
        print_dec start_info_mod_len(%rbx)
        print   " "
        mov     start_info_mod_start(%rbx), %rdi
        call    print_string
        println
        ret
"""
    (tmp_path / "ramdisk").write_bytes(b"inside")
    done = hv(
        "run",
        guest(text),
        "--cmdline",
        "root=/dev/xvda quiet",
        "--ramdisk",
        tmp_path / "ramdisk",
        "--vcpus",
        "3",
        "--name",
        "x",
    )
    assert done.stdout == b"root=/dev/xvda quiet 6 inside\n"


def test_name_is_used_in_messages(guest: Any) -> None:
    assert hv("run", guest(STUCK), "--name", "sleeper").stderr.startswith(b"hv: sleeper can never go on")


@pytest.mark.parametrize("clock", ["virtual", "paced", "host"])
def test_clocks(clock: str, guest: Any) -> None:
    assert hv("run", guest(HELLO), "--clock", clock).stdout == b"hello\n"
