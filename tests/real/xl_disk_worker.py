"""xl's own parser of disk specifications, of Debian's libxlutil: reads JSON lines, one specification each, and answers.

An answer is null where xl refuses, else [target, vdev, format, writable, cdrom, discard]; discard is null where the
specification says nothing about it.
"""

from __future__ import annotations

import ctypes
import json
import sys

FORMATS = ("unknown", "qcow", "qcow2", "vhd", "raw", "empty", "qed")


class Disk(ctypes.Structure):
    """libxl_device_disk of Xen 4.17 (_libxl_types.h of libxen-dev)."""

    _fields_ = [
        ("backend_domid", ctypes.c_uint32), ("backend_domname", ctypes.c_char_p), ("pdev_path", ctypes.c_char_p),
        ("vdev", ctypes.c_char_p), ("backend", ctypes.c_int), ("format", ctypes.c_int), ("script", ctypes.c_char_p),
        ("removable", ctypes.c_int), ("readwrite", ctypes.c_int), ("is_cdrom", ctypes.c_int),
        ("direct_io_safe", ctypes.c_bool), ("discard_enable", ctypes.c_int), ("specification", ctypes.c_int),
        ("transport", ctypes.c_int), ("irq", ctypes.c_uint32), ("base", ctypes.c_uint64), ("rest", ctypes.c_char * 256),
    ]  # fmt: skip


def main() -> None:
    library = ctypes.CDLL("libxlutil.so.4.17")
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    library.xlu_cfg_init.restype = ctypes.c_void_p
    library.xlu_cfg_init.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
    library.xlu_disk_parse.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    config = library.xlu_cfg_init(libc.fopen(b"/dev/null", b"w"), b"test")
    for line in sys.stdin:
        texts = (ctypes.c_char_p * 1)(json.loads(line).encode())
        disk = Disk()
        if library.xlu_disk_parse(config, 1, texts, ctypes.byref(disk)):
            print("null", flush=True)
            continue
        names = [(name or b"").decode() for name in (disk.pdev_path, disk.vdev)]
        discard = {0: None, 1: True, -1: False}[disk.discard_enable]
        answer = [*names, FORMATS[disk.format], bool(disk.readwrite), bool(disk.is_cdrom), discard]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
