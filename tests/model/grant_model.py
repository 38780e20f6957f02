"""Grant tables in plain Python: what an entry says, who uses it, and what an operation answers. A twin of hv's C.

Three domains with few entries. Written from the rules of Xen's grant_table.c, not from hv: references are counted by
looking at all mappings.
"""

from __future__ import annotations

from dataclasses import dataclass, field

ACCESS, TRANSFER, TRANSITIVE, TYPE = 1, 2, 3, 3
READONLY, SUB_PAGE = 4, 0x100
PAGE = 4096


@dataclass
class Entry:
    """As the guest wrote it; `start`, `length` of a part; `domid2`, `ref2` of a transitive one."""

    flags: int = 0
    domid: int = 0
    frame: str = ""
    start: int = 0
    length: int = 0
    domid2: int = 0
    ref2: int = 0


@dataclass
class Use:
    """What holds while an entry is in use."""

    domid: int
    frame: str
    readers: int = 0
    writers: int = 0


@dataclass
class Mapping:
    """A handle."""

    owner: int
    ref: int
    readonly: bool
    page: int


@dataclass
class Domain:
    domid: int
    version: int = 1
    entries: dict[int, Entry] = field(default_factory=dict)
    uses: dict[int, Use] = field(default_factory=dict)
    mappings: dict[int, Mapping] = field(default_factory=dict)
    shown: dict[int, tuple[str, bool]] = field(default_factory=dict)  # page: the foreign frame there, writable
    handles: list[int] = field(default_factory=lambda: list(range(256)))


