"""gdb's protocol: packets cut anywhere, every request, hostile ones, and gdb itself."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from guest_kit import assemble, need_program
from hypothesis import given, settings
from hypothesis import strategies as st

import hv
from hv.debug.gdb import packets, target
from hv.debug.gdb.requests import FEATURES
from hv.debug.gdb.server import Server, listening

GUEST = """
main:   call    outer
        ret
        .globl  outer
outer:  mov     $3, %ebx
        .globl  loop
loop:   incl    counter
        .globl  counted
counted: dec    %ebx
        jnz     loop
        .globl  behind
behind: mov     counter, %eax
        ret
        .data
        .balign 8
        .globl  counter
counter: .quad  0
"""
FOR_EVER = "main: jmp main"
CRASH = "main: xor %eax, %eax\n mov (%rax), %rbx"
STUCK = "main: hypercall sched_op, $SCHEDOP_block, $0\n jmp main"


class Client:
    """The other end of the protocol, as small as it can be."""

    def __init__(self, path: Path) -> None:
        self.stream = socket.socket(socket.AF_UNIX)
        self.stream.settimeout(20)
        self.stream.connect(str(path))
        self.console = ""
        self._data = bytearray()

    def send(self, data: bytes) -> None:
        self.stream.sendall(packets.packet(data))

    def answer(self) -> bytes:
        """The next packet but console output, which is put aside; acknowledgements are left out."""
        while True:
            match = re.match(rb"[+]*\$([^#]*)#..", self._data, re.DOTALL)
            if match is None:
                data = self.stream.recv(65536)
                if not data:
                    raise ConnectionError
                self._data += data
                continue
            contents = bytes(match[1])
            del self._data[: match.end()]
            if contents[:1] != b"O" or contents == b"OK":
                return contents
            self.console += bytes.fromhex(contents[1:].decode()).decode()

    def ask(self, data: bytes) -> bytes:
        self.send(data)
        return self.answer()

    def register(self, name: str) -> int:
        number = next(i for i, row in enumerate(target.REGISTERS) if row.name == name)
        return int.from_bytes(bytes.fromhex(self.ask(b"p%x" % number).decode()), "little")


def serve(
    text: str, path: Path, talk: Callable[[Client, hv.Domain], Any], *, timeout: float | None = 30, **options: Any
) -> tuple[str, hv.Domain]:
    """Serve a guest to `talk`, which runs in a thread of its own: how the run ended, and the domain."""
    with hv.Machine() as machine, ThreadPoolExecutor(1) as pool, listening(str(path)) as (listener, name):
        assert name == str(path)
        domain = machine.create(assemble(text), **options)

        def talks() -> None:
            other = Client(path)
            try:
                talk(other, domain)
            finally:
                other.stream.close()

        talking = pool.submit(talks)
        outcome = Server(machine, domain, listener, timeout, None).serve()
        talking.result(timeout=20)
        return outcome, domain


def place(domain: hv.Domain, name: str) -> bytes:
    found = domain.symbols.address(name)
    assert found is not None
    return b"%x" % found


# --- packets


@given(st.binary(max_size=200), st.lists(st.integers(1, 20), max_size=30))
def test_a_packet_cut_anywhere_comes_out_whole(data: bytes, cuts: list[int]) -> None:
    receiver = packets.Receiver()
    sent = b"+" + packets.packet(packets.escaped(data)) + packets.INTERRUPT + packets.packet(b"g")
    got: list[bytes] = []
    for size in cuts:
        got += receiver.feed(sent[:size])
        sent = sent[size:]
    got += receiver.feed(sent)
    assert [packets.unescaped(got[0]), *got[1:]] == [data, packets.INTERRUPT, b"g"]
    assert receiver.answers == b"++"


def test_a_packet_with_a_wrong_checksum_is_asked_for_again() -> None:
    receiver = packets.Receiver()
    assert list(receiver.feed(b"$g#00$g#67")) == [b"g"]
    assert receiver.answers == b"-+"


@given(st.binary(max_size=500))
def test_noise_is_no_packet_and_does_no_harm(data: bytes) -> None:
    receiver = packets.Receiver()
    list(receiver.feed(data))
    list(receiver.feed(b"#00#00"))
    assert list(receiver.feed(packets.packet(b"?")))[-1:] == [b"?"]


def test_an_endless_packet_is_dropped() -> None:
    receiver = packets.Receiver()
    for _ in range(10):
        assert list(receiver.feed(b"$" + b"a" * packets.MOST)) == []
    assert len(receiver._data) <= 2 * packets.MOST + packets.MOST + 1


# --- a sitting


def test_breakpoints_steps_registers_and_memory(tmp_path: Path) -> None:
    def talk(gdb: Client, domain: hv.Domain) -> None:
        loop, counted, counter = (place(domain, name) for name in ("loop", "counted", "counter"))
        assert gdb.ask(b"qSupported:multiprocess+") == FEATURES
        assert gdb.ask(b"QStartNoAckMode") == b"OK"
        assert gdb.ask(b"?") == b"T05thread:1;"
        assert gdb.ask(b"qfThreadInfo") == b"m1" and gdb.ask(b"qsThreadInfo") == b"l"
        assert bytes.fromhex(gdb.ask(b"qThreadExtraInfo,1").decode()) == b"vCPU 0, runnable"
        assert gdb.ask(b"Z0," + loop + b",1") == b"OK"
        assert gdb.ask(b"vCont;c") == b"T05thread:1;swbreak:;"
        assert b"%x" % gdb.register("rip") == loop and gdb.register("rbx") == 3
        assert gdb.ask(b"m" + counter + b",8") == b"0" * 16
        assert gdb.ask(b"vCont;s:1;c") == b"T05thread:1;" and b"%x" % gdb.register("rip") == counted
        assert gdb.ask(b"m" + counter + b",4") == b"01000000"
        assert gdb.ask(b"M" + counter + b",2:2a01") == b"OK" and gdb.ask(b"m" + counter + b",4") == b"2a010000"
        assert gdb.ask(b"X" + counter + b",2:}\x03\x00") == b"OK" and gdb.ask(b"m" + counter + b",2") == b"2300"
        assert gdb.ask(b"P1=0100000000000000") == b"OK" and gdb.register("rbx") == 1
        registers = gdb.ask(b"g")
        assert gdb.ask(b"G" + registers) == b"OK" and gdb.ask(b"g") == registers
        assert gdb.ask(b"z0," + loop + b",1") == b"OK"
        assert gdb.ask(b"c") == b"W00"
        assert gdb.console == "hv: image powered off\n"

    outcome, domain = serve(GUEST, tmp_path / "gdb", talk)
    assert (outcome, domain.reason) == ("ended", "powered off")


def test_watchpoints_say_what_was_touched(tmp_path: Path) -> None:
    def talk(gdb: Client, domain: hv.Domain) -> None:
        counter = place(domain, "counter")
        assert gdb.ask(b"Z2," + counter + b",4") == b"OK"
        assert gdb.ask(b"c") == b"T05thread:1;watch:%b;" % counter
        assert b"%x" % gdb.register("rip") == place(domain, "counted")
        assert gdb.ask(b"z2," + counter + b",4") == b"OK" and gdb.ask(b"Z3," + counter + b",4") == b"OK"
        assert gdb.ask(b"c") == b"T05thread:1;rwatch:%b;" % counter
        assert gdb.ask(b"k") == b""

    with pytest.raises(ConnectionError):  # by the kill: there is no answer to it
        serve(GUEST, tmp_path / "gdb", talk)


def test_a_crash_can_be_looked_at_and_then_is_the_end(tmp_path: Path) -> None:
    def talk(gdb: Client, domain: hv.Domain) -> None:
        assert gdb.ask(b"c") == b"T0bthread:1;"
        assert "page fault" in gdb.console and gdb.register("cr2") == 0
        assert gdb.ask(b"c") == b"W06"

    outcome, domain = serve(CRASH, tmp_path / "gdb", talk)
    assert (outcome, domain.exit_code) == ("ended", 6)


def test_ctrl_c_stops_a_guest_that_runs_for_ever(tmp_path: Path) -> None:
    def talk(gdb: Client, domain: hv.Domain) -> None:
        gdb.send(b"c")
        gdb.stream.sendall(packets.INTERRUPT)
        assert gdb.answer() == b"T02thread:1;"
        assert b"%x" % gdb.register("rip") == place(domain, "main")
        gdb.ask(b"D")
        again = Client(tmp_path / "gdb")  # detached, it runs; gdb may come again
        assert again.ask(b"?") == b"T02thread:1;"
        again.send(b"k")

    outcome, _ = serve(FOR_EVER, tmp_path / "gdb", talk)
    assert outcome == "stopped"


def test_a_lost_connection_lets_the_guest_go_on(tmp_path: Path) -> None:
    def talk(gdb: Client, domain: hv.Domain) -> None:
        assert gdb.ask(b"Z0," + place(domain, "loop") + b",1") == b"OK"
        assert gdb.ask(b"qRcmd," + b"break behind".hex().encode())

    outcome, domain = serve(GUEST, tmp_path / "gdb", talk)
    assert (outcome, domain.reason) == ("ended", "powered off")


def test_a_guest_that_can_never_go_on_stops_and_says_so(tmp_path: Path) -> None:
    def talk(gdb: Client, domain: hv.Domain) -> None:
        assert gdb.ask(b"c") == b"T02thread:1;"
        assert "nothing can happen any more" in gdb.console

    assert serve(STUCK, tmp_path / "gdb", talk)[0] == "idle"


def test_the_time_limit_counts_while_gdb_waits(tmp_path: Path) -> None:
    def talk(gdb: Client, domain: hv.Domain) -> None:
        assert gdb.ask(b"c") == b"W7c"

    assert serve(FOR_EVER, tmp_path / "gdb", talk, timeout=0.5)[0] == "timeout"


def test_vcpus_are_threads(tmp_path: Path) -> None:
    def talk(gdb: Client, domain: hv.Domain) -> None:
        assert gdb.ask(b"T1") == b"OK" and gdb.ask(b"T2") == b"E16"
        assert gdb.ask(b"Hg1") == b"OK" and gdb.ask(b"Hg2") == b"E16" and gdb.ask(b"Hc-1") == b"OK"
        assert gdb.ask(b"vCont;s:2") == b"E16"
        assert gdb.ask(b"qC") == b"QC1"

    serve(GUEST, tmp_path / "gdb", talk, vcpus=2)


def test_monitor_does_the_debuggers_commands_that_do_not_run_the_guest(tmp_path: Path) -> None:
    def monitor(gdb: Client, line: str) -> str:
        return bytes.fromhex(gdb.ask(b"qRcmd," + line.encode().hex().encode()).decode()).decode()

    def talk(gdb: Client, domain: hv.Domain) -> None:
        assert "event channels" in monitor(gdb, "help")
        assert monitor(gdb, "walk main").startswith("L4[511]")
        assert (
            monitor(gdb, "continue") == "gdb runs the guest: use its own continue, stepi and so on, without monitor\n"
        )
        assert "no command" in monitor(gdb, "nonsense")
        assert monitor(gdb, "break hypercall sched_op").startswith("breakpoint 1")
        assert gdb.ask(b"c") == b"T05thread:1;" and "before sched_op" in gdb.console

    serve(GUEST, tmp_path / "gdb", talk)


REFUSED = {  # what cannot be done, with its answer
    b"vMustReplyEmpty": b"",
    b"qSymbol::": b"",
    b"m0,8": b"E0e",
    b"mffff830000000000,8": b"E0e",
    b"M0,2:0000": b"E0e",
    b"M0,2:00": b"E16",
    b"Mffffffffffffffff,2:0000": b"E0e",
    b"pff": b"E16",
    b"Pff=00": b"E16",
    b"P10=0000000000000080": b"E16",  # rip, not canonical
    b"P12=00000000": b"E16",  # cs is the hypervisor's business
    b"P0=zz": b"",
    b"G00": b"E16",
    b"Z2,0,0": b"E16",
    b"Z4,ffffffffffffffff,100": b"E16",
    b"z0,0,1": b"OK",
    b"H": b"",
    b"Hg7fffffff": b"E16",
    b"T0": b"E16",
    b"qXfer:features:read:other.xml:0,ff": b"",
    b"vCont;s:ffffffff": b"E16",
    b"vFile:open:2f6574632f706173737764,0,0": b"F-1,2",  # /etc/passwd
    b"vFile:open:2f696d616765,2,0": b"F-1,270f",  # to write
    b"vFile:pread:1,10,0": b"F-1,9",
    b"vFile:fstat:1": b"F-1,9",
    b"vFile:pread:0,10,ffffffffffffffff": b"F0;",
    b"vFile:unlink:2f696d616765": b"",
    b"m" + b"f" * 40: b"",
}


def test_what_cannot_be_done_is_refused_and_nothing_else_happens(tmp_path: Path) -> None:
    def talk(gdb: Client, domain: hv.Domain) -> None:
        before = gdb.ask(b"g")
        for request, answer in REFUSED.items():
            assert (request, gdb.ask(request)) == (request, answer)
        assert gdb.ask(b"g") == before

    assert serve(GUEST, tmp_path / "gdb", talk)[1].reason == "powered off"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=20))
def test_any_bytes_are_answered(tmp_path_factory: pytest.TempPathFactory, requests: list[bytes]) -> None:
    def talk(gdb: Client, domain: hv.Domain) -> None:
        for request in requests:
            if request[:1] not in (b"k", b"D") and not request.startswith(b"vKill") and request != packets.INTERRUPT:
                answer = gdb.ask(packets.escaped(request))
                if answer[:1] == b"W":
                    return
        gdb.send(b"k")

    outcome, _ = serve(GUEST, tmp_path_factory.mktemp("gdb") / "gdb", talk)
    assert outcome in ("ended", "stopped")


def test_the_description_names_every_register_in_its_order() -> None:
    from xml.etree import ElementTree

    root = ElementTree.fromstring(target.description().decode())
    found = [(row.get("name"), int(row.get("bitsize") or 0)) for row in root.iter("reg")]
    assert found == [(row.name, row.bits) for row in target.REGISTERS]


@pytest.mark.parametrize("text", ["", "x", "1:2:x", "70000", "-1", "127.0.0.1"])
def test_a_place_that_is_none_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(hv.HvError, match="write PORT, HOST:PORT or the PATH"), listening(text):
        pass


def test_a_place_that_is_taken_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "gdb")
    with listening(path), pytest.raises(hv.HvError, match="gdb cannot be waited for there"), listening(path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_path_is_for_the_owner_and_a_socket_of_the_past_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "gdb"
    with socket.socket(socket.AF_UNIX) as past:
        past.bind(str(path))
    with listening(str(path)):
        assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("a file")
    with pytest.raises(hv.HvError, match="is no socket: remove it"), listening(str(path)):
        pass
    assert path.read_text() == "a file"


# --- gdb itself


def test_gdb_itself(tmp_path: Path) -> None:
    gdb, image = need_program("gdb", "gdb"), tmp_path / "image"
    image.write_bytes(assemble(GUEST))
    orders = ("target remote 127.0.0.1:PORT", "break loop", "continue", "info registers rip rbx", "info threads")
    orders += ("watch *(int *)&counter", "continue", "delete", "tbreak behind", "continue", "p *(int *)&counter")
    orders += ("set var $rbx = 77", "p $rbx", "stepi", "monitor info vcpus", "x/i $pc", "continue")
    with hv.Machine() as machine, listening("0") as (listener, name):
        domain = machine.create(image)
        port = name.rpartition(":")[2]
        words = [word for order in orders for word in ("-ex", order.replace("PORT", port))]
        with subprocess.Popen([gdb, "-nx", "-batch", *words], stdout=subprocess.PIPE, text=True) as process:
            assert Server(machine, domain, listener, 60, None).serve() == "ended"
            output = process.communicate(timeout=60)[0]
    for pattern in (
        r"Breakpoint 1, 0x\w+ in loop \(\)",
        r"rbx +0x3 ",
        r"\* 1 +Thread 1 \(vCPU 0, runnable\)",
        r"Hardware watchpoint 2: \*\(int \*\)&counter\s+Old value = 0\s+New value = 1",
        r"Temporary breakpoint 3, 0x\w+ in behind \(\)",
        r"\$1 = 3\n\$2 = 77",
        r"exited normally",
    ):
        assert re.search(pattern, output), (pattern, output)
