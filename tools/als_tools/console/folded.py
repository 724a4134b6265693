"""Text that is folded behind blanks and hyphens, so that a serial number breaks between its groups."""

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from als_tools import sheet


class Folded:
    """Lines of a text, each folded to the width that there is."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self._text.split("\n"):
            for part in sheet.fold(line, options.max_width):
                yield Text(part, no_wrap=True)
