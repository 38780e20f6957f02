"""The builder of the bundled guests: headers, images, what it removes, what it says when a guest is wrong."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from guests import build
from hv.builder.image import load

HEADER = """\
# tiny: a first sentence
# over two lines.
#
# A second paragraph.
#
# Title: A title: with a colon
# Exit: 6
# Output:
#   first
#     indented by two
#
#   last
        .include "guest.inc"
# Output: not the header
"""
BODY = """
        guest "tiny"
main:   ret
"""


@pytest.fixture
def sandbox(tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for guests of our own, with the shared include and the linker script."""
    root = tmp_path / "a folder, with a comma"
    shutil.copytree(build.ROOT / "include", root / "include")
    shutil.copy(build.ROOT / "guest.ld", root)
    monkeypatch.setattr(build, "ROOT", root)
    return root


def test_header(tmp_path: Path) -> None:
    source = tmp_path / "tiny.s"
    source.write_text(HEADER)
    assert build.read_header(source) == {
        "name": "tiny",
        "title": "A title: with a colon",
        "exit": 6,
        "vcpus": 1,
        "domains": 1,
        "pirqs": [],
        "output": "first\n  indented by two\n\nlast\n",
        "summary": "tiny: a first sentence over two lines.\n\nA second paragraph.",
    }


@pytest.mark.parametrize("wrong", ["Title:", "Exit: 6", "Exit: ", "Output:"])
def test_incomplete_header(wrong: str, tmp_path: Path) -> None:
    source = tmp_path / "tiny.s"
    source.write_text(HEADER.replace(wrong, "Exit: x" if wrong == "Exit: " else "nothing"))
    with pytest.raises(build.BuildError, match=r"tiny\.s: its opening comment must end with"):
        build.read_header(source)


def test_builds_and_removes_only_its_own(sandbox: Path, tmp_path: Path) -> None:
    destination = tmp_path / "out"
    for name in ("one", "two"):
        (sandbox / f"{name}.s").write_text(HEADER + BODY)
    build.build_all(destination, "cc")
    (destination / "mine").write_text("not a guest")
    (sandbox / "one.s").unlink()
    build.build_all(destination, "cc")
    assert sorted(path.name for path in destination.iterdir()) == [build.INDEX, "mine", "two"]
    assert [entry["name"] for entry in json.loads((destination / build.INDEX).read_text())] == ["two"]
    image = load((destination / "two").read_bytes(), "two")
    assert (image.virt_base, image.guest_os, image.loader) == (0xFFFFFFFF80000000, "tiny", "generic")
    assert image.entry == image.start == image.virt_base


@pytest.mark.parametrize(
    ("body", "words"),
    [("main: moov %rax, %rbx", "no such instruction"), ('guest "tiny"\nmain: call nowhere', "nowhere")],
    ids=["assembler", "linker"],
)
def test_compiler_errors_name_the_guest(body: str, words: str, sandbox: Path, tmp_path: Path) -> None:
    (sandbox / "tiny.s").write_text(f"{HEADER}{body}\n")
    with pytest.raises(build.BuildError, match=rf"tiny\.s: cc failed(?s:.)*{words}"):
        build.build_all(tmp_path / "out", "cc")


def test_no_compiler(sandbox: Path, tmp_path: Path) -> None:
    (sandbox / "tiny.s").write_text(HEADER + BODY)
    with pytest.raises(build.BuildError, match=r"tiny\.s: cannot run the C compiler 'no-such-cc'"):
        build.build_all(tmp_path / "out", "no-such-cc")


def test_missing_include(sandbox: Path, tmp_path: Path) -> None:
    (sandbox / "include" / "xen.inc").unlink()
    with pytest.raises(build.BuildError, match=r"xen\.inc is missing: python -m hv\.abi\.emit"):
        build.build_all(tmp_path / "out", "cc")


def test_command(images: Path, tmp_path: Path) -> None:
    """From another folder, twice: the images do not depend on where and when they are built."""
    script = build.ROOT / "build.py"
    subprocess.run([sys.executable, script, "out"], cwd=tmp_path, check=True)
    for image in images.iterdir():
        assert (tmp_path / "out" / image.name).read_bytes() == image.read_bytes(), image.name
    assert subprocess.run([sys.executable, script], capture_output=True).returncode == 2
