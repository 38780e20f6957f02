"""`hv run`: boot guests and connect their console."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hv.cli import exit_codes
from hv.cli.options import GuestOptions, gathered, guest_options, with_settings
from hv.cli.output import GUEST_OUTPUT, OutputFile
from hv.errors import ConfigError

if TYPE_CHECKING:
    from hv.machine.domain import Domain
    from hv.machine.machine import Machine


OPTIONS = (
    click.argument("images", nargs=-1, required=True, metavar="IMAGE [KEY=VALUE]..."),
    click.option(
        "--core",
        metavar="FILE",
        help="After a crash, write an ELF core for gdb; with several IMAGEs, FILE.N for the domain of number N.",
    ),
    click.option(
        "--console",
        multiple=True,
        metavar="NAME=FILE|stdio",
        help="Where the console of domain NAME goes (default: stdio); the keyboard is the first domain's, or stdio's.",
    ),
    click.option("--pcap", metavar="FILE", help="Record every frame of every bridge, for tshark or Wireshark."),
    click.option("--gateway", multiple=True, metavar="BRIDGE", help="DHCP and ping on a bridge (needs libslirp0)."),
    click.option(
        "--net-allow",
        multiple=True,
        metavar="HOST:PORT",
        help="Let guests on xenbr0 reach a server through a gateway; one on 127.0.0.1 is at 10.0.2.2 for them.",
    ),
    click.option(
        "--net-forward",
        multiple=True,
        metavar="PORT-[GUEST]:PORT",
        help="Let a port of the host's loopback lead to a guest on xenbr0, as QEMU's hostfwd: 2222-:22.",
    ),
    click.option(
        "--gdb",
        metavar="[HOST:]PORT|PATH",
        help="Wait for gdb at a port (of 127.0.0.1) or Unix socket before the first domain's first instruction.",
    ),
    click.option("--list", "list_domains", is_flag=True, help="At the end, print a table of the domains, as xl list."),
    click.option("--grants", is_flag=True, help="At the end, print what each guest has granted to others, and mapped."),
    click.option("--events", is_flag=True, help="At the end, print each guest's table of event channels."),
    click.option(
        "--xenstore-socket", "store", metavar="PATH", help="Let tools look into XenStore by this Unix socket meanwhile."
    ),
)


@dataclass(slots=True)
class RunOptions:
    """The values of `run_options`, without those of `guest_options`."""

    images: tuple[str, ...]
    core: str | None
    console: tuple[str, ...]
    pcap: str | None
    gateway: tuple[str, ...]
    net_allow: tuple[str, ...]
    net_forward: tuple[str, ...]
    gdb: str | None
    list_domains: bool
    grants: bool
    events: bool
    store: str | None

    @property
    def gateways(self) -> dict[str, tuple[tuple[str, ...], ...]]:
        """Each bridge with a way out: what it lets out, and lets in."""
        from hv.machine.network import DEFAULT_BRIDGE

        out = [DEFAULT_BRIDGE] if self.net_allow or self.net_forward else []
        ways = (self.net_allow, self.net_forward)
        return {bridge: ways if bridge == DEFAULT_BRIDGE else () for bridge in [*self.gateway, *out]}


def run_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """IMAGE… and the options of `hv run`, for every command that runs guests as it does: `boot` takes their values.

    The function gets them as two arguments, `run` and `options`.
    """
    return gathered(RunOptions, "run", OPTIONS, guest_options(function))


@click.command(
    "run",
    epilog="""\b
Examples:
  hv run hello                                   a bundled guest (hv guests lists them)
  hv run grub-x86_64-xen.bin --memory 128M       GRUB for Xen, from Debian's grub-xen-host
  hv run vcpus --vcpus 8                         with 8 virtual CPUs instead of the 64 it is made for
  hv run crash --core crash.core                 and then: gdb IMAGE crash.core
  hv run web.cfg db.cfg --console db=db.log      xl.cfg(5) files; kill -USR1 prints a table of the domains
  hv run web.cfg memory=512 db.cfg 'name="x"'    settings behind a file's, as with xl create
  echo ls | hv run grub-x86_64-xen.bin --timeout 5
