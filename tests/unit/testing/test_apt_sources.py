"""Which suites a system's apt sources lead to, in both formats; and the private apt, with programs that pretend."""

from __future__ import annotations

from pathlib import Path

import pytest

from hv.testing import apt_sources, backports
from hv.testing.debian_packages import PackageError

STANZAS = """\
# the system's
Types: deb deb-src
URIs: http://mirror.example/debian http://other.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
Architectures: amd64

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://gone.example/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://source.example/debian
Suites: bookworm
Components: main
"""
LINES = """\
# deb http://commented.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb [arch=amd64  signed-by=/usr/share/keyrings/x.gpg] https://mirror.example/debian bookworm main contrib # yes
deb http://vendor.example/apt stable main
deb http://flat.example/ ./
"""


def sources(tmp_path: Path, name: str, text: str) -> list[apt_sources.Source]:
    path = tmp_path / name
    path.write_text(text)
    return apt_sources.read([path, tmp_path / "missing.list", tmp_path / "other.txt"])


def test_stanzas(tmp_path: Path) -> None:
    release, security = sources(tmp_path, "debian.sources", STANZAS)
    assert (release.uri, release.suites) == ("http://mirror.example/debian", ("bookworm", "bookworm-updates"))
    assert release.components == ("main", "contrib") and security.suites == ("bookworm-security",)
    written = release.text("bookworm-backports", "main")
    (again,) = sources(tmp_path, "again.sources", written)
    assert (again.uri, again.suites, again.components) == (release.uri, ("bookworm-backports",), ("main",))
    for kept in ("Signed-By:\n -----BEGIN", " abc\n", "Architectures: amd64", "http://other.example"):
        assert kept in written


def test_lines(tmp_path: Path) -> None:
    release, vendor, flat = sources(tmp_path, "sources.list", LINES)
    assert release.components == ("main", "contrib") and vendor.suites == ("stable",) and flat.components == ()
    assert release.text("bookworm-backports", "main") == (
        "deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] https://mirror.example/debian bookworm-backports main\n"
    )


def test_the_likeliest_suite_is_the_first(tmp_path: Path) -> None:
    found = sources(tmp_path, "sources.list", "deb http://vendor.example/apt stable main\n" + LINES)
    assert [(row.uri, suite) for row, suite in backports.suites(found, "bookworm")] == [
        ("https://mirror.example/debian", "bookworm-backports"),
        ("http://vendor.example/apt", "stable-backports"),
    ]
    used = sources(tmp_path, "used.list", LINES + "deb http://b.example/debian bookworm-backports main\n")
    assert backports.suites(used, "bookworm")[0][0].uri == "http://b.example/debian"
    assert backports.suites(sources(tmp_path, "none.list", ""), "bookworm") == []


@pytest.mark.parametrize("update", ["exit 0", "echo 'E: The repository has no Release file.' >&2; exit 100"])
def test_the_private_apt(update: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its options lead to a configuration with the one source; a failure is told in apt's words."""
    (tmp_path / "sources.list").write_text(LINES)
    tools = {
        "apt-config": f"echo \"LIST='{tmp_path}/sources.list'\"; echo \"PARTS='{tmp_path}/none'\"",
        "apt-get": update,
        "apt-cache": "exit 0",
    }
    for name, text in tools.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(backports, "_codename", lambda: "bookworm")
    if update != "exit 0":
        with pytest.raises(PackageError, match=r"bookworm-backports of https://mirror\.example/debian: The repository"):
            backports.apt("linux").__enter__()
        return
    with backports.apt("linux") as (option, configuration):
        assert option == "-c"
        text = Path(configuration).read_text()
        folder = Path(configuration).parent
        assert f'Dir::State::lists "{folder}/lists";' in text
        (file,) = (folder / "sources").iterdir()
        assert file.name == "backports.list" and " bookworm-backports main\n" in file.read_text()
    assert not folder.exists()


def test_a_system_without_debians_sources_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backports, "_files", lambda: [tmp_path / "sources.list"])
    monkeypatch.setattr(backports, "need", lambda tools, name: None)
    with pytest.raises(PackageError, match="no apt source of this system"), backports.apt("linux"):
        pass
