"""One pair of a network interface's rings: frames out of the transmit ring, frames into the receive ring (io/netif.h).

Rules, which are those of drivers/net/xen-netback of Linux where the header leaves it open:

1. A frame is taken from the transmit ring whole: first request, extra infos, further requests. What can not be
   understood costs the device: a chain without end or of more than 20 further pieces, a piece beyond its page, an extra
   info of unknown type. What can is answered with an error, and costs only that frame: shorter than a header, pieces
   longer than the whole, more than 18 further pieces, a grant that can not be read.
2. Towards the guest frames wait for room, up to a bound; behind it they are dropped, as on any cable.
3. Data goes by grant copies: once out of the sender's pages, once into the receiver's. Only the rings are mapped.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, TypeVar

from hv.abi.io import netif
from hv.backends.device import DeviceError, Peer
from hv.backends.packet import ETHERNET, Packet
from hv.fastpath.rings import BackRing

PAGE = 4096
TX_ENTRY, RX_ENTRY = 12, 8
FATAL_SLOTS = 20  # further requests of a frame: beyond that Linux's netback gives up the interface,...
MOST_SLOTS = netif.XEN_NETIF_NR_SLOTS_MIN  # ...beyond this the frame
MOST_WAITING = 1 << 22  # bytes of frames that wait for room in the guest
GSO = {netif.XEN_NETIF_GSO_TYPE_TCPV4: 4, netif.XEN_NETIF_GSO_TYPE_TCPV6: 6}
GROUPS = {netif.XEN_NETIF_EXTRA_TYPE_MCAST_ADD, netif.XEN_NETIF_EXTRA_TYPE_MCAST_DEL}
BLANK, VALIDATED = netif.NETTXF_csum_blank, netif.NETTXF_csum_blank | netif.NETTXF_data_validated
_TX_REQUEST = struct.Struct("<IHHHH")  # gref, offset, flags, id, size
_TX_RESPONSE = struct.Struct("<Hh")  # id, status
_RX_REQUEST = struct.Struct("<HxxI")  # id, gref
_RX_RESPONSE = struct.Struct("<HHHh")  # id, offset, flags, status
_EXTRA = struct.Struct("<BB6s")  # type, flags, what depends on the type
_GSO = struct.Struct("<HBxH")  # size, type, features

Argument = TypeVar("Argument")


class Slot(NamedTuple):
    """A request and what became of it; `status` of a received piece is its size, if it is positive."""

    sent: bool  # by the guest
    queue: int
    identity: int
    ref: int
    offset: int
    size: int
    flags: int  # NETTXF_* of a sent one, else NETRXF_*
    status: int


class Watch(Protocol):
    """Who sees every slot, as long as it is `attached`."""

    @property
    def attached(self) -> bool: ...

    def slot(self, slot: Slot) -> int:
        """A slot is answered: what this is as a cause."""

    def because(self, cause: int) -> int:
        """What happens now is the effect of that; the cause until now."""


class Interface(Protocol):
    """What a queue needs of its interface."""

    peer: Peer
    dropped_frames: int
    watch: Watch | None

    def sent(self, packet: Packet) -> None:
        """A frame that the guest sends."""

    def join(self, group: bytes) -> bool:
        """The guest wants frames for a multicast address; False where there are too many."""

    def leave(self, group: bytes) -> None: ...


class Queue:
    """`number` counts an interface's queues."""

    def __init__(self, vif: Interface, number: int, tx: BackRing, rx: BackRing) -> None:
        self.vif, self.number, self.tx, self.rx = vif, number, tx, rx
        self.tx_port = self.rx_port = 0
        self._waiting: deque[Packet] = deque()
        self._waiting_bytes = 0
        self._first_slot = self._last_slot = 0  # of the last frame, as causes

    def release(self) -> None:
        self.tx.release()
        self.rx.release()

    # --- from the guest

    def transmit(self) -> None:
        """Take every frame of the transmit ring. Raises RingError, DeviceError."""
        while True:
            frames: list[tuple[Packet, int]] = []
            while (request := self.tx.take()) is not None:
                packet = self._frame(request)
                if packet is not None:
                    frames.append((packet, self._first_slot))
            if self.tx.push():
                self._because(self._last_slot, self.vif.peer.notify, self.tx_port)
            for packet, cause in frames:
                self._because(cause, self.vif.sent, packet)
            if not self.tx.more():
                return

    def _frame(self, request: bytes) -> Packet | None:
        """The frame that begins with a request, all of which are answered; None where there is none to pass on."""
        first = _TX_REQUEST.unpack(request)
        ref, offset, flags, _, size = first
        extras: dict[int, bytes] = {}
        count = self._extras(extras) if flags & netif.NETTXF_extra_info else 0
        if not GROUPS.isdisjoint(extras):
            self._answer([first], count, [self._group(extras)])
            return None
        requests = [first]
        sound = not flags & netif.NETTXF_more_data or self._further(requests)
        if not sound or size < ETHERNET:
            self._answer(requests, count, [netif.NETIF_RSP_ERROR] * len(requests))
            return None
        pieces = [(further[0], further[1], further[4]) for further in requests[1:]]
        own = size - sum([piece[2] for piece in pieces])
        if offset + own > PAGE:
            raise DeviceError(f"a piece of a frame goes from {offset} to {offset + own}, beyond its page")
        gso = self._gso(extras.get(netif.XEN_NETIF_EXTRA_TYPE_GSO)) if extras else 0
        pieces.insert(0, (ref, offset, own))
        data = bytearray(size)
        try:
            self.vif.peer.read(pieces, data)
        except DeviceError:
            self._answer(requests, count, self._readable(pieces))
            return None
        self._answer(requests, count, [netif.NETIF_RSP_OKAY] * len(requests))
        return Packet(bytes(data), flags & BLANK != 0, gso, flags & VALIDATED != 0)

    def _extras(self, extras: dict[int, bytes]) -> int:
        """Take the extra infos behind a first request: how many there are. Of each type the last counts."""
        count, more = 0, True
        while more:
            kind, more, data = _EXTRA.unpack_from(self._next("extra info"))
            count += 1
            if not netif.XEN_NETIF_EXTRA_TYPE_NONE < kind < netif.XEN_NETIF_EXTRA_TYPE_MAX:
                raise DeviceError(f"an extra info of type {kind}: there is none")
            more = bool(more & netif.XEN_NETIF_EXTRA_FLAG_MORE)
            extras[kind] = data
        return count

    def _group(self, extras: dict[int, bytes]) -> int:
        """Join or leave a multicast address: the status."""
        if netif.XEN_NETIF_EXTRA_TYPE_MCAST_ADD in extras:
            joined = self.vif.join(extras[netif.XEN_NETIF_EXTRA_TYPE_MCAST_ADD])
            return netif.NETIF_RSP_OKAY if joined else netif.NETIF_RSP_ERROR
        self.vif.leave(extras[netif.XEN_NETIF_EXTRA_TYPE_MCAST_DEL])
        return netif.NETIF_RSP_OKAY

    def _further(self, requests: list[tuple[int, ...]]) -> bool:
        """Take a frame's further requests, whatever they say; whether it can be a frame."""
        left, sound, more = requests[0][4], True, True
        while more:
            request = _TX_REQUEST.unpack(self._next("piece"))
            _, offset, flags, _, size = request
            requests.append(request)
            if len(requests) - 1 > FATAL_SLOTS:
                raise DeviceError(f"a frame of more than {FATAL_SLOTS} further pieces")
            if offset + size > PAGE:
                raise DeviceError(f"a piece of a frame goes from {offset} to {offset + size}, beyond its page")
            sound = sound and size <= left and len(requests) - 1 <= MOST_SLOTS
            left -= size
            more = bool(flags & netif.NETTXF_more_data)
        return sound

    def _next(self, what: str) -> bytes:
        request = self.tx.take()
        if request is None:
            raise DeviceError(f"a frame in the transmit ring ends without its next {what}")
        return request

    def _gso(self, extra: bytes | None) -> int:
        if extra is None:
            return 0
        size, kind, _ = _GSO.unpack_from(extra)
        if kind not in GSO or not size:
            raise DeviceError(f"segmentation of type {kind} in pieces of {size} bytes is not possible")
        return int(size)

    def _readable(self, pieces: list[tuple[int, int, int]]) -> list[int]:
        """The status of each piece of a frame of which some can not be read."""
        found = []
        for piece in pieces:
            try:
                self.vif.peer.read([piece], bytearray(piece[2]))
                found.append(netif.NETIF_RSP_OKAY)
            except DeviceError:
                found.append(netif.NETIF_RSP_ERROR)
        return found

    def _answer(self, requests: list[tuple[int, ...]], extras: int, statuses: list[int]) -> None:
        put, pack = self.tx.put, _TX_RESPONSE.pack
        put(pack(requests[0][3], statuses[0]))
        if extras or len(requests) > 1:
            for _ in range(extras):
                put(pack(0, netif.NETIF_RSP_NULL))
            for request, status in zip(requests[1:], statuses[1:], strict=True):
                put(pack(request[3], status))
        if self._watched():
            self._note(
                Slot(True, self.number, identity, ref, offset, size, flags, status)
                for (ref, offset, flags, identity, size), status in zip(requests, statuses, strict=True)
            )

    # --- to the guest

    def send(self, packet: Packet) -> None:
        """A frame for the guest, now or when it has room."""
        if self._waiting_bytes + len(packet.data) > MOST_WAITING:
            self.vif.dropped_frames += 1
            return
        self._waiting.append(packet)
        self._waiting_bytes += len(packet.data)
        self.receive()

    def receive(self) -> None:
        """Put what waits into the guest's buffers, as far as they go. Raises RingError."""
        while self._waiting:
            packet = self._waiting[0]
            slots = -(-len(packet.data) // PAGE) + (1 if packet.gso else 0)
            if slots <= self.rx.size and not self.rx.want(slots):
                break
            self._waiting.popleft()
            self._waiting_bytes -= len(packet.data)
            if slots <= self.rx.size:
                self._fill(packet)
        if self.rx.push():
            self._because(self._last_slot, self.vif.peer.notify, self.rx_port)

    def _fill(self, packet: Packet) -> None:
        """Copy a frame into buffers, for which there is room; its extra info takes the second one."""
        data = packet.data
        size = len(data)
        buffers = [_RX_REQUEST.unpack(self._buffer())]
        if packet.gso:
            self._buffer()
        if size > PAGE:
            buffers += [_RX_REQUEST.unpack(self._buffer()) for _ in range(PAGE, size, PAGE)]
        pieces = [(ref, 0, min(PAGE, size - at * PAGE)) for at, (_, ref) in enumerate(buffers)]
        try:
            self.vif.peer.write(pieces, data)
            statuses = [piece[2] for piece in pieces]
        except DeviceError:
            statuses = self._written(pieces, data)
        first, last, extra = _first_flags(packet), len(buffers) - 1, None
        if packet.gso:
            kind = netif.XEN_NETIF_GSO_TYPE_TCPV6 if packet.ipv6 else netif.XEN_NETIF_GSO_TYPE_TCPV4
            extra = _EXTRA.pack(netif.XEN_NETIF_EXTRA_TYPE_GSO, 0, _GSO.pack(packet.gso, kind, 0))
        flags = [netif.NETRXF_more_data] * last + [0]
        flags[0] |= first
        put, pack = self.rx.put, _RX_RESPONSE.pack
        for at, (identity, _) in enumerate(buffers):
            put(pack(identity, 0, flags[at], statuses[at]))
            if not at and extra is not None:
                put(extra)
        if self._watched():
            self._note(
                Slot(False, self.number, identity, ref, 0, piece[2], flag, status)
                for (identity, ref), piece, flag, status in zip(buffers, pieces, flags, statuses, strict=True)
            )


    def _written(self, pieces: list[tuple[int, int, int]], data: bytes) -> list[int]:
        """The status of each piece of a frame of which some can not be written."""
        found, at = [], 0
        for piece in pieces:
            try:
                self.vif.peer.write([piece], data[at : at + piece[2]])
                found.append(piece[2])
            except DeviceError as refused:
                found.append(refused.status)
            at += piece[2]
        return found

    def _buffer(self) -> bytes:
        request = self.rx.take()
        if request is None:
            raise DeviceError("the receive ring has lost a request")
        return request


    # --- for whoever watches

    def _watched(self) -> bool:
        self._first_slot = self._last_slot = 0
        watch = self.vif.watch
        return watch is not None and watch.attached

    def _note(self, slots: Iterator[Slot]) -> None:
        """Report a frame's slots."""
        assert self.vif.watch is not None
        ids = [self.vif.watch.slot(slot) for slot in slots]
        self._first_slot, self._last_slot = ids[0], ids[-1]

    def _because(self, cause: int, action: Callable[[Argument], None], argument: Argument) -> None:
        """Act, as the effect of a slot where there is one."""
        watch = self.vif.watch
        if not cause or watch is None:
            action(argument)
            return
        before = watch.because(cause)
        try:
            action(argument)
        finally:
            watch.because(before)


def _first_flags(packet: Packet) -> int:
    flags = netif.NETRXF_extra_info if packet.gso else 0
    if packet.blank:
        return flags | netif.NETRXF_csum_blank | netif.NETRXF_data_validated
    return flags | netif.NETRXF_data_validated if packet.valid else flags
