"""Debian's backports for a system that does not use them: a private apt beside the system's, without root.

The suite is on the same mirrors as the system's own release, so it is derived from the system's sources, with their
options. Lists and caches are in a temporary folder, and apt checks signatures as it always does. The system's own apt
is not touched, but its configuration is read: a proxy, say, or the keys.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hv.testing import apt_sources
from hv.testing.apt_sources import Source
from hv.testing.debian_packages import PackageError, need

OS_RELEASE = Path("/etc/os-release")
# The hooks are for those who keep the system's lists: some need root.
CONFIGURATION = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir::Etc::sourcelist "{folder}/none.list";
Dir::Etc::sourceparts "{folder}/sources";
Dir::State::lists "{folder}/lists";
Dir::Cache "{folder}/cache";
"""


@contextmanager
def apt(package: str) -> Iterator[tuple[str, ...]]:
    """Options that make apt's programs see the backports suite that has `package`, while it is needed.

    PackageError where there is none; the sentence has apt's reason.
    """
    need(("apt-get", "apt-cache", "apt-config"), package)
    choice = suites(apt_sources.read(_files()), _codename())
    if not choice:
        raise PackageError(
            "no apt source of this system is a Debian release with the component main, so its backports are not known:"
            " fetch the package with other tools, and give `hv run` its kernel"
        )
    reasons = []
    for source, suite in choice:
        with tempfile.TemporaryDirectory(prefix="hv-apt-") as temporary:
            options = _configure(Path(temporary), source, suite)
            reason = _update(package, options)
            if reason is None:
                yield options
                return
            reasons.append(f"{suite} of {source.uri}: {reason}")
    raise PackageError(
        f"Debian's package {package} cannot be had from backports ({reasons[0]}): network access to the mirror is"
        " needed, or apt sources of a Debian release that has backports"
    )


def suites(sources: list[Source], codename: str) -> list[tuple[Source, str]]:
    """Where backports may be, the likeliest first: what the system uses already, then beside its own release.

    A release's own suite has neither "-" nor "/" in its name, unlike updates and security; of others than
    Debian there may be some too, so there may be several.
    """
    found: list[tuple[int, Source, str]] = []
    for source in sources:
        for suite in source.suites:
            if "main" not in source.components:
                continue
            if suite.endswith("-backports"):
                found.append((0, source, suite))
            elif "-" not in suite and "/" not in suite:
                found.append((1 if suite == codename else 2, source, f"{suite}-backports"))
    found.sort(key=lambda row: row[0])
    return list(dict.fromkeys((source, suite) for _, source, suite in found))


def _files() -> list[Path]:
    """apt's files of sources, in apt's order."""
    names = ("Dir::Etc::sourcelist/f", "Dir::Etc::sourceparts/d")
    asked = subprocess.run(
        ["apt-config", "shell", "LIST", names[0], "PARTS", names[1]], capture_output=True, text=True, errors="replace"
    )
    found = dict(line.split("=", 1) for line in asked.stdout.splitlines() if "=" in line)
    main, parts = (Path(found.get(name, "").strip("'") or "/nowhere") for name in ("LIST", "PARTS"))
    return [main, *(sorted(parts.iterdir()) if parts.is_dir() else [])]


def _codename() -> str:
    """The release's name, as the system says."""
    try:
        lines = OS_RELEASE.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition("=")[2].strip("\"'") for line in lines if line.startswith("VERSION_CODENAME=")), "")


def _configure(folder: Path, source: Source, suite: str) -> tuple[str, ...]:
    """apt's state in `folder`, with one source; apt's own user must be able to write there where root fetches."""
    folder.chmod(0o755)
    for name in ("sources", "lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / f"sources/backports{source.suffix}").write_text(source.text(suite, "main"))
    (folder / "apt.conf").write_text(CONFIGURATION.format(folder=folder))
    return "-c", str(folder / "apt.conf")


def _update(package: str, options: tuple[str, ...]) -> str | None:
    """Bring the suite's lists; why they are not here, or lack the package."""
    command = ["apt-get", *options, "-o", "Acquire::Retries=2", "--error-on=any", "update"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith(("E: ", "W: "))]
        return lines[0][3:].strip().rstrip(".") if lines else "apt-get update failed"
    asked = subprocess.run(["apt-cache", *options, "show", package], capture_output=True)
    return None if asked.returncode == 0 else "it has no such package"
