"""What follows a domain's end (on_poweroff and its like), and domains from xl.cfg files."""

from __future__ import annotations

from pathlib import Path

import pytest
from guest_kit import assemble

import hv

ENDS = {
    "poweroff": "main: ret",
    "reboot": "main: shut_down SHUTDOWN_reboot",
    "crash": "main: ud2",
    "watchdog": "main: shut_down SHUTDOWN_watchdog",
    "soft_reset": "main: shut_down SHUTDOWN_soft_reset",
}
SPIN = "main: jmp main"


@pytest.mark.parametrize("kind", ENDS)
def test_restart(kind: str) -> None:
    with hv.Machine() as machine:
        machine.reboot_limit = 2
        domain = machine.create(assemble(ENDS[kind]), actions={kind: "restart"})
        machine.run(timeout=30)
        assert (domain.reboots, domain.ended) == (2, True)
        assert len(machine.domains) == 1


@pytest.mark.parametrize("kind", ENDS)
def test_destroy(kind: str) -> None:
    with hv.Machine() as machine:
        domain = machine.create(assemble(ENDS[kind]), actions={kind: "destroy"})
        machine.run(timeout=30)
        assert (domain.reboots, domain.ended, domain.preserved) == (0, True, False)
        assert machine.store.ls("/local/domain") == ["0"]


@pytest.mark.parametrize("kind", ENDS)
def test_preserve(kind: str) -> None:
    """Memory, registers and store keys stay to be looked at, until destroy."""
    with hv.Machine() as machine:
        domain = machine.create(assemble(ENDS[kind]), actions={kind: "preserve"})
        assert machine.run(timeout=30) == "ended"
        assert (domain.ended, domain.preserved) == (True, True)
        assert domain.registers()["rip"]
        assert machine.store.ls("/local/domain") == ["0", "1"]
        domain.destroy()
        assert machine.store.ls("/local/domain") == ["0"]


def test_rename_restart() -> None:
    with hv.Machine() as machine:
        machine.reboot_limit = 2
        seen: list[bytes] = []
        first = machine.create(assemble('main: println "x"\n call drain_console\n ud2'), name="g",
                               actions={"crash": "rename-restart"})  # fmt: skip
        first.console.listeners.append(seen.append)
        machine.run(timeout=30)
        assert [domain.name for domain in machine.domains] == ["g-1", "g-2", "g"]
        assert all(domain.preserved for domain in machine.domains)
        assert b"".join(seen) == b"x\n" * 3
    assert not any(domain.preserved for domain in machine.domains)


def test_soft_reset() -> None:
    """Xen resets no PV guest: it is destroyed, with a warning."""
    with hv.Machine() as machine:
        warnings: list[str] = []
        machine.warning_listeners.append(warnings.append)
        domain = machine.create(assemble(ENDS["soft_reset"]), name="g")
        machine.run(timeout=30)
        assert (domain.ended, domain.preserved, domain.reboots) == (True, False, 0)
        assert warnings == ["g is destroyed: Xen resets no PV guest softly (on_soft_reset)"]


def test_who_can_not_boot_again_is_alone_with_that(tmp_path: Path) -> None:
    """The one that is kept still has the disk."""
    image = tmp_path / "disk"
    image.write_bytes(bytes(4096))
    with hv.Machine() as machine:
        warnings: list[str] = []
        machine.warning_listeners.append(warnings.append)
        first = machine.create(assemble(ENDS["crash"]), name="g", actions={"crash": "rename-restart"},
                               disks=[f"{image},raw,xvda,w"])  # fmt: skip
        other = machine.create(assemble(SPIN))
        assert machine.run(timeout=30, until_ns=5_000_000) == "until"
        assert (first.preserved, other.ended, machine.domains) == (True, False, [first, other])
        assert warnings == [f"g could not boot again: {image}: the disk image is in use by another disk, and one of "
                            "them would write: give each its own"]  # fmt: skip


