"""Compressed kernels: one row a format, each bounded.

1. A format is known by its magic number alone.
2. No format yields more than `LIMIT` bytes, however small its input: a decompression bomb is
   an error, not an exhausted host.
3. A stream that ends early is an error; bytes behind its end are not looked at (Linux appends
   the length of the kernel to most formats).

Decompressors are imported by the format that needs them. The formats are those of Linux's
``Documentation/arch/x86/boot.rst``, field payload_offset.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hv.errors import ImageError

LIMIT = 512 << 20
_LZMA_MEMORY = 512 << 20
_LZ4_BLOCK = 8 << 20  # every block of a legacy LZ4 frame but the last yields exactly this
_LZO_BLOCK = 256 << 10  # the largest that a decompressor of lzop's files has to take
_LZO_FILTER = 0x800  # a flag: 4 bytes more
_ZSTD_STEP = 2048  # input at a time: 4 bytes can stand for 128 KiB


class _Stream(Protocol):
    """How zlib, bz2, lzma and lz4.frame decompress alike."""

    @property
    def eof(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _TooLarge(Exception):
    """The output passes `LIMIT`."""


class _Truncated(Exception):
    """The input ends before the compressed stream does."""


def _bounded(stream: _Stream, data: bytes) -> bytes:
    output = stream.decompress(data, LIMIT + 1)
    if len(output) > LIMIT:
        raise _TooLarge
    if not stream.eof:
        raise _Truncated
    return output


def _gzip(data: bytes) -> bytes:
    import zlib

    return _bounded(zlib.decompressobj(31), data)


def _bzip2(data: bytes) -> bytes:
    import bz2

    return _bounded(bz2.BZ2Decompressor(), data)


def _xz(data: bytes) -> bytes:
    import lzma

    return _bounded(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY), data)


def _lzma(data: bytes) -> bytes:
    import lzma

    return _bounded(lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_LZMA_MEMORY), data)


def _lz4_frame(data: bytes) -> bytes:
    import lz4.frame  # type: ignore[import-untyped, unused-ignore]

    return _bounded(lz4.frame.LZ4FrameDecompressor(), data)


def _lz4_legacy(data: bytes) -> bytes:
    """Blocks, each behind its 32-bit length; the first short block is the last one."""
    import lz4.block  # type: ignore[import-untyped, unused-ignore]

    blocks: list[bytes] = []
    position = 4
    while position < len(data):
        size = int.from_bytes(data[position : position + 4], "little")
        if len(data) - position == 4:
            break  # the kernel's length, which Linux appends, behind a last block that was full
        if position + 4 + size > len(data):
            raise _Truncated
        block = data[position + 4 : position + 4 + size]
        blocks.append(lz4.block.decompress(block, uncompressed_size=_LZ4_BLOCK))
        if len(blocks) * _LZ4_BLOCK > LIMIT:
            raise _TooLarge
        if len(blocks[-1]) < _LZ4_BLOCK:
            break
        position += 4 + size
    if not blocks:
        raise _Truncated
    return b"".join(blocks)


def _zstd(data: bytes) -> bytes:
    import zstandard

    stream = zstandard.ZstdDecompressor().decompressobj()
    output: list[bytes] = []
    total = 0
    for start in range(0, len(data), _ZSTD_STEP):
        output.append(stream.decompress(data[start : start + _ZSTD_STEP]))
        total += len(output[-1])
        if total > LIMIT:
            raise _TooLarge
        if stream.eof:
            return b"".join(output)
    raise _Truncated


def _lzo(data: bytes) -> bytes:
    """lzop's file: a header, then blocks behind their sizes, of which 0 ends the file; checksums are passed over."""
    import lzallright

    view = memoryview(data)
    position = _lzo_header_end(data)
    output: list[bytes] = []
    total = 0
    while size := _big_endian(data, position):
        packed, position = _big_endian(data, position + 4), position + 12
        block = view[position : position + packed]
        if len(block) < packed:
            raise _Truncated
        if not 0 < packed <= size <= _LZO_BLOCK:
            raise ValueError(f"a block of {packed} bytes for {size}")
        # A block that did not get smaller is stored as it is.
        output.append(bytes(block) if packed == size else lzallright.LZOCompressor.decompress(block, size))
        if len(output[-1]) != size:
            raise ValueError("a block yields another size than it says")
        total += size
        if total > LIMIT:
            raise _TooLarge
        position += packed
    return b"".join(output)


def _lzo_header_end(data: bytes) -> int:
    """Behind the magic: versions, method, level, flags, filter, mode, times, name and checksum."""
    new = int.from_bytes(data[9:11], "big") >= 0x0940  # has a level, and times of 64 bits
    flags = 9 + 7 + new
    times = flags + (8 if _big_endian(data, flags) & _LZO_FILTER else 4)
    name = times + 8 + 4 * new
    if name >= len(data):
        raise _Truncated
    return name + 1 + data[name] + 4


def _big_endian(data: bytes, position: int) -> int:
    if position + 4 > len(data):
        raise _Truncated
    return int.from_bytes(data[position : position + 4], "big")


_FORMATS: tuple[tuple[bytes, str, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b", "gzip", _gzip),
    (b"BZh", "bzip2", _bzip2),
    (b"\xfd7zXZ\0", "xz", _xz),
    (b"\x28\xb5\x2f\xfd", "zstd", _zstd),
    (b"\x5d\0", "lzma", _lzma),
    (b"\x89LZO\0", "lzo", _lzo),
    (b"\x02\x21\x4c\x18", "lz4", _lz4_legacy),
    (b"\x04\x22\x4d\x18", "lz4", _lz4_frame),
)


def is_compressed(data: bytes) -> bool:
    """Whether the data begins as one of the formats does."""
    return any(data.startswith(row[0]) for row in _FORMATS)


def decompress(data: bytes) -> bytes:
    """Decompress by magic number.

    Raises ImageError, without the image's name, for a format that is unknown or unsupported and
    for a stream that is corrupt, truncated or longer than `LIMIT` when decompressed.
    """
    row = next((row for row in _FORMATS if data.startswith(row[0])), None)
    if row is None:
        raise ImageError(
            f"unknown compression (it starts with {data[:6].hex(' ') or 'nothing'}):"
            " hv reads gzip, bzip2, lzma, xz, lzo, lz4 and zstd"
        )
    _, name, reader = row
    try:
        return reader(data)
    except (ImageError, MemoryError):
        raise
    except ImportError as error:
        raise ImageError(f"{name} compression needs the Python package {error.name}: install it with pip") from error
    except _TooLarge:
        raise ImageError(f"{name} data decompresses to more than {LIMIT >> 20} MiB: hv takes no such kernel") from None
    except _Truncated:
        raise ImageError(f"truncated {name} data: it ends before its compressed stream does; fetch it again") from None
    except Exception as error:  # each library has its own, and some raise bare RuntimeErrors
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"corrupt {name} data ({reason}): fetch it again") from error
