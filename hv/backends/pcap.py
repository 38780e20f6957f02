"""A capture of what passes a switch, as tcpdump, tshark and Wireshark read it.

Specification: draft-ietf-opsawg-pcap (the classic format with ns, LINKTYPE_ETHERNET). Times are the machine's, so that
two runs write the same file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

from hv.errors import ConfigError

MAGIC_NS, VERSION, SNAPLEN, LINKTYPE_ETHERNET = 0xA1B23C4D, (2, 4), 262144, 1


class Capture:
    """Writes frames to a file, each at once; `now_ns` is the clock."""

    def __init__(self, path: str, now_ns: Callable[[], int]) -> None:
        self._path = path
        try:
            self._file = Path(path).open("wb", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise self._refusal(error) from None
        self._now_ns = now_ns
        self._write(struct.pack("<IHHiIII", MAGIC_NS, *VERSION, 0, 0, SNAPLEN, LINKTYPE_ETHERNET))

    def frame(self, data: bytes) -> None:
        seconds, ns = divmod(self._now_ns(), 10**9)
        self._write(struct.pack("<IIII", seconds, ns, len(data), len(data)) + data)

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise self._refusal(error) from None

    def _refusal(self, error: OSError) -> ConfigError:
        return ConfigError(f"{self._path}: the capture cannot be written: {error.strerror}")

    def close(self) -> None:
        self._file.close()
