"""A domain's split devices: those of its configuration, and those that are plugged in while it runs.

Rules:

1. No two devices of a domain have the same kind and number, those included that the guest has not let go of yet.
2. A device that was removed is closed as soon as it is out, at the latest when the guest has ended: its image is free.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from hv.backends.block import Block
from hv.backends.channel import Channel
from hv.backends.device import Device
from hv.backends.image_file import ImageFile
from hv.backends.net import Vif
from hv.errors import ConfigError
from hv.machine import xl_devices, xl_disk
from hv.machine.device_trace import watch
from hv.machine.peer import GuestPeer
from hv.machine.xl_devices import default_mac

if TYPE_CHECKING:
    from hv.machine.config import Config
    from hv.machine.domain import Domain
    from hv.machine.machine import Machine
    from hv.machine.xl_devices import VifSpec
    from hv.machine.xl_disk import DiskSpec

FIRST_CHANNEL = 1  # console 0 is the one that every guest has
QUEUES = 4  # at most; no more than there are vCPUs


class Devices:
    """`domain.devices`: iterate over it; `add` and `remove` plug in and out."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._devices = from_config(domain.machine, domain.config)
        for device in self._devices:
            self._welcome(device)
        self._leaving: list[Device] = []

    def __iter__(self) -> Iterator[Device]:
        return iter(self._devices)

    def __getitem__(self, index: int) -> Device:
        return self._devices[index]

    def __len__(self) -> int:
        return len(self._devices)

    def attach(self, kind: str, specification: str) -> Device:
        """Plug in what an item of xl.cfg describes, as `xl block-attach` does: ("disk", "data.img,raw,xvdb,rw").

        `kind` is "disk", "vif" or "channel". ConfigError.
        """
        if self._domain.ended:
            raise ConfigError(f"{self._domain.name} has ended ({self._domain.reason}): nothing can be attached to it")
        if kind not in KINDS:
            raise ConfigError(f"{kind!r} is nothing that can be attached: choose {' or '.join(KINDS)}")
        device = KINDS[kind](self._domain, specification)
        try:
            self.add(device)
        except BaseException:
            device.close()
            raise
        return device

    def detach(self, device: Device | str, *, force: bool = False) -> None:
        """The other way, as `xl block-detach`: by the device, or its label ("xvdb", "vif/0")."""
        if isinstance(device, str):
            self.remove(self._find(device), force=force)
        else:
            self.remove(device, force=force)

    def _find(self, label: str) -> Device:
        found: Device | None = next((d for d in (*self, *self._leaving) if d.label == label), None)
        if found is None:
            there = ", ".join(device.label for device in self) or "none"
            raise ConfigError(f"{self._domain.name} has no device {label}: it has {there}")
        return found

    def add(self, device: Device) -> None:
        """Plug in a device, now and at every boot; a running guest sees it if its driver looks for new ones."""
        if any((other.kind, other.number) == (device.kind, device.number) for other in (*self, *self._leaving)):
            raise ConfigError(f"{self._domain.name} has a device {device.label} already")
        self._devices.append(device)
        self._welcome(device)
        if not self._domain.ended:
            self._plug(device)
            self._domain.machine.settle()

    def remove(self, device: Device, *, force: bool = False) -> None:
        """Unplug a device: the guest is asked to let go of it, or finds it gone (`force`, also when it was asked)."""
        if device in self._devices:
            self._devices.remove(device)
            self._leaving.append(device)
            device.on_detached = lambda: self._left(device)
        if not device.attached:
            self._left(device)
            return
        device.detach() if force else device.unplug()
        self._domain.machine.settle()

    def _left(self, device: Device) -> None:
        if device in self._leaving:
            self._leaving.remove(device)
            self._close(device)

    def _welcome(self, device: Device) -> None:
        watch(self._domain, device)
        if isinstance(device, Channel):
            self._domain.machine.inputs.append(device)
            if device.tty:
                self._domain.machine.warn(f"channel {device.name} of {self._domain.config.name} is {device.tty}")

    def _close(self, device: Device) -> None:
        if isinstance(device, Channel) and device in self._domain.machine.inputs:
            self._domain.machine.inputs.remove(device)
        device.close()

    # --- the domain's life

    def plug(self) -> None:
        """A boot: the guest finds them all."""
        for device in self:
            self._plug(device)

    def unplug(self) -> None:
        """The guest is gone."""
        for device in (*self, *self._leaving):
            device.detach()

    def close(self) -> None:
        """The domain will not boot again."""
        for device in self:
            self._close(device)

    def _plug(self, device: Device) -> None:
        self._domain.machine.xenbus.plug(device, GuestPeer(self._domain))


def from_config(machine: Machine, config: Config) -> list[Device]:
    """Its disks, interfaces and channels, not yet plugged in. ConfigError; nothing stays open then."""
    devices: list[Device] = []
    try:
        for disk in config.disks:
            if any(other.number == disk.number for other in devices):
                raise ConfigError(f"{config.name} has two disks {disk.vdev}: give each its own name")
            devices.append(_block(disk, min(config.vcpus, QUEUES)))
        for index, spec in enumerate(config.vifs):
            vif = _vif(machine, config, spec, index)
            if any((other.kind, other.number) == (vif.kind, vif.number) for other in devices):
                raise ConfigError(f"{config.name} has two network interfaces {vif.number}: give each its own devid")
            devices.append(vif)
        for number, channel in enumerate(config.channels, start=FIRST_CHANNEL):
            devices.append(Channel(number, channel.name, channel.path))
    except BaseException:
        for device in devices:
            device.close()
        raise
    return devices


def _vif(machine: Machine, config: Config, vif: VifSpec, index: int) -> Vif:
    return Vif(
        machine.network.switch(vif.bridge),
        vif.mac or default_mac(config.name, index),
        index if vif.devid is None else vif.devid,
        name=vif.name or "",
        queues=min(config.vcpus, QUEUES),
        mtu=vif.mtu,
        trusted=vif.trusted,
        shown=dict(vif.shown),
    )


def _block(disk: DiskSpec, queues: int) -> Block:
    image = ImageFile(disk.target, read_only=disk.read_only, raw=disk.raw)
    return Block(image, disk.vdev, disk.number, cdrom=disk.cdrom, discards=disk.discard, queues=queues)


def _new_disk(domain: Domain, text: str) -> Device:
    return _block(xl_disk.disk(text, domain.machine.warn), min(domain.config.vcpus, QUEUES))


def _new_vif(domain: Domain, text: str) -> Device:
    spec = xl_devices.vif(text, domain.machine.warn)
    return _vif(domain.machine, domain.config, spec, _free_number(domain, Vif.kind, 0))


def _new_channel(domain: Domain, text: str) -> Device:
    spec = xl_devices.channel(text, domain.machine.warn)
    return Channel(_free_number(domain, Channel.kind, FIRST_CHANNEL), spec.name, spec.path)


def _free_number(domain: Domain, kind: str, first: int) -> int:
    taken = {device.number for device in domain.devices if device.kind == kind}
    return next(number for number in itertools.count(first) if number not in taken)


KINDS: dict[str, Callable[[Domain, str], Device]] = {"disk": _new_disk, "vif": _new_vif, "channel": _new_channel}
