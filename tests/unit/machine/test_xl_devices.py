"""Disks and network interfaces in xl's syntax: xl-disk-configuration(5), xl-network-configuration(5)."""

from __future__ import annotations

import pytest

import hv
from hv.machine.xl_devices import VifSpec, default_mac, vif
from hv.machine.xl_disk import device_number, disk

DISKS: dict[str, tuple[str, str, bool, bool, bool]] = {  # target, vdev, read_only, cdrom, discard
    "/i/a.raw,raw,xvda,rw": ("/i/a.raw", "xvda", False, False, True),
    "/i/a.raw,raw,xvda,r": ("/i/a.raw", "xvda", True, False, True),
    "/i/a.raw, , xvdb, w": ("/i/a.raw", "xvdb", False, False, True),
    "/i/a.raw,,xvda": ("/i/a.raw", "xvda", False, False, True),
    "a.raw,raw,xvda,ro": ("a.raw", "xvda", True, False, True),
    "vdev=xvda,format=raw,access=rw,target=/i/a,b.raw": ("/i/a,b.raw", "xvda", False, False, True),
    "format=raw, vdev=xvdc, access=ro, target=a.raw": ("a.raw", "xvdc", True, False, True),
    "a.iso,raw,xvdc:cdrom,r": ("a.iso", "xvdc", True, True, True),
    "a.iso,raw,xvdc,cdrom": ("a.iso", "xvdc", True, True, True),
    "devtype=cdrom,vdev=xvdc,target=a.iso": ("a.iso", "xvdc", True, True, True),
    "a.raw,raw,xvda,rw,no-discard": ("a.raw", "xvda", False, False, False),
    "a.raw,raw,xvda,rw,discard,direct-io-safe": ("a.raw", "xvda", False, False, True),
    "phy:/dev/vg/lv,xvda,w": ("/dev/vg/lv", "xvda", False, False, True),
    "file:/i/a.raw,xvda1,r": ("/i/a.raw", "xvda1", True, False, True),
    "tap:aio:raw:/i/a.raw,sda,w": ("/i/a.raw", "sda", False, False, True),
    "file:a.raw,xvda": ("a.raw", "xvda", False, False, True),
    "raw:a.raw,xvda,r": ("a.raw", "xvda", True, False, True),
    "format=raw,a.raw,xvda,r": ("a.raw", "xvda", True, False, True),
    "vdev=xvda,a.raw,,r": ("a.raw", "xvda", True, False, True),
    "a.raw,raw,xvda,r,access=w": ("a.raw", "xvda", False, False, True),
    "a.iso,raw,xvdc,r,cdrom,devtype=disk": ("a.iso", "xvdc", True, False, True),
    "a.raw,raw,xvda:disk,w": ("a.raw", "xvda", False, False, True),
    "vdev=xvda,target=a=b,c,": ("a=b,c", "xvda", False, False, True),
    "a.raw,raw,xvda,w,trusted,no-colo,specification=xen": ("a.raw", "xvda", False, False, True),
}
BAD_DISKS = {
    "a.qcow2,qcow2,xvda,rw": "qemu-img convert -O raw",
    "tap:qcow2:/i/a,xvda,w": "qemu-img convert -O raw",
    "a.raw,tar,xvda": "format 'tar' is unknown",
    "a.raw,raw,xvda,x": "access 'x' is unknown",
    "a.raw,raw,": "it has no name in the guest: write vdev=xvda",
    "a.raw,raw,,w": "'' is no name of a disk",
    "nbd:host,xvda,w": "attach it on the host",
    "x:/a.raw,xvda,w": "x: is an unknown prefix",
    "a.raw,raw,xvda:tape,w": "'tape' is no kind of disk",
    "a.raw,raw,xvda,w,format=qcow2": "its format is given twice",
    "a.raw,raw,xvda,w,vdev=xvdb": "its vdev is given twice",
    "a.raw,raw,xvda,w,specification=virtio": "Xen's own disks only",
    "a.raw,raw,xvda,w,backendtype=x": "backendtype 'x' is unknown: choose phy, tap",
    "a.raw,raw,xvda,w,colo": "no replication",
    ",empty,xvdc:cdrom,r": "an empty drive is not possible",
    "a.raw,raw,xvda,w,devtype=tape": "devtype 'tape' is unknown",
    ",raw,xvda,r": "no image file is named",
    "a.raw,raw,xvda,rw,more": "'more' is too much",
    "a.raw,raw,xvda,speed=9": "speed is unknown",
    "a.raw,raw,vda,rw": "'vda' is no name of a disk",
}
NUMBERS = {
    "xvda": 51712,
    "xvda1": 51713,
    "xvdb": 51728,
    "xvdp15": 202 << 8 | 15 << 4 | 15,
    "xvdq": 1 << 28 | 16 << 8,
    "xvda16": 1 << 28 | 16,
    "xvdaa": 1 << 28 | 26 << 8,
    "d0p0": 51712,
    "0xca00": 51712,
    "0145000": 51712,
    "d0x10p0": 1 << 28 | 16 << 8,
    "d2p1": 202 << 8 | 2 << 4 | 1,
    "hda": 768,
    "hdb1": 768 + 65,
    "hdc": 22 << 8,
    "sda": 2048,
    "sdb3": 2048 + 19,
    "768": 768,
    "0x300": 768,
}


