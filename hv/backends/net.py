"""The network backend: a guest's eth0 and a port of a switch (io/netif.h).

Rules:

1. A frame is taken from the transmit ring whole: first request, extra infos, further requests. One that breaks the
   protocol costs the device, as in Linux's netback; a grant that can not be read costs only that frame.
2. Towards the guest frames wait for room, up to a bound; behind it they are dropped, as on any cable.
3. Data goes by grant copies: once out of the sender's pages, once into the receiver's. Only the rings are mapped.

Behaviour where the header leaves it open: drivers/net/xen-netback of Linux 6.1.
"""

from __future__ import annotations

import struct
import zlib
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import ClassVar

from hv.abi.io import netif
from hv.backends.device import Device, DeviceError, Peer
from hv.backends.packet import ETHERNET, Packet, flow
from hv.backends.switch import Switch
from hv.fastpath.rings import BackRing

PAGE = 4096
TX_ENTRY, RX_ENTRY = 12, 8
MOST_SLOTS = 20  # of a frame: beyond that Linux's netback gives up the interface
MOST_WAITING = 1 << 22  # bytes of frames that wait for room in the guest
MAX_QUEUES = 8
_TX_REQUEST = struct.Struct("<IHHHH")  # gref, offset, flags, id, size
_TX_RESPONSE = struct.Struct("<Hh")  # id, status
_RX_REQUEST = struct.Struct("<HxxI")  # id, gref
_RX_RESPONSE = struct.Struct("<HHHh")  # id, offset, flags, status
_EXTRA = struct.Struct("<BBHBxH")  # type, flags, gso size, gso type, features


class Queue:
    """One pair of rings."""

    def __init__(self, vif: Vif, tx: BackRing, rx: BackRing) -> None:
        self.vif, self.tx, self.rx = vif, tx, rx
        self.tx_port = self.rx_port = 0
        self._waiting: deque[Packet] = deque()
        self._waiting_bytes = 0

    @property
    def peer(self) -> Peer:
        return self.vif.peer

    def release(self) -> None:
        self.tx.release()
        self.rx.release()

    # --- from the guest

    def transmit(self) -> None:
        """Take every frame of the transmit ring. Raises RingError, DeviceError."""
        while True:
            frames: list[Packet] = []
            while (request := self.tx.take()) is not None:
                packet = self._frame(request)
                if packet is not None:
                    frames.append(packet)
            if self.tx.push():
                self.peer.notify(self.tx_port)
            for packet in frames:
                self.vif.switch.forward(self.vif, packet)
            if not self.tx.more():
                return

    def _frame(self, request: bytes) -> Packet | None:
        """The frame that begins with a request; its requests are answered. None where its data can not be had."""
        ref, offset, flags, identity, size = _TX_REQUEST.unpack(request)
        answers = [identity]
        extras = gso = 0
        more_extra = flags & netif.NETTXF_extra_info
        while more_extra:
            kind, more_extra, value, gso_type, _ = _EXTRA.unpack_from(self._next("extra info"))
            extras += 1
            if kind not in (netif.XEN_NETIF_EXTRA_TYPE_GSO, netif.XEN_NETIF_EXTRA_TYPE_HASH) or extras > MOST_SLOTS:
                raise DeviceError(f"an extra info of type {kind}: this backend has not offered that")
            if kind == netif.XEN_NETIF_EXTRA_TYPE_GSO:
                if gso_type != netif.XEN_NETIF_GSO_TYPE_TCPV4 or not value:
                    raise DeviceError(f"segmentation of type {gso_type} in pieces of {value} bytes is not possible")
                gso = value
        pieces = [(ref, offset, size)]
        more = flags & netif.NETTXF_more_data
        while more:
            ref, offset, more_flags, identity, piece = _TX_REQUEST.unpack(self._next("piece"))
            answers.append(identity)
            pieces.append((ref, offset, piece))
            more = more_flags & netif.NETTXF_more_data
        pieces[0] = self._first(pieces)
        data = bytearray(size)
        status = netif.NETIF_RSP_OKAY
        try:
            self.peer.read(pieces, data)
        except DeviceError:
            status = netif.NETIF_RSP_ERROR
        self._answer(answers, extras, status)
        if status != netif.NETIF_RSP_OKAY:
            return None
        return Packet(bytes(data), bool(flags & netif.NETTXF_csum_blank), gso)

    def _next(self, what: str) -> bytes:
        request = self.tx.take()
        if request is None:
            raise DeviceError(f"a frame in the transmit ring ends without its next {what}")
        return request

    def _first(self, pieces: list[tuple[int, int, int]]) -> tuple[int, int, int]:
        """The first piece with its own size: its request says the whole frame's."""
        ref, offset, size = pieces[0]
        own = size - sum(piece[2] for piece in pieces[1:])
        if len(pieces) > MOST_SLOTS:
            raise DeviceError(f"a frame of {len(pieces)} pieces: {MOST_SLOTS} are possible")
        if own < 0 or size < ETHERNET:
            raise DeviceError(f"a frame of {size} bytes whose pieces have {size - own}")
        for _, start, length in [(ref, offset, own), *pieces[1:]]:
            if start + length > PAGE:
                raise DeviceError(f"a piece of a frame goes from {start} to {start + length}, beyond its page")
        return ref, offset, own

    def _answer(self, identities: list[int], extras: int, status: int) -> None:
        self.tx.put(_TX_RESPONSE.pack(identities[0], status))
        for _ in range(extras):
            self.tx.put(_TX_RESPONSE.pack(0, netif.NETIF_RSP_NULL))
        for identity in identities[1:]:
            self.tx.put(_TX_RESPONSE.pack(identity, status))

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
            if slots > self.rx.size:
                self._waiting.popleft()
                continue
            if not self.rx.want(slots):
                break
            self._waiting.popleft()
            self._waiting_bytes -= len(packet.data)
            self._fill(packet)
        if self.rx.push():
            self.peer.notify(self.rx_port)

    def _fill(self, packet: Packet) -> None:
        data, first = memoryview(packet.data), True
        for at in range(0, len(data), PAGE):
            piece = data[at : at + PAGE]
            identity, ref = _RX_REQUEST.unpack(self._buffer())
            flags = netif.NETRXF_more_data if at + PAGE < len(data) else 0
            if first:
                flags |= self._first_flags(packet)
            try:
                self.peer.write([(ref, 0, len(piece))], piece)
                status = len(piece)
            except DeviceError:
                status = netif.NETIF_RSP_ERROR
            self.rx.put(_RX_RESPONSE.pack(identity, 0, flags, status))
            if first and packet.gso:
                self._buffer()
                gso = netif.XEN_NETIF_EXTRA_TYPE_GSO, 0, packet.gso, netif.XEN_NETIF_GSO_TYPE_TCPV4, 0
                self.rx.put(_EXTRA.pack(*gso))
            first = False

    def _buffer(self) -> bytes:
        request = self.rx.take()
        if request is None:
            raise DeviceError("the receive ring has lost a request")
        return request

    @staticmethod
    def _first_flags(packet: Packet) -> int:
        flags = netif.NETRXF_extra_info if packet.gso else 0
        if packet.blank:
            flags |= netif.NETRXF_csum_blank | netif.NETRXF_data_validated
        return flags


