"""What a program does with a store: its operations as functions, over any transport.

Rules: a refused request is a StoreError with one sentence; a transaction is a `with` block, which
commits at its end and undoes everything on an exception.

Theory of operation: a transport passes in `request(operation, transaction, payload)`, which returns
the payload of the reply and raises XenStoreError for XS_ERROR. Directories that do not fit into one
reply are read in parts.

Source: docs/misc/xenstore.txt.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from hv.abi.io import xs_wire as xs
from hv.core.xenstore.errors import XenStoreError
from hv.errors import StoreError

Request = Callable[[int, int, bytes], bytes]
T = TypeVar("T")

SENTENCES = {
    "ENOENT": "there is no such node in XenStore",
    "EACCES": "XenStore does not allow it",
    "EPERM": "XenStore does not allow it",
    "EINVAL": "XenStore does not accept it: look at the path and the arguments",
    "EAGAIN": "somebody else changed what the transaction had looked at: do it again",
    "ENOSPC": "it is more than XenStore's quota allows",
    "E2BIG": "it is too large for XenStore",
    "EEXIST": "it is there already",
    "EBUSY": "XenStore cannot do it now",
    "ENOSYS": "this XenStore has no such operation",
}


def _refused(path: str, error: XenStoreError) -> StoreError:
    sentence = SENTENCES.get(error.name, "XenStore refuses it")
    return StoreError(error.name, f"{path}: {sentence} ({error.name})")


def encoded(path: str) -> bytes:
    """A path in a payload. Raises StoreError where it can be none."""
    try:
        return path.encode("latin-1").replace(b"\0", b"?") + b"\0"
    except UnicodeEncodeError:
        raise StoreError("EINVAL", f"{path}: a path has ASCII letters, digits and -/_@ only") from None


class Nodes:
    """The nodes of a store, outside any transaction or in one. Paths may be relative to /local/domain/0."""

    def __init__(self, request: Request, transaction: int = 0) -> None:
        self._request = request
        self._transaction = transaction

    def _ask(self, operation: int, path: str, rest: bytes = b"") -> bytes:
        payload = encoded(path) + rest
        try:
            if len(payload) > xs.XENSTORE_PAYLOAD_MAX:
                raise XenStoreError("E2BIG")
            return self._request(operation, self._transaction, payload)
        except XenStoreError as error:
            raise _refused(path, error) from None

    def read(self, path: str) -> bytes:
        """The value of a node."""
        return self._ask(xs.XS_READ, path)

    def exists(self, path: str) -> bool:
        """Whether there is such a node."""
        try:
            self.read(path)
        except StoreError as error:
            if error.name == "ENOENT":
                return False
            raise
        return True

    def write(self, path: str, value: bytes | str, permissions: Iterable[str] | None = None) -> None:
        """Set a value, at most 4,096 bytes with the path; make the node where it is missing; then its permissions."""
        self._ask(xs.XS_WRITE, path, value.encode() if isinstance(value, str) else bytes(value))
        if permissions is not None:
            self.set_permissions(path, permissions)

    def mkdir(self, path: str, permissions: Iterable[str] | None = None) -> None:
        """Make a node unless it exists; then perhaps set its permissions."""
        self._ask(xs.XS_MKDIR, path)
        if permissions is not None:
            self.set_permissions(path, permissions)

    def rm(self, path: str) -> None:
        """Delete a node and all below it; one that is missing is fine where its parent exists."""
        self._ask(xs.XS_RM, path)

    def ls(self, path: str) -> list[str]:
        """The names of the children, in the order of their creation."""
        try:
            listing = self._ask(xs.XS_DIRECTORY, path)
        except StoreError as error:
            if error.name != "E2BIG":
                raise
            listing = self._in_parts(path)
        return listing.decode("latin-1").split("\0")[:-1]

    def _in_parts(self, path: str) -> bytes:
        """A long listing; from the start again where the node changes meanwhile."""
        generation, listing = b"", b""
        while True:
            answer = self._ask(xs.XS_DIRECTORY_PART, path, b"%d\0" % len(listing))
            now, _, part = answer.partition(b"\0")
            if listing and now != generation:
                listing = b""
                continue
            generation = now
            if part.endswith(b"\0\0") or part == b"\0":
                return listing + part[:-1]
            listing += part

    def get_permissions(self, path: str) -> list[str]:
        """Entries such as "n0", "r1": the owner with everybody's access, then single domains."""
        return self._ask(xs.XS_GET_PERMS, path).decode().split("\0")[:-1]

    def set_permissions(self, path: str, permissions: Iterable[str]) -> None:
        """Replace the permissions: n (none), r, w, b (both), each with a domain's number; the first names the owner."""
        self._ask(xs.XS_SET_PERMS, path, b"".join(map(encoded, permissions)))


class Client(Nodes):
    """A store, with transactions."""

    @contextmanager
    def transaction(self) -> Iterator[Nodes]:
        """`with store.transaction() as t:` changes all or nothing. StoreError "EAGAIN" where others were faster."""
        number = int(self._ask(xs.XS_TRANSACTION_START, "")[:-1])
        try:
            yield Nodes(self._request, number)
        except BaseException:
            self._end(number, b"F\0")
            raise
        self._end(number, b"T\0")

    def transact(self, action: Callable[[Nodes], T]) -> T:
        """Do `action(transaction)` in transactions until one is not disturbed by others; what it returned."""
        while True:
            try:
                with self.transaction() as nodes:
                    result = action(nodes)
                return result
            except StoreError as error:
                if error.name != "EAGAIN":
                    raise

    def _end(self, number: int, verdict: bytes) -> None:
        try:
            self._request(xs.XS_TRANSACTION_END, number, verdict)
        except XenStoreError as error:
            raise _refused("the transaction", error) from None
