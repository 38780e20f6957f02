"""What `hv` exits with; docs/commands.md has the table."""

OK = 0
USAGE = 2
CRASHED = 6
TIMEOUT = 124
STUCK = 125
INTERRUPTED = 130
BROKEN_PIPE = 141
WORST_FIRST = (CRASHED, TIMEOUT, STUCK, OK)


def worst(codes: list[int]) -> int:
    """With several domains the worst counts."""
    return next((code for code in WORST_FIRST if code in codes), OK)
