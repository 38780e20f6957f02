"""What hv raises when its user, not hv, has to change something.

1. ``str()`` of every error here is one sentence that names the thing and, where one exists,
   the remedy.
2. A guest's mistake is never one of these: it is an error code that the guest receives.
3. A bug in hv is never one of these either: it is an ordinary exception with its traceback.
"""

from __future__ import annotations

from typing import Any


class HvError(Exception):
    """A mistake that hv's user can mend."""


class ImageError(HvError):
    """A guest image that hv cannot load."""


class ConfigError(HvError):
    """A configuration that cannot work."""


class ConditionError(HvError):
    """An expression that is none, or that has no value where it is asked."""


class EngineError(HvError):
    """The engine cannot start: Unicorn is not laid out as expected, or memory is short."""


class Timeout(HvError):
    """What was waited for did not happen in time."""


class DomainEnded(HvError):
    """The domain ended while something was still expected of it.

    ``reason`` says how it ended in a few words, ``domain`` is the domain itself.
    """

    def __init__(self, reason: str, domain: Any = None) -> None:
        super().__init__(f"the domain ended: {reason}")
        self.reason = reason
        self.domain = domain


class StoreError(HvError):
    """XenStore has refused a request; ``name`` is the errno's name, such as ENOENT."""

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(sentence)
        self.name = name
