"""libslirp, the user-mode TCP/IP stack of QEMU, by ctypes: no package of PyPI binds it.

Rules:

1. The structures are those of libslirp.h, version 1 of the configuration, which every libslirp since 4.0 takes.
2. An exception in a callback can not go through C: the first one is kept, and raised when the library has returned.
"""

from __future__ import annotations

import ctypes
import os
import select
import time
from collections.abc import Callable
from typing import Any

from hv.errors import ConfigError

POLL_IN, POLL_OUT, POLL_PRI, POLL_ERR, POLL_HUP = 1, 2, 4, 8, 16
EVENTS = {
    POLL_IN: select.EPOLLIN,
    POLL_OUT: select.EPOLLOUT,
    POLL_PRI: select.EPOLLPRI,
    POLL_ERR: select.EPOLLERR,
    POLL_HUP: select.EPOLLHUP,
}
_POINTER, _INT, _ADDRESS = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32
NETMASK = bytes((255, 255, 255, 0))
_SEND = ctypes.CFUNCTYPE(ctypes.c_ssize_t, _POINTER, ctypes.c_size_t, _POINTER)
_ERROR = ctypes.CFUNCTYPE(None, ctypes.c_char_p, _POINTER)
_CLOCK = ctypes.CFUNCTYPE(ctypes.c_int64, _POINTER)
_TIMER_NEW = ctypes.CFUNCTYPE(_POINTER, _POINTER, _POINTER, _POINTER)
_TIMER_FREE = ctypes.CFUNCTYPE(None, _POINTER, _POINTER)
_TIMER_MOD = ctypes.CFUNCTYPE(None, _POINTER, ctypes.c_int64, _POINTER)
_DESCRIPTOR = ctypes.CFUNCTYPE(None, _INT, _POINTER)
_NOTIFY = ctypes.CFUNCTYPE(None, _POINTER)
_ADD_POLL = ctypes.CFUNCTYPE(_INT, _INT, _INT, _POINTER)
_GET_EVENTS = ctypes.CFUNCTYPE(_INT, _INT, _POINTER)


class Callbacks(ctypes.Structure):
    """SlirpCb."""

    _fields_ = [
        ("send_packet", _SEND),
        ("guest_error", _ERROR),
        ("clock_get_ns", _CLOCK),
        ("timer_new", _TIMER_NEW),
        ("timer_free", _TIMER_FREE),
        ("timer_mod", _TIMER_MOD),
        ("register_poll_fd", _DESCRIPTOR),
        ("unregister_poll_fd", _DESCRIPTOR),
        ("notify", _NOTIFY),
        ("init_completed", _POINTER),
        ("timer_new_opaque", _POINTER),
    ]


class Config(ctypes.Structure):
    """SlirpConfig up to version 1; addresses are in network order."""

    _fields_ = [
        ("version", ctypes.c_uint32),
        ("restricted", _INT),
        ("in_enabled", ctypes.c_bool),
        ("vnetwork", _ADDRESS),
        ("vnetmask", _ADDRESS),
        ("vhost", _ADDRESS),
        ("in6_enabled", ctypes.c_bool),
        ("vprefix_addr6", _ADDRESS * 4),
        ("vprefix_len", ctypes.c_uint8),
        ("vhost6", _ADDRESS * 4),
        ("vhostname", ctypes.c_char_p),
        ("tftp_server_name", ctypes.c_char_p),
        ("tftp_path", ctypes.c_char_p),
        ("bootfile", ctypes.c_char_p),
        ("vdhcp_start", _ADDRESS),
        ("vnameserver", _ADDRESS),
        ("vnameserver6", _ADDRESS * 4),
        ("vdnssearch", _POINTER),
        ("vdomainname", ctypes.c_char_p),
        ("if_mtu", ctypes.c_size_t),
        ("if_mru", ctypes.c_size_t),
        ("disable_host_loopback", ctypes.c_bool),
        ("enable_emu", ctypes.c_bool),
        ("later_versions", ctypes.c_uint8 * 64),
    ]


def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(os.environ.get("HV_LIBSLIRP", "libslirp.so.0"))
    except OSError as error:
        raise ConfigError(f"a gateway needs libslirp ({error}): install Debian's package libslirp0") from None
    library.slirp_new.restype = _POINTER
    library.slirp_new.argtypes = (ctypes.POINTER(Config), ctypes.POINTER(Callbacks), _POINTER)
    library.slirp_cleanup.argtypes = (_POINTER,)
    library.slirp_input.argtypes = (_POINTER, ctypes.c_char_p, _INT)
    library.slirp_pollfds_fill.argtypes = (_POINTER, ctypes.POINTER(ctypes.c_uint32), _ADD_POLL, _POINTER)
    library.slirp_add_hostfwd.argtypes = (_POINTER, _INT, _ADDRESS, _INT, _ADDRESS, _INT)
    library.slirp_pollfds_poll.argtypes = (_POINTER, _INT, _GET_EVENTS, _POINTER)
    return library


