"""Devices that come and go while a domain lives: `Domain.attach` and `detach`, and what they leave behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import hv
from hv.backends.block import Block
from hv.backends.image_file import ImageFile
from hv.backends.net import Vif


@pytest.fixture
def domain() -> Iterator[hv.Domain]:
    with hv.Machine() as machine:
        yield machine.create("hello")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(bytes(4096))
    return path


def is_free(image: Path) -> bool:
    try:
        ImageFile(str(image)).close()
    except hv.ConfigError:
        return False
    return True


def test_a_disk_comes_and_goes(domain: hv.Domain, image: Path) -> None:
    disk = domain.attach("disk", f"{image},raw,xvdb,rw")
    assert isinstance(disk, Block) and list(domain.devices) == [disk]
    front = f"/local/domain/{domain.domid}/device/vbd/51728"
    assert domain.machine.store.read(f"{front}/virtual-device") == b"51728"
    assert not is_free(image)
    domain.detach("xvdb")  # the guest has no driver: nobody has to be asked
    assert not list(domain.devices) and not domain.machine.store.exists(front) and is_free(image)


def test_interfaces_get_the_next_number(domain: hv.Domain) -> None:
    vifs = [domain.attach("vif", "bridge=lan") for _ in range(3)]
    assert [vif.number for vif in vifs] == [0, 1, 2]
    domain.detach("vif/1")
    vif = domain.attach("vif", "mac=00:16:3e:00:00:09")
    assert isinstance(vif, Vif) and vif.number == 1


MISTAKES = {
    ("floppy", "x"): "'floppy' is nothing that can be attached: choose disk",
    ("disk", "none,raw,xvdb,rw"): "none: the disk image cannot be opened",
    ("disk", "image,raw,xvda,rw"): "in use by another disk",
    ("disk", "other,raw,xvda,rw"): "hello has a device xvda already",
    ("disk", "other,qcow2,xvdb,rw"): "qemu-img convert",
    ("vif", "mac=one"): "is no address",
}


@pytest.mark.parametrize(("kind", "text"), MISTAKES)
def test_mistakes(
    kind: str, text: str, domain: hv.Domain, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence, and nothing has changed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").write_bytes(bytes(4096))
    domain.attach("disk", "image,raw,xvda,rw")
    with pytest.raises(hv.ConfigError, match=MISTAKES[kind, text]):
        domain.attach(kind, text)
    assert len(domain.devices) == 1 and is_free(tmp_path / "other")


def test_a_device_that_is_not_there(domain: hv.Domain, image: Path) -> None:
    domain.attach("disk", f"{image},raw,xvda,rw")
    with pytest.raises(hv.ConfigError, match="hello has no device xvdb: it has xvda"):
        domain.detach("xvdb")


def test_not_to_a_domain_that_has_ended(domain: hv.Domain, image: Path) -> None:
    domain.machine.run(timeout=30)
    with pytest.raises(hv.ConfigError, match=r"hello has ended \(powered off\)"):
        domain.attach("disk", f"{image},raw,xvda,rw")
    assert is_free(image)


@pytest.mark.parametrize("end", ["force", "destroy"])
def test_a_guest_that_never_lets_go(end: str, domain: hv.Domain, image: Path) -> None:
    """It was asked, and does nothing: the disk stays its own until it is pulled out, or the guest is gone."""
    other = image.with_name("other")
    other.write_bytes(bytes(512))
    disk = domain.attach("disk", f"{image},raw,xvda,rw")
    disk.state = 4  # as a frontend that is connected left it
    domain.detach("xvda")
    assert disk.attached and not is_free(image)
    with pytest.raises(hv.ConfigError, match="has a device xvda already"):
        domain.attach("disk", f"{other},raw,xvda,rw")
    assert is_free(other)
    if end == "force":
        domain.detach("xvda", force=True)
    else:
        domain.destroy()
    assert not disk.attached and is_free(image)
