"""`hv doctor`: does hv work here?"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable

import click

from hv.errors import HvError


def _python() -> str:
    return f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"


def _engine() -> str:
    from hv.engine.cpu import self_check, version

    self_check()
    return "Unicorn {}.{}, private layout as expected".format(*version())


def _libraries() -> str:
    import capstone  # type: ignore[import-untyped]
    import elftools

    return f"Capstone {capstone.__version__}, pyelftools {elftools.__version__}"


def _guests() -> str:
    from hv.machine.images import bundled

    count = len(bundled())
    if not count:
        raise HvError("no bundled guests: install the package (pip install .)")
    return f"{count} bundled guests"


def _boot() -> str:
    import time

    from hv.machine.machine import Machine

    began = time.perf_counter()
    with Machine() as machine:
        domain = machine.create("hello")
        machine.run(timeout=30)
        if domain.exit_code != 0:
            raise HvError(f"the guest hello {domain.reason}: please report this")
    return f"the guest hello boots and powers off ({(time.perf_counter() - began) * 1000:.0f} ms)"


CHECKS: tuple[tuple[str, Callable[[], str]], ...] = (
    ("platform", _python),
    ("engine", _engine),
    ("libraries", _libraries),
    ("guests", _guests),
    ("boot", _boot),
)


@click.command("doctor", epilog="Example:  hv doctor")
def command() -> int:
    """Check the engine against Unicorn's private layout, the libraries and the bundled guests, and boot one."""
    failed = 0
    for name, check in CHECKS:
        try:
            print(f"ok    {name:<10} {check()}")
        except (HvError, ImportError) as error:
            failed = 1
            print(f"FAIL  {name:<10} {error}", file=sys.stderr)
    return failed
