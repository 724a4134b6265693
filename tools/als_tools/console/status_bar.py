"""The line at the foot of every screen: which server, what we may do there, and whether it answers."""

from dataclasses import dataclass

from rich.text import Text
from textual.widgets import Static

from als.protocol import Role
from als_tools import formats


@dataclass(frozen=True, slots=True)
class Standing:
    """How the connection stands. `lost_at` is since when nobody answers, as people read it; "" while somebody does.

    `waiting_s` is for how long an answer has been waited for, 0 while that is not worth a word.
    """

    name: str = ""
    address: str = ""
    role: Role = Role.AGENT
    lost_at: str = ""
    reason: str = ""
    waiting_s: int = 0

    @property
    def is_connected(self) -> bool:
        """Whether there is a server at all."""
        return bool(self.address)


def standing_line(standing: Standing) -> Text:
    """Write the status bar."""
    if not standing.is_connected:
        return Text(" not connected", no_wrap=True)
    line = Text(f" {formats.clean(standing.name)}  {standing.address}   ", no_wrap=True)
    if standing.lost_at:  # what we may do there is of no use now, and the reason needs the room
        return line.append(f"!! NO ANSWER since {standing.lost_at}: {standing.reason}", "bold")
    line.append(f"you are {standing.role.text}   ")
    if standing.waiting_s:
        return line.append(f"!  waiting for an answer for {standing.waiting_s} s", "bold")
    return line.append("ok connected")


class StatusBar(Static):
    """Shows the standing that it was told last."""

    def show(self, standing: Standing) -> None:
        """Show how the connection stands."""
        self.update(standing_line(standing))
        self.set_class(bool(standing.lost_at), "lost")
        self.set_class(bool(standing.waiting_s), "waiting")
