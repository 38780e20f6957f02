"""What a toolstack writes into XenStore for a PV domain.

The keys, their order and their permissions are those of xl 4.17 for a PV guest without devices;
what the guest itself adds later (its control/feature-* keys) is not here. `control/sysrq` and its
like are the guest's own, so that it may write there; everything else the guest may only read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hv.core.xenstore.paths import domain_path


class Key(NamedTuple):
    """A node to write; permissions as SET_PERMS takes them."""

    path: str
    value: str
    permissions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PvDomain:
    """What the keys of a domain depend on."""

    domid: int
    name: str
    uuid: str
    memory_kib: int
    store_ring_ref: int
    store_port: int
    console_ring_ref: int
    console_port: int
    max_memory_kib: int | None = None  # as `memory_kib` if None
    online_vcpus: Sequence[bool] = (True,)
    console_tty: str | None = None
    console_limit: int = 1_048_576


_HOST_ONLY = ("n0",)
_OWN_CONTROLS = ("shutdown", "feature-poweroff", "feature-reboot", "feature-suspend", "sysrq")
_OWN_AREAS = ("data", "drivers", "feature", "attr", "error")


def host_keys() -> list[Key]:
    """What is there before any domain is made."""
    host = domain_path(0)
    values = {
        "/local": "",
        "/local/domain": "",
        host: "",
        f"{host}/control": "",
        f"{host}/control/feature-poweroff": "1",
        f"{host}/control/feature-reboot": "1",
        f"{host}/control/feature-suspend": "1",
        f"{host}/domid": "0",
        f"{host}/name": "Domain-0",
        f"{host}/backend": "",
        "/local/pool": "",
        "/local/pool/0": "",
        "/local/pool/0/name": "Pool-0",
        "/vm": "",
        "/libxl": "",
    }
    return [Key(path, value, _HOST_ONLY) for path, value in values.items()]


def domain_keys(domain: PvDomain) -> list[Key]:
    """Everything for one domain, parents before children."""
    return [*_console_backend(domain), *_identity(domain), *_guest_areas(domain), *_rings(domain)]


def _readable(domain: PvDomain) -> tuple[str, ...]:
    return ("n0", f"r{domain.domid}")


def _console_backend_path(domain: PvDomain) -> str:
    return f"{domain_path(0)}/backend/console/{domain.domid}/0"


def _console_backend(domain: PvDomain) -> list[Key]:
    path, readable = _console_backend_path(domain), _readable(domain)
    values = {
        "frontend": f"{domain_path(domain.domid)}/console",
        "frontend-id": f"{domain.domid}",
        "online": "1",
        "state": "1",
        "protocol": "vt100",
    }
    above = path.rpartition("/")[0]
    return [
        Key(above.rpartition("/")[0], "", _HOST_ONLY),
        Key(above, "", _HOST_ONLY),
        Key(path, "", readable),
        *(Key(f"{path}/{name}", value, readable) for name, value in values.items()),
    ]


def _identity(domain: PvDomain) -> list[Key]:
    limit = domain.memory_kib if domain.max_memory_kib is None else domain.max_memory_kib
    values = {"": "", "/vm": f"/vm/{domain.uuid}", "/name": domain.name, "/cpu": ""}
    for number, online in enumerate(domain.online_vcpus):
        values[f"/cpu/{number}"] = ""
        values[f"/cpu/{number}/availability"] = "online" if online else "offline"
    values |= {
        "/memory": "",
        "/memory/static-max": f"{limit}",
        "/memory/target": f"{domain.memory_kib}",
        "/memory/videoram": "0",
    }
    path, readable = domain_path(domain.domid), _readable(domain)
    return [Key(path + name, value, readable) for name, value in values.items()]


def _guest_areas(domain: PvDomain) -> list[Key]:
    path, readable = domain_path(domain.domid), _readable(domain)
    own = (f"n{domain.domid}",)
    return [
        Key(f"{path}/device", "", readable),
        Key(f"{path}/device/suspend", "", readable),
        Key(f"{path}/device/suspend/event-channel", "", own),
        Key(f"{path}/control", "", readable),
        *(Key(f"{path}/control/{name}", "", own) for name in _OWN_CONTROLS),
        Key(f"{path}/control/platform-feature-multiprocessor-suspend", "1", readable),
        Key(f"{path}/control/platform-feature-xs_reset_watches", "1", readable),
        *(Key(f"{path}/{name}", "", own) for name in _OWN_AREAS),
    ]


def _rings(domain: PvDomain) -> list[Key]:
    path, readable = domain_path(domain.domid), _readable(domain)
    backend_id = Key(f"{path}/console/backend-id", "0", (f"n{domain.domid}", "r0"))
    values = {
        "/domid": f"{domain.domid}",
        "/store": "",
        "/store/port": f"{domain.store_port}",
        "/store/ring-ref": f"{domain.store_ring_ref}",
        "/console": "",
        "/console/backend": _console_backend_path(domain),
        "/console/limit": f"{domain.console_limit}",
        "/console/type": "xenconsoled",
        "/console/output": "pty",
    }
    if domain.console_tty is not None:
        values["/console/tty"] = domain.console_tty
    values["/console/port"] = f"{domain.console_port}"
    values["/console/ring-ref"] = f"{domain.console_ring_ref}"
    keys = [Key(path + name, value, readable) for name, value in values.items()]
    backend = next(i for i, key in enumerate(keys) if key.path.endswith("/console/backend"))
    return [*keys[: backend + 1], backend_id, *keys[backend + 1 :]]
