"""The rows about hv's own event loops: scanning, sending, FIFO queues, Python handlers.

Each stands beside what a C programmer would write: Linux's or Xen's algorithm, the best plain C, and the least that
there is to do (`limit`). All of it is compiled into hv.bench.event_loops.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

from hv.bench.event_loops import EventLoops
from hv.bench.measure import HV, LIMIT, Group, Sample

POOL, QUICK_POOL = 4096, 512  # images: fewer are learned by heart by the CPU's branch prediction
SAMPLE_NS = 20_000  # what one sample should take at least
PORTS = 4096
DENSITIES = (1, 8, 64, 512)
SHAPES = ("spread", "clustered")
LINUX, BEST, XEN = "Linux in C", "best C", "Xen in C"


def images(ports: int, shape: str, count: int) -> list[list[int]]:
    """Random sets of ports: of all there are, or of as few adjacent words as leave half of their bits clear."""
    rng = random.Random(f"{ports} {shape}")
    return [_image(rng, ports, shape) for _ in range(count)]


def _image(rng: random.Random, ports: int, shape: str) -> list[int]:
    if shape == "spread":
        return rng.sample(range(PORTS), ports)
    first, words = rng.randrange(64), min(64, max(1, ports // 32))
    return [(first * 64 + offset) % PORTS for offset in rng.sample(range(words * 64), ports)]


def _pool(ports: int, quick: bool) -> int:
    """Large images are not learned even when they are few, and many of them do not fit the CPU's cache."""
    return QUICK_POOL if quick or ports >= 512 else POOL


def _scans(ports: int, ns: float) -> int:
    """How many scans make a sample."""
    return max(2, int(SAMPLE_NS / (ports * ns)))


# --- 2-level: scan and delivery to C handlers


def _scan(name: str, ports: int, shape: str, quick: bool) -> Callable[[], Sample]:
    loops = EventLoops([sorted(image) for image in images(ports, shape, _pool(ports, quick))])
    count = _scans(ports, 3)
    names = {"linux": LINUX, "best": BEST, "hv": HV, "floor": LIMIT}

    def sample() -> Sample:
        load = loops.scan("load", count)
        return {name: {series: loops.scan(what, count) - load for what, series in names.items()}}

    return sample


def _scan_groups() -> list[Group]:
    kinds = [(1, "spread"), *((ports, shape) for ports in DENSITIES[1:] for shape in SHAPES), (PORTS, "spread")]
    groups = []
    for ports, shape in kinds:
        name = f"scan_2level_{ports}" + (f"_{shape}" if 1 < ports < PORTS else "")
        groups.append(Group("2-level scan and delivery, C handlers", (name,), partial(_scan, name, ports, shape)))
    return groups


# --- sending


def _send(quick: bool) -> Callable[[], Sample]:
    loops = EventLoops(images(1024, "spread", QUICK_POOL))
    names = {"xen": XEN, "best": BEST, "hv": HV}

    def sample() -> Sample:
        return {
            "send_2level": {series: loops.send(what, 16) for what, series in names.items()},
            "send_2level_to_pending_port": {series: loops.send(what, 16, True) for what, series in names.items()},
        }

    return sample


# --- FIFO


def _fifo(ports: int, quick: bool) -> Callable[[], Sample]:
    sets = [[port for port in image if port] for image in images(ports, "spread", QUICK_POOL)]
    loops = EventLoops([ports for ports in sets if ports], fifo=True)
    count = _scans(ports, 15)
    names = {"linux": f"{XEN}, {LINUX}", "best": BEST, "hv": HV}

    def sample() -> Sample:
        both, sending, taking = {}, {}, {}
        for what, series in names.items():
            both[series], sending[series] = loops.fifo_round(what, count)
            taking[series] = both[series] - sending[series]
        return dict(zip(_fifo_rows(ports), (both, sending, taking), strict=True))

    return sample


def _fifo_rows(ports: int) -> tuple[str, str, str]:
    return f"fifo_enqueue_dequeue_{ports}", f"fifo_send_{ports}", f"fifo_scan_{ports}"


# --- Python handlers


def _nothing(what: object) -> None:
    pass


def _python(name: str, ports: int, batch: bool, quick: bool) -> Callable[[], Sample]:
    loops = EventLoops(images(ports, "spread", QUICK_POOL), handlers="batch" if batch else "python", callable=_nothing)
    count = _scans(ports, 15)

    def sample() -> Sample:
        return {name: {LIMIT: loops.call("raw", count, batch, _nothing), HV: loops.call("hv", count, batch, _nothing)}}

    return sample


def _python_groups() -> list[Group]:
    groups = []
    for kind, unit in (("callables", "event"), ("batch", "scan")):
        title = f"Python callables, a call {'an' if unit == 'event' else 'a'} {unit}"
        for ports in (*DENSITIES, PORTS):
            name = f"python_{kind}_scan_2level_{ports}"
            groups.append(Group(title, (name,), partial(_python, name, ports, kind == "batch")))
    return groups


def groups() -> list[Group]:
    return [
        *_scan_groups(),
        Group("2-level sending", ("send_2level", "send_2level_to_pending_port"), _send),
        *(Group("FIFO queues, C handlers", _fifo_rows(ports), partial(_fifo, ports)) for ports in (64, 1024)),
        *_python_groups(),
    ]
