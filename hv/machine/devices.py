"""A domain's split devices: those of its configuration, and those that are plugged in while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hv.backends.block import Block
from hv.backends.device import Device
from hv.backends.image_file import ImageFile
from hv.backends.net import Vif
from hv.errors import ConfigError
from hv.machine.device_trace import watch
from hv.machine.peer import GuestPeer
from hv.machine.xl_devices import default_mac

if TYPE_CHECKING:
    from hv.machine.config import Config
    from hv.machine.domain import Domain
    from hv.machine.machine import Machine
    from hv.machine.xl_devices import DiskSpec, VifSpec

QUEUES = 4  # at most; no more than there are vCPUs


class Devices:
    """`domain.devices`: iterate over it; `add` and `remove` plug in and out."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._devices = from_config(domain.machine, domain.config)
        for device in self._devices:
            watch(domain, device)

    def __iter__(self) -> Iterator[Device]:
        return iter(self._devices)

    def __getitem__(self, index: int) -> Device:
        return self._devices[index]

    def __len__(self) -> int:
        return len(self._devices)

    def add(self, device: Device) -> None:
        """Plug in a device, now and at every boot; a running guest sees it if its driver looks for new ones."""
        if any((other.kind, other.number) == (device.kind, device.number) for other in self):
            raise ConfigError(f"{self._domain.name} has a device {device.kind}/{device.number} already")
        self._devices.append(device)
        watch(self._domain, device)
        if not self._domain.ended:
            self._plug(device)
            self._domain.machine.settle()

    def remove(self, device: Device, *, force: bool = False) -> None:
        """Unplug a device: the guest is asked to let go of it, or with `force` finds it gone."""
        self._devices.remove(device)
        if device.attached:
            device.detach() if force else device.unplug()
            self._domain.machine.settle()

    # --- the domain's life

    def plug(self) -> None:
        """A boot: the guest finds them all."""
        for device in self:
            self._plug(device)

    def unplug(self) -> None:
        """The guest is gone."""
        for device in self:
            device.detach()

    def close(self) -> None:
        """The domain will not boot again."""
        for device in self:
            device.close()

    def _plug(self, device: Device) -> None:
        machine = self._domain.machine
        machine.xenbus.plug(device, GuestPeer(machine.engine, machine.domain0, self._domain.domid))


def from_config(machine: Machine, config: Config) -> list[Device]:
    """Its disks, not yet plugged in. ConfigError; nothing stays open then."""
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
