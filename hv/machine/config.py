"""What a domain is made from, checked: one sentence for whoever asks for the impossible."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hv.abi.event_channel import EVTCHN_FIFO_NR_CHANNELS
from hv.builder import image as images
from hv.core.grant_table import DEFAULT_MAX_FRAMES, DEFAULT_MAX_MAPTRACK_FRAMES, LARGEST, LARGEST_MAPTRACK
from hv.errors import ConfigError
from hv.machine import images as sources
from hv.machine import size, xl_devices, xl_disk
from hv.machine.xl_devices import ChannelSpec, VifSpec
from hv.machine.xl_disk import DiskSpec, Warn
from hv.machine.xl_domain import ACTIONS, DEFAULT_ACTIONS

DEFAULT_MEMORY = "64M"
DEFAULT_WEIGHT = 256
FEWEST_EVENT_CHANNELS = 2


@dataclass(frozen=True, slots=True)
class Config:
    """One domain's."""

    name: str
    image: images.Image
    memory: int  # bytes
    max_memory: int
    vcpus: int  # all that there are
    online_vcpus: int  # those that the guest is to use at first
    cmdline: str
    ramdisk: bytes
    max_event_channels: int
    max_grant_frames: int
    max_grant_version: int
    max_maptrack_frames: int
    weight: int  # its share of the processor when others want it too
    cap: int  # % of the processor that it may have at most; 0 is no limit
    actions: Mapping[str, str]  # what to do after "poweroff", "reboot", "watchdog", "crash", "soft_reset"
    disks: tuple[DiskSpec, ...]
    vifs: tuple[VifSpec, ...]
    channels: tuple[ChannelSpec, ...]


def configuration(
    data: bytes,
    source: str,
    warn: Warn,
    *,
    memory: str | int = DEFAULT_MEMORY,
    max_memory: str | int | None = None,
    vcpus: int = 1,
    max_vcpus: int | None = None,
    cmdline: str = "",
    ramdisk: str | Path | bytes = b"",
    name: str | None = None,
    max_event_channels: int = 1023,
    max_grant_frames: int = DEFAULT_MAX_FRAMES,
    max_grant_version: int = 2,
    max_maptrack_frames: int = DEFAULT_MAX_MAPTRACK_FRAMES,
    weight: int = DEFAULT_WEIGHT,
    cap: int = 0,
    actions: Mapping[str, str] | None = None,
    disks: Iterable[str | DiskSpec] = (),
    vifs: Iterable[str | VifSpec] = (),
    channels: Iterable[str | ChannelSpec] = (),
) -> Config:
    """The configuration of a domain whose image is `data`; the defaults are xl's."""
    if not 1 <= vcpus <= 64:
        raise ConfigError(f"{vcpus} vCPUs are not possible: choose 1 to 64")
    all_vcpus = vcpus if max_vcpus is None else max_vcpus
    if not vcpus <= all_vcpus <= 64:
        raise ConfigError(f"maxvcpus = {all_vcpus} is not possible with {vcpus} vCPUs: choose {vcpus} to 64")
    if name is not None and (not name or not name.isprintable()):
        raise ConfigError(f"{name!r} is no name for a domain: choose one of printable characters")
    if not FEWEST_EVENT_CHANNELS <= max_event_channels < EVTCHN_FIFO_NR_CHANNELS:
        raise ConfigError(
            f"{max_event_channels} event channels are not possible: choose {FEWEST_EVENT_CHANNELS} "
            f"(for store and console) to {EVTCHN_FIFO_NR_CHANNELS - 1}"
        )
    if not 1 <= weight <= 65535:
        raise ConfigError(f"a weight of {weight} is not possible: choose 1 to 65535")
    if not 0 <= cap <= 100 * all_vcpus:
        raise ConfigError(f"a cap of {cap} % is not possible: choose 1 to {100 * all_vcpus}, or 0 for none")
    if max_grant_version not in (1, 2):
        raise ConfigError(f"there are no grant tables of version {max_grant_version}: choose 1 or 2")
    if not 1 <= max_grant_frames <= LARGEST:
        raise ConfigError(f"a grant table of {max_grant_frames} frames is not possible: choose 1 to {LARGEST}")
    if not 0 <= max_maptrack_frames <= LARGEST_MAPTRACK:
        raise ConfigError(f"{max_maptrack_frames} frames of handles are not possible: choose 0 to {LARGEST_MAPTRACK}")
    for kind, action in (actions or {}).items():
        if kind not in DEFAULT_ACTIONS or action not in ACTIONS:
            raise ConfigError(f"on_{kind} = {action!r} is not possible: choose {', '.join(ACTIONS)}")
    now = size.parse(memory)
    most = now if max_memory is None else size.parse(max_memory)
    if most < now:
        raise ConfigError(f"maxmem ({most >> 20}M) is below memory ({now >> 20}M): raise it or leave it out")
    if not isinstance(ramdisk, bytes):
        ramdisk = sources.read(ramdisk)[0]
    return Config(
        name=name or source,
        image=images.load(data, source),
        memory=now,
        max_memory=most,
        vcpus=all_vcpus,
        online_vcpus=vcpus,
        cmdline=cmdline,
        ramdisk=ramdisk,
        max_event_channels=max_event_channels,
        max_grant_frames=max_grant_frames,
        max_grant_version=max_grant_version,
        max_maptrack_frames=max_maptrack_frames,
        weight=weight,
        cap=cap,
        actions=DEFAULT_ACTIONS | dict(actions or {}),
        disks=tuple(xl_disk.disk(disk, warn) if isinstance(disk, str) else disk for disk in disks),
        vifs=tuple(xl_devices.vif(vif, warn) if isinstance(vif, str) else vif for vif in vifs),
        channels=tuple(xl_devices.channel(item, warn) if isinstance(item, str) else item for item in channels),
    )
