"""How Debian packages are fetched: with a stand-in for apt-get, so that the network is not needed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hv.testing import debian_packages

DPKG = '#!/bin/sh\nmkdir -p "$3/usr" && cp "$2" "$3/usr/file"\n'
APT = '#!/bin/sh\necho "$2" >> {log}\n{action}\n'


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH, but for /bin; the cache is empty."""
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "dpkg").write_text(DPKG)
    (folder / "dpkg").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("HV_GUEST_CACHE", str(tmp_path / "cache"))
    return folder


def apt(tools: Path, action: str) -> Path:
    """An apt-get that does `action`; the file where it writes down what it was asked for."""
    log = tools / "log"
    (tools / "apt-get").write_text(APT.format(log=log, action=action))
    (tools / "apt-get").chmod(0o755)
    return log


def test_fetched_once(tools: Path) -> None:
    log = apt(tools, 'echo content > "$2_1.0_amd64.deb"')
    for _ in range(2):
        assert (debian_packages.unpacked("thing") / "usr/file").read_text() == "content\n"
    assert log.read_text() == "thing\n"
    assert [path.name for path in debian_packages.cache().iterdir()] == ["thing"]


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (
            'echo "E: Unable to locate package $2" >&2; exit 100',
            "cannot be fetched (Unable to locate package thing): run",
        ),
        ("exit 1", "cannot be fetched (apt-get download failed): run `apt-get update`"),
        ("exit 0", "cannot be fetched (apt-get download failed): run `apt-get update`"),
    ],
)
def test_what_can_not_be_fetched_names_the_remedy(action: str, words: str, tools: Path) -> None:
    apt(tools, action)
    with pytest.raises(debian_packages.PackageError) as error:
        debian_packages.unpacked("thing")
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert list(debian_packages.cache().iterdir()) == []  # nothing half-done stays


def test_no_apt_get(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(debian_packages.PackageError, match=r"there is no apt-get to fetch it: run"):
        debian_packages.unpacked("thing")


def test_cache_that_can_not_be_written(tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apt(tools, "exit 0")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HV_GUEST_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(debian_packages.PackageError, match="set HV_GUEST_CACHE to another folder"):
        debian_packages.unpacked("thing")


def test_two_at_once(tools: Path) -> None:
    apt(tools, 'sleep 0.2; echo content > "$2_1.0_amd64.deb"')
    program = "from hv.testing import debian_packages; print(debian_packages.unpacked('thing'))"
    runs = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    outputs = [run.communicate(timeout=30)[0].strip() for run in runs]
    assert outputs == [str(debian_packages.cache() / "thing")] * 4
    assert [path.name for path in debian_packages.cache().iterdir()] == ["thing"]


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"HV_GUEST_CACHE": "/a"}, "/a"),
        ({"HV_GUEST_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ({"HV_GUEST_CACHE": "", "XDG_CACHE_HOME": "/b"}, "/b/hv/guests"),
        ({"HOME": "/c"}, "/c/.cache/hv/guests"),
    ],
)
def test_place_of_the_cache(variables: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HV_GUEST_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert debian_packages.cache() == Path(place)
