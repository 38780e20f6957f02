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
    payload = packet.payload
    return _HEADER.pack(packet.type, packet.req_id, packet.tx_id, len(payload)) + payload


class Decoder:
    """Cuts a byte stream into packets."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def wanted(self) -> int:
        """Bytes until the header, or else the message, is complete. Never 0 between packets.

        Raises ProtocolError if the header at hand announces too much.
        """
        have = len(self._buffer)
        if have < _HEADER.size:
            return _HEADER.size - have
        return _HEADER.size + self._announced() - have

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[Packet]:
        """Take bytes; the packets they complete come out one by one.

        The bytes are taken at once, the packets when asked for. Raises ProtocolError after the last
        good packet if an impossible one follows.
        """
        self._buffer += data
        return self._packets()

    def _packets(self) -> Iterator[Packet]:
        buffer = self._buffer
        while len(buffer) >= _HEADER.size:
            end = _HEADER.size + self._announced()
            if len(buffer) < end:
                return
            kind, req_id, tx_id, _ = _HEADER.unpack_from(buffer)
            payload = bytes(buffer[_HEADER.size : end])
            del buffer[:end]
            yield Packet(kind, req_id, tx_id, payload)

    def _announced(self) -> int:
        length: int = _HEADER.unpack_from(self._buffer)[3]
        if length > XENSTORE_PAYLOAD_MAX:
            raise ProtocolError(f"a XenStore message announces {length} bytes of payload")
        return length
