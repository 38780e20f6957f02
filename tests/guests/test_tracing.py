"""Every bundled guest traced: the same bytes each time, in steps too; and every event in every format."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from test_bundled import DOMAINS, MADE_FOR, NAMES

import hv
from hv.machine.stops import Outcome
from hv.trace import sinks
from hv.trace.reader import Reader
from hv.trace.records import records

STRIDE = 997  # instructions
WRITTEN = 4000  # events of each guest in every format


def recorded(image: Path, stepped: bool = False) -> tuple[bytes, list[bytes]]:
    """(the trace's records, the output of every console)."""
    found = bytearray()
    with hv.Machine() as machine:
        machine.trace.subscribe_raw(found.extend)
        domains = machine.create_together(image, DOMAINS[image.name], **MADE_FOR[image.name])
        while stepped and not isinstance(machine.step(STRIDE, timeout=60), Outcome):
            pass
        assert machine.run(timeout=60) == "ended"
        output = [domain.console.output for domain in domains]
    return bytes(found), output


@pytest.mark.parametrize("name", NAMES)
def test_two_runs_are_alike_to_the_byte(images: Path, name: str) -> None:
    first, output = recorded(images / name)
    assert (first, output) == recorded(images / name)
    assert (first, output) == recorded(images / name, stepped=True)
    with hv.Machine() as machine:
        domains = machine.create_together(images / name, DOMAINS[name], **MADE_FOR[name])
        machine.run(timeout=60)
        assert [domain.console.output for domain in domains] == output  # nor does it matter that somebody listens


@pytest.mark.parametrize("name", NAMES)
def test_every_event_in_every_format(images: Path, name: str) -> None:
    data, _ = recorded(images / name)
    reader = Reader()
    events = [*reader.feed(data), *reader.finish()]
    assert not list(reader.finish())
    numbers = [event.id for event in events]
    returns = [record.id for record in records(data) if record.kind == 2]
    assert sorted(numbers + returns) == list(range(1, len(numbers) + len(returns) + 1))  # nothing is lost
    assert numbers == sorted(numbers)
    assert all(event.cause < event.id for event in events)
    for form in sinks.FORMATS:
        file = io.BytesIO()
        sink = sinks.open_sink(form, file)
        for event in events[:WRITTEN]:
            sink.write(event)
        sink.close()
        assert file.getvalue()


