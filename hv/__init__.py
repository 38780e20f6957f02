"""hv: Xen guests without Xen.

    import hv
    with hv.Machine() as machine:
        domain = machine.create("hello")
        machine.run(timeout=10)
        print(domain.console.output.decode())

Names are loaded on first use, so that generators and `hv --help` start without the engine.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself is not imported: it would cost more than this whole file
if TYPE_CHECKING:
    from typing import Any

    from hv.errors import ConfigError, DomainEnded, EngineError, HvError, ImageError, StoreError, Timeout
    from hv.machine.console import Console
    from hv.machine.domain import Domain
    from hv.machine.machine import Machine
    from hv.version import __version__

_HOMES = {
    "__version__": "hv.version",
    "Machine": "hv.machine.machine",
    "Domain": "hv.machine.domain",
    "Console": "hv.machine.console",
    **dict.fromkeys(
        ("ConfigError", "DomainEnded", "EngineError", "HvError", "ImageError", "StoreError", "Timeout"), "hv.errors"
    ),
}
__all__ = [
    "ConfigError",
    "Console",
    "Domain",
    "DomainEnded",
    "EngineError",
    "HvError",
    "ImageError",
    "Machine",
    "StoreError",
    "Timeout",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hv' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
