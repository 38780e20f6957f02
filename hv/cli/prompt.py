"""The debugger's prompt at a terminal: editing, history, completion."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import HTML
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.output import create_output
from prompt_toolkit.shortcuts import CompleteStyle

from hv.debug.completion import candidates

if TYPE_CHECKING:
    from hv.debug.session import Session


class Names(Completer):
    """Commands, symbols, registers, hypercalls: what fits where the cursor is."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        word, names = candidates(self._session, document.text_before_cursor)
        return (Completion(name, -len(word)) for name in names)


class Prompt:
    def __init__(self, session: Session) -> None:
        self._reader: PromptSession[str] = PromptSession(
            history=_history(),
            completer=Names(session),
            complete_while_typing=False,
            complete_style=CompleteStyle.READLINE_LIKE,
            output=create_output(sys.stderr),
        )

    def read(self) -> str | None:
        """A line; None at the end of the input (Ctrl-D). Ctrl-C throws the line away."""
        while True:
            try:
                return self._reader.prompt(HTML("<b>(hv)</b> "))
            except KeyboardInterrupt:
                continue
            except EOFError:
                return None


def _history() -> History:
    """In $XDG_STATE_HOME/hv/step_history; where that cannot be written, of this session only."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    file = Path(state) / "hv" / "step_history"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("a").close()
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(file))
