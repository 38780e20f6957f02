"""Names of nodes.

Rules: an absolute path starts with "/", has no empty part and only letters, digits, "-", "/", "_"
and "@" (4.17 refuses the "+" that the specification allows); the part below /local/domain/<domid>/
is what the length limit counts. Relative paths are below /local/domain/<domid> of the caller.

Paths are `str`, decoded as latin-1, so that any payload has one spelling.
Source: docs/misc/xenstore.txt; limits in public/io/xs_wire.h.
"""

import re

_NAME = re.compile(r"/|(?:/[A-Za-z0-9_@-]+)+")
# A domain id as scanf's %5u takes it: up to five characters, a sign included.
_DOMAIN_PREFIX = re.compile(r"/local/domain/(?:[0-9]{1,5}|-[0-9]{1,4})/")


def is_valid(path: str, longest: int) -> bool:
    """Whether `path` may name a node, its part below a domain's directory being <= `longest`."""
    if _NAME.fullmatch(path) is None:
        return False
    if len(path) <= longest:
        return True
    prefix = _DOMAIN_PREFIX.match(path)
    return prefix is not None and len(path) <= prefix.end() + longest


def parent(path: str) -> str:
    """The path above; that of "/" is "/"."""
    return path[: path.rfind("/")] or "/"


def join(directory: str, name: str) -> str:
    """The path of a child."""
    return f"/{name}" if directory == "/" else f"{directory}/{name}"


def basename(path: str) -> str:
    """The last part."""
    return path[path.rfind("/") + 1 :]


def absolute(path: str, base: str) -> str:
    """A path as the caller below `base` means it; special names ("@...") stay as they are."""
    return path if path.startswith(("/", "@")) else f"{base}/{path}"


def domain_path(domid: int) -> str:
    """The directory of a domain."""
    return f"/local/domain/{domid}"
