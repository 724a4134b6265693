"""The command that shows the product at work."""

import contextlib
import signal
from types import FrameType
from typing import Annotated

import typer

SECONDS_DEFAULT = 18
SECONDS_MIN = 12  # searching takes a second, and a license needs its period to lapse


def demo(
    seconds: Annotated[
        int,
        typer.Option(metavar="N", min=SECONDS_MIN, help="About how long it takes; it ends by itself."),
    ] = SECONDS_DEFAULT,
) -> None:
    """Show a server, serials, agents and live status at work, in a temporary folder.

    Nothing is simulated but the computers' addresses: a real server process, signed serials, encrypted
    connections, searches by broadcast on this computer alone.
    """
    from als_tools.demo import Demo  # no other command should wait for what the demo alone needs
    from als_tools.demo_site import Site
    from als_tools.demo_stage import Stage
    from als_tools.interrupts import held_back

    signal.signal(signal.SIGTERM, _interrupt)  # so that whoever stops us finds nothing left behind
    with contextlib.ExitStack() as played:
        with held_back():
            site, stage = played.enter_context(Site()), played.enter_context(Stage())
        Demo(site, stage, seconds).play()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
