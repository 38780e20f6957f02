"""A machine's network: its switches, what is recorded of them, and the ways out.

A switch is there as soon as somebody names it. Recording and gateways belong to the machine, not to a domain: xl.cfg
has no word for them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from hv.backends.gateway import Gateway
from hv.backends.pcap import Capture
from hv.backends.switch import Switch
from hv.machine.device_trace import frames

if TYPE_CHECKING:
    from hv.machine.machine import Machine

DEFAULT_BRIDGE = "xenbr0"
LOOK_NS = 20_000_000  # how often the gateway's timers are looked at while it has connections


class Network:
    """The switches of one machine by name."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._switches: dict[str, Switch] = {}
        self._captures: list[Capture] = []
        self._gateways: list[Gateway] = []
        self._looking: set[Gateway] = set()

    def switch(self, name: str = DEFAULT_BRIDGE) -> Switch:
        """The switch of that name, made when first asked for."""
        if name not in self._switches:
            switch = self._switches[name] = Switch(name, lambda: self._machine.now_ns)
            switch.taps += [capture.frame for capture in self._captures]
            if self._machine.trace.attached:  # for whoever listens from the start: a tap costs every frame
                switch.taps.append(frames(self._machine.trace, name))
        return self._switches[name]

    def capture(self, path: str) -> None:
        """Record every frame of every switch in a pcap file."""
        capture = Capture(path, lambda: self._machine.now_ns)
        self._captures.append(capture)
        for switch in self._switches.values():
            switch.taps.append(capture.frame)

    def gateway(
        self, bridge: str = DEFAULT_BRIDGE, allow: Iterable[str] = (), forward: Iterable[str] = ()
    ) -> Gateway:
        """DHCP and ping on a switch, the servers that `allow` names, and ports of the host's that lead to guests.

        `allow` has items like "127.0.0.1:8080", `forward` like "2222-:22". Needs libslirp0. ConfigError.
        """
        gateway = Gateway(self.switch(bridge), allow, forward)
        self._gateways.append(gateway)
        gateway.on_traffic = lambda: self._look_later(gateway)
        self._machine.inputs.append(gateway)
        return gateway

    def _look_later(self, gateway: Gateway) -> None:
        """Come back from the guests regularly while there are connections: TCP has timers."""
        if gateway in self._looking:
            return
        self._looking.add(gateway)

        def look() -> None:
            self._looking.discard(gateway)
            if gateway in self._gateways:
                gateway.poll()
                if gateway.busy:
                    self._look_later(gateway)

        self._machine.at(self._machine.now_ns + LOOK_NS, look)

    def close(self) -> None:
        for gateway in self._gateways:
            gateway.close()
        self._gateways.clear()
        for capture in self._captures:
            capture.close()
