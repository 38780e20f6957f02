"""The socket that gdb comes to, and who runs when: `hv run --gdb`.

Rules:

1. The domain stands still before its first instruction until gdb is there, and whenever gdb looks at it; the other
   domains stand still with it. Detached it goes on, and gdb may come again: it stops then where it is.
2. A connection that breaks is one that detaches. `kill` ends the machine.
3. While the guests run the connection is one of the machine's inputs, so that a Ctrl-C of gdb's is seen.
"""

from __future__ import annotations

import re
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hv.backends import socket_file
from hv.debug.gdb.packets import INTERRUPT, Receiver, packet
from hv.debug.gdb.requests import EINVAL, OK, WATCHES, Requests
from hv.debug.session import Session
from hv.errors import ConfigError
from hv.machine import core_file
from hv.machine.stops import AccessHit, AddressHit, Crashed, Outcome, Stepped, Stop, Stopped

if TYPE_CHECKING:
    from hv.machine.domain import Domain
    from hv.machine.machine import Machine

LOOPBACK = "127.0.0.1"
SIGINT, SIGTRAP = 2, 5
TIMEOUT_CODE = 124  # as `hv run` exits then
REMEDY = "write PORT, HOST:PORT or the PATH of a Unix socket, such as 1234 or ./gdb.sock"


@contextmanager
def listening(place: str) -> Iterator[tuple[socket.socket, str]]:
    """A listening socket and its place in gdb's words, for [HOST:]PORT, QEMU's tcp:[HOST]:PORT, or the path of a Unix
    socket (with a /)."""
    if "/" in place:
        with _at_path(place) as made:
            yield made, place
    else:
        with _at_port(place) as made:
            host, port = made.getsockname()
            yield made, f"{host}:{port}"


@contextmanager
def _at_path(place: str) -> Iterator[socket.socket]:
    try:
        made, identity = socket_file.listen(place)
    except ConfigError as error:
        raise _unusable(place, error) from None
    try:
        yield made
    finally:
        made.close()
        socket_file.remove(place, identity)


def _at_port(place: str) -> socket.socket:
    host, _, port = place.removeprefix("tcp:").rpartition(":")
    if not port.isdecimal() or int(port) > 0xFFFF:
        raise ConfigError(f"{place!r} is no place for gdb: {REMEDY}")
    try:
        return socket.create_server((host or LOOPBACK, int(port)), backlog=1)
    except OSError as error:
        raise _unusable(place, error.strerror or error) from None


def _unusable(place: str, why: object) -> ConfigError:
    return ConfigError(f"{place}: gdb cannot be waited for there: {why}")


class Newcomer:
    """The listening socket while the guests run without gdb, as an input of the machine."""

    def __init__(self, listener: socket.socket, arrived: Callable[[], None]) -> None:
        self._listener, self._arrived = listener, arrived
        self.open = False  # nothing of a guest's waits for it

    def poll(self) -> None:
        if select.select([self._listener], [], [], 0)[0]:
            self._arrived()

    def fileno(self) -> int:
        return self._listener.fileno()


class Connection:
    """gdb's end: packets in and out; an input of the machine while the guests run."""

    def __init__(self, stream: socket.socket, interrupt: Callable[[], None]) -> None:
        self._stream, self._interrupt = stream, interrupt
        self._receiver = Receiver()
        self._waiting: list[bytes] = []
        self.gone = False
        self.open = False

    def poll(self) -> None:
        """Something that gdb sends while the guests run: a Ctrl-C, or its end."""
        if not self.gone and select.select([self._stream], [], [], 0)[0]:
            self._receive()
        if self.gone or INTERRUPT in self._waiting:  # it may have come with the packet that let them run
            self._waiting = [data for data in self._waiting if data != INTERRUPT]
            self._interrupt()

    def fileno(self) -> int:
        return self._stream.fileno()

    def next(self, time_left: Callable[[], float | None]) -> bytes | None:
        """The next packet; None where gdb has gone, or the time is over."""
        while not self._waiting and not self.gone:
            if not select.select([self._stream], [], [], time_left())[0]:
                return None
            self._receive()
        return self._waiting.pop(0) if self._waiting else None

    def send(self, data: bytes) -> None:
        self._write(packet(data))

    def quiet(self) -> None:
        """Both sides do without acknowledgements from now on."""
        self._receiver.acknowledging = False

    def close(self) -> None:
        self.gone = True
        self._stream.close()

    def _receive(self) -> None:
        try:
            data = self._stream.recv(65536)
        except OSError:
            data = b""
        if not data:
            self.gone = True
        self._waiting += self._receiver.feed(data)
        answers, self._receiver.answers = bytes(self._receiver.answers), bytearray()
        self._write(answers)

    def _write(self, data: bytes) -> None:
        try:
            self._stream.sendall(data)
        except OSError:
            self.gone = True


def _thread(action: bytes) -> int | None:
    """The thread of an action of vCont; None where it names none."""
    digits = action.partition(b":")[2]
    return int(digits, 16) if re.fullmatch(rb"[0-9a-fA-F]{1,8}", digits) else None


