"""Names of nodes and numbers in payloads."""

import pytest

from hv.core.xenstore.numbers import atoi, domid
from hv.core.xenstore.paths import is_valid, join, parent


@pytest.mark.parametrize(
    ("path", "valid"),
    [
        ("/", True),
        ("/a", True),
        ("/a/b-c_d@e/0", True),
        ("", False),
        ("a", False),
        ("/a/", False),
        ("//a", False),
        ("/a//b", False),
        ("/a+b", False),
        ("/a b", False),
        ("/a\n", False),
        ("/\xe9", False),
        ("@introduceDomain", False),
        ("/" + "a" * 2047, True),
        ("/" + "a" * 2048, False),
        ("/local/domain/5/" + "a" * 2048, True),
        ("/local/domain/5/" + "a" * 2049, False),
        ("/local/domain/-12/" + "a" * 2048, True),
        ("/local/domain/123456/" + "a" * 2040, False),
    ],
)
def test_validity(path: str, valid: bool) -> None:
    assert is_valid(path, 2048) is valid


def test_parents() -> None:
    assert [parent(path) for path in ("/", "/a", "/a/b")] == ["/", "/", "/a"]
    assert [join("/", "a"), join("/a", "b")] == ["/a", "/a/b"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12", 12),
        (" \t+12x", 12),
        ("-3", -3),
        ("", 0),
        ("x", 0),
        ("4294967301", 5),
        ("99999999999999999999", -1),
        ("-99999999999999999999", 0),
        ("0" * 4000 + "7", 7),
    ],
)
def test_numbers_are_read_as_by_atoi(text: str, number: int) -> None:
    assert atoi(text) == number
    assert domid(text) == number % (1 << 32)
