"""How long `sleep` in Debian's Linux takes by the host's clock: with the paced clock as long as it says, else no time.

    python bench/linux_sleep.py [--seconds N] [--rounds N]

Right after the boot, from sending the command to its next prompt: with the paced clock the host must wait as long as
the guest (within 1 %), with the virtual clock the time is skipped. Needs what `hv fetch debian-linux` brings.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import hv

PROMPT = "<%>"


def measure(clock: str, seconds: int, rounds: int) -> list[tuple[float, float]]:
    """(host's seconds, guest's seconds) of each sleep."""
    with hv.Machine(clock=clock) as machine:
        console = machine.create("debian-linux").console
        console.expect("# ", timeout=120)
        console.send("stty -echo; export PS1='<''%>'\r")
        console.expect(PROMPT, timeout=60)
        found = []
        for _ in range(rounds):
            host, guest = time.perf_counter(), machine.now_ns
            console.send(f"sleep {seconds}\r")
            console.expect(PROMPT, timeout=seconds + 60)
            found.append((time.perf_counter() - host, (machine.now_ns - guest) / 1e9))
        return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=6, help="how long the guest sleeps (default 6)")
    parser.add_argument("--rounds", type=int, default=3, help="how often (default 3)")
    options = parser.parse_args()
    if options.seconds < 1 or options.rounds < 1:
        parser.error("--seconds and --rounds are at least 1")
    try:
        print(f"| sleep {options.seconds} | host's clock | guest's clock |\n|---|---:|---:|")
        for clock in ("paced", "virtual"):
            host, guest = zip(*measure(clock, options.seconds, options.rounds), strict=True)
            print(f"| {clock} | {statistics.median(host):.3f} s | {statistics.median(guest):.3f} s |")
    except hv.HvError as error:
        print(f"linux_sleep: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
