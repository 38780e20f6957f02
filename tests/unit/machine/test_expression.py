"""The language of conditions: what an expression is worth, and what is none."""

from collections.abc import Iterator

import pytest
from guest_kit import assemble
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hv
from hv.machine import expression

GUEST = """
main:   ret
        .data
        .globl  table
table:  .quad   0x1122334455667788, -2
        .globl  "odd.name"
"odd.name":
        .byte   0xff
"""
WORD = (1 << 64) - 1


@pytest.fixture(scope="module")
def domain() -> Iterator[hv.Domain]:
    with hv.Machine() as machine:
        made = machine.create(assemble(GUEST))
        for name, value in {"rax": 7, "rbx": WORD, "r9": 0x1_0000_0002}.items():
            made.guest.set_register(0, name, value)
        yield made


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("0x10 + 0b11", 19),
        ("-1", WORD),
        ("rax", 7),
        ("$rax * 2", 14),
        ("rbx + 1", 0),
        ("ebx", 0xFFFFFFFF),
        ("r9d", 2),
        ("sp == rsp and pc == rip", 1),
        ("rax == 7 && rbx", 1),
        ("rax == 8 || !rax", 0),
        ("rax != 7", 0),
        ("not (rax > 3)", 0),
        ("1 < rax < 9", 1),
        ("1 < rax < 5", 0),
        ("rbx > 0", 1),
        ("7 / 2 + 7 // 2 + 7 % 2", 7),
        ("1 << 63 >> 63", 1),
        ("1 << 64", 0),
        ("~0 & 0xff ^ 1 | 0x100", 0x1FE),
        ("[table]", 0x1122334455667788),
        ("[table + 8] == -2", 1),
        ("u8(table)", 0x88),
        ("u16(table)", 0x7788),
        ("u32(table + 4)", 0x11223344),
        ("s8(table) < 0", 1),
        ("s64(table + 8) + 2", 0),
        ("u8('odd.name')", 0xFF),
        ("kernel_mode + vcpu", 1),
        ("domid", 1),
        ("now", 0),
        ("SCHEDOP_shutdown", 2),
        ("port + 1", 6),
        ("1 if rax else [0]", 1),
        ("0 and [0]", 0),
    ],
)
def test_values(text: str, value: int, domain: hv.Domain) -> None:
    assert expression.evaluate(text, domain, 0, {"port": 5}) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rax =",
        "rax = 1",
        "__import__('os')",
        "rax.real",
        "(lambda: 1)()",
        "[1, 2]",
        "[*table]",
        "{1}",
        "1.5",
        "True",
        "None",
        "f'{rax}'",
        "b'x'",
        "u8(1, 2)",
        "u8(x=1)",
        "u64",
        "2 ** 9999",
        "rax in [1]",
        "rax; rbx",
        "(" * 500 + "1" + ")" * 500,
        "~" * 500 + "1",
        "1 +" * 3000 + "1",
        "rax\0",
        "(yield)",
        "[x for x in rax]",
        "rax if",
    ],
)
def test_what_is_none(text: str, domain: hv.Domain) -> None:
    with pytest.raises(hv.HvError) as caught:
        expression.evaluate(text, domain)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nobody", "'nobody' is no register, symbol or other name here"),
        ("[0x10]", "nothing can be read at 0x10"),
        ("u8(1 << 60)", "nothing can be read at 0x1000000000000000"),
        ("[-1]", "nothing can be read at 0xffffffffffffffff"),
        ("1 / (rax - 7)", "a division by 0"),
        ("1 % 0", "a division by 0"),
    ],
)
def test_what_has_no_value(text: str, sentence: str, domain: hv.Domain) -> None:
    with pytest.raises(hv.HvError) as caught:
        expression.evaluate(text, domain)
    assert str(caught.value) == sentence


@given(text=st.text(alphabet="rax1()[]+-*/%<>=!&|~^ ,.'u8:ifelse\n\t$", max_size=40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_a_value_or_a_sentence(domain: hv.Domain, text: str) -> None:
    try:
        assert 0 <= expression.evaluate(text, domain) <= WORD
    except hv.HvError as error:
        assert str(error)