At a terminal every key goes to the guest; Ctrl-] leaves.
Exit codes: 0 powered off, 2 bad usage or image, 6 crashed, 124 timeout, 125 nothing can happen any more,
130 Ctrl-C.""",
)
@run_options
def command(run: RunOptions, options: GuestOptions) -> int:
    """Boot each IMAGE (ELF with Xen notes, bzImage, xl.cfg file or bundled guest) as a domain of one machine.

    KEY=VALUE behind an IMAGE is a line of xl.cfg that comes after those of the file; KEY+=VALUE adds to a list.
    """
    return boot(run, options)


def boot(
    run: RunOptions,
    options: GuestOptions,
    *,
    prepare: Callable[[Machine], None] = lambda machine: None,
    drive: Callable[[Machine, Domain], str] | None = None,
    keyboard: bool = True,
) -> int:
    """What `hv run` does: the exit code. `prepare(machine)` runs before there is a guest.

    `drive(machine, domain)` runs the machine instead and says how that ended; the domain is whose console has stdin,
    if it has a `keyboard` at all.
    """
    from hv.cli import consoles, domains
    from hv.cli.terminal import ConsoleInput, Left, RawTerminal
    from hv.machine.machine import Machine

    described = with_settings(run.images, options)
    if options.name and len(described) > 1:
        raise ConfigError("--name needs exactly one IMAGE")
    if run.gdb is not None and drive is not None:
        raise ConfigError("--gdb is for hv run and hv trace: hv step is a debugger itself")
    routes = consoles.parse(run.console)
    source = _standard_input() if keyboard else None
    at_terminal = source is not None and os.isatty(source)
    paced = (at_terminal and run.gdb is None) or run.gateways  # with a debugger, a session that can be repeated
    clock = options.clock or ("paced" if paced else "virtual")
    with Machine(clock=clock) as machine, _store_socket(machine, run.store):
        prepare(machine)
        _connect(machine, run, options, several=len(described) > 1)
        created = [
            domain
            for image, settings in described
            for domain in machine.create_together(image, settings=settings, **_creation(image, options, at_terminal))
        ]
        typist = consoles.connect(created, routes)
        domains.show_on_signal(machine)

        def go() -> str:
            if drive is not None:
                return drive(machine, typist)
            if run.gdb is not None:
                return _with_gdb(machine, typist, run.gdb, options)
            return machine.run_until(lambda: False, options.timeout, options.until)

        if source is not None:
            machine.inputs.append(ConsoleInput(source, lambda data: type_into(typist, data)))
        try:
            outcome = RawTerminal(source).during(go) if source is not None and at_terminal else go()
        except Left:
            return exit_codes.OK
        code = _report(machine, outcome, options)
        _show(machine, run)
        return code


def _connect(machine: Machine, run: RunOptions, options: GuestOptions, *, several: bool) -> None:
    """What listens to the machine, and its network, before there is a guest; `several` IMAGEs have several cores."""
    _connect_log(machine, options)
    if run.core is not None:
        machine.crash_listeners.append(_core_writer(run.core, several))
    machine.warning_listeners.append(lambda sentence: print(f"hv: {sentence}", file=sys.stderr))
    if run.pcap is not None:
        machine.network.capture(run.pcap)
    for bridge, ways in run.gateways.items():
        machine.network.gateway(bridge, *ways)


def _show(machine: Machine, run: RunOptions) -> None:
    """The tables that were asked for."""
    from hv.cli import domains, events, grants

    if run.events:
        events.show(machine.domains)
    if run.grants:
        grants.show(machine.domains)
    if run.list_domains:
        domains.show(machine)


def _with_gdb(machine: Machine, domain: Domain, place: str, options: GuestOptions) -> str:
    """Run the machine as gdb says."""
    from hv.debug.gdb.server import Server, listening

    with listening(place) as (listener, name):
        print(f"hv: {domain.name} waits for gdb: target remote {name}", file=sys.stderr, flush=True)
        return Server(machine, domain, listener, options.timeout, options.until).serve()


@contextmanager
def _store_socket(machine: Machine, path: str | None) -> Iterator[None]:
    """XenStore for tools as long as the machine runs, if it is asked for."""
    if path is None:
        yield
        return
    from hv.backends.xenstore_socket import SocketService

    with SocketService(machine.store_backend, path) as service:
        machine.inputs.append(service)
        yield


def _creation(image: str, options: GuestOptions, at_terminal: bool) -> dict[str, Any]:
    """What `Machine.create` takes; a fetched guest whose init wants it learns what terminal it has."""
    from hv.cli.terminal import described
    from hv.machine.images import fetched_guest

    creation = options.creation()
    guest = fetched_guest(image)
    if at_terminal and guest and guest.terminal and creation["cmdline"] is None:
        creation["cmdline"] = f"{guest.cmdline} {described(0)}"
    return creation


def _standard_input() -> int | None:
    """stdin's descriptor, or None where there is none to read."""
    try:
        return sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):
        return None


def type_into(domain: Domain, data: bytes) -> None:
    """Keys for a guest; what comes after its end is nobody's."""
    if not domain.ended:
        domain.console.send(data)


def _connect_log(machine: Machine, options: GuestOptions) -> None:
    """console_io of the guests, to the file asked for or to stderr."""
    machine.connect_log(options.open_log() or OutputFile(2, GUEST_OUTPUT))


def _core_writer(path: str, several: bool) -> Callable[[Domain], None]:
    """Who writes the cores of crashed domains, and says so; a file that cannot be there is refused at once."""
    folder = Path(path).absolute().parent
    if not os.access(folder, os.W_OK) or Path(path).is_dir():
        raise ConfigError(f"{path}: a core cannot be written there: name a file in a folder that is there and writable")

    def write(domain: Domain) -> None:
        target = f"{path}.{domain.domid}" if several else path
        try:
            complete = domain.write_core(target)
        except OSError as error:
            print(f"hv: {target}: the core could not be written: {error.strerror}", file=sys.stderr)
            return
        cut = "" if complete else ", cut off: its page tables map more than a core can hold"
        print(f"hv: the core of {domain.name} is in {target}{cut}", file=sys.stderr)

    return write


def _report(machine: Machine, outcome: str, options: GuestOptions) -> int:
    """Say on stderr what is worth saying; the exit code."""
    codes = []
    for domain in machine.domains:
        if domain.ended:
            codes.append(domain.exit_code or 0)
            if domain.crash_report:
                print(f"hv: {domain.crash_report}", file=sys.stderr)
        elif outcome == "timeout":
            print(f"hv: {domain.name} was still running after {options.timeout:g} s (--timeout)", file=sys.stderr)
            codes.append(exit_codes.TIMEOUT)
        elif outcome == "idle":
            print(
                f"hv: {domain.name} can never go on: its vCPUs wait, no timer is armed and no input can come",
                file=sys.stderr,
            )
            codes.append(exit_codes.STUCK)
    return exit_codes.worst(codes)
