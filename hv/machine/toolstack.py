"""What a toolstack asks of a running guest: `xl shutdown`, `mem-set`, `vcpu-set`, `sysrq`, suspend and resume.

Rules:

1. These are requests, by keys in the store: a guest acts on them when it runs, in its own time, or not at all.
2. A guest that has suspended keeps everything it has, and goes on where it was when it is resumed: its hypercall
   returns 1, "cancelled" (XEN_ELFNOTE_SUSPEND_CANCEL). Nothing else ends that state but `Domain.destroy`.

Behaviour: Xen 4.17, tools/libs/light (libxl_domain.c, libxl_mem.c); docs/misc/xenstore-paths.pandoc.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hv.abi import sched
from hv.errors import ConfigError
from hv.machine import size

if TYPE_CHECKING:
    from hv.machine.domain import Domain

REQUESTS = ("poweroff", "reboot", "halt", "suspend")
SLACK_PAGES = 256  # a domain may have a little more than its target, as libxl lets it
CANCELLED = 1


class Toolstack:
    """Requests to one domain; `Domain.toolstack`."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain

    def shutdown(self, how: str = "poweroff") -> None:
        """Ask the guest to end: "poweroff", "reboot", "halt", or "suspend"."""
        if how not in REQUESTS:
            raise ConfigError(f"{how!r} is nothing that a guest can be asked for: choose {', '.join(REQUESTS)}")
        self._write("control/shutdown", how)

    def sysrq(self, key: str) -> None:
        """Magic SysRq: one letter, as on a keyboard."""
        if len(key) != 1 or not key.isascii():
            raise ConfigError(f"{key!r} is no SysRq key: give one letter")
        self._write("control/sysrq", key)

    def set_memory(self, target: str | int) -> None:
        """Ask the guest's balloon for that much memory ("150M", or MiB); at most what the domain was made with."""
        wanted, most = size.parse(target), max(self._domain.config.memory, self._domain.config.max_memory or 0)
        if wanted > most:
            raise ConfigError(f"{self._domain.name} can have at most {most >> 20}M: it was made so")
        self._domain.guest.max_pages = (wanted >> 12) + SLACK_PAGES
        self._write("memory/target", str(wanted >> 10))

    def set_vcpus(self, count: int) -> None:
        """Ask the guest to use its vCPUs 0 to count - 1 only."""
        most = self._domain.config.vcpus
        if not 1 <= count <= most:
            raise ConfigError(f"{self._domain.name} can have 1 to {most} vCPUs, not {count}")
        for vcpu in range(most):
            self._write(f"cpu/{vcpu}/availability", "online" if vcpu < count else "offline")

    def resume(self) -> None:
        """Let a suspended guest go on."""
        domain = self._domain
        if not domain.preserved or domain.guest.shutdown_code != sched.SHUTDOWN_suspend:
            raise ConfigError(f"{domain.name} is not suspended: there is nothing to resume")
        if not domain.config.image.suspend_cancel:
            raise ConfigError(f"{domain.name} can not be resumed in place: its kernel has no note SUSPEND_CANCEL")
        self._write("control/shutdown", "", alive=False)
        domain.guest.resume(CANCELLED)
        domain.resumed()

    def _write(self, key: str, value: str, *, alive: bool = True) -> None:
        domain = self._domain
        if alive and domain.ended:
            raise ConfigError(f"{domain.name} has ended ({domain.reason}): there is nobody to ask")
        domain.machine.xenstore.write(f"/local/domain/{domain.domid}/{key}", value)
        domain.machine.settle()
