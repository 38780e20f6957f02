"""How this package writes down the layout of a C structure.

Rules:

1. A structure is a class that annotates each field once; `@layout` makes ctypes' `_fields_` of it.
   The same annotation tells a type checker what Python sees (`u32` is an `int`).
2. A type which C nests inside a structure without a name of its own is a nested class here, spelled
   as the field plus `_t`.
3. A field that Python cannot spell gets one trailing underscore (`in_` is C's `in`).

Sizes and offsets are those of the x86-64 System V ABI. Guest handles are plain 64-bit addresses.
"""

from __future__ import annotations

import ctypes

__all__ = ["Annotated", "c_name", "handle", "i8", "i16", "i32", "layout", "u8", "u16", "u32", "u64"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Annotated, Any, TypeVar

    T = TypeVar("T", bound=ctypes.Structure | ctypes.Union)
else:

    class Annotated:
        """In place of typing's, whose import takes longer than that of this whole package."""

        def __class_getitem__(cls, hint_and_what):
            return hint_and_what


u8 = Annotated[int, ctypes.c_uint8]
u16 = Annotated[int, ctypes.c_uint16]
u32 = Annotated[int, ctypes.c_uint32]
u64 = Annotated[int, ctypes.c_uint64]
i8 = Annotated[int, ctypes.c_int8]
i16 = Annotated[int, ctypes.c_int16]
i32 = Annotated[int, ctypes.c_int32]
handle = u64


def c_name(field: str) -> str:
    """The C spelling of a field that Python had to spell with a trailing underscore."""
    return field.removesuffix("_")


def layout(cls: type[T]) -> type[T]:
    """Give the annotated class its ctypes fields."""
    # Python mangles a private name such as `__pad` in a class body; C wants it as written.
    private = f"_{cls.__name__.lstrip('_')}__"
    cls._fields_ = [
        ("__" + name.removeprefix(private) if name.startswith(private) else name, _ctype(hint))
        for name, hint in cls.__annotations__.items()
    ]
    return cls


def _ctype(hint: Any) -> Any:
    """The ctypes type of an annotation.

    `Annotated[x, T]` is a T, `Annotated[Array[T], n]` is n of T, any other class is itself.
    """
    if not isinstance(hint, tuple):
        return hint
    python, what = hint
    return python.__args__[0] * what if isinstance(what, int) else what
