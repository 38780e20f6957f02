"""The handlers of the operations that concern domains, not nodes.

Rules: 4.17 reads any text as a number; RELEASE and RESUME refuse domain 0; a second INTRODUCE
resets the connection of the domain. The special watches fire before the reply.

Source: docs/misc/xenstore.txt, "Domain management and xenstored communications".
"""

from hv.core.xenstore.access import Access
from hv.core.xenstore.connection import SUPPORTED_FEATURES, Connection, Domain
from hv.core.xenstore.errors import XenStoreError
from hv.core.xenstore.numbers import atoi, domid
from hv.core.xenstore.paths import domain_path, join
from hv.core.xenstore.state import RingChange, State
from hv.core.xenstore.watches import INTRODUCE_DOMAIN, RELEASE_DOMAIN

OK = b"OK\0"
_DOMID_SELF = 0x7FF0


def existing(state: State, text: str) -> Domain:
    """The record of a domain that need not be introduced. Raises ENOENT."""
    domain = state.existing(domid(text))
    if domain is None:
        raise XenStoreError("ENOENT")
    return domain


def introduced(state: State, number: int) -> Connection:
    """The connection of an introduced domain. Raises ENOENT."""
    domain = state.domains.get(number)
    if domain is None or domain.connection is None:
        raise XenStoreError("ENOENT")
    return domain.connection


def _introduced_guest(state: State, text: str) -> Domain:
    number = domid(text)
    if number == 0:
        raise XenStoreError("EINVAL")
    domain = introduced(state, number).domain
    assert domain is not None
    return domain


def open_domain(state: State, number: int, gfn: int, port: int) -> Connection:
    """Connect a domain, or reset its connection, and tell of a new one."""
    domain = state.domain(number)
    domain.gfn, domain.port = gfn, port
    if domain.connection is None:
        domain.connection = state.connection(domain, privileged=number == 0)
        domain.introduced, domain.shutdown = True, False
        if number:
            state.fire_special(INTRODUCE_DOMAIN, number)
    state.reset(domain.connection)
    domain.connection.ignored = False
    return domain.connection


def close_domain(state: State, domain: Domain) -> None:
    """Disconnect a domain, delete what it owns, forget it, and tell."""
    if domain.connection is not None:
        state.reset(domain.connection)
        domain.connection.ignored = True
    if domain.nodes:
        _remove_owned(state, domain)
    was_introduced = domain.introduced
    state.forget(domain)
    if was_introduced:
        state.fire_special(RELEASE_DOMAIN, domain.domid)


def _remove_owned(state: State, domain: Domain) -> None:
    """Delete each topmost node that a domain owns, with all below it."""
    host = Access(state, state.connection(None, privileged=True), None)
    stack = ["/"]
    while stack and domain.nodes > 0:
        path = stack.pop()
        node = state.tree.get(path)
        assert node is not None
        if node.permissions[0].domid == domain.domid and path != "/":
            host.remove(path)
        else:
            stack += [join(path, name) for name in reversed(node.children)]


def introduce(access: Access, number: str, gfn: str, port: str) -> bytes:
    """INTRODUCE."""
    if atoi(port) == 0:
        raise XenStoreError("EINVAL")
    state = access.state
    if state.existing(domid(number)) is None:
        raise XenStoreError("ENOENT")
    domain = open_domain(state, domid(number), atoi(gfn), atoi(port)).domain
    assert domain is not None
    state.ring_changes.append(RingChange(domain.domid, domain.gfn, domain.port))
    return OK


def release(access: Access, number: str) -> bytes:
    """RELEASE."""
    domain = _introduced_guest(access.state, number)
    close_domain(access.state, domain)
    access.state.ring_changes.append(RingChange(domain.domid, domain.gfn, None))
    return OK


def get_domain_path(access: Access, number: str) -> bytes:
    """GET_DOMAIN_PATH."""
    return domain_path(domid(number)).encode() + b"\0"


def is_domain_introduced(access: Access, number: str) -> bytes:
    """IS_DOMAIN_INTRODUCED."""
    domain = access.state.domains.get(domid(number))
    known = domid(number) == _DOMID_SELF or (domain is not None and domain.introduced)
    return b"T\0" if known else b"F\0"


def resume(access: Access, number: str) -> bytes:
    """RESUME."""
    _introduced_guest(access.state, number).shutdown = False
    return OK


def set_target(access: Access, number: str, target: str) -> bytes:
    """SET_TARGET."""
    connection = introduced(access.state, domid(number))
    connection.target = introduced(access.state, domid(target)).domid
    return OK


def get_feature(access: Access, words: list[str]) -> bytes:
    """GET_FEATURE: of a domain, or what is supported."""
    if len(words) > 1:
        raise XenStoreError("EINVAL")
    features = existing(access.state, words[0]).features if words else SUPPORTED_FEATURES
    return b"%d\0" % features


def set_feature(access: Access, number: str, features: str) -> bytes:
    """SET_FEATURE: only before INTRODUCE, only what is supported."""
    domain = existing(access.state, number)
    bits = atoi(features)
    if domain.introduced:
        raise XenStoreError("EBUSY")
    if bits & ~SUPPORTED_FEATURES:
        raise XenStoreError("EINVAL")
    domain.features = bits
    return OK
