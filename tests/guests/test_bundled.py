"""Every bundled guest ends as its header says, with exactly that output, and every run is like the one before."""

import json
from pathlib import Path
from typing import Any

import pytest

import hv
from guests import build
from hv.machine.images import bundled

HEADERS = [build.read_header(source) for source in sorted(Path(build.ROOT).glob("*.s"))]
NAMES = [header["name"] for header in HEADERS]
MADE_FOR = {header["name"]: {key: header[key] for key in ("vcpus", "pirqs")} for header in HEADERS}
DOMAINS = {header["name"]: header["domains"] for header in HEADERS}
TIMED = {
    "bench",
    "bench-pingpong",
    "latency",
    "poll",
    "preempt",
    "runstate",
    "timer",
}  # they print how long something took: right only with the CPU to themselves

# Every guest that crashes makes a typical mistake; words of the report's second line.
HINTS = {
    "broken-callback": "register an event callback",
    "broken-handler": "page fault #PF came at page_fault again and again",
    "broken-hlt": "use sched_op SCHEDOP_block",
    "broken-hypercall-page": "XEN_ELFNOTE_HYPERCALL_PAGE",
    "broken-iret": "MMUEXT_NEW_USER_BASEPTR",
    "broken-no-handler": "no row in it for vector 0x0",
    "broken-null": "a call through a null pointer, from main+",
    "broken-page-table": "use mmu_update or update_va_mapping",
    "broken-selector": "the selector cleared before it was read",
    "broken-stack": "nothing is mapped there",
    "broken-unmask": "unmasked without a look at pending",
    "broken-upcall": "masks events until the hypercall iret",
    "crash": "has never called set_trap_table",
}


def boot(image: Path | str, **options: Any) -> tuple[int | None, str, int]:
    """Run one guest to its end, with all its domains: (exit code, console output, virtual time of the end in ns)."""
    name = Path(image).name
    with hv.Machine() as machine:
        domains = machine.create_together(image, DOMAINS[name], **{**MADE_FOR[name], **options})
        output = bytearray()
        for domain in domains:
            domain.console.listeners.append(output.extend)
        machine.run(timeout=30)
        return max(domain.exit_code or 0 for domain in domains), output.decode(), machine.now_ns


@pytest.mark.parametrize("guest", HEADERS, ids=NAMES)
def test_does_what_its_header_says(guest: dict[str, Any], images: Path) -> None:
    code, output, _ = boot(images / guest["name"])
    assert output == guest["output"]
    assert code == guest["exit"]


@pytest.mark.parametrize("name", [guest["name"] for guest in HEADERS if guest["exit"] == 6])
def test_the_report_names_the_mistake(name: str, images: Path) -> None:
    with hv.Machine() as machine:
        domain = machine.create(images / name)
        machine.run(timeout=30)
        assert domain.crash_report is not None
        assert HINTS[name] in domain.crash_report.splitlines()[1]


@pytest.mark.parametrize("name", NAMES)
def test_runs_alike(name: str, images: Path) -> None:
    assert boot(images / name) == boot(images / name)


@pytest.mark.parametrize("name", NAMES)
def test_steps_alike(name: str, images: Path) -> None:
    """One instruction at a time: the same output at the same virtual time."""
    with hv.Machine() as machine:
        machine.engine.set_stepping(True)
        domains = machine.create_together(images / name, DOMAINS[name], **MADE_FOR[name])
        machine.run(timeout=30)
        stepped = [domain.console.output for domain in domains], machine.now_ns
    with hv.Machine() as machine:
        domains = machine.create_together(images / name, DOMAINS[name], **MADE_FOR[name])
        machine.run(timeout=30)
        assert stepped == ([domain.console.output for domain in domains], machine.now_ns)


@pytest.mark.parametrize("memory", ["8M", "16M", "300M"])
@pytest.mark.parametrize("name", ["start_info", "memory", "user"])
def test_does_not_depend_on_memory(name: str, memory: str, images: Path) -> None:
    guest = HEADERS[NAMES.index(name)]
    assert boot(images / name, memory=memory)[:2] == (guest["exit"], guest["output"])


def test_all_at_once(images: Path) -> None:
    """Guests on one machine do not disturb each other; only the clock is shared."""
    together = [guest for guest in HEADERS if guest["name"] not in TIMED and guest["domains"] == 1]
    with hv.Machine() as machine:
        domains = [machine.create(images / guest["name"], **MADE_FOR[guest["name"]]) for guest in together]
        machine.run(timeout=60)
        for guest, domain in zip(together, domains, strict=True):
            assert (domain.exit_code, domain.console.output.decode()) == (guest["exit"], guest["output"]), guest["name"]


@pytest.mark.parametrize(
    ("name", "vcpus", "output"),
    [
        ("smp", 1, "is vCPU 1 up? -2\nthis guest needs --vcpus 2\n"),
        ("runstate", 1, "this guest needs --vcpus 2\n"),
        ("vcpus", 1, "vCPUs: 1\nthis guest needs more of them: --vcpus 64\n"),
        ("vcpus", 5, "vCPUs: 5\nbrought up, errors: 0\nup: 5\nthe token came back with 10\nall others are down\n"),
    ],
)
def test_another_number_of_vcpus(name: str, vcpus: int, output: str, images: Path) -> None:
    assert boot(images / name, vcpus=vcpus)[:2] == (0, output)


def test_a_bundled_guest_has_its_vcpus() -> None:
    with hv.Machine() as machine:
        assert machine.create("vcpus").guest.nr_vcpus == 64
        assert machine.create("hello").guest.nr_vcpus == 1
        assert machine.create("vcpus", vcpus=3).guest.nr_vcpus == 3


def test_command_line_is_shown(images: Path) -> None:
    assert 'command line: "quiet x=1"\n' in boot(images / "start_info", cmdline="quiet x=1")[1]


@pytest.mark.parametrize(
    "text", ["a", "hello\r", "x" * 1024, "0123456789\r" * 1000], ids=["a", "line", "ring", "flood"]
)
def test_console_echo_echoes(text: str, images: Path) -> None:
    with hv.Machine() as machine:
        domain = machine.create(images / "console-echo")
        domain.console.expect("silence end this.\n")
        domain.console.send(text)
        machine.run(timeout=30)
        output = domain.console.output.decode()
    assert output.split("this.\n")[1] == text.replace("\r", "\r\n") + "Nothing to read: good-bye.\n"
    assert domain.exit_code == 0


def test_package_has_these_guests() -> None:
    packaged = {g.name: (g.title, g.summary, g.expected, g.vcpus, list(g.pirqs), g.output) for g in bundled()}
    if not packaged:
        pytest.skip("the package was built in place, without its guests")
    headers = {h["name"]: (h["title"], h["summary"], h["exit"], h["vcpus"], h["pirqs"], h["output"]) for h in HEADERS}
    assert packaged == headers, "the package's guests are old: build it again"
    assert boot("hello")[:2] == (0, HEADERS[NAMES.index("hello")]["output"])


def test_index(images: Path) -> None:
    assert json.loads((images / build.INDEX).read_text()) == HEADERS
    assert sorted(path.name for path in images.iterdir()) == sorted([*NAMES, build.INDEX])
