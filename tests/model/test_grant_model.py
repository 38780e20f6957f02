"""Random operations on grants, on hv and on the model: the same answers, notes, memory and references.

HV_MODEL_EXAMPLES sets how many sequences are tried (default 25).
"""

from __future__ import annotations

import os
from typing import Any

from grant_kit import HOST, RO, Party, copy_op, granted, parties
from grant_model import ACCESS, READONLY, SUB_PAGE, TRANSFER, TRANSITIVE, Entry, Model
from hypothesis import given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("HV_MODEL_EXAMPLES", "25"))
REFS = (8, 9, 10, 255, 256)  # those that both versions have, the last of version 2, and one that only version 1 has
PAGES = 3  # that are granted; mappings go to the pages behind them

party = st.integers(0, 2)
ref = st.sampled_from(REFS)
flags = st.sampled_from(
    (0, ACCESS, ACCESS, ACCESS, ACCESS | READONLY, ACCESS | SUB_PAGE, TRANSFER, TRANSITIVE, TRANSITIVE | READONLY)
)
window = st.integers(8, 10)
offset = st.sampled_from((0, 64, 4032, 4095))
operation = st.one_of(
    st.tuples(st.just("write"), party, ref, flags, party, st.integers(0, 3), offset, party, ref),
    st.tuples(
        st.just("lend"), party, party, ref, st.sampled_from((ACCESS, ACCESS, READONLY | ACCESS)), st.integers(0, 2)
    ),
    st.tuples(st.just("map"), party, party, ref, window, st.booleans()),
    st.tuples(st.just("lend and map"), party, party, ref, window, st.booleans()),
    st.tuples(st.just("unmap"), party, st.integers(0, 3), window),
    st.tuples(st.just("unmap newest"), party),
    st.tuples(st.just("copy"), party, st.tuples(party, ref, offset), st.tuples(party, ref, offset)),
    st.tuples(
        st.just("lend and copy"), party, party, party, ref, ref, offset, st.sampled_from(("whole", "part", "third"))
    ),
    st.tuples(st.just("version"), party, st.sampled_from((1, 2, 2, 3))),
    st.tuples(st.just("swap"), party, ref, ref),
)


