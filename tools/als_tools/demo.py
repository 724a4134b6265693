"""The story that `als demo` tells: each step does something real and waits until server and computers say so."""

import contextlib
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from als import clock, keyfile
from als_agents.client import Client
from als_agents.server_address import address_text
from als_agents.session import Event
from als_tools import formats, import_file, rows, snapshot
from als_tools.demo_computers import Computer, News
from als_tools.demo_site import HERE, PERIOD_S, Sale, Site
from als_tools.demo_stage import Stage
from als_tools.failures import Exit, Failure
from als_tools.snapshot import Pool

LOOK_S = 0.2  # how often the server is asked for its status
STEP_S_MAX = 20.0  # a step that takes longer has gone wrong
PAUSES = 5.0  # how many pauses of one unit the story has
WORK_S = 9.0  # what the story takes without any pause
HOSTS = ("anna", "bruno", "clara", "david")
STUDIO, VIEWER = "STUDIO", "VIEWER"
SALES = (Sale(1001, 2), Sale(1001, 1), Sale(1002, 5))
_COMPONENTS = {STUDIO: "editor", VIEWER: "viewer"}


class Demo:
    """One performance, on a stage, at a site, with computers."""

    def __init__(self, site: Site, stage: Stage, seconds: float) -> None:
        self._site = site
        self._stage = stage
        self._pause_s = max(0.2, (seconds - WORK_S) / PAUSES)
        self._news: SimpleQueue[News] = SimpleQueue()
        self._computers: list[Computer] = []
        self._admin: Client | None = None
        self._pools: tuple[Pool, ...] = ()

    def play(self) -> None:
        """Tell the story from beginning to end. Raises Failure for a step that does not come to pass."""
        try:
            self._sell()
            self._serve()
            self._import()
            self._start_work()
            self._refuse()
            self._heartbeats()
            self._give_back()
            self._fall_silent()
            self._sum_up()
        finally:
            self.close()

    def close(self) -> None:
        """Switch the computers off and hang up."""
        for computer in self._computers:
            computer.cut_off()
        if self._admin is not None:
            self._admin.close()

    # The steps

    def _sell(self) -> None:
        self._site.issue(SALES)
        seats = sum(sale.seats for sale in SALES)
        self._stage.tell("vendor", f"makes a key, and sells {len(SALES)} serials for {seats} computers in a text file")

    def _serve(self) -> None:
        ready = self._site.start_server()
        self._admin = self._site.administrator()
        self._stage.tell("server", f"a process of its own says: {ready}")
        self._stage.tell("server", f"its key is {keyfile.fingerprint(self._site.server_key)}")

    def _import(self) -> None:
        tally = import_file.Tally()
        entries = import_file.read_files([str(self._site.serial_file)])
        for entry, row in import_file.send(self._ask, entries, tally):
            if row["result"] != "added":
                raise Failure(Exit.REFUSED, f"the server refused {entry.place}: {row['message']}")
        self._stage.tell(
            "admin",
            f"imports the text file: {formats.counted(tally.added, 'serial')} added, "
            f"{formats.counted(tally.licenses_added, 'license')}",
        )

    def _start_work(self) -> None:
        folder = self._site.folder / "computers"
        for number, host in enumerate(HOSTS, 1):
            self._computers.append(Computer(number, host, folder / host, self._site.discovery_port, self._news))
        anna, bruno, clara, _ = self._computers
        for computer in (anna, bruno, clara):
            computer.switch_on()
            computer.run(STUDIO, _COMPONENTS[STUDIO])
        anna.run(VIEWER, _COMPONENTS[VIEWER])
        self._stage.tell("agents", "three computers start Example Studio and search by broadcast")
        self._until(lambda: len(self._engaged(STUDIO)) == 3 and len(self._engaged(VIEWER)) == 1)
        self._watch(self._pause_s)

    def _refuse(self) -> None:
        david = self._computers[3]
        self._stage.tell("david", "starts Example Studio too, but all its licenses are taken")
        david.switch_on()
        david.run(STUDIO, _COMPONENTS[STUDIO])
        self._until(lambda: david.programs[STUDIO] == "refused")
        self._watch(self._pause_s)

    def _heartbeats(self) -> None:
        before = sum(computer.heartbeats for computer in self._computers)
        self._until(lambda: sum(computer.heartbeats for computer in self._computers) >= before + 3)
        beats = sum(computer.heartbeats for computer in self._computers)
        self._stage.tell("agents", f"renew their licenses each second: {beats} heartbeats answered so far")

    def _give_back(self) -> None:
        anna, david = self._computers[0], self._computers[3]
        self._stage.tell("anna", "uninstalls Example Studio and gives its license back")
        anna.uninstall(STUDIO)
        self._until(lambda: anna.host not in self._engaged(STUDIO))
        self._watch(self._pause_s)
        self._stage.tell("david", "starts Example Studio again")
        david.run(STUDIO, _COMPONENTS[STUDIO])
        self._until(lambda: david.host in self._engaged(STUDIO))
        self._watch(self._pause_s)

    def _fall_silent(self) -> None:
        bruno = self._computers[1]
        bruno.cut_off()
        self._stage.tell("bruno", f"loses its power; its license lapses {PERIOD_S} s after its last sign of life")
        self._until(lambda: any(pool.product == STUDIO and pool.lapsed for pool in self._pools))
        self._stage.tell("server", "heard no more of bruno; its license is free for another")
        self._watch(self._pause_s)

    def _sum_up(self) -> None:
        kinds: dict[str, int] = {}
        for row in rows.all_rows(self._ask, "events"):
            kinds[row["kind"]] = kinds.get(row["kind"], 0) + 1
        told = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
        self._stage.tell("server", f"has written it all down: {told}")
        self._stage.tell("demo", "ends, and its folder goes. For real use: als-server run; als --help")

    # The means

    def _ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        assert self._admin is not None, "the server runs"
        return self._admin.request(operation, **fields)

    def _engaged(self, product: str) -> set[str]:
        """Ask the server which hosts hold a seat of a product now."""
        leases = rows.all_rows(self._ask, "leases", product=product, state="active")
        return {str(lease["host"]) for lease in leases}

    def _until(self, happened: Callable[[], bool]) -> None:
        """Show what goes on until something has happened. Raises Failure when it does not."""
        deadline_s = clock.monotonic_s() + STEP_S_MAX
        self._look()
        while not happened():
            if clock.monotonic_s() > deadline_s:
                raise Failure(Exit.REFUSED, f"a step of the demo did not come to pass within {STEP_S_MAX:.0f} s")
            self._look()

    def _watch(self, duration_s: float) -> None:
        """Show what goes on for a while."""
        end_s = clock.monotonic_s() + duration_s
        while clock.monotonic_s() < end_s:
            self._look()

    def _look(self) -> None:
        """Tell the computers' news as they come for a moment, then show the server as it is."""
        end_s = clock.monotonic_s() + LOOK_S
        while (left_s := end_s - clock.monotonic_s()) > 0:
            with contextlib.suppress(Empty):
                self._tell(self._news.get(timeout=left_s))
        address = address_text(HERE, self._site.port)
        seen = snapshot.take(self._ask("status"), address, keyfile.fingerprint(self._site.server_key))
        self._pools = seen.pools
        self._stage.show(seen, list(rows.all_rows(self._ask, "leases")), self._computers)

    def _tell(self, news: News) -> None:
        """Say what a computer has to tell, and remember it for the picture."""
        computer = news.computer
        if news.server is not None:
            self._stage.tell(computer.host, f"found {news.server} by broadcast")
        elif news.event is Event.ACQUIRED:
            computer.programs[news.product] = "runs"
            self._stage.tell(computer.host, f"got a license of {news.product} and runs it", "green")
        elif news.event is Event.RELEASED:
            computer.programs.pop(news.product, None)
            self._stage.tell(computer.host, f"gave its license of {news.product} back", "yellow")
        elif news.event in (Event.REFUSED, Event.LOST):
            computer.programs[news.product] = "refused"
            why = "" if news.why is None else f": {news.why.message}"
            self._stage.tell(computer.host, f"invalid license{why}", "red")
