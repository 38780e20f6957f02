"""What an unprivileged domain may use. Privileged connections are exempt.

Xen compares some limits with ">" and some with ">=": one watch and one transaction more than the
number are granted, a node must stay below its size, a transaction may not leave the last node used.
The names are those of CONTROL "quota" and GET_QUOTA.
"""

from dataclasses import dataclass, fields

from hv.abi.io.xs_wire import XENSTORE_REL_PATH_MAX

# The bookkeeping that 4.17 counts as part of a node's size.
NODE_HEADER = 24
NODE_PERMISSION = 8


@dataclass(slots=True)
class Quotas:
    """The limits of one domain, with the defaults of Xen 4.17."""

    nodes: int = 1000
    watches: int = 128
    transactions: int = 10
    outstanding: int = 20
    transaction_nodes: int = 1024
    memory: int = 2_621_440  # here: bytes waiting to be sent, beyond which watch events are dropped
    node_size: int = 2048
    path_max: int = XENSTORE_REL_PATH_MAX
    permissions: int = 5


DESCRIPTIONS = {
    "nodes": "Nodes per domain",
    "watches": "Watches per domain",
    "transactions": "Transactions per domain",
    "outstanding": "Outstanding requests per domain",
    "transaction-nodes": "Max. number of accessed nodes per transaction",
    "memory": "Total Xenstore memory per domain (error level)",
    "node-size": "Max. size of a node",
    "path-max": "Max. length of a node path",
    "permissions": "Max. number of permissions per node",
}


def by_name(quotas: Quotas) -> dict[str, int]:
    """The limits under their public names."""
    names = [field.name for field in fields(quotas)]
    return {name.replace("_", "-"): getattr(quotas, name) for name in names}


def set_by_name(quotas: Quotas, name: str, value: int) -> bool:
    """Set one limit; False if there is none of that name."""
    if name not in DESCRIPTIONS:
        return False
    setattr(quotas, name.replace("-", "_"), value)
    return True


def exceeds(used: int, limit: int) -> bool:
    """Whether `used` is at the limit or beyond; a limit of 0 is none."""
    return used >= limit and limit > 0
