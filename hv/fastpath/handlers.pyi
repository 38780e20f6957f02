"""Types of hv.fastpath.handlers for checkers and editors; the documentation is in handlers.pyx."""

from collections.abc import Callable

class Handler: ...

class Counter(Handler):
    count: int

class PythonHandler(Handler):
    def __init__(self, callable: Callable[[int], object]) -> None: ...

class Batch(Handler):
    def __init__(self, callable: Callable[[list[int]], object]) -> None: ...
