"""`hv xenstored`: XenStore alone, on a Unix socket."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hv.cli import exit_codes
from hv.errors import ConfigError

if TYPE_CHECKING:
    from hv.core.xenstore.store import Store


@click.command(
    "xenstored",
    epilog="""\b
Examples:
  hv xenstored --socket /tmp/xs &
  XENSTORED_PATH=/tmp/xs xenstore-ls -f -p       Debian's tools, or hv's: hv xenstore-ls --socket /tmp/xs -f -p
  hv xenstored --socket /tmp/xs --load store.txt --dump store.txt
SIGTERM and SIGINT end it with exit code 0; SIGUSR1 writes the dump at once.""",
)
@click.option("--socket", "path", required=True, metavar="PATH", help="The Unix socket to listen on.")
@click.option("--load", metavar="FILE", help="Fill the store from a dump, or from the output of xenstore-ls -f -p.")
@click.option("--dump", metavar="FILE", help="Write the store there at the end, and on SIGUSR1.")
def command(path: str, load: str | None, dump: str | None) -> int:
    """Serve XenStore to any number of clients, without a machine."""
    from hv.backends.store import StoreBackend
    from hv.backends.xenstore_socket import SocketService
    from hv.core.xenstore.store import Store

    store = Store()
    if load is not None:
        _load(store, load)
    if dump is not None:
        _check_writable(dump)
    with Signals() as signals, SocketService(StoreBackend(store), path) as service:
        service.register(signals.descriptor)
        while not signals.end:
            if service.serve():
                signals.take()
            if signals.dump and dump is not None:
                signals.dump = False
                try:
                    _dump(store, dump)
                except ConfigError as error:  # the clients can do without it
                    print(f"hv: {error}", file=sys.stderr)
    if dump is not None:
        _dump(store, dump)
    return exit_codes.OK


def _load(store: Store, file: str) -> None:
    from hv.core.xenstore.dump import DumpError

    try:
        store.load(Path(file).read_bytes().decode("latin-1"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except DumpError as error:
        raise ConfigError(f"{file}: {error}") from None


def _check_writable(file: str) -> None:
    folder = Path(file).absolute().parent
    if not os.access(folder, os.W_OK) or Path(file).is_dir():
        raise ConfigError(f"{file}: a dump cannot be written there: name a file in a folder that is there and writable")


def _dump(store: Store, file: str) -> None:
    """Write the whole store, or leave the file as it was; a pipe or a device stays one."""
    try:
        if Path(file).exists() and not Path(file).is_file():
            Path(file).write_text(store.dump(), encoding="ascii")
        else:
            _replace(file, store.dump())
    except OSError as error:
        raise ConfigError(f"{file}: the dump cannot be written: {error.strerror}") from None


def _replace(file: str, text: str) -> None:
    temporary = Path(f"{file}.new")
    try:
        temporary.write_text(text, encoding="ascii")
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


class Signals:
    """SIGTERM, SIGINT and SIGUSR1 as something to read, so that no request is cut in two."""

    def __init__(self) -> None:
        self.end = False
        self.dump = False
        self.descriptor, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> Signals:
        self._wakeup = signal.set_wakeup_fd(self._write)
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
        self._old = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def _note(self, number: int, frame: object) -> None:
        """The wakeup descriptor has it already."""

    def take(self) -> None:
        """Look at what has come."""
        for number in os.read(self.descriptor, 64):
            if number == signal.SIGUSR1:
                self.dump = True
            else:
                self.end = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self.descriptor)
        os.close(self._write)
