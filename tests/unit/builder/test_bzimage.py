"""bzImages: each compression's round trip, and each refusal."""

from __future__ import annotations

import bz2
import lzma
import random
import zlib
from collections.abc import Callable

import lz4.block  # type: ignore[import-untyped, unused-ignore]
import lz4.frame  # type: ignore[import-untyped, unused-ignore]
import lzallright
import pytest
import zstandard

from hv.builder import compression, image
from hv.errors import ImageError

from .elf_writer import PV, Load, Writer, bzimage, notes, pv


def lz4_legacy(data: bytes) -> bytes:
    out = b"\x02\x21\x4c\x18"
    for start in range(0, len(data), 8 << 20):
        block = lz4.block.compress(data[start : start + (8 << 20)], store_size=False)
        out += len(block).to_bytes(4, "little") + block
    return out


def zstd_without_size(data: bytes) -> bytes:
    stream = zstandard.ZstdCompressor().compressobj()
    return stream.compress(data) + stream.flush()


def lzop(data: bytes) -> bytes:
    """As lzop 1.04 writes a file without a name."""
    out = b"\x89LZO\0\r\n\x1a\n" + bytes.fromhex("1040 20a0 0940 01 05 03000001 000081a4 66666666 00000000 00 00000000")
    for start in range(0, len(data), 256 << 10):
        block = data[start : start + (256 << 10)]
        packed = min(lzallright.LZOCompressor().compress(block), block, key=len)
        out += len(block).to_bytes(4, "big") + len(packed).to_bytes(4, "big") + bytes(4) + packed
    return out + bytes(4)


Pack = Callable[[bytes], bytes]
FORMATS: dict[str, tuple[str, Pack]] = {
    "gzip": ("gzip", lambda data: zlib.compress(data, wbits=31)),
    "bzip2": ("bzip2", bz2.compress),
    "xz": ("xz", lambda data: lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_CRC32)),
    "lzma": ("lzma", lambda data: lzma.compress(data, lzma.FORMAT_ALONE)),
    "lz4 legacy": ("lz4", lz4_legacy),
    "lz4 frame": ("lz4", lz4.frame.compress),
    "lzo": ("lzo", lzop),
    "zstd": ("zstd", zstandard.ZstdCompressor().compress),
    "zstd stream": ("zstd", zstd_without_size),
}
SMALL = pv()
LARGE = pv(loads=[Load(0x100000, random.Random(1).randbytes(256 << 10) * 36)])  # more than one LZ4 block


@pytest.mark.parametrize("appended", [False, True], ids=["bare", "with length"])
@pytest.mark.parametrize(("_", "pack"), FORMATS.values(), ids=FORMATS)
def test_round_trip(_: str, pack: Pack, appended: bool) -> None:
    payload = pack(SMALL) + (len(SMALL).to_bytes(4, "little") if appended else b"")
    assert image.load(bzimage(payload), "vmlinuz").elf == SMALL


@pytest.mark.parametrize("name", ["gzip", "lz4 legacy", "lz4 frame", "lzo", "zstd stream"])
def test_round_trip_of_several_blocks(name: str) -> None:
    payload = FORMATS[name][1](LARGE)
    assert image.load(bzimage(payload), "vmlinuz").elf == LARGE


@pytest.mark.parametrize("appended", [b"", b"\0\0\0\1"], ids=["bare", "with length"])
def test_legacy_lz4_of_whole_blocks(appended: bytes) -> None:
    data = bytes(16 << 20)
    assert compression.decompress(lz4_legacy(data) + appended) == data


@pytest.mark.parametrize(("name", "pack"), FORMATS.values(), ids=FORMATS)
def test_truncated_payload(name: str, pack: Pack) -> None:
    payload = pack(SMALL)
    for cut in (1, len(payload) // 2, len(payload) - 4):
        with pytest.raises(ImageError, match=f"vmlinuz: bzImage payload: .*{name}"):
            image.load(bzimage(payload[: len(payload) - cut]), "vmlinuz")


@pytest.mark.parametrize("name", ["gzip", "xz", "lz4 frame", "zstd", "bzip2", "lzo"])
def test_bomb(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "LIMIT", 1 << 20)
    payload = FORMATS[name][1](bytes((1 << 20) + 1))
    with pytest.raises(ImageError, match="decompresses to more than 1 MiB"):
        image.load(bzimage(payload), "vmlinuz")


def test_legacy_lz4_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "LIMIT", 16 << 20)
    with pytest.raises(ImageError, match="decompresses to more than 16 MiB"):
        compression.decompress(lz4_legacy(bytes(24 << 20)))


def test_payload_at_the_default_setup_size() -> None:
    packed = zlib.compress(SMALL, wbits=31)
    assert image.load(bzimage(packed, setup_sects=0), "vmlinuz").elf == SMALL


@pytest.mark.parametrize(("_", "pack"), FORMATS.values(), ids=FORMATS)
def test_compressed_kernel_without_a_bzimage(_: str, pack: Pack) -> None:
    assert image.load(pack(SMALL), "vmlinux.z").elf == SMALL


def test_uncompressed_payload() -> None:
    assert image.load(bzimage(SMALL), "vmlinuz").elf == SMALL


def test_gzipped_bzimage() -> None:
    packed = zlib.compress(bzimage(zlib.compress(SMALL, wbits=31)), wbits=31)
    assert image.load(packed, "vmlinuz.gz").elf == SMALL


GZIP = zlib.compress(SMALL, wbits=31)
PV32 = Writer(notes=[notes(*PV)], bits=32, machine=3).bytes_()
REFUSALS: dict[str, tuple[bytes, str]] = {
    "too old": (bzimage(GZIP, version=0x207), "bzImage of boot protocol 2.07: hv needs 2.08"),
    "header cut": (bzimage(GZIP)[:0x207], "truncated bzImage: it ends within its setup header"),
    "header cut later": (bzimage(GZIP)[:0x24F], "truncated bzImage: it ends within its setup"),
    "payload cut": (bzimage(GZIP)[:1100], "truncated bzImage: its payload reaches to byte"),
    "lzo header cut": (bzimage(b"\x89LZO\0\r\n\x1a\n"), "truncated lzo data"),
    "lzo block larger than it may be": (
        bzimage(lzop(SMALL).replace(len(SMALL).to_bytes(4, "big"), b"\0\x10\0\0", 1)),
        "corrupt lzo data",
    ),
    "unknown": (bzimage(b"PK\3\4"), "unknown compression (it starts with 50 4b 03 04)"),
    "no payload": (bzimage(b""), "unknown compression (it starts with nothing)"),
    "corrupt": (bzimage(GZIP[:20] + b"\xff" * 40 + GZIP[60:]), "corrupt gzip data"),
    "no ELF inside": (bzimage(zlib.compress(b"hi", wbits=31)), "payload is not an ELF kernel"),
    "32-bit kernel": (bzimage(zlib.compress(PV32, wbits=31)), "PV32/32-bit guests are not"),
    "no Xen": (
        bzimage(zlib.compress(Writer().bytes_(), wbits=31)),
        "ELF without Xen notes: not a Xen guest",
    ),
}


@pytest.mark.parametrize(("data", "sentence"), REFUSALS.values(), ids=REFUSALS)
def test_refusal(data: bytes, sentence: str) -> None:
    with pytest.raises(ImageError) as refused:
        image.load(data, "vmlinuz")
    assert str(refused.value).startswith("vmlinuz: ")
    assert sentence in str(refused.value)
