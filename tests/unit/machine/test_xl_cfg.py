"""xl.cfg(5): the language, as xl's own parser takes it, and the settings of a domain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hv
from hv.machine import xl_cfg, xl_domain
from hv.machine.xl_cfg import parse

GOOD: dict[str, dict[str, object]] = {
    "": {},
    "\n\n;;\n": {},
    "a = 1": {"a": "1"},
    "a=\"1\"\nb='two'": {"a": "1", "b": "two"},
    "a=1;b=0x10": {"a": "1", "b": "0x10"},
    "a.b_c9 = 'x' # why\n": {"a.b_c9": "x"},
    "a = ''  # only a comment = 'no'": {"a": ""},
    "a = []": {"a": []},
    "a = [ 'x' ]": {"a": ["x"]},
    "a = [ 'x', ]": {"a": ["x"]},
    "a = [\n 'x', # one\n\n 2,\n]\n": {"a": ["x", "2"]},
    "a = [ ['x', 1], [] ]": {"a": [["x", "1"], []]},
    "a = 'x'\na = 'y'": {"a": "y"},
    "a = 'x'\na += 'y'": {"a": "xy"},
    "a = ['x']\na += ['y', 'z']": {"a": ["x", "y", "z"]},
    "a += ['x']": {"a": ["x"]},
    r'a = "q\"s\\n\n\x41\101"': {"a": 'q"s\\n\nAA'},
    "a = 'it\"s'": {"a": 'it"s'},
    "a=1\r\nb=2\r\n": {"a": "1", "b": "2"},
}
BAD = {
    "a": "f.cfg:1: = is missing before the line's end",
    "a = ": "f.cfg:1: a value (a string in quotes, a number or a list) is missing before the line's end",
    "\na = b": "f.cfg:2: a value (a string in quotes, a number or a list) is missing before 'b'",
    "a = 'x": 'f.cfg:1: "\'x" is not xl.cfg syntax',
    "a = 'x' 'y'": "f.cfg:1: the line's end or ; is missing before 'y'",
    "1 = 2": "f.cfg:1: a setting's name is missing before '1'",
    "a = [ 'x' 'y' ]": "f.cfg:1: ] or , is missing before 'y'",
    "a = [ 'x',": "f.cfg:1: a value (a string in quotes, a number or a list) is missing before the line's end",
    "a = [ , ]": "f.cfg:1: a value",
    "A = 1": "f.cfg:1: 'A' is not xl.cfg syntax: names are in lower case",
    "import os": "f.cfg:1: = is missing before 'os'",
    "a = os.system('x')": "f.cfg:1: \"('x')\" is not xl.cfg syntax",
    "a = {}": "f.cfg:1: '{}' is not xl.cfg syntax",
    "a = 'x'\na += ['y']": "f.cfg:2: a += joins two strings or two lists",
    r"a = '\q'": r"f.cfg:1: \q is no escape",
    "a = " + "[" * 40: "f.cfg:1: a value",
}


@pytest.mark.parametrize("text", GOOD)
def test_good(text: str) -> None:
    assert {name: setting.value for name, setting in parse(text, "f.cfg").items()} == GOOD[text]


@pytest.mark.parametrize("text", BAD)
def test_bad(text: str) -> None:
    with pytest.raises(hv.ConfigError) as error:
        parse(text, "f.cfg")
    assert str(error.value).startswith(BAD[text])


@given(st.text(alphabet="ab=+[],;'\"\\\n #19x", max_size=60))
def test_any_text_is_settings_or_one_sentence(text: str) -> None:
    try:
        parse(text, "f.cfg")
    except hv.ConfigError as error:
        assert str(error).startswith("f.cfg:")


VALUES = st.recursive(st.text(st.characters(codec="ascii", exclude_characters="\n")), st.lists, max_leaves=5)


def written(value: xl_cfg.Value) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), VALUES))
def test_what_is_written_is_read(settings: dict[str, xl_cfg.Value]) -> None:
    text = "\n".join(f"{name} = {written(value)}" for name, value in settings.items())
    assert {name: setting.value for name, setting in parse(text, "f").items()} == settings


OPTIONS: dict[str, dict[str, object]] = {
    "": {},
    "name='n'": {"name": "n"},
    "memory=64": {"memory": "64M"},
    "memory='64'; maxmem=0x80": {"memory": "64M", "max_memory": "128M"},
    "vcpus=4\ncpu_weight=512": {"vcpus": 4, "weight": 512},
    "cmdline='a b'": {"cmdline": "a b"},
    "root='/dev/xvda1'; extra='ro quiet'": {"cmdline": "root=/dev/xvda1 ro quiet"},
    "extra='ro'": {"cmdline": "ro"},
    "root='/dev/xvda'": {"cmdline": "root=/dev/xvda"},
    "on_crash='preserve'; on_poweroff='destroy'": {"actions": {"crash": "preserve", "poweroff": "destroy"}},
    "max_grant_frames=4; max_grant_version=1": {"max_grant_frames": 4, "max_grant_version": 1},
    "max_event_channels=4095; max_maptrack_frames=0": {"max_event_channels": 4095, "max_maptrack_frames": 0},
    "type='pv'; ramdisk='r'": {"ramdisk": "r"},
    "vcpus=1; maxvcpus=4; cap=50": {"vcpus": 1, "max_vcpus": 4, "cap": 50},
    "vcpus=010; memory='0X40'; cap=0": {"vcpus": 8, "memory": "64M", "cap": 0},  # as strtol reads them
    "vcpus=' +3'": {"vcpus": 3},
    "on_soft_reset='preserve'; on_watchdog='restart'": {"actions": {"soft_reset": "preserve", "watchdog": "restart"}},
    "name='x'\nname+='y'": {"name": "xy"},
}
REFUSED = {
    "vcpus=0": "vcpus = 0 is not possible: choose 1 to 64",
    "vcpus='two'": "vcpus = 'two' is not a number",
    "memory=[1]": "memory is a list",
    "disk=[['x']]": "disk takes a list of strings",
    "on_crash='explode'": "on_crash = 'explode' is not possible: choose destroy, restart",
    "max_grant_version=3": "max_grant_version = 3 is not possible",
    "bootloader='pygrub'": "bootloader is not run",
    "vcpus=08": "vcpus = '08' is not a number",
    "memory='64M'": "memory = '64M' is not a number",
    "memory=" + "9" * 5000: "is not a number",
    "memory=-1": "f.cfg:2: '-1' is not xl.cfg syntax",
    "memory='-1'": "memory = -1 is not possible: choose 1 to",
    "memory += 64": "memory += is not possible: numbers are not added",
}


@pytest.mark.parametrize("text", OPTIONS)
def test_settings(text: str) -> None:
    settings = xl_domain.read(f"kernel='k'\n{text}\n".encode(), "f.cfg")
    assert (settings.kernel, settings.options, settings.warnings) == ("k", OPTIONS[text], [])


@pytest.mark.parametrize("text", REFUSED)
def test_refused_settings(text: str) -> None:
    with pytest.raises(hv.ConfigError, match=r"f\.cfg:2: ") as error:
        xl_domain.read(f"kernel='k'\n{text}\n".encode(), "f.cfg")
    assert REFUSED[text] in str(error.value)


def test_a_file_of_another_kind_of_guest_is_an_image_that_cannot_be_loaded() -> None:
    with pytest.raises(hv.ImageError, match=r"f\.cfg:2: type = 'hvm' is not possible: hv runs PV guests"):
        xl_domain.read(b"kernel='k'\ntype='hvm'\n", "f.cfg")


def test_settings_behind_a_file() -> None:
    data = b"kernel='k'\ndisk=['a.img,raw,xvda,r']\nmemory=1"
    settings = xl_domain.read(data, "f.cfg", ["memory = 2", "disk += ['b.img,raw,xvdb,r']"])
    assert settings.options["memory"] == "2M"
    assert [disk.vdev for disk in settings.options["disks"]] == ["xvda", "xvdb"]
    with pytest.raises(hv.ConfigError, match=r"^'memory':1: = is missing"):
        xl_domain.read(data, "f.cfg", ["memory"])


def test_from_a_mapping() -> None:
    settings = xl_domain.from_mapping({"kernel": "k", "memory": 32, "disk": ["a,raw,xvda,r"], "hap": True})
    assert (settings.kernel, settings.options["memory"], len(settings.options["disks"])) == ("k", "32M", 1)
    assert settings.warnings == ["hap: hap has no effect: only guests of other types than PV have it"]
    with pytest.raises(hv.ConfigError, match="memory = 0 is not possible"):
        xl_domain.from_mapping({"kernel": "k", "memory": 0})
    with pytest.raises(hv.ConfigError, match="memory = None is not possible: give a string"):
        xl_domain.from_mapping({"kernel": "k", "memory": None})


def test_every_setting_of_xl_is_known_once() -> None:
    assert not xl_domain.SETTINGS.keys() & xl_domain.NO_EFFECT.keys()


def test_latin_1() -> None:
    """xl takes any bytes; comments are in whatever their author wrote in."""
    assert xl_domain.looks_like_one(b"# gr\xfc\xdfe\nkernel='k'\n")
    assert xl_domain.read(b"# gr\xfc\xdfe\nkernel='k'\n", "f.cfg").kernel == "k"


def test_warnings() -> None:
    text = b"kernel='k'\nnics=2\ncpus='0-3'\ncmdline='c'\nextra='e'\nmemry=3\nhap=1\n"
    warnings = xl_domain.read(text, "f.cfg").warnings
    assert warnings == [
        "f.cfg:2: nics is not known to hv, and ignored",
        "f.cfg:3: cpus has no effect: there is one processor",
        "f.cfg:6: memry is not known to hv, and ignored: did you mean memory?",
        "f.cfg:7: hap has no effect: only guests of other types than PV have it",
        "f.cfg:4: root and extra are ignored: cmdline is there",
    ]


@pytest.mark.parametrize("data", [b"\x7fELF\1=", b"\0=", "a=1".encode("utf-16"), b"no settings", b""])
def test_what_is_no_such_file(data: bytes) -> None:
    assert not xl_domain.looks_like_one(data)
