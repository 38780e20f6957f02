"""Random hypercalls never harm hv or another guest.

100,000 calls of one seed. HV_FUZZ_CALLS and HV_FUZZ_SEED ask for more, or for others: see CONTRIBUTING.md.
"""

from __future__ import annotations

import os

from .fuzzed_guest import Fuzzer

CALLS = int(os.environ.get("HV_FUZZ_CALLS", "100000"))
SEED = int(os.environ.get("HV_FUZZ_SEED", "1"))


def test_random_hypercalls() -> None:
    with Fuzzer(SEED) as fuzzer:
        fuzzer.run(CALLS)
        assert fuzzer.made >= CALLS
        assert fuzzer.guests < CALLS // 20  # most calls are survived: else little is tested


def test_the_same_seed_makes_the_same_calls() -> None:
    seen = []
    for _ in range(2):
        with Fuzzer(7) as fuzzer:
            fuzzer.run(1000)
            assert fuzzer.machine is not None
            seen.append((fuzzer.guests, fuzzer.lost, fuzzer.machine.now_ns))
    assert seen[0] == seen[1]