class Server:
    """gdb for one domain of a machine. `serve` runs the machine, and says how that ended as `Machine.run_until`."""

    def __init__(
        self, machine: Machine, domain: Domain, listener: socket.socket, timeout: float | None, until_ns: int | None
    ) -> None:
        said: list[str] = []
        self._machine, self._domain, self._listener = machine, domain, listener
        self._session = Session(machine, lambda line, style: said.append(line), timeout=timeout, until_ns=until_ns)
        self._session.select(domain, 0)
        self._requests = Requests(self._session, said)
        self._stop = b"T%02xthread:1;" % SIGTRAP

    def serve(self) -> str:
        while True:
            connection = self._accept()
            if connection is None:
                return "timeout"
            outcome = self._attached(connection)
            connection.close()
            self._requests.forget()
            if outcome is None:
                outcome = self._alone()
            if outcome != "satisfied":
                return outcome

    def _accept(self) -> Connection | None:
        if not select.select([self._listener], [], [], self._session.time_left())[0]:
            return None
        stream, _ = self._listener.accept()
        if stream.family != socket.AF_UNIX:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Connection(stream, self._interrupt)

    def _interrupt(self) -> None:
        self._session.interrupted = True

    def _alone(self) -> str:
        """Run without gdb, until it comes again ("satisfied") or the run is over."""
        newcomer = Newcomer(self._listener, self._interrupt)
        self._machine.inputs.append(newcomer)
        self._machine.stop_at_crash = False
        try:
            self._session.run()
        finally:
            self._machine.inputs.remove(newcomer)
            self._machine.stop_at_crash = True
        if not self._domain.ended:
            self._stop = self._told(self._domain.guest.current_vcpu, SIGINT)
        return self._session.outcome or "stopped"

    # --- with gdb

    def _attached(self, connection: Connection) -> str | None:
        """Until gdb goes: None; or the run is over: how."""
        while True:
            request = connection.next(self._session.time_left)
            if request is None:
                return None if connection.gone else "timeout"
            if request == b"D" or request.startswith(b"D;"):
                connection.send(OK)
                return None
            if request == b"k" or request.startswith(b"vKill"):
                return "stopped"
            way = self._way(request)
            if request == b"?":
                connection.send(self._stop)
            elif way is not None:
                over = self._go(connection, *way)
                if over is not None:
                    return over
            elif request == b"QStartNoAckMode":
                connection.send(OK)
                connection.quiet()
            elif request != INTERRUPT:
                connection.send(self._requests.answer(request))
                if self._session.over:
                    return "stopped"

    def _way(self, request: bytes) -> tuple[int | None, bool] | None:
        """(thread or None for the one that is looked at, whether one step) of a packet that lets the guest run."""
        if request[:1] in (b"c", b"C", b"s", b"S") and b":" not in request:
            return None, request[:1] in b"sS"
        if not request.startswith(b"vCont;"):
            return None
        for action in request.split(b";")[1:]:
            if action[:1] in (b"s", b"S"):
                return _thread(action), True
        return None, False

    def _go(self, connection: Connection, thread: int | None, step: bool) -> str | None:
        """Let the guests run, and tell gdb why they stand; how the run ended, if it has."""
        session = self._session
        if thread is not None and not self._requests.look_at(thread):
            connection.send(EINVAL)
            return None
        self._machine.inputs.append(connection)
        try:
            stop = session.step(1) if step else session.run()
            while self._is_a_neighbours(stop):
                stop = session.run()
        finally:
            self._machine.inputs.remove(connection)
        return self._tell(connection, stop)

    def _is_a_neighbours(self, stop: Stop) -> bool:
        return isinstance(stop, Stopped) and stop.domain is not self._domain

    def _tell(self, connection: Connection, stop: Stop) -> str | None:
        domain = self._domain
        if domain.ended:
            self._console(connection, f"{domain.name} {domain.reason}")
            connection.send(b"W%02x" % (domain.exit_code or 0))
            return "ended" if self._session.outcome == "ended" else None  # others may go on
        if isinstance(stop, Stopped):
            self._session.select(domain, stop.vcpu)
            self._stop = self._reason(connection, stop)
        else:
            assert isinstance(stop, Outcome)
            if stop.outcome in ("timeout", "until"):
                self._console(connection, stop.text)
                connection.send(b"W%02x" % (TIMEOUT_CODE if stop.outcome == "timeout" else 0))
                return stop.outcome
            if stop.outcome != "satisfied":
                self._console(connection, stop.text)
            self._session.select(domain, domain.guest.current_vcpu)
            self._stop = self._told(domain.guest.current_vcpu, SIGINT)
        connection.send(self._stop)
        return None

    def _reason(self, connection: Connection, stop: Stopped) -> bytes:
        if isinstance(stop, Crashed):
            self._console(connection, stop.text)
            return self._told(stop.vcpu, core_file.signal_of(self._domain.guest))
        if isinstance(stop, AddressHit | AccessHit):
            kind = self._requests.kind_of(stop.breakpoint)
            if kind in WATCHES and isinstance(stop, AccessHit):
                return self._told(stop.vcpu, SIGTRAP) + b"%b:%x;" % (WATCHES[kind][1], stop.address)
            if kind is not None:
                return self._told(stop.vcpu, SIGTRAP) + (b"hwbreak:;" if kind else b"swbreak:;")
        if not isinstance(stop, Stepped):
            self._console(connection, stop.text)  # a breakpoint of `monitor break`
        return self._told(stop.vcpu, SIGTRAP)

    def _told(self, vcpu: int, signal: int) -> bytes:
        return b"T%02xthread:%x;" % (signal, vcpu + 1)

    def _console(self, connection: Connection, text: str) -> None:
        connection.send(b"O" + f"hv: {text}\n".encode().hex().encode())
