"""What programs hear of the server's catalog while they run, on a clock that the test sets."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from als_agents.catalog_news import CATALOG_S, CatalogNews
from als_agents.errors import FolderUnusable
from als_agents.parameters import ParametersFile
from als_agents.session import Event, Notice, Session, State
from als_agents.testing import FakeComponent, FakeServer
from test_keeper import Bench

HEARTBEAT_S = 20


class Listening(Bench):
    """A keeper whose sessions follow the catalog."""

    def __init__(self, parameters: ParametersFile, *servers: FakeServer) -> None:
        super().__init__(*servers)
        self.news = CatalogNews(self.keeper, parameters)

    def _tell(self, session: Session, notice: Notice) -> None:
        super()._tell(session, notice)
        self.news.after(session, notice)

    def run_for(self, seconds: float) -> None:
        """Let time pass, with everything that is due in it."""
        end = self.clock.now + seconds
        while (deadline := self.keeper.next_deadline()) is not None and deadline <= end:
            self.advance_to_deadline()
        self.clock.now = end


Make = Callable[..., Listening]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A server whose catalog lets the console work offline."""
    components = {"console": FakeComponent(works_offline=True), "agent": FakeComponent()}
    with FakeServer({"ATIES": 5}, heartbeat_s=HEARTBEAT_S, components=components) as fake:
        yield fake


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Make]:
    """Makes a keeper that listens to these servers, and closes it."""
    made: list[Listening] = []

    def make(*servers: FakeServer, parameters: Path = tmp_path / "parameters.json") -> Listening:
        made.append(Listening(ParametersFile(parameters), *servers))
        return made[-1]

    yield make
    for one in made:
        one.keeper.close()


def test_a_first_run_learns_who_works_offline(server: FakeServer, listening: Make) -> None:
    """A component that may work offline goes on after renew_by in its very first run; another one does not."""
    server.period_s = 60
    bench = listening(server)
    console, agent = bench.session("console"), bench.session("agent")
    bench.turn()
    assert (console.works_offline, agent.works_offline) == (True, False)
    server.stop()
    bench.run_for(100)
    assert (console.state, agent.state) == (State.SEEKING, State.SEEKING)
    assert (console.may_run, agent.may_run) == (True, False)
    endings = {(name, notice.event) for name, notice in bench.told}
    assert {("console", Event.OFFLINE), ("agent", Event.LOST)} <= endings


def test_what_was_heard_is_kept_for_days_without_a_server(server: FakeServer, listening: Make, tmp_path: Path) -> None:
    """The next run reads it at its start."""
    bench = listening(server)
    bench.session("console")
    bench.turn()
    assert ParametersFile(tmp_path / "parameters.json").read().works_offline("ATIES", "console")


def test_a_changed_catalog_is_known_a_day_later(server: FakeServer, listening: Make) -> None:
    """A program that runs for long asks once a day, with a renewal, and goes by what it hears."""
    server.heartbeat_s = 7_200
    bench = listening(server)
    console = bench.session("console")
    bench.turn()
    server.components["console"] = FakeComponent(works_offline=False)
    bench.run_for(CATALOG_S - 7_200)
    assert (len(server.requests_for("hello")), console.works_offline) == (1, True)
    bench.run_for(3 * 7_200)
    assert (len(server.requests_for("hello")), console.works_offline) == (2, False)


def test_another_server_is_asked_for_its_own_catalog(server: FakeServer, listening: Make) -> None:
    """Who moves to another server goes by that one's catalog at once."""
    strict = {"console": FakeComponent(works_offline=False)}
    with FakeServer({"ATIES": 5}, heartbeat_s=HEARTBEAT_S, components=strict) as second:
        bench = listening(server, second)
        console = bench.session("console")
        bench.turn()
        server.stop()
        bench.run_for(HEARTBEAT_S * 2)
        assert second.used("ATIES") == 1
        assert not console.works_offline


def test_a_folder_that_cannot_be_written_changes_nothing_for_the_run(
    server: FakeServer, listening: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What was heard holds for the program that runs; that it is not kept is in the log."""
    (tmp_path / "file").write_text("")
    parameters = tmp_path / "file" / "parameters.json"
    with pytest.raises(FolderUnusable):
        ParametersFile(parameters).remember_catalog(
            [{"code": "A", "components": [{"code": "b", "works_offline": True}]}]
        )
    bench = listening(server, parameters=parameters)
    console = bench.session("console")
    bench.turn()
    assert console.works_offline
    assert "is not kept" in caplog.text


@pytest.mark.parametrize("products", [None, 7, [7], [{"code": "ATIES"}], [{"code": "ATIES", "components": [3]}]])
def test_a_server_that_tells_nonsense_changes_nothing(server: FakeServer, listening: Make, products: object) -> None:
    """What a component may is not unlearned by it, and nothing ends."""
    bench = listening(server)
    console = bench.session("console")
    bench.turn()
    bench.news._hear(console, {"ok": True, "products": products})
    assert console.works_offline
