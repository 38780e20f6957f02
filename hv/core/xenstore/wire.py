"""XenStore messages on a byte stream.

Rules: a message may arrive in any fragmentation; one that announces more than XENSTORE_PAYLOAD_MAX
bytes ends the connection, because nothing after it can be trusted; the packets before it still
count.

Theory of operation: a decoder keeps the bytes of at most one unfinished message. `wanted` tells how
many bytes it lacks, for a transport (the ring) that must not take more than that from its peer.

ABI: struct xsd_sockmsg in public/io/xs_wire.h, docs/misc/xenstore.txt.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from hv.abi.io.xs_wire import XENSTORE_PAYLOAD_MAX

_HEADER = struct.Struct("<4I")  # type, req_id, tx_id, len
_HEADER_SIZE = _HEADER.size
_pack, _unpack = _HEADER.pack, _HEADER.unpack_from
_new = tuple.__new__  # a NamedTuple's own constructor is Python, and takes three times as long


class Packet(NamedTuple):
    """One message: numbers as in xsd_sockmsg, and the payload."""

    type: int
    req_id: int
    tx_id: int
    payload: bytes


class ProtocolError(Exception):
    """The peer announced an impossible message; its connection cannot go on."""


def encode(packet: Packet) -> bytes:
    """The message as it travels."""
    kind, req_id, tx_id, payload = packet
    return _pack(kind, req_id, tx_id, len(payload)) + payload


class Decoder:
    """Cuts a byte stream into packets."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def wanted(self) -> int:
        """Bytes until the header, or else the message, is complete. Never 0 between packets.

        Raises ProtocolError if the header at hand announces too much.
        """
        have = len(self._rest)
        if have < _HEADER_SIZE:
            return _HEADER_SIZE - have
        return _HEADER_SIZE + _announced(self._rest, 0) - have

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Packet]:
        """Take bytes; the packets they complete come out one by one.

        Take all of them before the next portion. Raises ProtocolError after the last good packet if
        an impossible one follows.
        """
        self._rest = self._rest + data if self._rest else bytes(data)
        return self._packets()

    def _packets(self) -> Iterator[Packet]:
        # Most portions are one message: so the rest is cut only once, when no more packet is in it.
        start, data = 0, self._rest
        try:
            while len(data) - start >= _HEADER_SIZE:
                kind, req_id, tx_id, length = _unpack(data, start)
                if length > XENSTORE_PAYLOAD_MAX:
                    raise _impossible(length)
                end = start + _HEADER_SIZE + length
                if len(data) < end:
                    break
                payload = data[start + _HEADER_SIZE : end]
                start = end
                yield _new(Packet, (kind, req_id, tx_id, payload))
        finally:
            self._rest = data[start:]


def _announced(data: bytes, start: int) -> int:
    length: int = _unpack(data, start)[3]
    if length > XENSTORE_PAYLOAD_MAX:
        raise _impossible(length)
    return length


def _impossible(length: int) -> ProtocolError:
    return ProtocolError(f"a XenStore message announces {length} bytes of payload")
