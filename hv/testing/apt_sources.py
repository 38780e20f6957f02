"""apt's sources as sources.list(5) describes them: which repositories a system uses, and the same with another suite.

Rules:

1. Both formats are read: lines of a .list file, stanzas of a .sources file. What is disabled or for source packages is
   left out.
2. A source is written again in the format that it came in, with all its options (signed-by above all), so that apt
   reaches and checks the other suite as it does the system's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LINE = re.compile(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>[^#]*)")
REPLACED = ("types", "suites", "components", "enabled")  # fields of a stanza that are written anew


@dataclass(frozen=True, slots=True)
class Source:
    """One repository: where it is, its suites and components, and the rest as it was written."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    rest: str  # a line's options, or a stanza's other fields
    suffix: str  # of the files that are in its format

    def text(self, suite: str, component: str) -> str:
        """A file of apt's with another suite and component of the same repository."""
        if self.suffix == ".list":
            return f"deb {f'[{self.rest}] ' if self.rest else ''}{self.uri} {suite} {component}\n"
        return f"Types: deb\nSuites: {suite}\nComponents: {component}\n{self.rest}\n"


def read(files: list[Path]) -> list[Source]:
    """The sources in files of apt's, in their order; what is no file of apt's, or can not be read, is left out."""
    found = []
    for path in files:
        parse = {".list": _lines, ".sources": _stanzas}.get(path.suffix)
        if parse is None:
            continue
        try:
            found += list(parse(path.read_text(errors="replace")))
        except OSError:
            continue
    return found


def _lines(text: str) -> Iterator[Source]:
    for line in text.splitlines():
        if found := LINE.match(line.strip()):
            options = " ".join((found["options"] or "").split())
            yield Source(found["uri"], (found["suite"],), tuple(found["components"].split()), options, ".list")


def _stanzas(text: str) -> Iterator[Source]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n(?:[ \t]*\n)+", "\n".join(lines).strip()):
        fields: dict[str, str] = {}
        rest = []
        name = ""
        for line in stanza.split("\n"):
            if not line[:1].isspace():
                name, _, line_value = line.partition(":")
                name = name.strip().lower()
                fields[name] = line_value
            else:
                fields[name] = fields.get(name, "") + "\n" + line
            if name not in REPLACED:
                rest.append(line)
        disabled = fields.get("enabled", "yes").strip().lower() in ("no", "false", "without", "off", "disable", "0")
        if disabled or "deb" not in fields.get("types", "").split():
            continue
        suites, components = (tuple(fields.get(field, "").split()) for field in ("suites", "components"))
        for uri in fields.get("uris", "").split()[:1]:
            yield Source(uri, suites, components, "\n".join(rest), ".sources")