class Vif(Device):
    """A network interface with address `mac` on a `switch`."""

    kind: ClassVar[str] = "vif"

    def __init__(self, switch: Switch, mac: bytes, number: int = 0, *, name: str = "", queues: int = 1) -> None:
        super().__init__(number)
        self.switch, self.mac, self.name = switch, mac, name
        self.max_queues = min(queues, MAX_QUEUES)
        self.queues: list[Queue] = []
        self.dropped_frames = 0
        self._blank = self._gso = False  # what the frontend can receive

    @property
    def mac_text(self) -> str:
        return ":".join(f"{byte:02x}" for byte in self.mac)

    def frontend_keys(self) -> Mapping[str, str]:
        return {"handle": str(self.number), "mac": self.mac_text, "mtu": "1500"}

    def backend_keys(self) -> Mapping[str, str]:
        return {
            "handle": str(self.number),
            "mac": self.mac_text,
            "bridge": self.switch.name,
            **({"vifname": self.name} if self.name else {}),
            "type": "vif",
            "feature-sg": "1",
            "feature-gso-tcpv4": "1",
            "feature-rx-copy": "1",
            "feature-rx-flip": "0",
            "feature-multicast-control": "0",
            "feature-split-event-channels": "1",
            "multi-queue-max-queues": str(self.max_queues),
            "hotplug-status": "connected",
        }

    def connect(self) -> None:
        if self.frontend_number("request-rx-copy", 0) != 1:
            raise DeviceError("the frontend does not ask for rx-copy, the only way that this backend has")
        count = self.frontend_number("multi-queue-num-queues", 1, self.max_queues)
        if not count:
            raise DeviceError("the frontend's multi-queue-num-queues is 0")
        self._gso = self.frontend_number("feature-gso-tcpv4", 0) == 1 and self.frontend_number("feature-sg", 0) == 1
        self._blank = self.frontend_number("feature-no-csum-offload", 0) != 1
        for index in range(count):
            self._connect_queue(f"queue-{index}/" if count > 1 else "")
        self.switch.plug(self)

    def _connect_queue(self, prefix: str) -> None:
        rings = []
        for name, entry in (("tx", TX_ENTRY), ("rx", RX_ENTRY)):
            page = self.map(self.frontend_number(f"{prefix}{name}-ring-ref"))
            rings.append(BackRing([page.view], entry))
        queue = Queue(self, *rings)
        self.queues.append(queue)
        if self.nodes.front(f"{prefix}event-channel-tx") is not None:
            queue.tx_port = self.listen(self.frontend_number(f"{prefix}event-channel-tx"), queue.transmit)
            queue.rx_port = self.listen(self.frontend_number(f"{prefix}event-channel-rx"), queue.receive)
        else:
            queue.tx_port = queue.rx_port = self.listen(self.frontend_number(f"{prefix}event-channel"), self.serve)

    def serve(self) -> None:
        for queue in list(self.queues):
            queue.transmit()
            queue.receive()

    def deliver(self, packet: Packet) -> None:
        """A frame from the switch. What the guest's rings have wrong costs this device, not the sender's."""
        if not self.queues:
            return
        queue = self.queues[zlib.crc32(flow(packet.data)) % len(self.queues)]
        as_it_is = (self._gso or not packet.gso) and (self._blank or not packet.blank)
        packets = [packet] if as_it_is else [Packet(frame) for frame in packet.wire()]
        for piece in packets:
            self._guarded(partial(queue.send, piece))

    def _drop(self) -> None:
        self.switch.unplug(self)
        for queue in self.queues:
            queue.release()
        self.queues = []
        super()._drop()
