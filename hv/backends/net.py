"""The network backend: a guest's eth0 and a port of a switch (io/netif.h).

Rules:

1. What a frontend can receive it says in XenStore; a frame that is more than that is finished first: checksums filled
   in, large segments cut. One longer than the MTU is dropped, as a bridge does.
2. The frames of one connection keep their order: they go through one queue.
3. There is no control ring (feature-ctrl-ring): which queue a frame comes through is the backend's choice.

The rings are net_queue.py. Behaviour where the header leaves it open: drivers/net/xen-netback of Linux 6.1.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import ClassVar

from hv.backends.device import Device, DeviceError
from hv.backends.net_queue import RX_ENTRY, TX_ENTRY, Queue, Watch
from hv.backends.packet import ETHERNET, Packet, flow
from hv.backends.switch import Switch
from hv.fastpath.rings import BackRing, RingError

MAX_QUEUES = 8
MOST_GROUPS = 64  # multicast addresses that a frontend may ask for
BROADCAST = b"\xff" * 6
VLAN = 4  # bytes of a tag, which the MTU does not count
MTU = 1500


class Vif(Device):
    """A network interface with address `mac` on a `switch`; frames of more than `mtu` bytes do not reach the guest."""

    kind: ClassVar[str] = "vif"

    def __init__(
        self,
        switch: Switch,
        mac: bytes,
        number: int = 0,
        *,
        name: str = "",
        queues: int = 1,
        mtu: int = MTU,
        trusted: bool = True,
        shown: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(number)
        self.switch, self.mac, self.name, self.mtu = switch, mac, name, mtu
        self.trusted = trusted  # by the frontend: it need not protect itself from this backend
        self.shown = shown or {}  # further keys of the backend's directory
        self.max_queues = min(queues, MAX_QUEUES)
        self.queues: list[Queue] = []
        self.dropped_frames = 0
        self.watch: Watch | None = None
        self._blank: frozenset[bool] = frozenset()  # what the frontend can receive, by whether it is IPv6
        self._gso: frozenset[bool] = frozenset()
        self._groups: set[bytes] | None = None  # None: every multicast frame
        self._joined: set[bytes] = set()

    @property
    def mac_text(self) -> str:
        return ":".join(f"{byte:02x}" for byte in self.mac)

    def frontend_keys(self) -> Mapping[str, str]:
        trusted = str(int(self.trusted))
        return {"handle": str(self.number), "mac": self.mac_text, "mtu": str(self.mtu), "trusted": trusted}

    def backend_keys(self) -> Mapping[str, str]:
        return {
            "handle": str(self.number),
            "mac": self.mac_text,
            "bridge": self.switch.name,
            **({"vifname": self.name} if self.name else {}),
            **self.shown,
            "type": "vif",
            "feature-sg": "1",
            "feature-gso-tcpv4": "1",
            "feature-gso-tcpv6": "1",
            "feature-ipv6-csum-offload": "1",
            "feature-rx-copy": "1",
            "feature-rx-flip": "0",
            "feature-multicast-control": "1",
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
        self._features()
        for index in range(count):
            self._connect_queue(index, f"queue-{index}/" if count > 1 else "")
        self.switch.plug(self)

    def _features(self) -> None:
        def says(key: str) -> bool:
            return self.frontend_number(key, 0) != 0

        gso = {False: "feature-gso-tcpv4", True: "feature-gso-tcpv6"}
        self._gso = frozenset(ipv6 for ipv6, key in gso.items() if says(key)) if says("feature-sg") else frozenset()
        blank = {False: not says("feature-no-csum-offload"), True: says("feature-ipv6-csum-offload")}
        self._blank = frozenset(ipv6 for ipv6, can in blank.items() if can)
        self._groups = self._joined if says("request-multicast-control") else None

    def _connect_queue(self, index: int, prefix: str) -> None:
        rings = []
        for name, entry in (("tx", TX_ENTRY), ("rx", RX_ENTRY)):
            page = self.map(self.frontend_number(f"{prefix}{name}-ring-ref"))
            rings.append(BackRing([page.view], entry))
        queue = Queue(self, index, *rings)
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

    # --- for queues

    def sent(self, packet: Packet) -> None:
        self.switch.forward(self, packet)

    def join(self, group: bytes) -> bool:
        if len(self._joined) >= MOST_GROUPS:
            return False
        self._joined.add(group)
        return True

    def leave(self, group: bytes) -> None:
        self._joined.discard(group)

    # --- for the switch

    def deliver(self, packet: Packet) -> None:
        """A frame from the switch. What the guest's rings have wrong costs this device, not the sender's."""
        if not self.queues or not self._wanted(packet.destination):
            return
        count = len(self.queues)
        queue = self.queues[zlib.crc32(flow(packet.data)) % count if count > 1 else 0]
        if packet.gso or packet.blank:
            ipv6 = packet.ipv6
            if (packet.gso and ipv6 not in self._gso) or (packet.blank and ipv6 not in self._blank):
                for frame in packet.wire():
                    self._pass(queue, Packet(frame))
                return
        self._pass(queue, packet)

    def _pass(self, queue: Queue, packet: Packet) -> None:
        if len(packet.data) > self.mtu + ETHERNET + VLAN and not packet.gso:
            self.dropped_frames += 1
            return
        try:
            queue.send(packet)
        except (DeviceError, RingError) as error:
            self.fail(str(error))

    def _wanted(self, target: bytes) -> bool:
        return self._groups is None or not target[0] & 1 or target == BROADCAST or target in self._groups

    def _drop(self) -> None:
        self.switch.unplug(self)
        for queue in self.queues:
            queue.release()
        self.queues = []
        self._joined.clear()
        super()._drop()
