"""Event channels as sets and lists: what Xen's documents promise, without its data structures.

A queue of the FIFO ABI is a Python list here, not words that point at each other; an event that is on it is LINKED.
The engine's structures follow from that. `taken` is what a guest has taken; for each open port holds

    events that made it pending  =  taken  +  (1 if one still waits)

in `conserved`, whatever was sent, masked, closed and switched in between.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

CLOSED, UNBOUND, INTERDOMAIN, PIRQ, VIRQ, IPI = range(6)
EPERM, ENOENT, EEXIST, EINVAL, ENOSPC, ENOSYS, EACCES, EOPNOTSUPP = 1, 2, 17, 22, 28, 38, 13, 95
TWO_LEVEL_PORTS, FIFO_PORTS, BUCKET, WORDS = 4096, 1 << 17, 64, 1024
DEFAULT_PRIORITY = 7
LOCAL_VIRQS = (0, 1, 7, 13)


@dataclass
class Port:
    state: int = CLOSED
    vcpu: int = 0
    virq: int = 0
    peer: tuple[Domain, int] | None = None
    allowed: int = 0  # unbound: who may bind it
    priority: int = DEFAULT_PRIORITY
    sent: int = 0
    merged: int = 0
    taken: int = 0
    surplus: int = 0  # events that were pending when it was bound, or came and went by a change of the ABI
    remembered: bool = False  # it happened before the port had a word; Xen never forgets that


@dataclass
class Fifo:
    """Of one domain: which vCPUs have a control block, how many pages the array has, the words, the queues."""

    controls: set[int] = field(default_factory=set)
    pages: int = 0
    pending: set[int] = field(default_factory=set)
    masked: set[int] = field(default_factory=set)
    queues: dict[tuple[int, int], list[int]] = field(default_factory=dict)  # (vcpu, priority) -> ports
    ready: dict[int, set[int]] = field(default_factory=dict)  # vcpu -> priorities

    def queue(self, vcpu: int, priority: int) -> list[int]:
        return self.queues.setdefault((vcpu, priority), [])

    def linked(self, port: int) -> bool:
        return any(port in queue for queue in self.queues.values())


class Domain:
    """One guest."""

    def __init__(self, domid: int, vcpus: int, max_port: int) -> None:
        self.domid, self.vcpus, self.max_port = domid, vcpus, max_port
        self.ports = [Port() for _ in range(BUCKET)]
        self.pending: set[int] = set()  # of the 2-level ABI, in shared_info
        self.masked: set[int] = set()
        self.selected: list[set[int]] = [set() for _ in range(vcpus)]
        self.upcall = [False] * vcpus
        self.fifo: Fifo | None = None

    # --- what a port is

    def open(self, port: int) -> bool:
        return 0 < port < len(self.ports) and self.ports[port].state != CLOSED

    def has_word(self, port: int) -> bool:
        return self.fifo is not None and port < self.fifo.pages * WORDS

    def is_pending(self, port: int) -> bool:
        return port in (self.fifo.pending if self.fifo else self.pending)

    def waits(self, port: int) -> bool:
        """Pending, or to be so when its page comes."""
        if self.fifo is not None and not self.has_word(port):
            return self.ports[port].remembered
        return self.is_pending(port)

    def conserved(self, port: int) -> bool:
        p = self.ports[port]
        return p.surplus + p.sent == p.taken + self.waits(port)

    # --- events

    def mark(self, vcpu: int) -> None:
        self.upcall[vcpu] = True

    def raise_event(self, port: int) -> None:
        p = self.ports[port]
        fresh = not self.waits(port)
        if self.fifo is None:
            if fresh:
                self.pending.add(port)
                if port not in self.masked:
                    self._select(port)
        elif not self.has_word(port):
            p.remembered = True
        elif p.vcpu not in self.fifo.controls:
            return
        else:
            self._put_in_fifo(port)
        p.sent += fresh
        p.merged += not fresh

    def _select(self, port: int) -> None:
        vcpu = self.ports[port].vcpu
        if port // 64 not in self.selected[vcpu]:
            self.selected[vcpu].add(port // 64)
            self.mark(vcpu)

    def _put_in_fifo(self, port: int) -> None:
        assert self.fifo is not None
        p = self.ports[port]
        if p.vcpu not in self.fifo.controls:
            return
        self.fifo.pending.add(port)
        if port in self.fifo.masked or self.fifo.linked(port):
            return
        queue = self.fifo.queue(p.vcpu, p.priority)
        queue.append(port)
        ready = self.fifo.ready.setdefault(p.vcpu, set())
        if len(queue) == 1 and p.priority not in ready:
            ready.add(p.priority)
            self.mark(p.vcpu)

    def send(self, port: int) -> int:
        if port >= len(self.ports):
            return -EINVAL
        p = self.ports[port]
        if p.state == INTERDOMAIN:
            assert p.peer is not None
            p.peer[0].raise_event(p.peer[1])
        elif p.state == IPI:
            self.raise_event(port)
        elif p.state != UNBOUND:
            return -EINVAL
        return 0

    def virq(self, vcpu: int, virq: int) -> None:
        for port, p in enumerate(self.ports):
            if p.state == VIRQ and p.virq == virq and vcpu == (p.vcpu if virq in LOCAL_VIRQS else 0):
                self.raise_event(port)

    def mask(self, port: int) -> None:
        """The guest sets the bit itself."""
        if self.fifo is None:
            self.masked.add(port)
        elif self.has_word(port):
            self.fifo.masked.add(port)

    def unmask(self, port: int) -> int:
        if port >= len(self.ports):
            return -EINVAL
        if not self.open(port):
            return 0
        if self.fifo is None:
            if port in self.masked:
                self.masked.discard(port)
                if port in self.pending:
                    self._select(port)
        elif self.has_word(port):
            self.fifo.masked.discard(port)
            if port in self.fifo.pending:
                self._put_in_fifo(port)
        return 0

    def scan(self, vcpu: int) -> list[int]:
        """The guest takes what it finds for a vCPU: the ports, in order."""
        self.upcall[vcpu] = False
        taken = []
        if self.fifo is None:
            for word in sorted(self.selected[vcpu]):
                taken += sorted(port for port in self.pending - self.masked if port // 64 == word)
            self.selected[vcpu] = set()
            self.pending -= set(taken)
        elif vcpu in self.fifo.controls:
            for priority in sorted(self.fifo.ready.pop(vcpu, set())):
                queue = self.fifo.queue(vcpu, priority)
                taken += [port for port in queue if port in self.fifo.pending - self.fifo.masked]
                queue.clear()
            self.fifo.pending -= set(taken)
        for port in taken:
            self.ports[port].taken += 1
        return taken

    # --- binding and closing

    def _take_port(self) -> int:
        limit = min(self.max_port, (TWO_LEVEL_PORTS if self.fifo is None else FIFO_PORTS) - 1)
        for port in count(1):
            if port > limit:
                return -ENOSPC
            if port >= len(self.ports):
                self.ports += [Port() for _ in range(BUCKET)]
            if self.ports[port].state == CLOSED and not (self.fifo and self.fifo.linked(port)):
                self.ports[port] = Port(remembered=self.ports[port].remembered)
                self.ports[port].surplus = int(self.waits(port))
                return port
        raise AssertionError

    def _bind(self, **what: object) -> int:
        port = self._take_port()
        if port > 0:
            for name, value in what.items():
                setattr(self.ports[port], name, value)
        return port

    def alloc_unbound(self, allowed: int) -> int:
        return self._bind(state=UNBOUND, allowed=allowed)

    def bind_ipi(self, vcpu: int) -> int:
        return self._bind(state=IPI, vcpu=vcpu) if vcpu < self.vcpus else -ENOENT

    def bind_virq(self, virq: int, vcpu: int) -> int:
        if virq >= 24 or (virq not in LOCAL_VIRQS and vcpu):
            return -EINVAL
        if vcpu >= self.vcpus:
            return -ENOENT
        same = (p for p in self.ports if p.state == VIRQ and p.virq == virq)
        if any(virq not in LOCAL_VIRQS or p.vcpu == vcpu for p in same):
            return -EEXIST
        return self._bind(state=VIRQ, virq=virq, vcpu=vcpu)

    def bind_interdomain(self, other: Domain, remote: int) -> int:
        port = self._take_port()
        if port < 0:
            return port
        if not other.open(remote) or other.ports[remote].state != UNBOUND or other.ports[remote].allowed != self.domid:
            return -EINVAL
        self.ports[port].state, self.ports[port].peer = INTERDOMAIN, (other, remote)
        other.ports[remote].state, other.ports[remote].peer = INTERDOMAIN, (self, port)
        self.raise_event(port)
        return port

    def bind_vcpu(self, port: int, vcpu: int) -> int:
        if vcpu >= self.vcpus:
            return -ENOENT
        if not self.open(port):
            return -EINVAL
        p = self.ports[port]
        if p.state == IPI or (p.state == VIRQ and p.virq in LOCAL_VIRQS):
            return -EINVAL
        p.vcpu = vcpu
        return 0

    def close(self, port: int) -> int:
        if not self.open(port):
            return -EINVAL
        p = self.ports[port]
        (self.fifo.pending if self.fifo else self.pending).discard(port)
        if p.peer is not None:
            other, remote = p.peer
            other.ports[remote].state, other.ports[remote].peer = UNBOUND, None
            other.ports[remote].allowed = self.domid
        p.state, p.vcpu, p.peer = CLOSED, 0, None
        return 0

    def reset(self) -> int:
        for port in range(1, len(self.ports)):
            self.close(port)
        self.fifo = None
        return 0

    # --- the FIFO ABI

    def init_control(self, vcpu: int) -> int:
        if vcpu >= self.vcpus:
            return -ENOENT
        if self.fifo is not None:
            if vcpu in self.fifo.controls:
                return -EINVAL
            self.fifo.controls.add(vcpu)
            return 0
        before = {port: self.waits(port) for port in range(1, len(self.ports))}
        self.fifo = Fifo({vcpu})
        for port, waited in before.items():
            p = self.ports[port]
            p.remembered = p.remembered or waited
            p.priority = DEFAULT_PRIORITY
            p.surplus += p.remembered - waited
        return 0

    def expand_array(self) -> int:
        if self.fifo is None:
            return -EOPNOTSUPP
        first = self.fifo.pages * WORDS
        self.fifo.pages += 1
        for port in range(first, min(first + WORDS, len(self.ports))):
            p = self.ports[port]
            if p.remembered:
                self._put_in_fifo(port)
                p.surplus -= not self.is_pending(port)
        return 0

    def set_priority(self, port: int, priority: int) -> int:
        if port >= len(self.ports):
            return -EINVAL
        if self.fifo is None:
            return -ENOSYS
        if not self.open(port):
            return -EACCES
        if priority > 15:
            return -EINVAL
        self.ports[port].priority = priority
        return 0
