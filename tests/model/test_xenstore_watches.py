"""Watches in lockstep with a list of them: several clients that write, commit, remove, and crash.

The model is the rule itself: a change of a path is heard by every watch on it or above it, the removal of a subtree
below it by watches on exactly the removed nodes; what a transaction changes is heard at its commit, or never.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hv.abi.io import xs_wire as xs
from hv.core.xenstore import Connection, Packet, Store

CLIENTS = 3
clients = st.integers(0, CLIENTS - 1)
paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(lambda names: "/w/" + "/".join(names))
tokens = st.sampled_from(["t", "u"])
depths = st.sampled_from([None, 0, 1])


class Watching(RuleBasedStateMachine):
    """`expected` collects what each client must hear next."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.store.mkdir("/w")
        self.nodes = {"/w"}
        self.clients: list[Connection] = [self.store.connect() for _ in range(CLIENTS)]
        self.watches: list[dict[tuple[str, str], int | None]] = [{} for _ in range(CLIENTS)]
        self.expected: list[list[tuple[str, str]]] = [[] for _ in range(CLIENTS)]

    def ask(self, who: int, kind: int, payload: str, tx: int = 0) -> tuple[int, str]:
        self.store.handle(self.clients[who], Packet(kind, 9, tx, payload.encode()))
        answers = []
        for number, client in enumerate(self.clients):
            events = []
            for packet in client.take():
                if packet.type == xs.XS_WATCH_EVENT:
                    path, token, _ = packet.payload.decode().split("\0")
                    events.append((path, token))
                else:
                    assert number == who
                    answers.append((packet.type, packet.payload.decode()))
            # One connection hears in the order of its watches; what a removal tells first is not the model's affair.
            assert sorted(set(events)) == sorted(set(self.expected[number]))
            self.expected[number] = []
        (answer,) = answers
        return answer

    def hears(self, path: str, exact: bool = False) -> None:
        for number, watches in enumerate(self.watches):
            for (watched, token), depth in watches.items():
                below = path.startswith(watched + "/") and not exact
                level = path.count("/") - watched.count("/")
                if path == watched or (below and (depth is None or level <= depth)):
                    self.expected[number].append((path, token))

    def make(self, path: str) -> None:
        while path not in self.nodes:
            self.nodes.add(path)
            path = path.rpartition("/")[0]

    @rule(who=clients, path=paths)
    def write(self, who: int, path: str) -> None:
        self.hears(path)
        assert self.ask(who, xs.XS_WRITE, f"{path}\0v")[1] == "OK\0"
        self.make(path)

    @rule(who=clients, path=paths)
    def set_permissions(self, who: int, path: str) -> None:
        if path in self.nodes:
            self.hears(path)
            assert self.ask(who, xs.XS_SET_PERMS, f"{path}\0n0\0r1\0")[1] == "OK\0"

    @rule(who=clients, path=paths)
    def remove(self, who: int, path: str) -> None:
        gone = {node for node in self.nodes if node == path or node.startswith(path + "/")}
        for node in gone:
            self.hears(node, exact=node != path)
        answer = self.ask(who, xs.XS_RM, f"{path}\0")[1]
        assert answer == ("OK\0" if gone or path.rpartition("/")[0] in self.nodes else "ENOENT\0")
        self.nodes -= gone

    @rule(who=clients, changes=st.lists(paths, max_size=4), commits=st.booleans(), disturbed=st.booleans())
    def transaction(self, who: int, changes: list[str], commits: bool, disturbed: bool) -> None:
        tx = int(self.ask(who, xs.XS_TRANSACTION_START, "\0")[1][:-1])
        for path in changes:
            assert self.ask(who, xs.XS_WRITE, f"{path}\0v", tx)[1] == "OK\0"  # nobody hears
        if disturbed and changes:
            self.write((who + 1) % CLIENTS, changes[0])
        fails = disturbed and changes
        if commits and not fails:
            for path in changes:
                self.hears(path)
        answer = self.ask(who, xs.XS_TRANSACTION_END, "T\0" if commits else "F\0", tx)[1]
        assert answer == ("EAGAIN\0" if commits and fails else "OK\0")
        if commits and not fails:
            for path in changes:
                self.make(path)

    @rule(who=clients, path=paths, token=tokens, depth=depths)
    def watch(self, who: int, path: str, token: str, depth: int | None) -> None:
        known = (path, token) in self.watches[who]
        if not known:
            self.expected[who].append((path, token))
        levels = "" if depth is None else f"{depth}\0"
        answer = self.ask(who, xs.XS_WATCH, f"{path}\0{token}\0{levels}")[1]
        assert answer == ("EEXIST\0" if known else "OK\0")
        self.watches[who].setdefault((path, token), depth)

    @rule(who=clients, path=paths, token=tokens)
    def unwatch(self, who: int, path: str, token: str) -> None:
        known = (path, token) in self.watches[who]
        answer = self.ask(who, xs.XS_UNWATCH, f"{path}\0{token}\0")[1]
        assert answer == ("OK\0" if known else "ENOENT\0")
        self.watches[who].pop((path, token), None)

    @rule(who=clients, path=paths)
    def crash(self, who: int, path: str) -> None:
        """In the middle of a transaction, with watches and unread messages."""
        tx = int(self.ask(who, xs.XS_TRANSACTION_START, "\0")[1][:-1])
        self.store.handle(self.clients[who], Packet(xs.XS_WRITE, 9, tx, f"{path}/lost\0v".encode()))
        self.store.disconnect(self.clients[who])
        self.watches[who] = {}
        self.clients[who] = self.store.connect()

    @invariant()
    def the_same_nodes(self) -> None:
        for path in self.nodes:
            assert set(self.store.ls(path)) == {
                node.rpartition("/")[2] for node in self.nodes if node.rpartition("/")[0] == path
            }

    def teardown(self) -> None:
        assert not self.store._state.tree.faults()
        assert not self.store._state.tree.snapshots


Watching.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestWatching = Watching.TestCase
