"""Domain 0's side of event channels as Linux does it, in plain Python: one port after the other, with its own bit.

2-level: the loop of Linux's events_2l.c, clearing the bit of a port just before its handler. FIFO: queues as lists.
What hv adds is added here in the plainest way: a port that was masked or closed since its word was read is not
delivered, and a handler that raises ends the scan with all that is left still pending.
"""

from __future__ import annotations

from collections.abc import Callable

WORDS = 64


class Raised(Exception):
    """A handler's."""


class Receiver:
    """`handlers[port]` is run for an event, or `batch_of[port]` after the scan, with all ports that it has."""

    def __init__(self, fifo: bool) -> None:
        self.fifo = fifo
        self.open: set[int] = set()
        self.pending: set[int] = set()
        self.masked: set[int] = set()
        self.upcall = False
        self.selected: set[int] = set()
        self.begin = 1  # the port where the next scan begins; there is no port 0
        self.linked: dict[int, list[int]] = {}  # priority -> ports on its queue
        self.ready: set[int] = set()
        self.priority: dict[int, int] = {}
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.batch_of: dict[int, Callable[[list[int]], None]] = {}
        self.batches: dict[Callable[[list[int]], None], list[int]] = {}  # what this scan has found
        self.found: list[int] = []  # of the word that is scanned
        self.sent: dict[int, int] = {}
        self.merged: dict[int, int] = {}
        self.delivered: dict[int, int] = {}

    # --- the sender's side

    def make(self, port: int) -> None:
        self.open.add(port)
        self.masked.add(port)
        self.priority[port] = 7
        self.sent[port] = self.merged[port] = self.delivered[port] = 0

    def close(self, port: int) -> None:
        self.open.discard(port)
        self.pending.discard(port)
        self.masked.add(port)
        self.handlers.pop(port, None)
        self.batch_of.pop(port, None)
        self.found = [each for each in self.found if each != port]
        self.batches = {
            batch: [each for each in ports if each != port] for batch, ports in self.batches.items() if ports != [port]
        }

    def send(self, port: int) -> None:
        if port not in self.open:
            return
        if port in self.pending:
            self.merged[port] += 1
            return
        self.sent[port] += 1
        self.pending.add(port)
        self._show(port)

    def mask(self, port: int) -> None:
        self.masked.add(port)

    def unmask(self, port: int) -> None:
        if (port in self.handlers or port in self.batch_of) and port in self.masked:
            self.masked.discard(port)
            if port in self.pending:
                self._show(port)

    def _show(self, port: int) -> None:
        """A pending event becomes visible, if it is not masked."""
        if port in self.masked:
            return
        if not self.fifo:
            if port // 64 not in self.selected:
                self.selected.add(port // 64)
                self.upcall = True
            return
        if any(port in queue for queue in self.linked.values()):
            return
        queue = self.linked.setdefault(self.priority[port], [])
        queue.append(port)
        if len(queue) == 1 and self.priority[port] not in self.ready:
            self.ready.add(self.priority[port])
            self.upcall = True

    # --- the receiver's side

    def receive(self) -> None:
        while self.upcall:
            self.upcall = False
            try:
                if self.fifo:
                    self._scan_queues()
                else:
                    self._scan_words()
            except Raised:
                self._put_back_batches()
                raise
            self._deliver_batches()

    def _deliver(self, port: int) -> None:
        self.delivered[port] += 1
        if port in self.batch_of:
            self.batches.setdefault(self.batch_of[port], []).append(port)
        else:
            self.handlers[port](port)

    def _deliver_batches(self) -> None:
        while self.batches:
            batch = next(iter(self.batches))
            for port in self.batches[batch]:
                if port in self.masked:
                    self._put_back(port)
            ports = [port for port in self.batches.pop(batch) if port not in self.masked]
            if not ports:
                continue
            try:
                batch(ports)
            except Raised:
                self._put_back_batches()
                raise

    def _put_back_batches(self) -> None:
        for ports in self.batches.values():
            for port in ports:
                self._put_back(port)
        self.batches = {}

    def _put_back(self, port: int) -> None:
        if port not in self.pending:
            self.delivered[port] -= 1
            self.pending.add(port)
            self._show(port)

    def _scan_words(self) -> None:
        words, self.selected = self.selected, set()
        whole = set(words)
        start_word, start_bit = divmod(self.begin, 64)
        word, turn = start_word, 0
        while words:
            left = [each for each in words if each >= word]
            if not left:
                word, turn = 0, turn + 1
                continue
            word = min(left)
            first = start_bit if word == start_word and turn == 0 else 0
            try:
                self._scan_word(word, first)
            except Raised:
                self.selected |= whole
                self.upcall = True
                raise
            if word != start_word or turn:
                words.discard(word)
            word, turn = (word + 1) % WORDS, turn + 1

    def _scan_word(self, word: int, first: int) -> None:
        """The word is read once; each port's bit is cleared when it is its turn."""
        self.found = sorted(port for port in self.pending - self.masked if port // 64 == word and port % 64 >= first)
        while self.found:
            port = self.found.pop(0)
            if port in self.pending and port not in self.masked:
                self.pending.discard(port)
                self.begin = (port + 1) % 4096
                self._deliver(port)

    def _scan_queues(self) -> None:
        ready, self.ready = set(self.ready), set()
        while ready:
            priority = min(ready)
            queue = self.linked[priority]
            port = queue.pop(0)
            if not queue:
                ready.discard(priority)
            try:
                if port in self.pending and port not in self.masked:
                    self.pending.discard(port)
                    self._deliver(port)
            except Raised:
                self.ready |= ready
                self.upcall = True
                raise
            ready |= self.ready
            self.ready = set()
