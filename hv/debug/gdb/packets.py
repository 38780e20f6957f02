"""Packets of the protocol: `$data#checksum` both ways, acknowledged by + until both sides agree to do without.

Rules:

1. A `Receiver` takes bytes as they come, cut anywhere, and gives whole packets; nothing it is sent raises.
2. A packet whose checksum is wrong is refused with -, and gdb sends it again.
"""

from __future__ import annotations

from collections.abc import Iterator

MOST = 0x4000  # bytes in a packet, as gdb is told
INTERRUPT = b"\x03"  # what a Ctrl-C in gdb sends, outside of packets
ESCAPE = 0x7D
SPECIAL = frozenset(b"#$*}")


def checksum(data: bytes) -> bytes:
    return b"%02x" % (sum(data) & 0xFF)


def packet(data: bytes) -> bytes:
    """Data that needs no escapes, as a packet."""
    return b"$%b#%b" % (data, checksum(data))


def escaped(data: bytes) -> bytes:
    """Binary data so that it can stand in a packet."""
    return b"".join(bytes((ESCAPE, byte ^ 0x20)) if byte in SPECIAL else bytes((byte,)) for byte in data)


def unescaped(data: bytes) -> bytes:
    result, escape = bytearray(), False
    for byte in data:
        if byte == ESCAPE and not escape:
            escape = True
        else:
            result.append(byte ^ 0x20 if escape else byte)
            escape = False
    return bytes(result)


class Receiver:
    """What has come from gdb."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.acknowledging = True
        self.answers = bytearray()  # acknowledgements to send

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The packets that are whole now, or INTERRUPT."""
        self._data += data
        while self._data:
            if self._data[0] == INTERRUPT[0]:
                del self._data[0]
                yield INTERRUPT
            elif self._data[0] != ord("$"):
                del self._data[0]  # an acknowledgement, or noise
            else:
                end = self._data.find(b"#")
                if end < 0 or len(self._data) < end + 3:
                    self._data = self._data if len(self._data) <= 2 * MOST else bytearray()
                    return
                contents, given = bytes(self._data[1:end]), bytes(self._data[end + 1 : end + 3])
                del self._data[: end + 3]
                right = given.lower() == checksum(contents)
                if self.acknowledging:
                    self.answers += b"+" if right else b"-"
                if right or not self.acknowledging:
                    yield contents
