"""Build the bundled guests: assemble and link every guests/*.s, and index what their headers promise.

    python -m guests.build DEST

writes DEST/NAME, an ELF64 image with Xen's notes, for every NAME.s, and DEST/index.json: a list of objects with

    name      the file's name without .s
    title     one line
    exit      the exit code of `hv run NAME`: 0 powered off, 6 crashed
    vcpus     how many vCPUs it is made for
    domains   how many domains of it are made to play together
    pirqs     the interrupts it is made for, as `hv run --pirq` takes them
    output    exactly what it prints on its console
    summary   the story in the file's opening comment, its paragraphs separated by an empty line

Rules:

1. A header is a file's opening comment. It ends with `# Title:`, `# Exit:`, `# vCPUs:` and `# Domains:` where they are
   more than one, `# PIRQs:` where there are some, and `# Output:`, whose lines follow indented by three spaces.
2. The assembler's warnings are errors, and every message names the guest's file.
3. Only images that an earlier build's index names are removed from DEST.
4. Local symbols are dropped, xen.inc defines 1,600 of them; what a trace should name is .globl.

include/xen.inc must exist: `python -m hv.abi.emit --asm guests/include`.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
INDEX = "index.json"
FLAGS = [
    "-nostdlib",
    "-static",
    "-no-pie",
    "-Wa,-Iinclude,--fatal-warnings",
    "-Wl,--build-id=none,--discard-all,-z,noexecstack,-z,max-page-size=4096",
    "-T",
    "guest.ld",
]


class BuildError(Exception):
    """A guest that cannot be built; the message says which and why."""


def read_header(source: Path) -> dict[str, Any]:
    """The index's entry for one guest; BuildError where its header lacks something."""
    comment: list[str] = []
    for line in source.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comment.append(line[1:])
    try:
        title = next(i for i, line in enumerate(comment) if line.startswith(" Title: "))
        exit_line, *rest = comment[title + 1 :]
        vcpus = int(_value(rest.pop(0), " vCPUs: ")) if rest[0].startswith(" vCPUs: ") else 1
        domains = int(_value(rest.pop(0), " Domains: ")) if rest[0].startswith(" Domains: ") else 1
        pirqs = _value(rest.pop(0), " PIRQs: ").split() if rest[0].startswith(" PIRQs: ") else []
        output_line, *output = rest
        _value(output_line, " Output:")
        return {
            "name": source.stem,
            "title": _value(comment[title], " Title: "),
            "exit": int(_value(exit_line, " Exit: ")),
            "vcpus": vcpus,
            "domains": domains,
            "pirqs": pirqs,
            "output": "".join(line.removeprefix("   ") + "\n" for line in output),
            "summary": _paragraphs(comment[:title]),
        }
    except (StopIteration, ValueError, IndexError) as error:
        raise BuildError(f"{source}: its opening comment must end with Title:, Exit: and Output: lines") from error


def _value(line: str, key: str) -> str:
    if not line.startswith(key):
        raise ValueError(line)
    return line.removeprefix(key)


def _paragraphs(comment: list[str]) -> str:
    """Comment lines as paragraphs of one line each."""
    text = "\n".join(line.strip() for line in comment).strip()
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def build_image(source: Path, image: Path, compiler: str) -> None:
    """Assemble and link one guest; BuildError with the compiler's words where that fails."""
    command = [compiler, *FLAGS, "-o", str(image.resolve()), str(source.resolve())]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise BuildError(f"{source}: cannot run the C compiler {compiler!r}: {error.strerror}") from error
    if done.returncode:
        raise BuildError(f"{source}: {compiler} failed:\n{done.stderr}{done.stdout}")


def build_all(destination: Path, compiler: str) -> None:
    """Build every guest into `destination`, and its index."""
    if not (ROOT / "include" / "xen.inc").exists():
        raise BuildError(f"{ROOT / 'include' / 'xen.inc'} is missing: python -m hv.abi.emit --asm guests/include")
    destination.mkdir(parents=True, exist_ok=True)
    sources = sorted(ROOT.glob("*.s"))
    entries = [read_header(source) for source in sources]
    _remove_stale(destination, {entry["name"] for entry in entries})
    for source in sources:
        build_image(source, destination / source.stem, compiler)
    (destination / INDEX).write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def _remove_stale(destination: Path, names: set[str]) -> None:
    try:
        old = json.loads((destination / INDEX).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return
    for entry in old:
        if entry["name"] not in names:
            (destination / entry["name"]).unlink(missing_ok=True)


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m guests.build DEST", file=sys.stderr)
        return 2
    try:
        build_all(Path(sys.argv[1]), "cc")
    except BuildError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