class Model:
    """Frames are named "domid:page", and bad ones anything else."""

    def __init__(self, domids: list[int]) -> None:
        self.domains = {domid: Domain(domid) for domid in domids}

    def limit(self, domid: int) -> int:
        return 512 if self.domains[domid].version == 1 else 256

    def noted(self, domid: int, ref: int) -> str:
        use = self.domains[domid].uses.get(ref)
        return "" if use is None else "rw" if use.writers else "r"

    def write(self, domid: int, ref: int, entry: Entry) -> None:
        self.domains[domid].entries[ref] = entry

    # --- the look at an entry

    def _entry(self, domid: int, ref: int) -> Entry:
        return self.domains[domid].entries.get(ref, Entry())

    def _permits(self, owner: int, ref: int, user: int, readonly: bool, mapping: bool) -> bool:
        entry = self._entry(owner, ref)
        if ref not in self.domains[owner].uses:
            kind = entry.flags & (TYPE | SUB_PAGE if mapping else TYPE)
            transitive = kind == TRANSITIVE and not mapping and self.domains[owner].version == 2
            if (kind != ACCESS and not transitive) or entry.domid != user:
                return False
        return readonly or not entry.flags & READONLY

    def _owns(self, owner: int, frame: str) -> bool:
        return frame.startswith(f"{owner}:")

    # --- mapping

    def map(self, user: int, owner: int, ref: int, page: int, readonly: bool) -> tuple[str, int | None]:
        if owner not in self.domains:
            return "bad_domain", None
        mine, theirs = self.domains[user], self.domains[owner]
        handle = mine.handles.pop(0)
        status = self._map(user, owner, ref, readonly)
        if status != "okay":
            mine.handles.append(handle)
            return status, None
        use = theirs.uses[ref]
        mine.mappings[handle] = Mapping(owner, ref, readonly, page)
        mine.shown[page] = use.frame, not readonly
        return "okay", handle

    def _map(self, user: int, owner: int, ref: int, readonly: bool) -> str:
        theirs = self.domains[owner]
        if ref >= self.limit(owner):
            return "bad_gntref"
        use = theirs.uses.get(ref)
        if use is not None and use.domid != user:
            return "general_error"
        if use is None or (not readonly and not use.writers):
            if not self._permits(owner, ref, user, readonly, mapping=True):
                return "general_error"
            if use is None:
                frame = self._entry(owner, ref).frame
                if not self._owns(owner, frame):
                    return "bad_page"
                use = theirs.uses[ref] = Use(user, frame)
        use.readers += readonly
        use.writers += not readonly
        return "okay"

    def unmap(self, user: int, handle: int, page: int) -> str:
        mine = self.domains[user]
        mapping = mine.mappings.get(handle)
        if mapping is None:
            return "bad_handle"
        theirs = self.domains[mapping.owner]
        if mapping.ref >= self.limit(mapping.owner):
            return "bad_handle"
        use = theirs.uses[mapping.ref]
        if mine.shown.get(page) != (use.frame, not mapping.readonly):
            return "general_error"
        del mine.shown[page]
        del mine.mappings[handle]
        mine.handles.append(handle)
        use.readers -= mapping.readonly
        use.writers -= not mapping.readonly
        if not use.readers and not use.writers:
            del theirs.uses[mapping.ref]
        return "okay"

    # --- copying

    def source(
        self, user: int, owner: int, ref: int, readonly: bool, one_step: bool = True
    ) -> tuple[str, str, int, int]:
        """(status, frame, start, length) of a side of a copy that is a grant."""
        if owner not in self.domains:
            return "bad_domain", "", 0, 0
        if ref >= self.limit(owner):
            return "bad_gntref", "", 0, 0
        use, entry = self.domains[owner].uses.get(ref), self._entry(owner, ref)
        error = "general_error", "", 0, 0
        if use is not None and use.domid != user:
            return error
        look = use is None or (not readonly and not use.writers)
        if look and not self._permits(owner, ref, user, readonly, mapping=False):
            return error
        if self.domains[owner].version == 2 and entry.flags & TYPE == TRANSITIVE:
            if not one_step or entry.domid2 == owner or entry.domid2 not in self.domains:
                return error
            found = self.source(owner, entry.domid2, entry.ref2, readonly, False)
            return error if found[0] == "okay" and use is not None else found
        if not look:
            assert use is not None
            return "okay", use.frame, 0, PAGE
        part = self.domains[owner].version == 2 and entry.flags & SUB_PAGE
        if not self._owns(owner, entry.frame):
            return "bad_page", "", 0, 0
        if use is not None:
            return "okay", use.frame, 0, PAGE
        return "okay", entry.frame, entry.start if part else 0, entry.length if part else PAGE

    def copy(
        self, user: int, source: tuple[int, int, int], dest: tuple[int, int, int], length: int
    ) -> tuple[str, str, str]:
        """(owner, ref, offset) on both sides: (status, frame from, frame to)."""
        if source[0] not in self.domains or dest[0] not in self.domains:
            return "bad_domain", "", ""
        status, origin, start, size = self.source(user, source[0], source[1], True)
        if status != "okay":
            return status, "", ""
        status, target, to, room = self.source(user, dest[0], dest[1], False)
        if status != "okay":
            return status, "", ""
        if source[2] + length > PAGE or dest[2] + length > PAGE:
            return "bad_copy_arg", "", ""
        inside = start <= source[2] and source[2] + length <= start + size
        inside = inside and to <= dest[2] and dest[2] + length <= to + room
        return ("okay", origin, target) if inside else ("general_error", "", "")

    # --- the table

    def set_version(self, domid: int, version: int) -> int:
        domain = self.domains[domid]
        if version not in (1, 2):
            return -22
        if version == domain.version:
            return 0
        if any(ref >= 8 for ref in domain.uses):
            return -16
        domain.version = version
        domain.entries = {}
        return 0

    def swap(self, domid: int, a: int, b: int) -> str:
        domain = self.domains[domid]
        if max(a, b) >= self.limit(domid):
            return "bad_gntref"
        if a == b:
            return "okay"
        if a in domain.uses or b in domain.uses:
            return "eagain"
        first, second = self._entry(domid, a), self._entry(domid, b)
        domain.entries[a], domain.entries[b] = second, first
        return "okay"
