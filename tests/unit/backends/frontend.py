"""Frontends in Python, and fakes of what a backend is given: a domain with granted pages, and XenStore nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hv.backends.device import Device, DeviceError

PAGE = 4096


class FakePage:
    """A granted page that counts how often it was mapped and written."""

    def __init__(self, peer: FakePeer, ref: int, readonly: bool) -> None:
        self._peer, self._ref = peer, ref
        view = memoryview(peer.pages[ref])
        self.view = view.toreadonly() if readonly else view
        peer.mapped[ref] = peer.mapped.get(ref, 0) + 1

    def written(self) -> None:
        self._peer.dirty.add(self._ref)

    def unmap(self) -> None:
        self._peer.mapped[self._ref] -= 1


class FakePeer:
    """A guest: `pages` by grant reference, `readonly` references, `offered` ports."""

    domid = 7

    def __init__(self) -> None:
        self.pages: dict[int, bytearray] = {}
        self.readonly: set[int] = set()
        self.mapped: dict[int, int] = {}
        self.dirty: set[int] = set()
        self.offered = set(range(1, 32))
        self.handlers: dict[int, Callable[[], None]] = {}
        self.notified: list[int] = []

    def grant(self, ref: int, data: bytes = b"", readonly: bool = False) -> bytearray:
        self.pages[ref] = bytearray(data.ljust(PAGE, b"\0"))
        if readonly:
            self.readonly.add(ref)
        return self.pages[ref]

    def map(self, ref: int, readonly: bool = False) -> FakePage:
        if ref not in self.pages or (ref in self.readonly and not readonly):
            raise DeviceError(f"grant {ref} of domain 7 cannot be mapped: GNTST_bad_gntref")
        return FakePage(self, ref, readonly)

    def read(self, segments: list[tuple[int, int, int]], into: bytearray | memoryview) -> None:
        done = 0
        for ref, offset, length in segments:
            if ref not in self.pages or offset + length > PAGE:
                raise DeviceError("a grant of domain 7 cannot be read: GNTST_bad_gntref")
            into[done : done + length] = self.pages[ref][offset : offset + length]
            done += length

    def write(self, segments: list[tuple[int, int, int]], data: bytes | bytearray | memoryview) -> None:
        done = 0
        for ref, offset, length in segments:
            if ref not in self.pages or ref in self.readonly or offset + length > PAGE:
                raise DeviceError("a grant of domain 7 cannot be written: GNTST_bad_gntref", -3)
            self.pages[ref][offset : offset + length] = data[done : done + length]
            done += length

    def listen(self, port: int, handler: Callable[[], None]) -> int:
        if port not in self.offered:
            raise DeviceError(f"event channel {port} of domain 7 is not offered to domain 0 (error -22)")
        self.offered.discard(port)
        self.handlers[port] = handler
        return port

    def notify(self, own_port: int) -> None:
        self.notified.append(own_port)

    def hang_up(self, own_port: int) -> None:
        del self.handlers[own_port]
        self.offered.add(own_port)

    @property
    def leaks(self) -> bool:
        return any(self.mapped.values()) or bool(self.handlers)


class FakeNodes:
    """Two directories as dicts; `write` keeps the history of the backend's states."""

    def __init__(self) -> None:
        self.front_values: dict[str, str] = {}
        self.back_values: dict[str, str] = {"online": "1"}
        self.states: list[str] = []
        self.errors: list[str] = []
        self.removed = False

    def front(self, key: str) -> str | None:
        return self.front_values.get(key)

    def back(self, key: str) -> str | None:
        return self.back_values.get(key)

    def write(self, values: Mapping[str, str]) -> None:
        self.back_values |= values
        if "state" in values:
            self.states.append(values["state"])

    def fail(self, message: str) -> None:
        self.errors.append(message)

    def remove(self) -> None:
        self.removed = True


class FrontRing:
    """The frontend's end of a ring over granted pages, as io/ring.h has it."""

    def __init__(self, pages: list[bytearray], entry: int) -> None:
        self.pages, self.entry = pages, entry
        slots = (len(pages) * PAGE - 64) // entry
        self.size = 1 << (slots.bit_length() - 1)
        self.req_prod = self.rsp_cons = 0
        self.set_word(12, 1)  # rsp_event
        self.set_word(4, 1)  # req_event

    def word(self, at: int) -> int:
        return int.from_bytes(self.pages[0][at : at + 4], "little")

    def set_word(self, at: int, value: int) -> None:
        self.pages[0][at : at + 4] = (value & 0xFFFFFFFF).to_bytes(4, "little")

    def _at(self, index: int, position: int) -> tuple[bytearray, int]:
        at = 64 + (index % self.size) * self.entry + position
        return self.pages[at // PAGE], at % PAGE

    def put(self, request: bytes) -> None:
        """A request that the backend sees at once."""
        for i, byte in enumerate(request):
            page, at = self._at(self.req_prod, i)
            page[at] = byte
        self.req_prod = (self.req_prod + 1) & 0xFFFFFFFF
        self.set_word(0, self.req_prod)

    def take(self, size: int) -> bytes | None:
        if self.word(8) == self.rsp_cons:
            return None
        places = [self._at(self.rsp_cons, i) for i in range(size)]
        self.rsp_cons = (self.rsp_cons + 1) & 0xFFFFFFFF
        self.set_word(12, self.rsp_cons + 1)
        return bytes(page[at] for page, at in places)


def plugged(device: Device) -> tuple[FakePeer, FakeNodes]:
    """A device plugged into a fake domain."""
    peer, nodes = FakePeer(), FakeNodes()
    nodes.write(device.backend_keys())
    device.attach(peer, nodes)
    return peer, nodes


def frontend_state(device: Device, nodes: FakeNodes, state: int | None) -> None:
    """The frontend goes to a state, or its node vanishes."""
    if state is None:
        nodes.front_values.pop("state", None)
    else:
        nodes.front_values["state"] = str(state)
    device.frontend_changed()
