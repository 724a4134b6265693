"""The history of a product as a chart over days."""

from collections.abc import Sequence
from datetime import timedelta

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Select, Static

from als_tools import formats, rows
from als_tools.columns import Row
from als_tools.console.screen import ConsoleScreen, Trouble
from als_tools.console.usage_chart import Day, chart, daily, summary
from als_tools.formats import DAY_S
from als_tools.rows import Ask

RANGES_DAYS = (7, 30, 90, 365)
DAYS_DEFAULT = 30


def read_usage(ask: Ask, product: str, days: int) -> tuple[int, list[Row]]:
    """Give the server's time, and a product's hours of the last `days`; 365 days are 9 pages."""
    now = int(ask("hello")["time"])
    return now, list(rows.all_rows(ask, "usage", product=product, since=now - days * DAY_S, until=now + DAY_S))


class UsageScreen(ConsoleScreen):
    """Shows a chart of one product over some days. `products` are (code, name)."""

    heading = "Usage"
    BINDINGS = [  # noqa: RUF012 - textual's own type
        ("p", "product", "Next product"),
        ("d", "days", "Other range"),
        ("f5", "refresh", "Refresh"),
        ("escape", "back", "Back"),
    ]

    def __init__(self, products: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._products = products
        self._days: list[Day] = []

    def body(self) -> ComposeResult:
        """Lay out the choices and the chart."""
        with Horizontal(classes="row"):
            names = [(f"{code}  {formats.clean(name)}", code) for code, name in self._products]
            yield Select(names, value=self._products[0][0], allow_blank=False, id="product")
            ranges = [(f"{days} days", days) for days in RANGES_DAYS]
            yield Select(ranges, value=DAYS_DEFAULT, allow_blank=False, id="days")
        yield Static(" reading …", id="chart")
        yield Static(id="summary", markup=False)

    def on_mount(self) -> None:
        """Begin with the product that is used."""
        self.query_one("#product").focus()

    @on(Select.Changed)
    def action_refresh(self) -> None:
        """Read the chosen product's history and draw it."""
        product, days = self.query_one("#product", Select).value, self.query_one("#days", Select).value
        self._read(str(product), int(str(days)))

    def come_back(self) -> None:
        """Read the history that could not be read."""
        self.action_refresh()

    @work(exclusive=True, group="usage")
    async def _read(self, product: str, days: int) -> None:
        try:
            now, hours = await self.line.run(read_usage, self.line.request, product, days)
        except Trouble as error:
            self.complain(error)
            return
        zone = self.console_app.zone
        today = zone.at(now).date()
        self._days = daily(hours, today - timedelta(days - 1), today, zone)
        self.query_one("#summary", Static).update(
            summary(self._days) if hours else f"Nothing was counted for {product} in these days."
        )
        self._draw()

    def on_resize(self) -> None:
        """Draw the chart as large as there is room for."""
        self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        shown = self.query_one("#chart", Static)
        if self._days and shown.size.width and shown.size.height:
            shown.update(chart(self._days, shown.size.width, shown.size.height))

    def action_product(self) -> None:
        """Show the next product."""
        self._advance(self.query_one("#product", Select), [code for code, _ in self._products])

    def action_days(self) -> None:
        """Show another range."""
        self._advance(self.query_one("#days", Select), list(RANGES_DAYS))

    @staticmethod
    def _advance(select: Select[str] | Select[int], values: Sequence[object]) -> None:
        at = values.index(select.value)
        select.value = values[(at + 1) % len(values)]  # type: ignore[assignment]  # one of its own values
