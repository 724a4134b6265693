"""The small windows: a question with what will happen, choosing columns, choosing a file."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Button, DirectoryTree, Label, SelectionList, Static
from textual.widgets.selection_list import Selection

from als_tools.columns import Listing
from als_tools.console.screen import Dialog


class Answer(NamedTuple):
    """One button of a question. `reason` disables it and is shown."""

    name: str
    label: str
    variant: str = "default"
    reason: str | None = None


QUESTION_LINES = 12  # border, title and buttons around a question's text
CANCEL = Answer("cancel", "Cancel")


class Question(Dialog):
    """Asks, after saying what each answer does; gives the name of the button, None for cancel.

    The first answer that does nothing has the focus, so that enter in haste changes nothing.
    """

    BINDINGS = [  # noqa: RUF012 - textual's own type
        Binding("down,pagedown", "scroll(1)", "Read on", show=False),
        Binding("up,pageup", "scroll(-1)", "Read back", show=False),
    ]

    def __init__(self, title: str, text: str, answers: Sequence[Answer]) -> None:
        super().__init__()
        self._title, self._text = title, text
        self._answers = [*answers, CANCEL]

    def compose(self) -> ComposeResult:
        """Lay out title, text and buttons."""
        with Vertical(classes="dialog"):
            yield Label(self._title, classes="dialog-title", markup=False)
            with VerticalScroll(classes="dialog-text", can_focus=False):
                yield Static(self._text, markup=False)
            for answer in self._answers:
                if answer.reason is not None:
                    yield Static(f"{answer.label}: {answer.reason}", classes="reason", markup=False)
            with Horizontal(classes="buttons"):
                for answer in self._answers:
                    yield Button(
                        answer.label,
                        id=f"answer-{answer.name}",
                        variant=answer.variant,  # type: ignore[arg-type]  # one of textual's words
                        disabled=answer.reason is not None,
                    )

    def on_mount(self) -> None:
        """Put the focus where it does no harm."""
        self.query_one("#answer-cancel").focus()

    def on_resize(self) -> None:
        """Leave room for the buttons, however low the terminal is: a text that is too long for it scrolls."""
        reasons = len(self.query(".reason"))
        text = self.query_one(".dialog-text")
        text.styles.max_height = max(2, self.size.height - QUESTION_LINES - 2 * reasons)

    def action_scroll(self, pages: int) -> None:
        """Move the text, where it does not fit."""
        text = self.query_one(".dialog-text")
        text.scroll_relative(y=pages * max(1, text.size.height - 1), animate=False)

    @on(Button.Pressed)
    def answer(self, event: Button.Pressed) -> None:
        """Give the answer."""
        event.stop()
        name = (event.button.id or "").removeprefix("answer-")
        self.dismiss(None if name == CANCEL.name else name)


class ChooseColumns(Dialog):
    """Lets columns be chosen; gives their keys in the listing's order, None when nothing was changed."""

    def __init__(self, listing: Listing, shown: Iterable[str]) -> None:
        super().__init__()
        self._listing, self._shown = listing, set(shown)

    def compose(self) -> ComposeResult:
        """Lay out the list of columns."""
        with Vertical(classes="dialog columns-dialog"):
            yield Label("Choose columns", classes="dialog-title")
            yield SelectionList[str](
                *(Selection(column.heading, column.key, column.key in self._shown) for column in self._listing.columns)
            )
            yield Static("space chooses, enter on a button", classes="reason")
            with Horizontal(classes="buttons"):
                yield Button("Show these", id="take", variant="primary")
                yield Button("As at first", id="reset")
                yield Button("Cancel", id="cancel")

    @on(Button.Pressed, "#take")
    def take(self, event: Button.Pressed) -> None:
        """Give what is chosen; without a single column there is no table."""
        event.stop()
        chosen = set(self.query_one(SelectionList).selected)
        keys = tuple(column.key for column in self._listing.columns if column.key in chosen)
        self.dismiss(keys or None)

    @on(Button.Pressed, "#reset")
    def reset(self, event: Button.Pressed) -> None:
        """Give the columns that are shown unless others are chosen."""
        event.stop()
        self.dismiss(self._listing.shown)

    @on(Button.Pressed, "#cancel")
    def cancel(self, event: Button.Pressed) -> None:
        """Change nothing."""
        event.stop()
        self.dismiss(None)


class ChooseFile(Dialog):
    """Lets a file be found in the folders of this computer; gives its path, None for cancel."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def compose(self) -> ComposeResult:
        """Lay out the tree of folders."""
        with Vertical(classes="dialog tall"):
            yield Label("Choose a file with serials", classes="dialog-title")
            yield DirectoryTree(self._folder.absolute())
            with Horizontal(classes="buttons"):
                yield Button("Folder above", id="up")
                yield Button("Cancel", id="cancel")

    def on_mount(self) -> None:
        """Begin in the tree."""
        self.query_one(DirectoryTree).focus()

    @on(DirectoryTree.FileSelected)
    def take(self, event: DirectoryTree.FileSelected) -> None:
        """Give the file."""
        event.stop()
        self.dismiss(event.path)

    @on(Button.Pressed, "#up")
    def go_up(self, event: Button.Pressed) -> None:
        """Show the folder above."""
        event.stop()
        tree = self.query_one(DirectoryTree)
        tree.path = Path(tree.path).absolute().parent

    @on(Button.Pressed, "#cancel")
    def cancel(self, event: Button.Pressed) -> None:
        """Choose nothing."""
        event.stop()
        self.dismiss(None)