class Pair:
    """The same three domains on hv and in the model."""

    def __init__(self, guests: list[Party]) -> None:
        self.guests = guests
        self.domids = [guest.domid for guest in guests]
        self.model = Model(self.domids)
        self.frames = {f"{g.domid}:{i}": g.mfn(g.page(i)) for g in guests for i in range(PAGES)}
        self.frames[""] = 0x100  # hv's own: nobody can grant it
        for name, mfn in self.frames.items():
            if name:
                self.memory(name)[:] = bytes([mfn & 255]) * 4096

    def memory(self, frame: str) -> memoryview:
        return self.guests[0].engine.page(self.frames[frame])

    def write(self, who: int, ref: int, flags: int, to: int, page: int, start: int, third: int, third_ref: int) -> None:
        guest, domain = self.guests[who], self.model.domains[self.domids[who]]
        if ref >= self.model.limit(guest.domid):
            return
        frame = f"{guest.domid}:{page}" if page < PAGES else ""
        entry = Entry(flags, self.domids[to], frame, start, 64, self.domids[third], third_ref)
        kept = guest.flags(ref) & 0x18 if domain.version == 1 else 0  # what Xen has noted is not the guest's to change
        if flags & 3 == TRANSITIVE and domain.version == 2:
            guest.grant_transitive(ref, entry.domid, entry.domid2, entry.ref2, flags & ~3)
        elif flags & SUB_PAGE and domain.version == 2:
            guest.grant_part(ref, entry.domid, self.frames[frame], start, 64, flags & ~SUB_PAGE)
        else:
            guest.grant(ref, entry.domid, self.frames[frame], flags | kept)
        self.model.write(guest.domid, ref, entry)

    def lend(self, who: int, to: int, ref: int, flags: int, page: int) -> None:
        self.write(who, ref, flags, to, page, 0, 0, 0)

    def lend_and_map(self, who: int, owner: int, ref: int, window: int, readonly: bool) -> None:
        self.lend(owner, who, ref, ACCESS | READONLY if readonly and ref == 9 else ACCESS, window % PAGES)
        self.map(who, owner, ref, window, readonly)

    def lend_and_copy(self, who: int, a: int, b: int, ref: int, to: int, offset: int, kind: str) -> None:
        """The source is lent as a whole, in part, or by a third domain on behalf of its owner."""
        if kind == "third":
            third = (a + 1) % 3
            self.lend(third, a, 10, ACCESS, 2)
            self.write(a, ref, TRANSITIVE, who, 0, 0, third, 10)
        else:
            self.write(a, ref, ACCESS | (SUB_PAGE if kind == "part" else 0), who, 0, offset, 0, 0)
        self.lend(b, who, to, ACCESS, 1)
        self.copy(who, (a, ref, offset), (b, to, offset))

    def map(self, who: int, owner: int, ref: int, window: int, readonly: bool) -> None:
        guest = self.guests[who]
        if window in self.model.domains[guest.domid].shown:
            return  # what overwriting a mapping does has its own tests
        found = guest.map_grant(self.domids[owner], ref, guest.page(window), HOST | RO if readonly else HOST)
        status, handle = self.model.map(guest.domid, self.domids[owner], ref, window, readonly)
        assert found[0] == status
        assert handle is None or found[1] == handle

    def unmap(self, who: int, handle: int, window: int) -> None:
        guest = self.guests[who]
        assert guest.unmap_grant(handle, guest.page(window)) == self.model.unmap(guest.domid, handle, window)

    def unmap_newest(self, who: int) -> None:
        mappings = self.model.domains[self.domids[who]].mappings
        if mappings:
            handle = list(mappings)[-1]
            self.unmap(who, handle, mappings[handle].page)

    def copy(self, who: int, source: tuple[int, int, int], dest: tuple[int, int, int]) -> None:
        guest = self.guests[who]
        origin, target = ((self.domids[owner], ref, at) for owner, ref, at in (source, dest))
        status, from_frame, to_frame = self.model.copy(guest.domid, origin, target, 64)
        before = bytes(self.memory(from_frame)[source[2] : source[2] + 64]) if status == "okay" else b""
        sides = (granted(ref, owner, at) for owner, ref, at in (origin, target))
        assert guest.copy(copy_op(*sides)) == [status]
        if status == "okay":
            assert bytes(self.memory(to_frame)[dest[2] : dest[2] + 64]) == before

    def version(self, who: int, version: int) -> None:
        guest = self.guests[who]
        assert guest.version(version) == self.model.set_version(guest.domid, version)

    def swap(self, who: int, a: int, b: int) -> None:
        guest = self.guests[who]
        assert guest.swap(a, b) == self.model.swap(guest.domid, a, b)

    def check(self) -> None:
        """Notes, page tables, and the references on every frame that can be granted."""
        holds: dict[str, list[bool]] = {name: [] for name in self.frames if name}
        for guest in self.guests:
            domain = self.model.domains[guest.domid]
            for ref in REFS:
                if ref < self.model.limit(guest.domid):
                    assert guest.noted(ref) == self.model.noted(guest.domid, ref), ref
            for window in range(8, 11):
                shown = domain.shown.get(window)
                at = guest.mapped_at(guest.page(window))
                if shown:
                    assert at == self.frames[shown[0]]
                    holds[shown[0]].append(shown[1])
            assert sorted(row[0] for row in guest.guest.mapped_grants()) == sorted(domain.mappings)
        for name, mappings in holds.items():
            _, kind, writers, references, _ = self.guests[0].engine.frame(self.frames[name])
            assert (kind, writers, references) == ("writable", 1 + sum(mappings), 2 + len(mappings))


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.tuples(*[st.sampled_from((1, 2))] * 3), st.lists(operation, min_size=10, max_size=40))
def test_the_same_as_the_model(versions: tuple[int, int, int], operations: list[Any]) -> None:
    with parties(3) as guests:
        pair = Pair(guests)
        for who, version in enumerate(versions):
            pair.version(who, version)
        for name, *arguments in operations:
            getattr(pair, name.replace(" ", "_"))(*arguments)
            pair.check()
        for guest in guests:
            guest.domain.destroy()  # whatever they hold of each other, in whatever state
