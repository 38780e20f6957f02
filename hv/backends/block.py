"""The block backend: a disk image as a guest's xvda (io/blkif.h).

Rules:

1. A request is judged whole before any of it is done: sectors within the disk, segments within their pages, grants that
   can be mapped as the operation needs. What is wrong gets BLKIF_RSP_ERROR; only a broken ring costs the device.
2. Data goes between the image and the guest's own pages by preadv and pwritev; nothing is copied here.
3. Requests are done in the order they come, so a barrier needs no more than a flush before and after.

Behaviour where the header leaves it open: drivers/block/xen-blkback of Linux 6.1.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple

from hv.abi.io import blkif
from hv.abi.io.protocols import XEN_IO_PROTO_ABI_NATIVE
from hv.abi.io.xenbus import XenbusStateConnected
from hv.backends.device import Device, DeviceError, Page
from hv.backends.image_file import SECTOR, ImageFile
from hv.fastpath.rings import BackRing

MAX_RING_ORDER = 4
MAX_QUEUES = 8
MAX_INDIRECT_SEGMENTS = 256
MAX_PERSISTENT = 1056  # pages that a queue keeps mapped: three rings of eleven segments
ENTRY = 112
SECTORS_A_PAGE = 4096 // SECTOR
SEGMENTS_A_PAGE = 512
_REQUEST = struct.Struct("<BBH4xQQ")  # operation, nr_segments, handle, id, sector_number
_INDIRECT = struct.Struct("<BBH4xQQH2x8I")  # operation, indirect_op, nr_segments, id, sector_number, handle, grefs
_DISCARD = struct.Struct("<BBH4xQQQ")  # operation, flag, handle, id, sector_number, nr_sectors
_SEGMENT = struct.Struct("<IBB2x")  # gref, first_sect, last_sect
_RESPONSE = struct.Struct("<QBxh4x")  # id, operation, status
Segment = tuple[int, int, int]


class BadRequest(Exception):
    """A request that is answered with a status instead of being done."""

    def __init__(self, status: int = blkif.BLKIF_RSP_ERROR) -> None:
        super().__init__(status)
        self.status = status


class Taken(NamedTuple):
    """A request comes out of the ring. `operation` is what an indirect one does; `size` is the number of its segments,
    of a discard that of its sectors: as the guest wrote them, before anything is checked."""

    identity: int
    operation: int
    sector: int
    size: int
    indirect: bool


class Answered(NamedTuple):
    """The response to the request taken last; `sectors` have been moved, or discarded."""

    identity: int
    operation: int
    sectors: int
    status: int


class Told(NamedTuple):
    """The guest is about to get an event for so many responses."""

    responses: int


Step = Taken | Answered | Told
Observer = Callable[[Step], None]


class Queue:
    """One ring of a disk with the grants that are kept mapped for it."""

    def __init__(self, disk: Block, ring: BackRing, port: int, persistent: bool) -> None:
        self.disk, self.ring, self.port = disk, ring, port
        self.persistent = persistent
        self._kept: dict[int, Page] = {}
        self._passing: list[Page] = []

    def serve(self) -> None:
        """Do what is in the ring until it is empty. Raises RingError."""
        ring, notify, answered = self.ring, False, 0
        while True:
            while (request := ring.take()) is not None:
                ring.put(self._answer(request))
                answered += 1
            notify |= ring.push()
            if not ring.more():
                break
        if notify:
            self._observed(Told(answered))
            self.disk.peer.notify(self.port)

    def _observed(self, step: Step) -> None:
        for observe in self.disk.observers:
            observe(step)

    def release(self) -> None:
        self._unmap_passing()
        for page in self._kept.values():
            page.unmap()
        self._kept = {}
        self.ring.release()

    def _answer(self, request: bytes) -> bytes:
        kind = request[0]
        operation = request[1] if kind == blkif.BLKIF_OP_INDIRECT else kind  # what Linux wants to see in the response
        identity = _REQUEST.unpack_from(request)[3]
        status, sectors = blkif.BLKIF_RSP_OKAY, 0
        if self.disk.observers:
            self._observed(taken(request))
        try:
            if kind == blkif.BLKIF_OP_INDIRECT:
                sectors = self._move(operation, *self._indirect(request))
            elif kind == blkif.BLKIF_OP_DISCARD:
                sectors = self._discard(request)
            else:
                _, count, _, _, sector = _REQUEST.unpack_from(request)
                sectors = self._move(operation, sector, self._direct(operation, count, request))
        except BadRequest as bad:
            status = bad.status
        except DeviceError:  # a grant that can not be mapped
            status = blkif.BLKIF_RSP_ERROR
        except OSError as error:
            unsupported = error.errno in (errno.EOPNOTSUPP, errno.ENOSYS)
            status = blkif.BLKIF_RSP_EOPNOTSUPP if unsupported else blkif.BLKIF_RSP_ERROR
        finally:
            self._unmap_passing()
        self._observed(Answered(identity, operation, sectors, status))
        return _RESPONSE.pack(identity, operation, status)

    def _direct(self, operation: int, count: int, request: bytes) -> Sequence[Segment]:
        if operation not in TRANSFERS:
            raise BadRequest(blkif.BLKIF_RSP_EOPNOTSUPP)
        may_be_empty = operation in (blkif.BLKIF_OP_FLUSH_DISKCACHE, blkif.BLKIF_OP_WRITE_BARRIER)
        if count > blkif.BLKIF_MAX_SEGMENTS_PER_REQUEST or (count == 0 and not may_be_empty):
            raise BadRequest
        end = _REQUEST.size + count * _SEGMENT.size
        return list(_SEGMENT.iter_unpack(request[_REQUEST.size : end]))

    def _indirect(self, request: bytes) -> tuple[int, Sequence[Segment]]:
        _, operation, count, _, sector, _, *refs = _INDIRECT.unpack_from(request)
        if operation not in (blkif.BLKIF_OP_READ, blkif.BLKIF_OP_WRITE) or not 0 < count <= MAX_INDIRECT_SEGMENTS:
            raise BadRequest
        segments: list[Segment] = []
        for ref in refs[: -(-count // SEGMENTS_A_PAGE)]:
            table = bytes(self._page(ref, readonly=True).view)
            left = min(count - len(segments), SEGMENTS_A_PAGE)
            segments += _SEGMENT.iter_unpack(table[: left * _SEGMENT.size])
        return sector, segments

    def _move(self, operation: int, sector: int, segments: Sequence[Segment]) -> int:
        """Read or write: how many sectors it was."""
        image, writes = self.disk.image, operation != blkif.BLKIF_OP_READ
        if writes and image.read_only:
            raise BadRequest
        total = 0
        for _, first, last in segments:
            if not first <= last < SECTORS_A_PAGE:
                raise BadRequest
            total += last - first + 1
        if segments and sector + total > image.sectors:  # Linux gives -1 as the sector of an empty flush
            raise BadRequest
        pages = [self._page(ref, readonly=writes) for ref, _, _ in segments]
        views = [
            page.view[first * SECTOR : (last + 1) * SECTOR]
            for page, (_, first, last) in zip(pages, segments, strict=True)
        ]
        if operation == blkif.BLKIF_OP_READ:
            image.read(sector, views)
            for page in pages:
                page.written()
        else:
            ordered = operation in (blkif.BLKIF_OP_WRITE_BARRIER, blkif.BLKIF_OP_FLUSH_DISKCACHE)
            if ordered:
                image.flush()
            image.write(sector, views)
            if ordered and (views or operation == blkif.BLKIF_OP_WRITE_BARRIER):
                image.flush()
        return total

    def _discard(self, request: bytes) -> int:
        _, flag, _, _, sector, count = _DISCARD.unpack_from(request)
        image = self.disk.image
        if not self.disk.discards or flag & blkif.BLKIF_DISCARD_SECURE:
            raise BadRequest(blkif.BLKIF_RSP_EOPNOTSUPP)
        if image.read_only or sector + count > image.sectors:
            raise BadRequest
        if count:
            image.discard(sector, count)
        return int(count)

    def _page(self, ref: int, readonly: bool) -> Page:
        """The page of a grant: kept mapped where the frontend uses its grants again, else for this request."""
        kept = self._kept.get(ref)
        if kept is not None:
            return kept
        page = self.disk.peer.map(ref, readonly and not self.persistent)  # a persistent one is used in both directions
        if self.persistent and len(self._kept) < MAX_PERSISTENT:
            self._kept[ref] = page
        else:
            self._passing.append(page)
        return page

    def _unmap_passing(self) -> None:
        for page in self._passing:
            page.unmap()
        self._passing.clear()


def taken(request: bytes) -> Taken:
    """What a slot of the ring asks for, unchecked."""
    kind = request[0]
    if kind == blkif.BLKIF_OP_INDIRECT:
        _, operation, count, identity, sector, *_ = _INDIRECT.unpack_from(request)
        return Taken(identity, operation, sector, count, True)
    if kind == blkif.BLKIF_OP_DISCARD:
        _, _, _, identity, sector, count = _DISCARD.unpack_from(request)
    else:
        _, count, _, identity, sector = _REQUEST.unpack_from(request)
    return Taken(identity, kind, sector, count, False)


TRANSFERS = (
    blkif.BLKIF_OP_READ,
    blkif.BLKIF_OP_WRITE,
    blkif.BLKIF_OP_WRITE_BARRIER,
    blkif.BLKIF_OP_FLUSH_DISKCACHE,
)


class Block(Device):
    """A disk: `image` under the name `vdev` (xvda) and the device number that goes with it."""

    kind: ClassVar[str] = "vbd"

    def __init__(
        self, image: ImageFile, vdev: str, number: int, *, cdrom: bool = False, discards: bool = True, queues: int = 1
    ) -> None:
        super().__init__(number)
        self.image, self.vdev, self.cdrom = image, vdev, cdrom
        self.discards = discards and not image.read_only
        self.max_queues = min(queues, MAX_QUEUES)
        self.persistent = True  # whether to offer persistent grants; before it is plugged in
        self.queues: list[Queue] = []
        self.observers: list[Observer] = []

    @property
    def label(self) -> str:
        return self.vdev

    def frontend_keys(self) -> Mapping[str, str]:
        return {"virtual-device": str(self.number), "device-type": "cdrom" if self.cdrom else "disk"}

    def backend_keys(self) -> Mapping[str, str]:
        discard = {"feature-discard": "1", "discard-granularity": "4096", "discard-alignment": "0"}
        return {
            "params": self.image.path,
            "dev": self.vdev,
            "mode": "r" if self.image.read_only else "w",
            "type": "phy",
            "device-type": "cdrom" if self.cdrom else "disk",
            "removable": "1" if self.cdrom else "0",
            "bootable": "1",
            "feature-flush-cache": "1",
            "feature-barrier": "1",
            "feature-persistent": str(int(self.persistent)),
            "feature-max-indirect-segments": str(MAX_INDIRECT_SEGMENTS),
            "max-ring-page-order": str(MAX_RING_ORDER),
            "multi-queue-max-queues": str(self.max_queues),
            **(discard if self.discards else {}),
        }

    def resize(self) -> None:
        """The image has another size now: a connected frontend is told, by the number and the same state again."""
        self.image.measure()
        if self.state == XenbusStateConnected:
            self.nodes.write({"sectors": str(self.image.sectors)})
            self.nodes.write({"state": str(XenbusStateConnected)})

    def connected_keys(self) -> Mapping[str, str]:
        info = (blkif.VDISK_READONLY if self.image.read_only else 0) | (blkif.VDISK_CDROM if self.cdrom else 0)
        size = str(SECTOR)
        return {
            "sectors": str(self.image.sectors),
            "info": str(info),
            "sector-size": size,
            "physical-sector-size": size,
        }

    def connect(self) -> None:
        protocol = self.nodes.front("protocol") or XEN_IO_PROTO_ABI_NATIVE
        if protocol != XEN_IO_PROTO_ABI_NATIVE:
            raise DeviceError(f"the frontend's protocol is {protocol}: this backend speaks {XEN_IO_PROTO_ABI_NATIVE}")
        persistent = self.frontend_number("feature-persistent", 0) == 1 and self.persistent  # Linux writes 1 always
        order = self.frontend_number("ring-page-order", 0, MAX_RING_ORDER)
        count = self.frontend_number("multi-queue-num-queues", 1, self.max_queues)
        if not count:
            raise DeviceError("the frontend's multi-queue-num-queues is 0")
        several = self.nodes.front("multi-queue-num-queues") is not None and count > 1
        for index in range(count):
            self._connect_queue(f"queue-{index}/" if several else "", order, persistent)

    def _connect_queue(self, prefix: str, order: int, persistent: bool) -> None:
        numbered = order or self.nodes.front(f"{prefix}ring-ref") is None
        names = [f"{prefix}ring-ref{i}" for i in range(1 << order)] if numbered else [f"{prefix}ring-ref"]
        pages = [self.map(self.frontend_number(name)) for name in names]
        ring = BackRing([page.view for page in pages], ENTRY)
        queue = Queue(self, ring, 0, persistent)
        self.queues.append(queue)
        queue.port = self.listen(self.frontend_number(f"{prefix}event-channel"), queue.serve)

    def serve(self) -> None:
        for queue in self.queues:
            queue.serve()

    def _drop(self) -> None:
        for queue in self.queues:  # before the pages of the rings go
            queue.release()
        self.queues = []
        super()._drop()

    def close(self) -> None:
        """The disk will not be used again."""
        self.image.close()
