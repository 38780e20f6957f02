"""The store in lockstep with the model, over random requests of three clients."""

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from xenstore_model import Entry, Model, RefusedError, View

from hv.abi.io import xs_wire as xs
from hv.core.xenstore import Packet, Store

AREAS = ("/s", "/local/domain/1", "/local/domain/2")
clients = st.sampled_from([0, 1, 2])
names = st.lists(st.sampled_from(["a", "b"]), min_size=0, max_size=3)
paths = st.builds(lambda area, below: "/".join([area, *below]), st.sampled_from(AREAS), names)
entries = st.lists(
    st.tuples(st.sampled_from("nrwb"), st.sampled_from([0, 1, 2])), min_size=1, max_size=3
)


class Lockstep(RuleBasedStateMachine):
    """Each request goes to both; the replies must be the same."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.clients = {0: self.store.connect()}
        self.store.mkdir("/local/domain")
        for domid in (1, 2):
            self.clients[domid] = self.store.introduce(domid)
        for area, permissions in zip(AREAS, (["n0", "b1", "r2"], ["n1"], ["n2"]), strict=True):
            self.store.mkdir(area, permissions)
        self.model = Model({})
        self._copy("/")
        self.open: dict[tuple[int, int], View] = {}
        self.count = 0

    def _copy(self, path: str) -> None:
        permissions = [(text[0], int(text[1:])) for text in self.store.get_permissions(path)]
        children = self.store.ls(path)
        self.model.entries[path] = Entry(self.store.read(path), permissions, 0, children)
        for name in children:
            self._copy(f"/{name}" if path == "/" else f"{path}/{name}")

    def _ask(self, who: int, tx: int, kind: int, payload: bytes) -> tuple[str, bytes]:
        self.store.handle(self.clients[who], Packet(kind, 1, tx, payload))
        (reply,) = self.clients[who].take()
        if reply.type == xs.XS_ERROR:
            return reply.payload[:-1].decode(), b""
        return "", reply.payload

    def _compare(
        self,
        who: int,
        pick: int,
        kind: int,
        payload: bytes,
        expect: Callable[[View], bytes | None],
    ) -> None:
        """`expect` gives the reply, None for the usual acknowledgement."""
        mine = [tx for client, tx in self.open if client == who]
        tx = mine[pick % len(mine)] if mine and pick % 3 else 0
        view = self.open[who, tx] if tx else self.model.view()
        try:
            answer = expect(view)
            expected = ("", b"OK\0" if answer is None else answer)
        except RefusedError as refused:
            expected = (str(refused), b"")
        assert self._ask(who, tx, kind, payload) == expected

    @rule(who=clients, pick=st.integers(0, 8), path=paths)
    def read(self, who: int, pick: int, path: str) -> None:
        payload = path.encode() + b"\0"
        self._compare(who, pick, xs.XS_READ, payload, lambda view: view.read(who, path))

    @rule(who=clients, pick=st.integers(0, 8), path=paths)
    def directory(self, who: int, pick: int, path: str) -> None:
        payload = path.encode() + b"\0"
        self._compare(who, pick, xs.XS_DIRECTORY, payload, lambda view: view.directory(who, path))

    @rule(who=clients, pick=st.integers(0, 8), path=paths)
    def get_permissions(self, who: int, pick: int, path: str) -> None:
        payload = path.encode() + b"\0"
        self._compare(
            who, pick, xs.XS_GET_PERMS, payload, lambda view: view.get_permissions(who, path)
        )

    @rule(who=clients, pick=st.integers(0, 8), path=paths)
    def write(self, who: int, pick: int, path: str) -> None:
        self.count += 1
        value = b"%d" % self.count
        payload = path.encode() + b"\0" + value
        self._compare(who, pick, xs.XS_WRITE, payload, lambda view: view.write(who, path, value))

    @rule(who=clients, pick=st.integers(0, 8), path=paths)
    def mkdir(self, who: int, pick: int, path: str) -> None:
        payload = path.encode() + b"\0"
        self._compare(who, pick, xs.XS_MKDIR, payload, lambda view: view.mkdir(who, path))

    @rule(who=clients, pick=st.integers(0, 8), path=paths)
    def remove(self, who: int, pick: int, path: str) -> None:
        payload = path.encode() + b"\0"
        self._compare(who, pick, xs.XS_RM, payload, lambda view: view.remove(who, path))

    @rule(who=clients, pick=st.integers(0, 8), path=paths, permissions=entries)
    def set_permissions(
        self, who: int, pick: int, path: str, permissions: list[tuple[str, int]]
    ) -> None:
        texts = [f"{letter}{domid}" for letter, domid in permissions]
        payload = "".join(f"{text}\0" for text in [path, *texts]).encode()
        self._compare(
            who,
            pick,
            xs.XS_SET_PERMS,
            payload,
            lambda view: view.set_permissions(who, path, permissions),
        )

    @precondition(lambda self: len(self.open) < 6)
    @rule(who=clients)
    def begin(self, who: int) -> None:
        error, answer = self._ask(who, 0, xs.XS_TRANSACTION_START, b"\0")
        assert error == ""
        self.open[who, int(answer[:-1])] = self.model.begin()

    @precondition(lambda self: self.open)
    @rule(pick=st.integers(0, 5), commit=st.booleans())
    def end(self, pick: int, commit: bool) -> None:
        who, tx = list(self.open)[pick % len(self.open)]
        view = self.open.pop((who, tx))
        expected = ("", b"OK\0")
        if commit:
            try:
                view.commit()
            except RefusedError as refused:
                expected = (str(refused), b"")
        assert self._ask(who, tx, xs.XS_TRANSACTION_END, b"T\0" if commit else b"F\0") == expected

    @invariant()
    def the_same_nodes(self) -> None:
        for path, entry in self.model.entries.items():
            assert self.store.read(path) == entry.value
            assert self.store.ls(path) == entry.children

    def teardown(self) -> None:
        self.store.handle(self.clients[0], Packet(xs.XS_CONTROL, 0, 0, b"check\0"))
        assert not self.store.messages


TestLockstep = Lockstep.TestCase
TestLockstep.settings = settings(max_examples=120, stateful_step_count=50, deadline=None)
