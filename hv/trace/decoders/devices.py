"""What the host side of devices does: disk requests and frames."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from hv.abi import grant_table
from hv.abi.io import blkif, netif
from hv.trace.decoders import describes_note
from hv.trace.events import Note
from hv.trace.notes import BLOCK_REQUEST, BLOCK_RESPONSE, NET_SLOT


def _names(prefix: str, module: ModuleType = blkif) -> dict[int, str]:
    return {value: name.removeprefix(prefix) for name, value in vars(module).items() if name.startswith(prefix)}


_OPERATIONS, _STATUS = _names("BLKIF_OP_"), _names("BLKIF_RSP_")
_SENT_FLAGS, _RECEIVED_FLAGS = _names("NETTXF_", netif), _names("NETRXF_", netif)
_SENT_STATUS, _GRANT_STATUS = _names("NETIF_RSP_", netif), _names("GNTST_", grant_table)
_TYPES = {0x0800: "IPv4", 0x0806: "ARP", 0x86DD: "IPv6"}
_ADDRESSES, _HEADER = 6, 14


def block_fields(event: Note) -> dict[str, Any]:
    if event.what == "request":
        identity, operation, sector, count, indirect = BLOCK_REQUEST.unpack_from(event.data)
        size, counted = BLOCK_REQUEST.size, "sectors" if operation == blkif.BLKIF_OP_DISCARD else "segments"
        more = {"sector": sector, counted: count, "indirect": bool(indirect)}
    else:
        identity, operation, sectors, status, latency = BLOCK_RESPONSE.unpack_from(event.data)
        size = BLOCK_RESPONSE.size
        more = {"sectors": sectors, "status": _STATUS.get(status, str(status)), "latency_ns": latency}
    return {
        "disk": event.data[size:].decode(errors="replace"),
        "request": identity,
        "operation": _OPERATIONS.get(operation, str(operation)),
        **more,
    }


@describes_note("block", fields=block_fields)
def block(event: Note) -> str:
    """`block xvda: request 7: READ at sector 2048, segments: 3`, and `response 7: READ OKAY, sectors: 24, 0 ns`."""
    f = block_fields(event)
    text = f"block {f['disk']}: {event.what} {f['request']}: {f['operation']}"
    if "status" in f:
        return f"{text} {f['status']}, sectors: {f['sectors']}, {f['latency_ns']} ns"
    size = f"segments: {f['segments']}" if "segments" in f else f"sectors: {f['sectors']}"
    return f"{text} at sector {f['sector']}, {size}{', indirect' if f['indirect'] else ''}"


def frame_fields(event: Note) -> dict[str, Any]:
    switch, _, frame = event.data.partition(b"\0")
    kind = int.from_bytes(frame[2 * _ADDRESSES : _HEADER], "big")
    return {
        "switch": switch.decode(errors="replace"),
        "to": frame[:_ADDRESSES].hex(":"),
        "from": frame[_ADDRESSES : 2 * _ADDRESSES].hex(":"),
        "type": _TYPES.get(kind, f"{kind:#x}"),
        "length": len(frame),
    }


@describes_note("net", fields=frame_fields)
def net(event: Note) -> str:
    """`net xenbr0: ARP from 00:16:3e:00:00:01 to ff:ff:ff:ff:ff:ff, 42 bytes`."""
    f = frame_fields(event)
    return f"net {f['switch']}: {f['type']} from {f['from']} to {f['to']}, {f['length']} bytes"


def vif_fields(event: Note) -> dict[str, Any]:
    interface, sent, queue, identity, ref, offset, size, flags, status = NET_SLOT.unpack(event.data)
    names = _SENT_FLAGS if sent else _RECEIVED_FLAGS
    return {
        "interface": interface,
        "ring": "tx" if sent else "rx",
        "queue": queue,
        "request": identity,
        "reference": ref,
        "offset": offset,
        "size": size,
        "flags": [name for bit, name in names.items() if flags & bit],
        "status": _slot_status(bool(sent), status),
    }


def _slot_status(sent: bool, status: int) -> str:
    if sent:
        return _SENT_STATUS.get(status, str(status))
    return "OKAY" if status >= 0 else _GRANT_STATUS.get(status, str(status))


@describes_note("vif", fields=vif_fields)
def vif(event: Note) -> str:
    """`vif0 tx 0: request 5, 66 bytes at 0x802 of grant 9, csum_blank: OKAY`."""
    f = vif_fields(event)
    extra = "".join(f", {name}" for name in f["flags"])
    place = f"{f['size']} bytes at {f['offset']:#x} of grant {f['reference']}"
    return f"vif{f['interface']} {f['ring']} {f['queue']}: request {f['request']}, {place}{extra}: {f['status']}"
