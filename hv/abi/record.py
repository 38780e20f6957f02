"""Frozen, slotted classes, as `dataclass(frozen=True, slots=True)` makes them.

To a type checker they are dataclasses. At run time they are made here, because the dataclasses
module and what it imports cost more start-up time than the whole of hv.abi.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar, dataclass_transform

    T = TypeVar("T")

    @dataclass_transform(frozen_default=True)
    def record(cls: type[T]) -> type[T]:
        """Make a frozen, slotted class of the annotated one."""
        raise NotImplementedError

else:

    class Record:
        """What all records can do. Fields are the slots; `_defaults` has the optional ones."""

        __slots__ = ()

        def __init__(self, *values, **named):
            names = self.__slots__
            if len(values) > len(names):
                raise TypeError(f"{type(self).__name__} has only {len(names)} fields")
            given = dict(zip(names, values, strict=False))
            if unknown := named.keys() - (set(names) - given.keys()):
                raise TypeError(f"{type(self).__name__}: unexpected {', '.join(sorted(unknown))}")
            given = self._defaults | given | named
            if missing := [name for name in names if name not in given]:
                raise TypeError(f"{type(self).__name__} needs {', '.join(missing)}")
            for name in names:
                object.__setattr__(self, name, given[name])

        def __setattr__(self, name, value):
            raise AttributeError(f"{type(self).__name__} is frozen")

        def __delattr__(self, name):
            raise AttributeError(f"{type(self).__name__} is frozen")

        def _values(self):
            return tuple(getattr(self, name) for name in self.__slots__)

        def __eq__(self, other):
            return (
                self._values() == other._values() if type(other) is type(self) else NotImplemented
            )

        def __hash__(self):
            return hash(self._values())

        def __repr__(self):
            fields = (f"{name}={getattr(self, name)!r}" for name in self.__slots__)
            return f"{type(self).__name__}({', '.join(fields)})"

        def __reduce__(self):
            return type(self), self._values()

    def record(cls):
        """Make a frozen, slotted class of the annotated one."""
        names = tuple(cls.__annotations__)
        body = {
            key: value
            for key, value in vars(cls).items()
            if key not in names and key not in ("__dict__", "__weakref__")
        }
        body["__slots__"] = body["__match_args__"] = names
        body["_defaults"] = {name: vars(cls)[name] for name in names if name in vars(cls)}
        return type(cls.__name__, (Record,), body)
