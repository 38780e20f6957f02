"""A timeline for ui.perfetto.dev: Perfetto's protobuf messages.

Rules:

1. A domain is a process, a vCPU a thread of it, what is no vCPU's stands on the process's own track. Below each vCPU's
   track is one with its run state. (Perfetto keeps process 0 for itself: a process has the domain's number + 1.)
2. A hypercall is a slice, with the elements of a multicall inside; so is a handler, from its upcall, exception or
   system call to the iret that ends it. A handler that was left in another way ends at the next call that is not its
   own. A disk's request is a slice to its response, on a track of the disk.
   Everything else is an instant.
3. A flow leads from a send (or a timer, or what came from outside) over the event to the upcall and the end of its
   handler. Its number is the id of where it begins. An upcall ends the flows of all events that waited for it.

Format: protos/perfetto/trace/track_event of Perfetto; the package `perfetto` has the classes.
"""

from __future__ import annotations

from collections import deque
from typing import Any, BinaryIO

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb  # type: ignore[import-untyped]

from hv.trace import decode, decoders
from hv.trace.decoders.devices import block_fields
from hv.trace.events import (
    TICKS_PER_NS,
    Entry,
    Event,
    GrantUse,
    GuestException,
    Hypercall,
    Iret,
    Note,
    PageTable,
    PortEvent,
    Runstate,
    TimerFired,
    Upcall,
)

BEGIN, END, INSTANT = pb.TrackEvent.TYPE_SLICE_BEGIN, pb.TrackEvent.TYPE_SLICE_END, pb.TrackEvent.TYPE_INSTANT
SEQUENCE = 1
REMEMBERED = 4096  # flows that may still go on
MOST_WAITING = 64  # events of one upcall
FIRST_DISK = 1024  # of a process's tracks; those below are of vCPUs
WITHIN = (PortEvent, PageTable, GrantUse, Note)  # do not end the slice of the call that they happen in


class Flows:
    """Which flow an event belongs to."""

    def __init__(self) -> None:
        self._of: dict[int, int] = {}
        self._order: deque[int] = deque()
        self._waiting: dict[tuple[int, int | None], list[int]] = {}

    def start(self, event: Event) -> int:
        return self._remember(event, event.id)

    def go_on(self, event: Event) -> int:
        """The flow of its cause, or a new one."""
        return self._remember(event, self._of.get(event.cause, event.id))

    def _remember(self, event: Event, flow: int) -> int:
        self._of[event.id] = flow
        self._order.append(event.id)
        if len(self._order) > REMEMBERED:
            self._of.pop(self._order.popleft(), None)
        return flow

    def wait(self, event: PortEvent, flow: int) -> None:
        """The event asks for an upcall of its vCPU."""
        waiting = self._waiting.setdefault((event.domain, event.vcpu), [])
        waiting.append(flow)
        del waiting[:-MOST_WAITING]

    def arrive(self, event: Upcall) -> list[int]:
        """The flows that come to an upcall."""
        flows = self._waiting.pop((event.domain, event.vcpu), [])
        cause = self._of.get(event.cause)
        return list(dict.fromkeys([*flows, *([cause] if cause is not None else [])]))


