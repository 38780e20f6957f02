"""The timeline, read with Perfetto's own classes: processes, tracks, slices that nest, flows from a send on."""

from __future__ import annotations

import io
from collections import defaultdict
from typing import Any

import pytest
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

import hv
from hv.trace.sinks import open_sink

BEGIN, END, INSTANT = pb.TrackEvent.TYPE_SLICE_BEGIN, pb.TrackEvent.TYPE_SLICE_END, pb.TrackEvent.TYPE_INSTANT
GUESTS = ("smp", "pingpong", "multicall", "timer", "user", "traps")


def timeline(guest: str) -> list[Any]:
    file = io.BytesIO()
    sink = open_sink("perfetto", file)
    with hv.Machine() as machine:
        subscription = machine.trace.subscribe(sink.write)
        machine.create(guest)
        machine.run(timeout=60)
        subscription.close()
    sink.close()
    trace = pb.Trace()
    trace.ParseFromString(file.getvalue())
    return list(trace.packet)


def events(packets: list[Any]) -> list[Any]:
    return [packet for packet in packets if packet.HasField("track_event")]


def test_a_process_for_each_domain_and_a_track_for_each_vcpu() -> None:
    described = [packet.track_descriptor for packet in timeline("pingpong") if packet.HasField("track_descriptor")]
    processes = {d.uuid: d.process.process_name for d in described if d.HasField("process")}
    assert sorted(processes.values()) == ["hv (domain 0)", "pingpong (domain 1)"]
    threads = [d for d in described if d.HasField("thread")]
    assert [processes[d.parent_uuid] + " " + d.thread.thread_name for d in threads] == [
        "pingpong (domain 1) vCPU 0",
        "pingpong (domain 1) vCPU 1",
    ]
    assert len({d.uuid for d in described}) == len(described)
    for packet in timeline("pingpong"):
        if packet.HasField("track_event"):
            assert packet.track_event.track_uuid in {d.uuid for d in described}


@pytest.mark.parametrize("guest", GUESTS)
def test_slices_nest_and_time_goes_on(guest: str) -> None:
    open_slices: dict[int, int] = defaultdict(int)
    last: dict[int, int] = defaultdict(int)
    for packet in events(timeline(guest)):
        track, kind = packet.track_event.track_uuid, packet.track_event.type
        assert packet.timestamp >= last[track]
        last[track] = packet.timestamp
        open_slices[track] += {BEGIN: 1, END: -1, INSTANT: 0}[kind]
        assert open_slices[track] >= 0
    assert not any(open_slices.values())


def steps_of_flows(packets: list[Any]) -> dict[int, list[str]]:
    """Flow -> the names of what it leads through, in order; a * behind the one that ends it."""
    flows: dict[int, list[str]] = defaultdict(list)
    for packet in events(packets):
        for flow in packet.track_event.flow_ids:
            flows[flow].append(packet.track_event.name)
        for flow in packet.track_event.terminating_flow_ids:
            flows[flow].append(packet.track_event.name + "*")
    return flows


def test_flows_from_a_send_to_the_end_of_the_handler() -> None:
    flows = steps_of_flows(timeline("pingpong"))
    ball = [steps for steps in flows.values() if steps[0] == "event_channel_op EVTCHNOP_send" and "upcall" in steps]
    assert len(ball) > 1900
    for steps in ball:
        assert steps[1] in ("event of port 3", "event of port 4")
        assert steps[2:] == ["upcall", "iret*"]


def test_flows_from_a_timer() -> None:
    flows = steps_of_flows(timeline("timer"))
    ticks = [steps for steps in flows.values() if steps[0] == "timer singleshot"]
    assert ticks == [["timer singleshot", "event of port 3", "upcall", "iret*"]] * 5


def test_flows_cross_tracks() -> None:
    """From one vCPU's send to the other's upcall: two tracks for each flow."""
    tracks: dict[int, set[int]] = defaultdict(set)
    for packet in events(timeline("pingpong")):
        for flow in (*packet.track_event.flow_ids, *packet.track_event.terminating_flow_ids):
            tracks[flow].add(packet.track_event.track_uuid)
    assert sum(len(found) == 2 for found in tracks.values()) > 1900