class Slirp:
    """One stack. `send` gets every frame for the guests; addresses are four bytes each."""

    def __init__(self, send: Callable[[bytes], None], *, network: bytes, host: bytes, dhcp: bytes, dns: bytes) -> None:
        self._library = _library()
        self._send = send
        self._error: BaseException | None = None
        self._descriptors: list[tuple[int, int]] = []
        self._listening = 0
        self._epoll = select.epoll()
        config = Config(version=1, in_enabled=True, vhostname=b"hv")
        for name, value in (("vnetwork", network), ("vhost", host), ("vdhcp_start", dhcp), ("vnameserver", dns)):
            setattr(config, name, _ADDRESS.from_buffer_copy(value))
        config.vnetmask = _ADDRESS.from_buffer_copy(NETMASK)
        nothing: dict[str, Any] = {
            "guest_error": _ERROR(lambda message, _: None),
            "clock_get_ns": _CLOCK(lambda _: time.monotonic_ns()),
            "timer_new": _TIMER_NEW(lambda *_: 1),  # only for IPv6, which is off
            "timer_free": _TIMER_FREE(lambda *_: None),
            "timer_mod": _TIMER_MOD(lambda *_: None),
            "register_poll_fd": _DESCRIPTOR(lambda *_: None),
            "unregister_poll_fd": _DESCRIPTOR(lambda *_: None),
            "notify": _NOTIFY(lambda _: None),
        }
        self._callbacks = Callbacks(send_packet=_SEND(self._output), **nothing)
        self._add = _ADD_POLL(self._add_descriptor)
        self._stack = self._library.slirp_new(ctypes.byref(config), ctypes.byref(self._callbacks), None)
        if not self._stack:
            raise ConfigError("libslirp has refused the gateway's configuration: a newer libslirp0 is needed")

    def input(self, frame: bytes) -> None:
        """A frame from a guest."""
        self._library.slirp_input(self._stack, frame, len(frame))
        self._raise()

    def forward(self, udp: bool, host: tuple[bytes, int], guest: tuple[bytes, int]) -> bool:
        """Listen at an address of the host's, and pass what comes on to a guest's; False where it can not be had."""
        (here, port), (there, inside) = host, guest
        addresses = (_ADDRESS.from_buffer_copy(address) for address in (here, there))
        if self._library.slirp_add_hostfwd(self._stack, udp, next(addresses), port, next(addresses), inside):
            return False
        self._listening += 1
        return True

    def fileno(self) -> int:
        """A descriptor that can be read when `poll` has something to do."""
        self._fill()
        return self._epoll.fileno()

    @property
    def busy(self) -> bool:
        """Whether it has any connection."""
        self._fill()
        return len(self._descriptors) > self._listening

    def poll(self) -> None:
        """Move data between the host's sockets and the guests, without waiting."""
        self._fill()
        ready = dict(self._epoll.poll(0))
        found = [self._back(ready.get(descriptor, 0)) for descriptor, _ in self._descriptors]
        self._library.slirp_pollfds_poll(
            self._stack, 0, _GET_EVENTS(lambda index, _: found[index] if index < len(found) else 0), None
        )
        self._raise()

    def close(self) -> None:
        if self._stack:
            self._library.slirp_cleanup(self._stack)
            self._stack = None
            self._epoll.close()

    def _fill(self) -> None:
        """Ask the library for its sockets; they may have changed with every frame."""
        self._descriptors = []
        timeout = ctypes.c_uint32(0xFFFFFFFF)
        self._library.slirp_pollfds_fill(self._stack, ctypes.byref(timeout), self._add, None)
        self._epoll.close()
        self._epoll = select.epoll()
        for descriptor, events in self._descriptors:
            self._epoll.register(descriptor, sum(there for here, there in EVENTS.items() if events & here))

    def _add_descriptor(self, descriptor: int, events: int, _: Any) -> int:
        self._descriptors.append((descriptor, events))
        return len(self._descriptors) - 1

    @staticmethod
    def _back(ready: int) -> int:
        return sum(here for here, there in EVENTS.items() if ready & there)

    def _output(self, data: int, size: int, _: Any) -> int:
        try:
            self._send(ctypes.string_at(data, size))
        except BaseException as error:
            self._error = self._error or error
        return size

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
