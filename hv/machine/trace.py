"""`machine.trace`: who listens to what happens on a machine.

Rules:

1. While nobody listens, nothing is recorded, and a guest runs as fast as ever.
2. Listeners get every event, in the order of their ids; not at the moment it happens, but before `machine.run` comes
   back, before output is handed on, and whenever a buffer is full. Nothing is dropped, except by `keep`, which counts.
3. Listening changes nothing that a guest can see.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from hv.errors import ConfigError
from hv.trace import filter as filters
from hv.trace import notes
from hv.trace.events import Event
from hv.trace.reader import Reader

if TYPE_CHECKING:
    from hv.engine.machine import Engine

Listener = Callable[[Event], None]
RawListener = Callable[[bytes], None]


class Subscription:
    """What `subscribe` gives; `close` ends it. Usable as a context manager."""

    def __init__(self, trace: Trace, deliver: Callable[[bytes], None], finish: Callable[[], None]) -> None:
        self._trace, self.deliver, self.finish = trace, deliver, finish

    def close(self) -> None:
        self._trace._remove(self)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Recent:
    """The latest events: what `keep` gives. `dropped` counts those that had to make room."""

    def __init__(self, size: int) -> None:
        self._events: deque[Event] = deque(maxlen=size)
        self._seen = 0
        self.subscription: Subscription | None = None

    def add(self, event: Event) -> None:
        self._seen += 1
        self._events.append(event)

    def events(self, count: int | None = None) -> list[Event]:
        """The last `count` of them, oldest first."""
        if self.subscription is not None:
            self.subscription._trace.flush()
        kept = list(self._events)
        return kept if count is None else kept[max(0, len(kept) - count) :]

    @property
    def dropped(self) -> int:
        return self._seen - len(self._events)

    def close(self) -> None:
        if self.subscription is not None:
            self.subscription.close()


class Trace:
    """The trace of one machine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._subscriptions: list[Subscription] = []
        self._waiting: deque[bytes] = deque()
        self._delivering = False

    # --- listening

    def subscribe(self, callback: Listener, filter: str | None = None) -> Subscription:
        """Call `callback(event)` for every event (hv.trace.events) from now on that `filter` lets pass.

        hv/trace/filter.py has the grammar; a filter that cannot be read is a ConfigError.
        """
        wanted = filters.parse(filter) if filter is not None else None
        reader = Reader()

        def pass_on(event: Event) -> None:
            if wanted is None or wanted(event):
                callback(event)

        def deliver(data: bytes) -> None:
            for event in reader.feed(data):
                pass_on(event)

        def finish() -> None:
            for event in reader.finish():
                pass_on(event)

        return self._add(Subscription(self, deliver, finish))

    def subscribe_raw(self, callback: RawListener) -> Subscription:
        """Call `callback(records)` with the binary records, whole ones (hv.trace.records): the fast way to a file."""
        return self._add(Subscription(self, callback, lambda: None))

    def keep(self, size: int) -> Recent:
        """Remember the last `size` events from now on."""
        if size < 1:
            raise ConfigError(f"{size} events cannot be kept: ask for at least one")
        recent = Recent(size)
        recent.subscription = self.subscribe(recent.add)
        return recent

    def flush(self) -> None:
        """Give listeners what has happened so far; what a hypercall under way has done comes when it is over."""
        if self._subscriptions:
            self._engine.flush_trace()

    def close(self) -> None:
        """End every subscription."""
        for subscription in list(self._subscriptions):
            subscription.close()

    @property
    def attached(self) -> bool:
        return bool(self._subscriptions)

    def _add(self, subscription: Subscription) -> Subscription:
        if not self._subscriptions:
            self._engine.attach_trace(self._deliver)
        else:
            self._engine.flush_trace()  # what was before is not for it
        self._subscriptions.append(subscription)
        return subscription

    def _remove(self, subscription: Subscription) -> None:
        if subscription not in self._subscriptions:
            return
        self._engine.flush_trace()
        subscription.finish()
        self._subscriptions.remove(subscription)
        if not self._subscriptions:
            self._engine.detach_trace()

    def _deliver(self, data: bytes) -> None:
        """A listener may cause records itself: they wait for their turn."""
        self._waiting.append(data)
        if self._delivering:
            return
        self._delivering = True
        try:
            while self._waiting:
                portion = self._waiting.popleft()
                for subscription in list(self._subscriptions):
                    subscription.deliver(portion)
        finally:
            self._delivering = False

    # --- reporting

    def note(self, domain: int, source: str, what: str, data: bytes = b"", cause: int = 0) -> int:
        """Record what the host side did: the event's id, for `cause`; 0 while nobody listens."""
        if not self._subscriptions:
            return 0
        return self._engine.note(domain, notes.encode(source, what, data), cause)

    def as_effect_of(self, cause: int) -> Effect:
        """A context manager: what happens inside is the effect of the event with that id."""
        return Effect(self._engine, cause)


class Effect:
    """See `Trace.as_effect_of`."""

    def __init__(self, engine: Engine, cause: int) -> None:
        self._engine, self._cause = engine, cause

    def __enter__(self) -> None:
        self._before = self._engine.set_cause(self._cause)

    def __exit__(self, *_: object) -> None:
        self._engine.set_cause(self._before)
