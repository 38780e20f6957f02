"""The keys of a PV domain, against what xl of a real Xen 4.17 host wrote."""

from hv.core.xenstore import Store
from hv.core.xenstore.domain_keys import PvDomain, domain_keys, host_keys

# As printed by `xenstore-ls -f -p` on that host. What the running guest had set (the values of its
# control/feature-* keys) is left out.
REAL = """
/local/domain/0/control/feature-poweroff = "1" (n0)
/local/domain/0/domid = "0" (n0)
/local/domain/0/name = "Domain-0" (n0)
/local/domain/0/backend/console = "" (n0)
/local/domain/0/backend/console/1 = "" (n0)
/local/domain/0/backend/console/1/0 = "" (n0,r1)
/local/domain/0/backend/console/1/0/frontend = "/local/domain/1/console" (n0,r1)
/local/domain/0/backend/console/1/0/frontend-id = "1" (n0,r1)
/local/domain/0/backend/console/1/0/online = "1" (n0,r1)
/local/domain/0/backend/console/1/0/state = "1" (n0,r1)
/local/domain/0/backend/console/1/0/protocol = "vt100" (n0,r1)
/local/domain/1 = "" (n0,r1)
/local/domain/1/vm = "/vm/82370218-e6c5-11f1-9be2-ab0af9d03889" (n0,r1)
/local/domain/1/name = "g" (n0,r1)
/local/domain/1/cpu = "" (n0,r1)
/local/domain/1/cpu/0 = "" (n0,r1)
/local/domain/1/cpu/0/availability = "online" (n0,r1)
/local/domain/1/memory = "" (n0,r1)
/local/domain/1/memory/static-max = "131072" (n0,r1)
/local/domain/1/memory/target = "131072" (n0,r1)
/local/domain/1/memory/videoram = "0" (n0,r1)
/local/domain/1/device = "" (n0,r1)
/local/domain/1/device/suspend = "" (n0,r1)
/local/domain/1/device/suspend/event-channel = "" (n1)
/local/domain/1/control = "" (n0,r1)
/local/domain/1/control/shutdown = "" (n1)
/local/domain/1/control/feature-poweroff = "" (n1)
/local/domain/1/control/feature-reboot = "" (n1)
/local/domain/1/control/feature-suspend = "" (n1)
/local/domain/1/control/sysrq = "" (n1)
/local/domain/1/control/platform-feature-multiprocessor-suspend = "1" (n0,r1)
/local/domain/1/control/platform-feature-xs_reset_watches = "1" (n0,r1)
/local/domain/1/data = "" (n1)
/local/domain/1/drivers = "" (n1)
/local/domain/1/feature = "" (n1)
/local/domain/1/attr = "" (n1)
/local/domain/1/error = "" (n1)
/local/domain/1/domid = "1" (n0,r1)
/local/domain/1/store = "" (n0,r1)
/local/domain/1/store/port = "1" (n0,r1)
/local/domain/1/store/ring-ref = "246273" (n0,r1)
/local/domain/1/console = "" (n0,r1)
/local/domain/1/console/backend = "/local/domain/0/backend/console/1/0" (n0,r1)
/local/domain/1/console/backend-id = "0" (n1,r0)
/local/domain/1/console/limit = "1048576" (n0,r1)
/local/domain/1/console/type = "xenconsoled" (n0,r1)
/local/domain/1/console/output = "pty" (n0,r1)
/local/domain/1/console/tty = "/dev/pts/0" (n0,r1)
/local/domain/1/console/port = "2" (n0,r1)
/local/domain/1/console/ring-ref = "246274" (n0,r1)
/local/pool/0/name = "Pool-0" (n0)
/vm = "" (n0)
/libxl = "" (n0)
"""

DOMAIN = PvDomain(
    domid=1,
    name="g",
    uuid="82370218-e6c5-11f1-9be2-ab0af9d03889",
    memory_kib=131072,
    store_ring_ref=246273,
    store_port=1,
    console_ring_ref=246274,
    console_port=2,
    console_tty="/dev/pts/0",
)


def _lines(store: Store, path: str) -> list[str]:
    permissions = ",".join(store.get_permissions(path))
    lines = [f'{path} = "{store.read(path).decode()}" ({permissions})']
    for name in store.ls(path):
        lines += _lines(store, f"/{name}" if path == "/" else f"{path}/{name}")
    return lines


def test_the_keys_are_those_of_xl_in_its_order() -> None:
    store = Store()
    for path, value, permissions in [*host_keys(), *domain_keys(DOMAIN)]:
        store.write(path, value, permissions)
    real = REAL.split("\n")[1:-1]
    named = {line.split(" ")[0] for line in real}
    found = [line for line in _lines(store, "/") if line.split(" ")[0] in named]
    assert found == real
    below = [line for line in _lines(store, "/local/domain/1") if line not in real]
    assert below == []


def test_offline_processors_and_memory_limit() -> None:
    domain = PvDomain(
        domid=3,
        name="x",
        uuid="u",
        memory_kib=1024,
        max_memory_kib=2048,
        store_ring_ref=1,
        store_port=1,
        console_ring_ref=2,
        console_port=2,
        online_vcpus=(True, False),
    )
    keys = {key.path: key.value for key in domain_keys(domain)}
    assert keys["/local/domain/3/cpu/1/availability"] == "offline"
    assert keys["/local/domain/3/memory/static-max"] == "2048"
    assert "/local/domain/3/console/tty" not in keys
