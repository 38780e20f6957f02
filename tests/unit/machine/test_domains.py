"""Machines with several domains; reboots; what create refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from guest_kit import Puppet, assemble

import hv

REBOOT = 'main: println "again"\n call drain_console\n shut_down SHUTDOWN_reboot'
HELLO = 'main: println "hello"\n ret'
WAIT = """
main:   hypercall sched_op, $SCHEDOP_poll, $poll
        ret
        .data
        .balign 8
poll:   .quad   0
        .long   0, 0
        .quad   1 << 49                 # six days
"""


@pytest.mark.parametrize("limit", [0, 1, 3, 10])
def test_reboot_limit(limit: int) -> None:
    with hv.Machine() as machine:
        machine.reboot_limit = limit
        domain = machine.create(assemble(REBOOT))
        assert machine.run(timeout=30) == "ended"
        assert (domain.reboots, domain.reason, domain.exit_code) == (limit, "rebooted", 0)
        assert domain.console.output == b"again\n" * (limit + 1)


def test_each_boot_is_a_new_domain_and_leaves_nothing() -> None:
    with hv.Machine(memory="128M") as machine:  # room for one of 64M and hv's own frames
        machine.reboot_limit = 5
        domain = machine.create(assemble(REBOOT))
        machine.run(timeout=30)
        assert domain.domid == 6
        assert machine.store.ls("/local/domain") == ["0"]


def test_store_keys_follow_the_domain() -> None:
    with hv.Machine() as machine:
        domain = machine.create(assemble(WAIT), name="sleeper")
        assert machine.store.read(f"/local/domain/{domain.domid}/name") == b"sleeper"
    assert machine.store.ls("/local/domain") == ["0"]


def test_several_domains() -> None:
    """Each with its own console, number and end; one's crash is no other's."""
    with hv.Machine() as machine:
        texts = (HELLO, "main: ud2", WAIT, REBOOT)
        domains = [machine.create(assemble(text), name=f"guest {i}") for i, text in enumerate(texts)]
        machine.reboot_limit = 1
        assert [domain.domid for domain in domains] == [1, 2, 3, 4]
        assert machine.run(timeout=30, until_ns=50_000_000) == "until"
        assert [domain.exit_code for domain in domains] == [0, 6, None, 0]
        assert [domain.reason.split(":")[0] for domain in domains] == ["powered off", "crashed", "running", "rebooted"]
        assert [domain.console.output for domain in domains] == [b"hello\n", b"", b"", b"again\n" * 2]
        assert domains[1].crash_report is not None
        assert "invalid opcode #UD" in domains[1].crash_report
        late = machine.create(assemble(HELLO), name="late")
        late.console.expect("hello")
        assert late.domid == 6


SPIN = 'main: println "up"\n xor %ebx, %ebx\n1: inc %rbx\n jmp 1b'


def spun(until_ns: int, piece: int) -> list[int]:
    """How far each of two spinning domains comes; the run returns to the caller after every `piece`."""
    with hv.Machine() as machine:
        domains = [machine.create(assemble(SPIN)) for _ in range(2)]
        machine.create(assemble(WAIT))
        for until in range(piece, until_ns + 1, piece):
            machine.run(until_ns=until, timeout=60)
        return [domain.registers()["rbx"] for domain in domains]


def test_domains_share_the_cpu() -> None:
    """Neither of two that never block is left behind; a third that sleeps does not hold them up."""
    assert min(spun(50_000_000, 50_000_000)) > 5_000_000


@pytest.mark.parametrize("piece", [100_000, 300_007, 1_000_000])
def test_turns_do_not_depend_on_the_pieces_of_a_run(piece: int) -> None:
    """Who runs when is a matter of virtual time alone."""
    until = 12_000_280
    assert spun(until // piece * piece, piece) == spun(until // piece * piece, until // piece * piece)


def test_turns_repeat() -> None:
    assert len({tuple(spun(100_000_000, 100_000_000)) for _ in range(2)}) == 1


def test_events_between_domains() -> None:
    with hv.Machine() as machine:
        p, q = Puppet(machine), Puppet(machine)
        offer = p.place(b"\xf0\x7f" + q.domain.domid.to_bytes(2, "little") + bytes(4))
        assert p.hypercall("event_channel_op", 6, offer) == 0
        port = int.from_bytes(p.guest.read(offer + 4, 4), "little")
        bind = q.place(p.domain.domid.to_bytes(2, "little") + bytes(2) + port.to_bytes(4, "little") + bytes(4))
        assert q.hypercall("event_channel_op", 0, bind) == 0
        local = int.from_bytes(q.guest.read(bind + 8, 4), "little")
        sent = p.guest.port(port)[5]
        assert q.hypercall("event_channel_op", 4, local.to_bytes(4, "little")) == 0
        assert p.guest.port(port)[5] == sent + 1
        q.guest.shut_down(0)
        machine.run(timeout=5)
        assert q.domain.ended
        assert p.guest.port(port)[0] == 1  # unbound again
        assert p.hypercall("event_channel_op", 4, port.to_bytes(4, "little")) == 0
        assert p.alive

NO_FILE = "no such file or guest: hv guests lists the bundled ones, hv fetch those of others"


@pytest.mark.parametrize(
    ("image", "options", "sentence"),
    [
        (b"", {}, "image: the file is empty: give hv a guest's kernel"),
        (b"hello", {}, "image: not an ELF file, a compressed ELF file or a bzImage: give hv a guest's kernel"),
        ("no such guest", {}, f"no such guest: {NO_FILE}"),
        ("hv\0x", {}, "the image's name holds a NUL character: name a file or a bundled guest"),
        (Path("/"), {}, "/: is a directory: name an image inside it"),
        (HELLO, {"memory": "nonsense"}, "'nonsense' is not a size of memory: write 64M, 1G or a number of MiB"),
        (HELLO, {"vcpus": 0}, "0 vCPUs are not possible: choose 1 to 64"),
        (HELLO, {"ramdisk": "/no/such/file"}, f"/no/such/file: {NO_FILE}"),
    ],
)
def test_refused(image: bytes | str | Path, options: dict[str, object], sentence: str) -> None:
    """One sentence, and the machine is as before."""
    with hv.Machine() as machine:
        with pytest.raises(hv.HvError) as error:
            machine.create(assemble(image) if image is HELLO else image, **options)
        assert str(error.value) == sentence
        assert machine.domains == []
        assert machine.run() == "ended"
        domain = machine.create(assemble(HELLO))
        assert domain.domid == 1
        machine.run(timeout=20)
        assert domain.exit_code == 0


@pytest.mark.parametrize("memory", ["1M", "2M", "3M"])
def test_too_little_memory(memory: str) -> None:
    with (
        hv.Machine() as machine,
        pytest.raises(hv.ImageError, match=rf"does not fit in {memory} of memory, it needs \d+M"),
    ):
        machine.create(assemble(HELLO), memory=memory)


def test_the_memory_asked_for_in_the_message_suffices() -> None:
    with hv.Machine() as machine:
        with pytest.raises(hv.ImageError) as error:
            machine.create(assemble(HELLO), memory="1M")
        needed = str(error.value).split("it needs ")[1].split(":")[0]
        domain = machine.create(assemble(HELLO), memory=needed)
        machine.run(timeout=20)
        assert domain.exit_code == 0


def test_command_line_limit() -> None:
    longest = 1023
    with hv.Machine() as machine:
        machine.create(assemble(HELLO), cmdline="x" * longest)
        with pytest.raises(hv.HvError) as error:
            machine.create(assemble(HELLO), cmdline="x" * (longest + 1))
        assert "\n" not in str(error.value)
        assert "1023" in str(error.value)


@pytest.mark.parametrize("clock", ["", "Virtual", "real"])
def test_unknown_clock(clock: str) -> None:
    with pytest.raises(hv.ConfigError, match="is not a clock: choose virtual, paced or host"):
        hv.Machine(clock=clock)


TINY = """
import sys
import hv
try:
    with hv.Machine(memory=sys.argv[1]) as machine:
        machine.create(b"")
except hv.ImageError:
    print("too late")
except hv.HvError as error:
    print(error)
"""


@pytest.mark.parametrize("memory", ["4K", "64K", "72K", "1", "1M"])
def test_machine_too_small_for_hv_itself(memory: str) -> None:
    """A sentence. In a process of its own: what is overwritten there is somebody else's."""
    done = subprocess.run([sys.executable, "-c", TINY, memory], capture_output=True, text=True)
    assert (done.returncode, len(done.stdout.splitlines()), done.stderr) == (0, 1, "")
    assert done.stdout != "too late\n"


@pytest.mark.parametrize("memory", ["3M", "4M", "8M"])
def test_machine_too_small_for_its_guest(memory: str) -> None:
    with hv.Machine(memory=memory) as machine, pytest.raises(hv.HvError) as error:
        machine.create(assemble(HELLO))
    assert "\n" not in str(error.value)


def test_many_domains() -> None:
    with hv.Machine() as machine:
        domains = [machine.create(assemble(HELLO), memory="8M") for _ in range(100)]
        machine.run(timeout=60)
        assert {domain.console.output for domain in domains} == {b"hello\n"}
        assert domains[-1].domid == 100
