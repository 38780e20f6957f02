"""The file of a Unix socket that hv listens on.

Rules:

1. The socket appears at its path only when it listens, readable and writable for its owner alone.
2. A socket that nobody listens on any more is replaced; one in use, or a file that is no socket, is an error.
3. At the end it is removed, if it is still the same one.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat

from hv.errors import ConfigError


def listen(path: str) -> tuple[socket.socket, tuple[int, int]]:
    """A listening socket at a path, and what tells its file from another."""
    folder = os.path.dirname(path) or "."
    try:
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{path}: a socket cannot be made there: {error.strerror}") from None
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)  # two services that start at once: one of them wins
        _check_free(path)
        temporary = f"/proc/self/fd/{place}/.hv-{os.getpid()}"  # short, however deep the folder is
        listener.bind(temporary)
        try:
            os.chmod(temporary, 0o600)
            listener.listen(128)
            listener.setblocking(False)
            status = os.stat(temporary)
            os.rename(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
    except OSError as error:
        listener.close()
        raise ConfigError(f"{path}: a socket cannot be made there: {error.strerror}") from None
    except ConfigError:
        listener.close()
        raise
    finally:
        os.close(place)
    return listener, (status.st_dev, status.st_ino)


def _check_free(path: str) -> None:
    """A ConfigError where something is in the way; a socket without a listener is not."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{path} is there and is no socket: remove it, or name another path")
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        probe.connect(path)
    except ConnectionRefusedError:
        return
    except OSError as error:
        raise ConfigError(f"{path}: cannot be replaced: {error.strerror or error}") from None
    finally:
        probe.close()
    raise ConfigError(f"{path} is in use by another service: stop that, or name another path")


def remove(path: str, identity: tuple[int, int]) -> None:
    """Remove the file that `listen` made, unless another has taken its place."""
    try:
        status = os.stat(path)
        if (status.st_dev, status.st_ino) == identity:
            os.unlink(path)
    except OSError:
        pass
