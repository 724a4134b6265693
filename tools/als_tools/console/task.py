"""A button of a sidebar, with the reason below it where the role does not allow what it does."""

from typing import Any

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Button, Static


class Task(Vertical):
    """A button with the id `task-NAME`; disabled it says why."""

    def __init__(self, name: str, label: str, **options: Any) -> None:
        super().__init__(**options)
        self._label, self._word = label, name
        self._role_reason: str | None = None

    def compose(self) -> ComposeResult:
        """Lay out the button and its reason."""
        yield Button(self._label, id=f"task-{self._word}", compact=True)
        reason = Static("", classes="reason", markup=False)
        reason.display = False
        yield reason

    def allow(self, reason: str | None) -> None:
        """Enable it, or disable it and say why."""
        self._role_reason = reason
        self.query_one(Button).disabled = reason is not None
        note = self.query_one(".reason", Static)
        note.update(reason or "")
        note.display = reason is not None

    @property
    def reason(self) -> str | None:
        """Why it is disabled; None while it is not."""
        return self._role_reason
