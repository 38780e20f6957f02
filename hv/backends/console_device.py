"""Further consoles of a guest: the same ring as the first one's, but found through XenStore.

A guest sees them as /dev/hvc1 and so on. Specification: docs/misc/console.txt of Xen; for what a frontend writes,
xencons_probe of drivers/tty/hvc/hvc_xen.c in Linux 6.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from hv.backends.console import ConsoleBackend
from hv.backends.device import Device


class ConsoleDevice(Device):
    """Console `number` (from 1 on) of a guest; `listeners` get its output, `send` types."""

    kind: ClassVar[str] = "console"

    def __init__(self, number: int, name: str = "") -> None:
        super().__init__(number)
        self.name = name
        self.output = bytearray()
        self.listeners: list[Callable[[bytes], None]] = []
        self._backend: ConsoleBackend | None = None
        self._typed = bytearray()  # before the guest has opened it

    def frontend_keys(self) -> Mapping[str, str]:
        return {
            "type": "xenconsoled",
            "output": "pty",
            "limit": "1048576",
            "protocol": "vt100",
            **({"name": self.name} if self.name else {}),
        }

    def connect(self) -> None:
        page = self.map(self.frontend_number("ring-ref"))
        port = self.listen(self.frontend_number("port"))
        self._backend = ConsoleBackend(page.view, lambda: self.peer.notify(port), self._write)
        self._backend.feed(bytes(self._typed))
        self._typed.clear()

    def serve(self) -> None:
        if self._backend is not None:
            self._backend.service()

    def send(self, text: str | bytes) -> None:
        """Type; what the guest can not take yet waits."""
        data = text.encode() if isinstance(text, str) else text
        if self._backend is None:
            self._typed += data
        else:
            self._backend.feed(data)

    @property
    def waiting(self) -> int:
        """Bytes that were typed and have not found room in the guest's ring."""
        return len(self._typed) + (self._backend.waiting if self._backend is not None else 0)

    def _write(self, data: bytes) -> None:
        self.output += data
        for listener in self.listeners:
            listener(data)

    def dropped(self) -> None:
        self._backend = None
