"""One batch of mutated guests: `python fuzz_worker.py FOLDER GRUB FIRST COUNT`, where FOLDER has the bundled guests.

Prints each seed before it is tried, so that whoever started it knows which one took the process down; and for each
what became of it. Exit code 1 and a traceback for anything but a refusal (HvError) or a run.
"""

from __future__ import annotations

import random
import struct
import sys
import traceback
from pathlib import Path

import hv

UNTIL_NS = 2_000_000
TIMEOUT = 5.0
INTERESTING = (0, 1, 7, 0xFFF, 0x1000, 1 << 31, (1 << 32) - 1, 1 << 47, (1 << 64) - 1, 0xFFFF800000000000, 1 << 63)


def regions(data: bytes) -> list[tuple[int, int]]:
    """Where mutations are worth most: the ELF header, the program headers, notes, section headers."""
    found = [(0, 64)]
    program, section = struct.unpack_from("<QQ", data, 32)
    count = struct.unpack_from("<H", data, 56)[0]
    found.append((program, program + 56 * count))
    for i in range(count):
        kind, _, offset, *_, size = struct.unpack_from("<IIQQQQ", data, program + 56 * i)
        if kind == 4:
            found.append((offset, offset + size))
    note = data.find(b"\x04\0\0\0\x04\0\0\0\x05\0\0\0Xen\0")
    note = note if note >= 0 else data.find(b"Xen\0") - 12
    found += [(max(note - 64, 0), note + 256), (section, min(section + 4096, len(data)))]
    return [(start, min(end, len(data))) for start, end in found if start < min(end, len(data))]


def mutated(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """One to four changes of `data`; `other` is another image to splice from."""
    result = bytearray(data)
    areas = [*regions(data), (0, len(data))]
    for _ in range(chance.randint(1, 4)):
        start, end = chance.choice(areas)
        at = min(chance.randrange(start, end), max(len(result) - 9, 0))
        kind = chance.randrange(7)
        if kind <= 1:
            result[at] ^= 1 << chance.randrange(8)
        elif kind == 2:
            result[at] = chance.randrange(256)
        elif kind == 3:
            width = chance.choice((2, 4, 8))
            aligned = at // width * width
            value = chance.choice(INTERESTING) + chance.randint(-1, 1)
            result[aligned : aligned + width] = (value % (1 << 8 * width)).to_bytes(width, "little")
        elif kind == 4:
            size = chance.randrange(1, 200)
            place = chance.randrange(max(len(other) - size, 1))
            result[at : at + size] = other[place : place + size]
        elif kind == 5 and chance.random() < 0.3:
            del result[at:]
        else:
            del result[at : at + chance.randrange(1, 16)]
        if len(result) < 16:
            break
    return bytes(result)


def attempt(seed: int, images: list[bytes]) -> str:
    """Build and run one; what became of it."""
    chance = random.Random(seed)
    data = images[0] if chance.random() < 0.12 else chance.choice(images)
    with hv.Machine() as machine:
        try:
            domain = machine.create(mutated(data, chance.choice(images), chance), memory=chance.choice(("8M", "64M")))
        except hv.HvError as error:
            text = str(error)
            if "\n" in text or not text.startswith("image: ") or "error in hv" in text or len(text) > 400:
                raise AssertionError(f"no good sentence: {text!r}") from error
            return "refused"
        outcome = machine.run_until(lambda: False, TIMEOUT, UNTIL_NS)
        if outcome == "timeout" and machine.engine.ticks < 10_000:
            raise AssertionError("it hangs: virtual time stands still")
        return f"{outcome}: {domain.reason}"  # a sled of stores into itself takes its time, but gets on


def main() -> int:
    folder, grub, first, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    bundled = sorted(path for path in Path(folder).iterdir() if path.suffix != ".json")
    images = [Path(grub).read_bytes(), *(path.read_bytes() for path in bundled)]
    for seed in range(first, first + count):
        print(seed, end=" ", flush=True)
        try:
            print(attempt(seed, images).splitlines()[0], flush=True)
        except BaseException:
            traceback.print_exc()
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
