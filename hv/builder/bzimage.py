"""Linux's bzImage: a setup header, and the kernel's ELF file as a compressed payload.

A PV guest never runs the setup code; the builder takes the payload that the header points to
and starts the kernel inside. Payloads are announced since boot protocol 2.08. Specified in
Linux's ``Documentation/arch/x86/boot.rst``.
"""

from __future__ import annotations

from hv.builder import compression
from hv.builder.elf import MAGIC
from hv.errors import ImageError

_HDRS = 0x202, b"HdrS"
_SETUP_SECTS, _VERSION, _PAYLOAD_OFFSET, _PAYLOAD_LENGTH, _HEADER_END = (
    0x1F1, 0x206, 0x248, 0x24C, 0x250,
)  # fmt: skip
_FIRST_VERSION_WITH_PAYLOAD = 0x208
_DEFAULT_SETUP_SECTS = 4  # what 0 stands for, for the sake of boot loaders older than the field


def is_bzimage(data: bytes) -> bool:
    """Whether the file carries Linux's setup header."""
    position, magic = _HDRS
    return data[position : position + len(magic)] == magic


def kernel(data: bytes) -> bytes:
    """The ELF file inside a bzImage.

    Raises ImageError, without the image's name, for a bzImage that is too old, cut short or
    compressed in a way that hv cannot undo.
    """
    if len(data) < _VERSION + 2:
        raise ImageError("truncated bzImage: it ends within its setup header; fetch it again")
    version = int.from_bytes(data[_VERSION : _VERSION + 2], "little")
    if version < _FIRST_VERSION_WITH_PAYLOAD:
        raise ImageError(
            f"bzImage of boot protocol {version >> 8}.{version & 255:02}: hv needs 2.08 or later"
            " (Linux 2.6.26); give it the kernel's vmlinux instead"
        )
    if len(data) < _HEADER_END:
        raise ImageError("truncated bzImage: it ends within its setup header; fetch it again")
    payload = _payload(data)
    if payload.startswith(MAGIC):
        return payload  # a kernel built without compression
    try:
        elf = compression.decompress(payload)
    except ImageError as error:
        raise ImageError(f"bzImage payload: {error}") from error
    if not elf.startswith(MAGIC):
        raise ImageError("bzImage payload is not an ELF kernel: give hv the kernel's vmlinux")
    return elf


def _payload(data: bytes) -> bytes:
    def word(position: int) -> int:
        return int.from_bytes(data[position : position + 4], "little")

    setup_size = ((data[_SETUP_SECTS] or _DEFAULT_SETUP_SECTS) + 1) * 512
    start = setup_size + word(_PAYLOAD_OFFSET)
    end = start + word(_PAYLOAD_LENGTH)
    if start >= len(data) or end > len(data):
        raise ImageError(
            f"truncated bzImage: its payload reaches to byte {end} of {len(data)}; fetch it again"
        )
    return data[start:end]
