"""Build: the ABI's declarations, the bundled guests, then the Cython modules.

Only hv.engine.cpu is linked with Unicorn's static library; the functions that hv takes over are wrapped by the linker
(the list is read from the source, so that wrapping one more touches one place). HV_DEBUG=1 builds with every check on.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from hv.abi import emit  # noqa: E402
from hv.abi.hypercalls import HYPERCALLS  # noqa: E402
from hv.trace import capture  # noqa: E402

os.chdir(ROOT)
DEBUG = os.environ.get("HV_DEBUG", "") not in ("", "0")
GENERATED = ROOT / "build" / "generated"
COMPILER = os.environ.get("CC", "cc")
C_SOURCES = {"hv.bench.event_loops": [ROOT / "hv" / "bench" / "reference.c"]}  # what hv is measured against


def unicorn() -> Path:
    spec = importlib.util.find_spec("unicorn")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("hv: the package unicorn==2.1.4 is needed to build: pip install unicorn==2.1.4")
    return Path(spec.submodule_search_locations[0])


def check_prerequisites() -> None:
    if shutil.which(COMPILER) is None or shutil.which("objcopy") is None:
        raise SystemExit("hv: no C compiler found: install Debian's packages gcc and libc6-dev")
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        raise SystemExit("hv: Python's headers are missing: install Debian's package python3-dev")
    probe = subprocess.run([COMPILER, "-E", "-xc", "-"], input=b"#include <stdlib.h>\n", capture_output=True)
    if probe.returncode:
        raise SystemExit("hv: the C library's headers are missing: install Debian's package libc6-dev")


def hot_table() -> str:
    """The C jump table of hot hypercalls, from the rows of the ABI."""
    rows = [f"    _hot[{row.number}] = {row.hot}" for row in HYPERCALLS if row.hot]
    return "\n".join(["cdef void fill_hot_table() noexcept:", *rows]) + "\n"


def generate() -> None:
    GENERATED.mkdir(parents=True, exist_ok=True)
    emit.write(GENERATED, "xen_abi.h", emit.c_header())
    emit.write(GENERATED, "xen_abi.pxd", emit.cython_declarations())
    emit.write(GENERATED, "hot_table.pxi", hot_table())
    emit.write(GENERATED, "capture_table.pxi", capture.c_table())
    emit.write(ROOT / "guests" / "include", "xen.inc", emit.assembler_include())


def wrapped(source: Path) -> list[str]:
    texts = (file.read_text() for file in (source, *source.parent.glob("*.pxi")))
    return sorted({name for text in texts for name in re.findall(r"\b__wrap_(\w+)\(", text)})


def extensions() -> list[Extension]:
    library = unicorn()
    result = []
    folders = ("fastpath", "engine", "bench")
    for source in sorted(source for folder in folders for source in ROOT.glob(f"hv/{folder}/*.pyx")):
        module = ".".join(source.relative_to(ROOT).with_suffix("").parts)
        extension = Extension(
            module,
            [str(source.relative_to(ROOT)), *(str(c.relative_to(ROOT)) for c in C_SOURCES.get(module, ()))],
            include_dirs=[str(GENERATED), str(library / "include"), str(source.parent.relative_to(ROOT))],
            extra_compile_args=["-O1", "-g", "-UNDEBUG"] if DEBUG else ["-O2", "-g0", "-fno-tree-slp-vectorize"],
            depends=[str(file.relative_to(ROOT)) for kind in ("pxi", "h") for file in source.parent.glob(f"*.{kind}")],
            define_macros=[] if DEBUG else [("CYTHON_WITHOUT_ASSERTIONS", "1")],
        )
        if module == "hv.engine.cpu":
            extension.extra_objects = [str(library / "lib" / "libunicorn.a")]
            extension.extra_link_args = ["-lpthread", "-lm", "-Wl,--exclude-libs,ALL", "-Wl,--gc-sections", "-s"]
            extension.extra_link_args += [f"-Wl,--wrap={name}" for name in wrapped(source)]
        result.append(extension)
    return result


DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": DEBUG,
    "overflowcheck": DEBUG,
    "cdivision": True,
    "initializedcheck": DEBUG,
    "nonecheck": DEBUG,
    "embedsignature": True,
}


def build_assets(package: Path) -> None:
    """What hv puts into guests (firmware) and the bundled guests, assembled into the package folder."""
    from guests import build as guests

    for source in sorted((ROOT / "firmware").glob("*.s")):
        image = package / "firmware" / source.with_suffix(".bin").name
        image.parent.mkdir(parents=True, exist_ok=True)
        object_file = GENERATED / source.with_suffix(".o").name
        subprocess.run([COMPILER, "-c", str(source), "-o", str(object_file)], check=True)
        subprocess.run(["objcopy", "-O", "binary", "-j", ".text", str(object_file), str(image)], check=True)
    guests.build_all(package / "guests", COMPILER)


def forget_what_is_gone(built: Path, source: Path) -> None:
    """Remove from an earlier build what has no source any more: it would be installed, and hv imports what it finds."""
    for file in [file for file in built.rglob("*") if file.is_file()]:
        origin = source / file.relative_to(built)
        if file.suffix == ".so":
            origin = origin.with_name(f"{file.name.split('.')[0]}.pyx")
        if not origin.exists():
            file.unlink()


class BuildPython(build_py):
    """The assets travel inside the package, so that a wheel's user needs no compiler."""

    def run(self) -> None:
        package = Path(self.build_lib) / "hv"
        forget_what_is_gone(package, ROOT / "hv")
        super().run()
        build_assets(package)


class BuildExtensions(build_ext):
    """`build_ext --inplace` gives a checkout that runs: the assets too."""

    def run(self) -> None:
        super().run()
        if self.inplace:
            build_assets(ROOT / "hv")


check_prerequisites()
generate()
setup(
    ext_modules=cythonize(
        extensions(),
        compiler_directives=DIRECTIVES,
        include_path=[str(ROOT), str(GENERATED)],
        build_dir="build/cython-debug" if DEBUG else "build/cython",  # relative: setuptools insists
    ),
    cmdclass={"build_py": BuildPython, "build_ext": BuildExtensions},
    options={"build": {"build_base": "build/debug" if DEBUG else "build/release"}},
)