class Sink:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._flows = Flows()
        self._tracks: set[int] = set()
        self._names: dict[int, str] = {0: "hv"}
        self._calls: list[tuple[int, int]] = []  # (track, end) of the hypercalls whose slices are open
        self._handlers: dict[int, list[tuple[int, list[int]]]] = {}  # track -> (entry, its flows) of open slices
        self._states: set[int] = set()  # run-state tracks with an open slice
        self._disks: dict[tuple[int, str], int] = {}  # (domain, name) -> track
        self._requests: set[int] = set()  # disks' tracks with an open slice
        self._last = 0
        first = pb.TracePacket(sequence_flags=pb.TracePacket.SEQ_INCREMENTAL_STATE_CLEARED)
        self._packet(first)

    # --- packets

    def _packet(self, packet: Any) -> None:
        packet.trusted_packet_sequence_id = SEQUENCE
        self._file.write(pb.Trace(packet=[packet]).SerializeToString())

    def _event(self, kind: int, track: int, ns: int, name: str | None = None, event: Event | None = None) -> Any:
        """A packet to be written: its track_event may get flows before."""
        packet = pb.TracePacket(timestamp=ns)
        packet.track_event.type = kind
        packet.track_event.track_uuid = track
        if name is not None:
            packet.track_event.name = name
        if event is not None:
            packet.track_event.categories.append(event.kind)
            packet.track_event.debug_annotations.add(name="id", uint_value=event.id)
            packet.track_event.debug_annotations.add(name="cause", uint_value=event.cause)
            packet.track_event.debug_annotations.add(name="text", string_value=decoders.text(event))
        return packet

    # --- tracks

    def _process(self, domain: int) -> int:
        track = (domain + 1) << 16
        if track not in self._tracks:
            self._tracks.add(track)
            self._describe_process(domain)
        return track

    def _describe_process(self, domain: int) -> None:
        packet = pb.TracePacket()
        packet.track_descriptor.uuid = (domain + 1) << 16
        packet.track_descriptor.process.pid = domain + 1
        packet.track_descriptor.process.process_name = f"{self._names.get(domain, 'guest')} (domain {domain})"
        self._packet(packet)

    def _thread(self, domain: int, vcpu: int) -> int:
        process = self._process(domain)
        track = process + 2 * vcpu + 1
        if track not in self._tracks:
            self._tracks.add(track)
            packet = pb.TracePacket()
            packet.track_descriptor.uuid = track
            packet.track_descriptor.parent_uuid = process
            packet.track_descriptor.thread.pid = domain + 1
            packet.track_descriptor.thread.tid = track
            packet.track_descriptor.thread.thread_name = f"vCPU {vcpu}"
            self._packet(packet)
        return track

    def _state_track(self, thread: int) -> int:
        track = thread + 1
        if track not in self._tracks:
            self._tracks.add(track)
            packet = pb.TracePacket()
            packet.track_descriptor.uuid = track
            packet.track_descriptor.parent_uuid = thread
            packet.track_descriptor.name = "run state"
            self._packet(packet)
        return track

    def _disk_track(self, domain: int, disk: str, process: int) -> int:
        track = self._disks.get((domain, disk))
        if track is None:
            track = self._disks[domain, disk] = process + FIRST_DISK + len(self._disks)
            packet = pb.TracePacket()
            packet.track_descriptor.uuid = track
            packet.track_descriptor.parent_uuid = process
            packet.track_descriptor.name = f"disk {disk}"
            self._packet(packet)
        return track

    def _track(self, event: Event) -> int:
        return self._process(event.domain) if event.vcpu is None else self._thread(event.domain, event.vcpu)

    # --- events

    def write(self, event: Event) -> None:
        self._last = max(self._last, event.ns)
        if isinstance(event, Note) and event.source == "domain":
            self._names[event.domain] = event.data.decode(errors="replace")
        track = self._track(event)
        if not isinstance(event, WITHIN) and not (isinstance(event, Hypercall) and event.inside):
            self._close_calls()
        if isinstance(event, Hypercall):
            self._call(event, track)
        elif isinstance(event, PortEvent):
            self._port_event(event, track)
        elif isinstance(event, Entry):
            self._entry(event, track)
        elif isinstance(event, Iret):
            self._iret(event, track)
        elif isinstance(event, Runstate):
            self._runstate(event, self._state_track(track))
        elif isinstance(event, Note) and event.source == "block":
            self._request(event, track)
        else:
            packet = self._event(INSTANT, track, event.ns, _name(event), event)
            if isinstance(event, TimerFired) or (isinstance(event, Note) and not event.cause):
                packet.track_event.flow_ids.append(self._flows.start(event))
            self._packet(packet)

    def _call(self, event: Hypercall, track: int) -> None:
        if not event.inside:
            self._leave_handlers(track, event.cause, event.ns)
        packet = self._event(BEGIN, track, event.ns, _name(event), event)
        if event.op == "EVTCHNOP_send" and event.result == 0:
            packet.track_event.flow_ids.append(self._flows.start(event))
        self._packet(packet)
        self._calls.append((track, event.ns + event.duration // TICKS_PER_NS))
        if event.inside:
            self._close_calls(keep=1)

    def _close_calls(self, keep: int = 0) -> None:
        while len(self._calls) > keep:
            track, end = self._calls.pop()
            self._packet(self._event(END, track, end))

    def _port_event(self, event: PortEvent, track: int) -> None:
        packet = self._event(INSTANT, track, event.ns, f"event of port {event.port}", event)
        flow = self._flows.go_on(event)
        packet.track_event.flow_ids.append(flow)
        self._packet(packet)
        if event.domain and not event.merged and not event.masked:
            self._flows.wait(event, flow)

    def _entry(self, event: Event, track: int) -> None:
        packet = self._event(BEGIN, track, event.ns, _name(event), event)
        flows = self._flows.arrive(event) if isinstance(event, Upcall) else []
        packet.track_event.flow_ids.extend(flows)
        self._packet(packet)
        self._handlers.setdefault(track, []).append((event.id, flows))

    def _iret(self, event: Iret, track: int) -> None:
        """The end of its handler's slice: an instant at its end carries the flows there."""
        open_slices = self._handlers.get(track, [])
        entry = next((flows for number, flows in open_slices if number == event.cause), None)
        if entry is not None:
            while open_slices[-1][0] != event.cause:
                open_slices.pop()
                self._packet(self._event(END, track, event.ns))
        packet = self._event(INSTANT, track, event.ns, "iret", event)
        packet.track_event.terminating_flow_ids.extend(entry or [])
        self._packet(packet)
        if entry is not None:
            open_slices.pop()
            self._packet(self._event(END, track, event.ns))

    def _leave_handlers(self, track: int, cause: int, ns: int) -> None:
        """A call shows by its cause which handler it is in: those above are over."""
        open_slices = self._handlers.get(track, [])
        while open_slices and open_slices[-1][0] != cause:
            open_slices.pop()
            self._packet(self._event(END, track, ns))

    def _runstate(self, event: Runstate, track: int) -> None:
        if track in self._states:
            self._packet(self._event(END, track, event.ns))
        self._states.add(track)
        self._packet(self._event(BEGIN, track, event.ns, event.new, event))

    def _request(self, event: Note, process: int) -> None:
        """A slice from the request to its response; an instant at its end carries the flow on to the guest's event."""
        fields = block_fields(event)
        track = self._disk_track(event.domain, fields["disk"], process)
        begins = event.what == "request"
        if begins == (track in self._requests):  # the file begins or is torn in the middle
            return
        name = str(fields["operation"]) if begins else "response"
        packet = self._event(BEGIN if begins else INSTANT, track, event.ns, name, event)
        packet.track_event.flow_ids.append(self._flows.go_on(event))
        self._packet(packet)
        if not begins:
            self._packet(self._event(END, track, event.ns))
        self._requests ^= {track}

    def close(self) -> None:
        self._close_calls()
        for track in sorted(self._requests):
            self._packet(self._event(END, track, self._last))
        for track, open_slices in self._handlers.items():
            for _ in open_slices:
                self._packet(self._event(END, track, self._last))
        for track in sorted(self._states):
            self._packet(self._event(END, track, self._last))
        self._file.flush()


def _name(event: Event) -> str:
    """What a slice or instant is called: short, and the same for what is alike."""
    if isinstance(event, Hypercall):
        return event.name if event.op is None else f"{event.name} {event.op}"
    if isinstance(event, GuestException):
        return decode.exception_name(event.vector, event.software)
    if isinstance(event, Note):
        return f"{event.source} {event.what}"
    if isinstance(event, TimerFired):
        return f"timer {event.timer}"
    return event.kind.replace("_", " ")
