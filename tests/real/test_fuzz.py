"""Broken images: each mutation of a real or bundled guest is refused by one sentence, or built and run; nothing else.

Every batch is a process of its own, so that a crash of hv is a failed test with the seed that did it. To look at one:
`python tests/real/fuzz_worker.py FOLDER GRUB SEED 1` in the project, FOLDER made by `python -m guests.build`.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from guest_kit import ROOT

BATCH, BATCHES, AT_ONCE = 150, 14, 2
WORKER = Path(__file__).with_name("fuzz_worker.py")


def batch(first: int, folder: Path, grub: Path) -> tuple[int, list[str], str]:
    """(exit code, lines, what went wrong) of one batch."""
    command = [sys.executable, str(WORKER), str(folder), str(grub), str(first), str(BATCH)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired as late:
        return -1, (late.stdout or b"").decode().splitlines(), "the batch hangs"
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_mutated_images(grub: Path, bundled_guests: Path) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        jobs = [pool.submit(batch, number * BATCH, bundled_guests, grub) for number in range(BATCHES)]
        results = [job.result() for job in jobs]
    problems = [
        f"seed {lines[-1].split()[0] if lines else '?'}, exit code {code}:\n{wrong}"
        for code, lines, wrong in results
        if code
    ]
    assert not problems, "\n\n".join(problems)
    fates = Counter(line.split()[1].rstrip(":") for _, lines, _ in results for line in lines)
    assert sum(fates.values()) == BATCH * BATCHES >= 2000
    assert fates["refused"] >= 200  # otherwise the mutations miss what the builder looks at
    assert fates["ended"] + fates["until"] + fates["idle"] >= 200
