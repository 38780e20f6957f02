"""Hostile images: whatever is in the file, the outcome is an Image or an ImageError, soon.

Images are synthesised; those of the folder in HV_GUEST_CACHE, if set, are mutated as well. The
mutations are seeded, so that a failure can be repeated: its message names seed and number.
"""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from hv.builder import image
from hv.errors import ImageError

from . import elf_writer as w
from .test_bzimage import lz4_legacy

SEED = 20417
SYNTHESISED_ROUNDS = 3000
REAL_ROUNDS = 150  # for each image
MAX_SECONDS = 10.0  # of processor time, which a busy machine does not change
MAX_REAL_IMAGE = 64 << 20


def with_symbols() -> bytes:
    table, strings = w.symbol_table(("main", 0x12, 1, 0x100000, 8), ("x", 0x10, 1, 0x100008, 0))
    sections = [
        w.Section(".symtab", w.SHT_SYMTAB, table, 2),
        w.Section(".strtab", w.SHT_STRTAB, strings),
        w.Section(".note", w.SHT_NOTE, w.notes(*w.PV, (w.BSD_SYMTAB, "yes"))),
    ]
    return w.Writer(sections=sections).bytes_()


def synthesised() -> list[bytes]:
    plain = w.pv(
        (w.FEATURES, "!writable_page_tables"),
        (w.INIT_P2M, 1 << 39),
        loads=[w.Load(0x100000), w.Load(0x200000, memsz=0x1000)],
    )
    old = w.legacy("LOADER=generic,XEN_VER=xen-3.0,VIRT_BASE=0x100000,HYPERCALL_PAGE=1")
    return [
        plain,
        old,
        with_symbols(),
        w.bzimage(zlib.compress(plain, wbits=31)),
        w.bzimage(lz4_legacy(with_symbols())),
        zlib.compress(old, wbits=31),
    ]


def flip(data: bytearray, other: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randint(1, 8)):
        # Headers stand at the start and the end; that is where a change means most.
        reach = rng.choice((128, 1024, len(data)))
        position = min(rng.randrange(reach), len(data) - 1)
        if rng.random() < 0.3:
            position = len(data) - 1 - position
        data[position] = rng.choice((0, 0xFF, 0x7F, 0x80, rng.randrange(256)))
    return bytes(data)


def large_number(data: bytearray, other: bytes, rng: random.Random) -> bytes:
    position = rng.randrange(0, max(1, min(len(data) - 8, 512)), 4)
    value = rng.choice((0, 1, 1 << 31, 1 << 32, 1 << 47, 1 << 63, (1 << 64) - 1, len(data)))
    data[position : position + 8] = value.to_bytes(8, "little")
    return bytes(data)


def truncate(data: bytearray, other: bytes, rng: random.Random) -> bytes:
    return bytes(data[: rng.randrange(len(data))])


def splice(data: bytearray, other: bytes, rng: random.Random) -> bytes:
    size = rng.randrange(1, 256)
    source, target = rng.randrange(len(other)), rng.randrange(len(data))
    data[target : target + rng.choice((0, size))] = other[source : source + size]
    return bytes(data)


MUTATIONS: tuple[Callable[[bytearray, bytes, random.Random], bytes], ...] = (
    flip,
    flip,
    large_number,
    truncate,
    splice,
)


def try_to_load(data: bytes, what: str) -> bool:
    """Whether it is an image; fails the test for any other outcome than the two allowed."""
    begin = time.process_time()
    try:
        guest = image.load(data, "fuzz")
    except ImageError as error:
        loaded = False
        assert str(error).startswith("fuzz: ") and "\n" not in str(error), what
    except Exception as error:
        raise AssertionError(f"{what}: {error!r}") from error
    else:
        loaded = True
        check(guest, what)
    assert time.process_time() - begin < MAX_SECONDS, what
    return loaded


def check(guest: image.Image, what: str) -> None:
    """What a domain builder relies on."""
    last = guest.start
    for segment in guest.segments:
        assert last <= segment.vaddr and len(segment.data) <= segment.memory_size, what
        last = segment.vaddr + segment.memory_size
    assert last <= guest.end <= 1 << 64 and guest.end - guest.start <= 65 << 30, what
    assert guest.start <= guest.entry < guest.end, what
    image.symbols(guest)


def mutate_many(images: list[bytes], rounds: int) -> int:
    rng = random.Random(SEED)
    loaded = 0
    for number in range(rounds):
        data, other = bytearray(rng.choice(images)), rng.choice(images)
        mutated = rng.choice(MUTATIONS)(data, other, rng)
        loaded += try_to_load(mutated, f"seed {SEED}, mutation {number}")
    return loaded


def test_mutated_synthesised_images() -> None:
    images = synthesised()
    assert all(try_to_load(data, "unchanged") for data in images)
    loaded = mutate_many(images, SYNTHESISED_ROUNDS)
    assert 0 < loaded < SYNTHESISED_ROUNDS  # both outcomes happen, or the mutations are too dull


def test_every_truncation_of_a_small_image() -> None:
    data = with_symbols()
    for size in range(len(data)):
        assert not try_to_load(data[:size], f"cut to {size}")


def real_images(folder: Path) -> list[Path]:
    files = sorted(folder.rglob("*"))
    magics = (b"\x7fELF", b"\x1f\x8b", b"MZ")
    found = []
    for path in files:
        if path.is_file() and path.stat().st_size <= MAX_REAL_IMAGE:
            with path.open("rb") as file:
                head = file.read(18)
            # A thousand kernel modules, all refused for being objects, would tell nothing new.
            is_object = head.startswith(b"\x7fELF") and head[16:] == b"\1\0"
            if head.startswith(magics) and not is_object:
                found.append(path)
    return found


@pytest.mark.parametrize("package", ["grub-xen-host", "gnumach-image-1.8-xen-486"])
def test_mutated_real_images(package: str, debian_package: Callable[[str], Path]) -> None:
    images = real_images(debian_package(package))
    assert images
    for path in images:
        # A large compressed kernel takes most of the time limit to decompress by itself.
        rounds = REAL_ROUNDS if path.stat().st_size < 4 << 20 else REAL_ROUNDS // 10
        mutate_many([path.read_bytes()], rounds)
