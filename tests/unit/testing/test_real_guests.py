"""Real guests are made ready in the cache: with stand-ins for apt's programs, so that the network is not needed."""

from __future__ import annotations

import json
import lzma
import subprocess
import sys
from pathlib import Path

import pytest

from hv.errors import ImageError
from hv.machine import fetched, images
from hv.testing import real_guests
from hv.testing.debian_packages import PackageError
from hv.testing.real_guests import RECIPES

VERSION = "6.1.0-1-cloud-amd64"
TOOLS = {
    "apt-get": """#!/bin/sh
if [ "$1" = --print-uris ]; then echo "'x' $3_1.0_amd64.deb 5 SHA256:0"; exit 0; fi
echo "$2" >> "$LOG"
echo "$2" > "$2_1.0_amd64.deb"
""",
    "apt-cache": f'#!/bin/sh\necho "$2"\necho "  Depends: linux-image-{VERSION}"\n',
    "dpkg": f"""#!/bin/sh
mkdir -p "$3/boot" "$3/bin" "$3/usr/lib/grub-xen" "$3/lib/modules/{VERSION}/kernel/drivers/net"
echo kernel > "$3/boot/vmlinuz-{VERSION}"
echo netfront > "$3/lib/modules/{VERSION}/kernel/drivers/net/xen-netfront.ko"
echo busybox > "$3/bin/busybox"
echo grub > "$3/usr/lib/grub-xen/grub-x86_64-xen.bin"
""",
}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and apt's programs that only pretend."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in TOOLS.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setenv("HV_GUEST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    return tmp_path / "cache"


def run_hv(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command, in this test's environment."""
    command = [sys.executable, "-m", "hv", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )


@pytest.mark.parametrize(
    ("name", "image", "content", "ramdisk"),
    [
        ("debian-linux", "vmlinuz", b"kernel\n", True),
        ("debian-linux-generic", "vmlinuz", b"kernel\n", True),
        ("debian-grub", "grub-x86_64-xen.bin", b"grub\n", False),
    ],
)
def test_fetched(name: str, image: str, content: bytes, ramdisk: bool, cache: Path) -> None:
    assert real_guests.fetch(RECIPES[name])
    assert not real_guests.fetch(RECIPES[name])  # it is here
    guest = fetched.find(name)
    assert guest is not None
    assert (guest.image.name, guest.memory, guest.cmdline) == (image, RECIPES[name].memory, RECIPES[name].cmdline)
    assert images.read(name) == (content, name)
    assert (guest.ramdisk is not None) == ramdisk
    assert [path.name for path in cache.iterdir()] == [name]  # no package stays


def test_ramdisk_has_the_drivers_and_a_shell(cache: Path) -> None:
    real_guests.fetch(RECIPES["debian-linux"])
    guest = fetched.find("debian-linux")
    assert guest is not None and guest.ramdisk is not None
    content = guest.ramdisk.read_bytes()
    for part in (b"#!/bin/busybox sh", b"busybox\n", b"netfront\n", f"lib/modules/{VERSION}/modules.dep".encode()):
        assert part in content
    assert b"kernel/drivers/net/xen-netfront.ko:\n" in content
    assert b"xen-blkfront.ko:" not in content  # what the package does not have is not named


def test_drivers_that_are_packed(cache: Path) -> None:
    """As newer packages have them; busybox's modprobe takes only plain ones."""
    dpkg = cache.parent / "tools" / "dpkg"
    packed = lzma.compress(b"packed netfront").hex()
    module = f"lib/modules/{VERSION}/kernel/drivers/net/xen-netfront.ko"
    unpack = f"python3 -c \"open('$3/{module}.xz', 'wb').write(bytes.fromhex('{packed}'))\"\nrm \"$3/{module}\"\n"
    dpkg.write_text(TOOLS["dpkg"] + unpack)
    real_guests.fetch(RECIPES["debian-linux"])
    content = (cache / "debian-linux" / "initramfs.cpio").read_bytes()
    assert b"packed netfront" in content and b"kernel/drivers/net/xen-netfront.ko:\n" in content


def test_a_damaged_file_is_fetched_again(cache: Path, tmp_path: Path) -> None:
    real_guests.fetch(RECIPES["debian-grub"])
    (cache / "debian-grub" / "grub-x86_64-xen.bin").write_text("damaged")
    assert not real_guests.is_whole(cache / "debian-grub")
    assert real_guests.fetch(RECIPES["debian-grub"])
    assert images.read("debian-grub")[0] == b"grub\n"
    assert real_guests.fetch(RECIPES["debian-grub"], again=True)
    assert (tmp_path / "log").read_text() == "grub-xen-host\n" * 3


def test_progress_is_told(cache: Path) -> None:
    (cache.parent / "tools" / "apt-get").write_text(TOOLS["apt-get"].replace('echo "$2" >> "$LOG"', "sleep 0.3"))
    seen: list[tuple[str, int, int]] = []
    real_guests.fetch(RECIPES["debian-grub"], progress=lambda *told: seen.append(told))
    assert seen and set(seen) <= {("grub-xen-host", 0, 5), ("grub-xen-host", len("grub-xen-host\n"), 5)}


def test_half_of_it_is_nothing(cache: Path) -> None:
    (cache.parent / "tools" / "dpkg").write_text('#!/bin/sh\nmkdir -p "$3/bin"; echo busybox > "$3/bin/busybox"\n')
    with pytest.raises(PackageError, match="has no kernel in /boot"):
        real_guests.fetch(RECIPES["debian-linux"])
    assert list(cache.iterdir()) == []
    assert fetched.find("debian-linux") is None


@pytest.mark.parametrize("manifest", ["", "[]", '{"image": 3}', json.dumps({"image": "x", "ramdisk": None})])
def test_a_damaged_manifest_names_the_remedy(manifest: str, cache: Path) -> None:
    (cache / "debian-grub").mkdir(parents=True)
    (cache / "debian-grub" / "guest.json").write_text(manifest)
    with pytest.raises(ImageError, match="hv fetch --again debian-grub"):
        images.read("debian-grub")
    assert real_guests.fetch(RECIPES["debian-grub"])


def test_commands(cache: Path) -> None:
    before = run_hv("fetch")
    assert before.returncode == 0
    assert [line.split()[0] for line in before.stdout.splitlines()] == list(RECIPES)
    assert before.stdout.count("not fetched") == len(RECIPES)
    assert run_hv("fetch", "debian-grub").stderr == "debian-grub: fetched\n"
    assert run_hv("fetch", "debian-grub").stderr == "debian-grub: is here already\n"
    assert run_hv("fetch").stdout.count("not fetched") == len(RECIPES) - 1
    assert "debian-grub" in run_hv("run", "debian-grub").stderr  # four letters are no image


def test_refusals(cache: Path) -> None:
    unknown = run_hv("fetch", "debian-hurd")
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("hv: 'debian-hurd' is not a guest that can be fetched: choose from debian-linux,")
    missing = run_hv("run", "debian-linux")
    assert missing.returncode == 2
    assert "hv fetch" in missing.stderr