def nobody(warning: str) -> None:
    raise AssertionError(warning)


@pytest.mark.parametrize("text", DISKS)
def test_disk(text: str) -> None:
    spec = disk(text, nobody)
    assert (spec.target, spec.vdev, spec.read_only, spec.cdrom, spec.discard) == DISKS[text]


@pytest.mark.parametrize("text", BAD_DISKS)
def test_bad_disk(text: str) -> None:
    with pytest.raises(hv.ConfigError) as error:
        disk(text, nobody)
    assert BAD_DISKS[text] in str(error.value)


@pytest.mark.parametrize("name", NUMBERS)
def test_device_number(name: str) -> None:
    """As libxl__device_disk_dev_number computes them."""
    assert device_number(name) == NUMBERS[name]


NO_NUMBERS = ("sdq", "hde", "xvda256", "xvd", "d", "dx", "d0", "xvdA", "xvdzzzzz", "xvda01", "08", "2147483648",
              "hda64", "sda16", "")  # fmt: skip


@pytest.mark.parametrize("name", NO_NUMBERS)
def test_no_device_number(name: str) -> None:
    with pytest.raises(hv.ConfigError):
        device_number(name)


def test_warnings() -> None:
    warnings: list[str] = []
    assert disk("script=block-x,vdev=xvda,target=a", warnings.append).target == "a"
    assert len(warnings) == 1


VIFS = {
    "": VifSpec(),
    " , ": VifSpec(),
    "mac=00:16:3e:01:02:03, bridge=lan, vifname=v": VifSpec(mac=bytes.fromhex("00163e010203"), bridge="lan", name="v"),
    "mac=0:16:3E:1:2:3": VifSpec(mac=bytes.fromhex("00163e010203")),
    "type=vif,devid=3,mtu=9000,untrusted": VifSpec(devid=3, mtu=9000, trusted=False),
    "trusted,ip=10.0.0.1": VifSpec(shown=(("ip", "10.0.0.1"),)),
    "bridge=a,bridge=b": VifSpec(bridge="b"),
}


@pytest.mark.parametrize("text", VIFS)
def test_vif(text: str) -> None:
    assert vif(text, nobody) == VIFS[text]


@pytest.mark.parametrize("word", [
    "script=vif-route", "model=e1000", "rate=10Mb/s@20ms", "gatewaydev=eth0", "netdev=eth0", "backend=other",
    "forwarddev=eth1", "accel=x", "colo_checkpoint_host=h",
])  # fmt: skip
def test_vif_warnings(word: str) -> None:
    """What xl takes and hv has no use for: one sentence each, and the rest counts."""
    warnings: list[str] = []
    assert vif(f"{word},bridge=b", warnings.append).bridge == "b"
    assert len(warnings) == 1 and word.partition("=")[0] in warnings[0]


BAD_VIFS = [
    "type=ioemu", "type=x", "bridge=", "devid=x", "devid=-1", "devid=70000", "mtu=67", "mtu=70000", "mtu=1e3",
    "trusted=1", "bridge", "=x", "mac=1:2:3",
    "mac=01:00:00:00:00:00", "mac=xx:0:0:0:0:0", "speed=1", "mac=100:0:0:0:0:0",
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_VIFS)
def test_bad_vif(text: str) -> None:
    with pytest.raises(hv.ConfigError):
        vif(text, nobody)


def test_default_addresses_repeat_and_differ() -> None:
    addresses = {default_mac(name, index) for name in ("a", "b") for index in range(4)}
    assert len(addresses) == 8
    assert all(mac[:3] == bytes.fromhex("00163e") for mac in addresses)
    assert default_mac("a", 0) == default_mac("a", 0)
