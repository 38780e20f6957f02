"""Whom a call of a domU names, as Xen looks domains up. Source: Xen 4.17 common/domain.c."""

from hv.abi.errno import XEN_EPERM, XEN_ESRCH
from hv.abi.xen import DOMID_SELF
from hv.hypercalls.registry import Call


def exists(call: Call, domid: int) -> bool:
    return call.domain.about(domid) != -XEN_ESRCH


def another(call: Call, domid: int) -> int:
    """0 for another domain; -EPERM for the caller's own number, -ESRCH for none, which DOMID_SELF is here too."""
    about = call.domain.about(domid)
    if domid == DOMID_SELF or about == -XEN_ESRCH:
        return -XEN_ESRCH
    return 0 if about else -XEN_EPERM
