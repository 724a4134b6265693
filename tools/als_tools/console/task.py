"""The tasks of a sidebar: buttons, with the reason where the role does not allow what one does.

Where the terminal is narrow the sidebar lies above the window, and one line below it has the reasons of all.
"""

from collections.abc import Iterable
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
        yield Static("", classes="reason hidden", markup=False)

    def allow(self, reason: str | None) -> None:
        """Enable it, or disable it and say why."""
        self._role_reason = reason
        self.query_one(Button).disabled = reason is not None
        note = self.query_one(".reason", Static)
        note.update(reason or "")
        note.set_class(reason is None, "hidden")

    @property
    def label(self) -> str:
        """What stands on the button."""
        return self._label

    @property
    def reason(self) -> str | None:
        """Why it is disabled; None while it is not."""
        return self._role_reason


def all_reasons(tasks: Iterable[Task]) -> str:
    """Say in one line what cannot be done and why: "Events, Usage: needs the role viewer; you are agent"."""
    labels: dict[str, list[str]] = {}
    for task in tasks:
        if task.reason is not None:
            labels.setdefault(task.reason, []).append(task.label)
    return "   ".join(f"{', '.join(names)}: {reason}" for reason, names in labels.items())


class Reasons(Static):
    """The line of all reasons; there only in narrow terminals, and only where there are any."""

    def __init__(self) -> None:
        super().__init__("", markup=False, classes="reason hidden")

    def tell(self, tasks: Iterable[Task]) -> None:
        """Show why what is disabled is."""
        words = all_reasons(tasks)
        self.update(words)
        self.set_class(not words, "hidden")
