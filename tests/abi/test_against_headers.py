"""Every constant, size and offset of hv.abi, against Xen's own headers.

A C program is generated from hv.abi, includes the real headers and prints what differs. The headers
are Debian's libxen-dev of Xen 4.17; HV_XEN_HEADERS names the folder that has xen/xen.h, if it is
not /usr/include.
"""

import ctypes
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hv.abi import emit

# These exist in C only through a macro, under the name of each protocol.
ALIASES = {"sring": "blkif_sring"}

PRELUDE = """
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#define __XEN_TOOLS__ 1
"""

CHECKS = """
static int bad;

static void number(const char *what, unsigned long long here, unsigned long long there)
{
    if (here != there) {
        printf("%s: hv has %lld, Xen has %lld\\n", what, here, there);
        bad = 1;
    }
}

static void text(const char *what, const char *here, const char *there)
{
    if (strcmp(here, there)) {
        printf("%s: hv has \\"%s\\", Xen has \\"%s\\"\\n", what, here, there);
        bad = 1;
    }
}

#define NUMBER(expression, value) number(#expression, value, (unsigned long long)(expression))
#define TEXT(expression, value) text(#expression, value, expression)
"""


def headers() -> Path:
    """The folder to include from."""
    named = os.environ.get("HV_XEN_HEADERS")
    folder = Path(named or "/usr/include")
    if not (folder / "xen/xen.h").exists():
        pytest.fail(
            f"{folder} has no xen/xen.h: install Debian's libxen-dev (Xen 4.17), or unpack it with "
            "`dpkg -x` and set HV_XEN_HEADERS to its usr/include"
        )
    return folder


def includes() -> list[str]:
    """The header that each module says it follows."""
    found = []
    for module in emit.modules():
        found += re.findall(r"Follows\s+public/(\S+\.h)\b", module.__doc__ or "")
    return found


def numbers() -> Iterator[tuple[str, int]]:
    """(C expression, value) of everything to compare."""
    yield from emit.constants().items()
    for cls in emit.structures():
        if not emit.is_nested(cls):
            yield from structure_numbers(cls)
    for module in emit.modules():
        for name, value in vars(module).items():
            if name.endswith("_t") and isinstance(value, type(ctypes.Array)):
                yield f"sizeof({name})", ctypes.sizeof(value)


def structure_numbers(cls: emit.Aggregate) -> Iterator[tuple[str, int]]:
    """The same for one structure."""
    keyword = "union" if issubclass(cls, ctypes.Union) else "struct"
    name = f"{keyword} {ALIASES.get(cls.__name__, cls.__name__)}"
    if cls.__name__ not in ALIASES:
        yield f"sizeof({name})", ctypes.sizeof(cls)
    for parts, offset, size in emit.flat_fields(cls):
        path = ".".join(parts)
        yield f"offsetof({name}, {path})", offset
        # The size of a flexible array is not a question that C answers.
        if size:
            yield f"sizeof((({name} *)0)->{path})", size


def texts() -> Iterator[tuple[str, str]]:
    """(C expression, value) of the string constants."""
    for module in emit.modules():
        for name, value in vars(module).items():
            if isinstance(value, str) and re.fullmatch(r"XS?(EN)?_\w+", name):
                yield name, value


def probe() -> str:
    """The C program."""
    lines = [PRELUDE]
    lines += [f"#include <xen/{name}>" for name in includes()]
    lines += [CHECKS, "int main(void)", "{"]
    lines += [
        f"    NUMBER({expression}, {value % (1 << 64)}ULL);" for expression, value in numbers()
    ]
    lines += [f'    TEXT({expression}, "{value}");' for expression, value in texts()]
    return "\n".join([*lines, "    return bad;", "}", ""])


def run(program: str, folder: Path) -> str:
    """Compile and run; what it printed, or what the compiler did."""
    source = folder / "probe.c"
    source.write_text(program)
    command = ["cc", "-std=gnu11", "-fmax-errors=0", f"-I{headers()}", "-o", str(folder / "probe")]
    compiled = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    if compiled.returncode:
        errors = [line for line in compiled.stderr.splitlines() if " error: " in line]
        return "\n".join(errors or [compiled.stderr])
    return subprocess.run([folder / "probe"], capture_output=True, text=True, check=False).stdout


def test_everything_is_as_in_xens_headers(tmp_path: Path) -> None:
    differences = run(probe(), tmp_path)
    assert not differences, f"hv.abi differs from Xen's headers:\n{differences}"


def test_a_difference_is_found(tmp_path: Path) -> None:
    program = probe().replace("NUMBER(SCHEDOP_poll, 3ULL)", "NUMBER(SCHEDOP_poll, 4ULL)")
    assert run(program, tmp_path) == "SCHEDOP_poll: hv has 4, Xen has 3\n"


def test_every_module_names_a_header() -> None:
    silent = [
        module.__name__
        for module in emit.modules()
        if not re.search(r"Follows\s+public/", module.__doc__ or "")
    ]
    # These hold rows, the means to write structures down, and what the CPU defines: they follow no header.
    assert silent == [
        "hv.abi.hypercalls",
        "hv.abi.io",
        "hv.abi.layout",
        "hv.abi.record",
        "hv.abi.rows",
        "hv.abi.vectors",
    ]