def test_coredump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with hv.Machine() as machine:
        warnings: list[str] = []
        machine.warning_listeners.append(warnings.append)
        machine.create(assemble("main: ud2"), name="a/b", actions={"crash": "coredump-destroy"})
        machine.run(timeout=30)
    assert (tmp_path / "a_b.core").read_bytes()[:4] == b"\x7fELF"
    assert warnings == ["the core of a/b is in a_b.core"]


def test_domains_come_and_go() -> None:
    """The others go on, and nothing of those that are gone is left."""
    with hv.Machine() as machine:
        steady = machine.create(assemble(SPIN), memory="8M")
        for turn in range(1, 20):
            other = machine.create(assemble(SPIN), memory="8M")
            assert machine.run(until_ns=turn * 3_000_000, timeout=30) == "until"
            assert other.cpu_ns
            other.destroy()
            assert other.reason == "destroyed"
        assert steady.cpu_ns >= 20_000_000
        assert machine.store.ls("/local/domain") == ["0", "1"]


def test_from_a_file(tmp_path: Path) -> None:
    """Arguments override the file; a domain is named for the file where it does not name it."""
    path = tmp_path / "web.cfg"
    path.write_text("kernel = 'hello'\nmemory = 16\nmaxmem = 32\non_crash = 'preserve'\n")
    with hv.Machine() as machine:
        warnings: list[str] = []
        machine.warning_listeners.append(warnings.append)
        domain = machine.create(path, memory="24M")
        assert (domain.name, domain.config.memory, domain.config.max_memory) == ("web", 24 << 20, 32 << 20)
        assert domain.config.actions["crash"] == "preserve"
        assert machine.store.read(f"/local/domain/{domain.domid}/memory/static-max") == b"32768"
        machine.run(timeout=30)
        assert domain.console.output.startswith(b"Hello, world!")
        assert not warnings


def test_names() -> None:
    """One name, one domain, while it is there; who gives none gets one that is free."""
    with hv.Machine() as machine:
        one = machine.create("hello", name="one")
        with pytest.raises(hv.ConfigError, match='there is a domain with the name "one" already: choose another'):
            machine.create("hello", name="one")
        assert [machine.create("hello").name for _ in range(3)] == ["hello", "hello-2", "hello-3"]
        assert [domain.name for domain in machine.create_together("share")] == ["share-1", "share-2"]
        assert [domain.name for domain in machine.create_together("share")] == ["share-1-2", "share-2-2"]
        one.destroy()
        assert machine.create("hello", name="one").name == "one"


def test_from_settings() -> None:
    with hv.Machine() as machine:
        domain = machine.create({"kernel": "hello", "memory": 16, "name": "d"}, settings=["vcpus = 2", "maxvcpus = 3"])
        assert (domain.name, domain.config.memory, domain.config.vcpus) == ("d", 16 << 20, 3)
        where = f"/local/domain/{domain.domid}/cpu"
        states = [machine.store.read(f"{where}/{vcpu}/availability") for vcpu in range(3)]
        assert states == [b"online", b"online", b"offline"]
        with pytest.raises(hv.ConfigError, match="kernel is missing"):
            machine.create({"memory": 16})
        with pytest.raises(hv.ConfigError, match="kernel is set twice"):
            machine.create("hello", settings=["kernel = 'timer'"])


BAD = [
    ({"max_vcpus": 3, "vcpus": 4}, "maxvcpus = 3 is not possible with 4 vCPUs: choose 4 to 64"),
    ({"cap": 101}, "a cap of 101 %"),
    ({"name": ""}, "'' is no name for a domain"),
    ({"name": "a\nb"}, "is no name for a domain"),
    ({"weight": 0}, "a weight of 0"),
    ({"max_memory": "8M"}, "maxmem (8M) is below memory (64M)"),
    ({"actions": {"crash": "x"}}, "on_crash = 'x'"),
    ({"actions": {"boredom": "destroy"}}, "on_boredom"),
    ({"max_grant_version": 3}, "no grant tables of version 3"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_refused(options: dict[str, object], message: str) -> None:
    with hv.Machine() as machine, pytest.raises(hv.ConfigError) as error:
        machine.create(assemble("main: ret"), **options)  # type: ignore[arg-type]
    assert message in str(error.value)
