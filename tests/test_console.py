"""The Management Console against a real server: connecting, the two views, adding, removing, roles, events, usage."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from als import keyfile
from als_agents.known_servers import KnownServers
from als_tools.console import window
from als_tools.console.listing_table import ListingTable
from als_tools.options import Access
from console_pilot import Desk, Office, access_of, address_of, at_the_console
from server_process import Product, Site, free_udp_port


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A real server for this module."""
    with Office(tmp_path_factory.mktemp("console")) as running:
        yield running


@pytest.fixture(autouse=True)
def client_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for what the console remembers."""
    monkeypatch.setenv("ALS_CLIENT_DIR", str(tmp_path / "client"))
    return tmp_path / "client"


def used_product(site: Site, seats: int, *hosts: str) -> Product:
    """Give a product of which these computers hold seats."""
    product = site.product(seats)
    for host in hosts:
        site.client().ask("acquire", product=product.code, component="agent", computer=site.computer(host=host))
    return product


async def open_licenses(desk: Desk) -> None:
    """Go from the server's window to its licenses."""
    await desk.see_screen("ServerScreen")
    await desk.press("m")
    await desk.see("that is all")


async def choose_row(desk: Desk, text: str) -> None:
    """Narrow the list to the rows with a text, the first of which has the cursor then."""
    await desk.press("slash")
    await desk.fill("#filter", text)
    await desk.until(lambda: table(desk).row_count >= 1 and not table(desk)._is_loading)


def table(desk: Desk) -> ListingTable:
    """Give the table on the screen."""
    return desk.app.screen.query_one(ListingTable)


async def choose_local_address(desk: Desk) -> None:
    """Connect to the server in the list by its address on this computer."""
    await desk.see(" 127.0.0.1:")  # the list is drawn after the line that counts it
    line = next(n for n, text in enumerate(desk.lines) if "office" in text and " 127.0.0.1:" in text)
    for _ in range(2):  # the first click puts the cursor there
        await desk.pilot.click(offset=(5, line))


def column(desk: Desk, number: int) -> list[str]:
    """Give a column's cells as they are shown."""
    shown = table(desk)
    return [shown.get_row_at(row)[number].plain for row in range(shown.row_count)]


def test_the_local_computer(tmp_path: Path) -> None:
    """Manage Licenses on the Local Computer finds the server whose data folder is here, as its administrator."""
    port = free_udp_port()
    with Office(tmp_path, "--discovery-port", str(port)) as site:

        async def scene(desk: Desk) -> None:
            await desk.see("Manage Licenses on the Local Computer")
            assert "not connected" in desk.text
            await desk.press("enter")
            await desk.see_screen("ServerScreen")
            await desk.see("you are admin   ok connected")
            await desk.see("No serials yet.")
            await desk.press("escape")
            await desk.see_screen("StartScreen")
            assert "not connected" in desk.text

        at_the_console(scene, Access(data_dir=site.server.data_dir, discovery_port=port))


def test_no_server_on_this_computer(tmp_path: Path) -> None:
    """Where no server runs, the window says so and stays."""

    async def scene(desk: Desk) -> None:
        await desk.press("l")
        await desk.see("no license server answers")
        await desk.see_screen("StartScreen")

    at_the_console(scene, Access(data_dir=tmp_path, timeout=0.5, discovery_port=free_udp_port()))


def test_a_remote_computer_from_the_list(tmp_path: Path) -> None:
    """The list shows what a search finds; an unknown key is trusted only after a person has said so."""
    port = free_udp_port()
    with Office(tmp_path, "--discovery-port", str(port)) as site:
        shown = keyfile.fingerprint(keyfile.read_public(site.server.data_dir / "server.key"))

        async def scene(desk: Desk) -> None:
            await desk.press("r")
            await desk.see("1 server found")
            await choose_local_address(desk)
            await desk.see("Is this the server?")
            assert shown in desk.text.replace("\n", " ")
            await desk.press("escape")
            await desk.see("the key was not confirmed")
            assert KnownServers().pins() == []
            await choose_local_address(desk)
            await desk.see("Is this the server?")
            await desk.click("#answer-trust")
            await desk.see_screen("ServerScreen")
            await desk.see("als admins 127.0.0.1")
            assert [keyfile.fingerprint(pin.key) for pin in KnownServers().pins()] == [shown]

        at_the_console(scene, Access(discovery_port=port, data_dir=tmp_path / "nothing"))


def test_a_remote_computer_by_address(site: Site, tmp_path: Path) -> None:
    """An address is typed; one at which nobody answers is told in the window."""

    async def scene(desk: Desk) -> None:
        await desk.press("r")
        await desk.see_screen("ConnectScreen")
        await desk.fill("#address", "127.0.0.1:1")
        await desk.see("no license server answers at 127.0.0.1:1")
        await desk.fill("#address", address_of(site))
        await desk.see_screen("ServerScreen")
        await desk.see("you are viewer")

    access = access_of(site, "viewer", tmp_path / "keys")
    at_the_console(scene, Access(access.server_key, access.identity, timeout=0.5, discovery_port=free_udp_port()))


def test_available_licenses(site: Site, tmp_path: Path) -> None:
    """The first view has every serial with its seats; a click on a head sorts, another turns it round."""
    product = used_product(site, 3, "pc-a")
    site.product(7)

    async def scene(desk: Desk) -> None:
        await open_licenses(desk)
        assert "Available Licenses" in desk.text
        row = next(line for line in desk.lines if product.serial_ids[0] in line)
        assert row.split()[-4:] == ["3", "2", "1", "valid"]
        heads = next(line for line in desk.lines if "Expires (UTC)" in line)
        x, y = heads.index("Total") + 2, desk.lines.index(heads)
        for expected in (False, True):
            await desk.pilot.click(offset=(x, y))
            await desk.until(lambda: "Total▲" in desk.text if not expected else "Total▼" in desk.text)  # noqa: B023
            await desk.see("that is all")
            at = [head.label.plain.startswith("Total") for head in table(desk).ordered_columns].index(True)
            totals = [int(cell) for cell in column(desk, at)]
            assert totals == sorted(totals, reverse=expected)

    at_the_console(scene, access_of(site, "viewer", tmp_path), address_of(site))


def test_choose_columns_and_filter(site: Site, tmp_path: Path) -> None:
    """Columns come and go; a text keeps the rows that have it in any column, shown or not."""
    used_product(site, 2, "pc-with-columns")

    async def scene(desk: Desk) -> None:
        await open_licenses(desk)
        await desk.press("v")
        await desk.see("Renew by (UTC)")
        assert "MAC address" not in desk.text
        await desk.press("c")
        await desk.see("Choose columns")
        await desk.press("down", "down", "down", "down", "space")
        await desk.click("#take")
        await desk.until(lambda: any(head.label.plain == "MAC address" for head in table(desk).ordered_columns))
        await choose_row(desk, "pc-with-columns")
        assert "1 row, that is all" in desk.text
        await desk.fill("#filter", "no such thing")
        await desk.see('nothing has "no such thing" in it')

    at_the_console(scene, access_of(site, "viewer", tmp_path), address_of(site))


def test_a_long_list_comes_page_by_page(site: Site, tmp_path: Path) -> None:
    """Of many rows the first pages are fetched, and the next ones when one comes to their end."""
    product = site.product(450)
    client = site.client()
    for number in range(450):
        client.ask("acquire", product=product.code, component="agent", computer=site.computer(host=f"row-{number}"))

    async def scene(desk: Desk) -> None:
        await open_licenses(desk)
        await desk.press("v")
        await desk.see("200 rows, more at the end")
        await desk.press("end")
        await desk.see("400 rows, more at the end")
        await desk.press("end", "end", "end")
        await desk.see("that is all")
        assert table(desk).row_count >= 450
        await desk.press("s", "s")
        await desk.see("Address")
        await desk.until(lambda: not table(desk)._is_loading and table(desk).row_count == 200)

    at_the_console(scene, access_of(site, "viewer", tmp_path), address_of(site))


def test_a_long_list_is_held_in_part(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However far one goes the table holds few pages; further up and at the first row are the rows that were there."""
    monkeypatch.setattr(window, "PAGES_MAX", 2)
    product = site.product(900)
    client = site.client()
    for hundred in range(9):  # together, so that the disk is waited for nine times
        hosts = [f"far-{hundred}{number:02}" for number in range(100)]
        wanted = {"product": product.code, "component": "agent"}
        sent = [client.send("acquire", computer=site.computer(host=host), **wanted) for host in hosts]
        assert all(reply["ok"] for reply in client.replies_to(sent).values())

    async def scene(desk: Desk) -> None:
        await open_licenses(desk)
        await desk.press("v")
        await desk.fill("#filter", "far-")
        await desk.until(lambda: "far-000" in desk.text and "200 rows, more at the end" in desk.text)
        for stop in (400, 600, 800, 900):
            await desk.press("end")
            await desk.see(f"{stop} of {stop}" if stop > 400 else f"{stop} rows")
            assert table(desk).row_count <= 400
        await desk.press("end")
        await desk.see("far-899")
        shown = [line for line in desk.lines if "far-" in line]
        await desk.press("up", "up")
        await desk.pilot.pause()
        assert [line for line in desk.lines if "far-" in line][:-1] == shown[:-1], "the list has not moved"
        for _ in range(16):
            if "rows 1-400 of 900" not in desk.text:
                await desk.press(*["pageup"] * 5)
        await desk.see("rows 1-400 of 900")
        await desk.press("end", "end", "end", "home")
        await desk.see("far-000")
        row = table(desk).chosen
        assert row is not None
        assert row["host"] == "far-000"

    at_the_console(scene, access_of(site, "viewer", tmp_path), address_of(site))


def test_add_license_by_pasting(site: Site, tmp_path: Path) -> None:
    """The wizard tells what was found, and after Proceed what became of each and how many licenses are new."""
    product = site.product(1)
    new = site.vendor.issue(product.number, 25)
    mistyped = new[:60] + ("0" if new[60] != "0" else "1") + new[61:]

    async def scene(desk: Desk) -> None:
        await open_licenses(desk)
        await desk.press("a")
        await desk.see("1 of 3")
        await desk.click("#next")
        await desk.see("No serial was found")
        desk.app.screen.query_one("#serials").load_text(  # type: ignore[attr-defined]
            f"Dear customer,\n\n{new}\n{mistyped}\n{product.serials[0]}\n\nYours\n"
        )
        await desk.click("#next")
        await desk.see("2 of 3")
        assert "2 serials found, 1 mistyped" in desk.text
        assert "25 seats of product number" in desk.text
        await desk.click("#proceed")
        await desk.see("1 serial added with 25 licenses, 1 already present, 1 refused.")
        for word in ("added", "mistyped", "already_present"):
            assert word in desk.text
        assert "text:3" in desk.text
        await desk.click("#results", (5, 2))
        await desk.see("text:4  mistyped  The serial has a wrong letter or digit somewhere; copy it again.")
        await desk.click("#finish")
        await desk.see_screen("LicensesScreen")
        await desk.until(lambda: len(column(desk, 0)) >= 2)

    at_the_console(scene, access_of(site, "operator", tmp_path), address_of(site))
    assert site.admin.ask("check", product=product.code)["total"] == 26


def test_add_license_from_a_file(site: Site, tmp_path: Path) -> None:
    """A path is typed, or found with the file browser; a file that is not there is told in the window."""
    product = site.product()
    file = tmp_path / "serials.txt"
    file.write_text("\n".join(site.vendor.issue(product.number, 2) for _ in range(45)), encoding="ascii")

    async def scene(desk: Desk) -> None:
        await open_licenses(desk)
        await desk.press("a")
        await desk.see("1 of 3")
        await desk.fill("#path", str(tmp_path / "nothing.txt"))
        await desk.see("cannot be read")
        desk.app.screen.query_one("#path").value = str(tmp_path)  # type: ignore[attr-defined]
        await desk.click("#browse")
        await desk.see("serials.txt")
        await desk.until(lambda: desk.shows("DirectoryTree"))
        line = next(n for n, text in enumerate(desk.lines) if "serials.txt" in text)
        await desk.pilot.click(offset=(desk.lines[line].index("serials.txt") + 2, line))
        await desk.see_screen("AddLicenseScreen")
        await desk.click("#next")
        await desk.see("45 serials found")
        await desk.press("enter")
        await desk.see("45 serials added with 90 licenses.")

    at_the_console(scene, access_of(site, "operator", tmp_path / "keys"), address_of(site))
    assert site.admin.ask("check", product=product.code)["total"] == 90


def test_free_a_computers_seat(site: Site, tmp_path: Path) -> None:
    """Remove in the view of used licenses says what it does, changes nothing on cancel, and frees the seat."""
    product = used_product(site, 1, "pc-to-free")

    async def scene(desk: Desk) -> None:
        await open_licenses(desk)
        await desk.press("v")
        await desk.see("Renew by")
        await choose_row(desk, "pc-to-free")
        await desk.press("r")
        await desk.see("Free the seat: the next computer can have it.")
        await desk.press("enter")
        await desk.see_screen("LicensesScreen")
        assert site.admin.ask("check", product=product.code)["used"] == 1, "enter in haste is cancel"
        await desk.click("#task-remove")
        await desk.see("Free the seat: the next computer can have it.")
        assert desk.is_disabled("#answer-serial")
        assert "needs the role admin; you are operator" in desk.text
        await desk.click("#answer-free")
        await desk.see("pc-to-free gave back its seat")

    at_the_console(scene, access_of(site, "operator", tmp_path), address_of(site))
    assert site.admin.ask("check", product=product.code)["used"] == 0


def test_take_a_serial_out(site: Site, tmp_path: Path) -> None:
    """Remove in the view of available licenses tells how many computers lose theirs, then takes the serial out."""
    product = used_product(site, 5, "pc-one", "pc-two")

    async def scene(desk: Desk) -> None:
        await open_licenses(desk)
        await choose_row(desk, product.serial_ids[0])
        await desk.press("delete")
        await desk.see("2 computers hold a license on it and will lose it.")
        await desk.press("escape")
        await desk.press("r")
        await desk.see("Remove serial and 2 licenses")
        await desk.click("#answer-remove")
        await desk.see("is removed, with 2 licenses on it.")

    at_the_console(scene, access_of(site, "admin", tmp_path), address_of(site))
    site.admin.wait_until(lambda reply: product.serial_ids[0] not in str(reply["rows"]), "licenses")


def test_take_a_serial_out_from_a_used_license(site: Site, tmp_path: Path) -> None:
    """As the manual has it, a serial can also be taken out from a row of the used licenses."""
    product = used_product(site, 5, "pc-of-the-manual", "pc-beside-it")

    async def scene(desk: Desk) -> None:
        await open_licenses(desk)
        await desk.press("v")
        await desk.see("Renew by")
        await choose_row(desk, "pc-of-the-manual")
        await desk.press("r")
        await desk.see("Take the serial out completely")
        await desk.click("#answer-serial")
        await desk.see("2 computers hold a license on it")
        await desk.click("#answer-remove")
        await desk.see("is removed")

    at_the_console(scene, access_of(site, "admin", tmp_path), address_of(site))
    site.admin.wait_until(lambda reply: product.serial_ids[0] not in str(reply["rows"]), "licenses")


def test_what_a_viewer_may_not_do_is_disabled_with_the_reason(site: Site, tmp_path: Path) -> None:
    """A viewer sees everything, and sees why Add License and Remove cannot be pressed."""
    used_product(site, 1, "pc-viewed")

    async def scene(desk: Desk) -> None:
        await open_licenses(desk)
        assert desk.is_disabled("#task-add")
        assert desk.is_disabled("#task-remove")
        sidebar = " ".join(" ".join(line[:22] for line in desk.lines).split())
        assert "Add License needs the role operator; you are viewer" in sidebar
        assert "Remove needs the role admin; you are viewer" in sidebar
        await desk.press("a", "r", "delete")
        await desk.see_screen("LicensesScreen")

    at_the_console(scene, access_of(site, "viewer", tmp_path), address_of(site))


def test_escape_in_the_filter_shows_all_rows_again(site: Site, tmp_path: Path) -> None:
    """Who thinks better of a filter is left in the list, with all of its rows."""
    used_product(site, 1, "pc-kept")

    async def scene(desk: Desk) -> None:
        await open_licenses(desk)
        await desk.press("slash", "escape")
        await desk.see_screen("LicensesScreen")
        await desk.fill("#filter", "no such thing")
        await desk.see("nothing has")
        await desk.press("slash", "escape")
        await desk.see("that is all")
        await desk.see_screen("LicensesScreen")
        assert table(desk).row_count > 0
        await desk.press("escape")
        await desk.see_screen("ServerScreen")

    at_the_console(scene, access_of(site, "viewer", tmp_path), address_of(site))


def test_an_agents_key_is_told_how_to_get_a_role(site: Site, tmp_path: Path) -> None:
    """Who has no role sees how an administrator gives it to exactly this key, and it works without a restart."""
    access = access_of(site, "agent", tmp_path)
    key = keyfile.read(tmp_path / "agent.key_secret").public

    async def scene(desk: Desk) -> None:
        await desk.see_screen("ServerScreen")
        await desk.see("you are agent")
        await desk.see("als admins 127.0.0.1")
        assert key.hex() in "".join(line[30:].strip() for line in desk.lines)
        assert all(desk.is_disabled(f"#task-{name}") for name in ("licenses", "events", "usage"))
        site.admin.ask("admin_add", key=key, name="new", role="viewer")
        desk.app.poll()
        await desk.see("you are viewer")
        assert not desk.is_disabled("#task-licenses")

    at_the_console(scene, access, address_of(site))


def test_events_have_the_newest_first(site: Site, tmp_path: Path) -> None:
    """The log begins with what happened last, and a text narrows it."""
    product = used_product(site, 1, "pc-first")
    refused = site.client().refused(
        "acquire", product=product.code, component="agent", computer=site.computer(host="pc-second")
    )
    assert refused.code == "no_free_license"

    async def scene(desk: Desk) -> None:
        await desk.see_screen("ServerScreen")
        await desk.press("e")
        await desk.see("reason=no_free_license")
        times = column(desk, 0)
        assert times == sorted(times, reverse=True)
        assert column(desk, 1)[:2] == ["admin_added", "denied"]
        await desk.press("slash", *product.code, "enter")
        await desk.until(lambda: column(desk, 1) == ["denied", "granted", "imported"])

    at_the_console(scene, access_of(site, "viewer", tmp_path), address_of(site))


def test_usage_is_a_chart(site: Site, tmp_path: Path) -> None:
    """The history of a product is drawn over days, another product and another range by a key."""
    product = used_product(site, 4, "pc-u1", "pc-u2", "pc-u3")

    async def scene(desk: Desk) -> None:
        await desk.see_screen("ServerScreen")
        await desk.press("u")
        await desk.see("a column is")
        await desk.until(lambda: bool(desk.app.screen.query("#product")))
        desk.app.screen.query_one("#product").value = product.code  # type: ignore[attr-defined]
        await desk.see("Most used: 3 of 4 on")
        await desk.see("█")
        await desk.press("d")
        await desk.see("90 days")
        await desk.press("p")
        await desk.until(lambda: desk.app.screen.query_one("#product").value != product.code)  # type: ignore[attr-defined]
        await desk.see("Nothing was counted for")

    at_the_console(scene, access_of(site, "viewer", tmp_path), address_of(site))


def test_a_server_that_goes_away_is_told_and_comes_back(tmp_path: Path) -> None:
    """The status bar says since when nobody answers; once somebody does, it says that, and what is shown is read."""
    with Office(tmp_path / "site") as site:
        access = access_of(site, "viewer", tmp_path / "keys")

        async def scene(desk: Desk) -> None:
            await desk.see_screen("ServerScreen")
            await desk.see("ok connected")
            site.server.kill()
            await desk.see("!! NO ANSWER since ")
            await desk.press("m")
            await desk.see("no more could be read")
            site.server.start()
            await desk.see("ok connected")
            await desk.see("nothing yet")

        at_the_console(scene, Access(access.server_key, access.identity, timeout=0.5), address_of(site))


def test_a_wait_for_an_answer_is_told(tmp_path: Path) -> None:
    """While a server takes its time the status bar counts the seconds, before it is called gone."""
    with Office(tmp_path / "site") as site:
        access = access_of(site, "viewer", tmp_path / "keys")

        async def scene(desk: Desk) -> None:
            await desk.see_screen("ServerScreen")
            await desk.see("ok connected")
            site.server.signal(signal.SIGSTOP)
            try:
                await desk.see("!  waiting for an answer for ")
            finally:
                site.server.signal(signal.SIGCONT)
            await desk.see("ok connected")

        at_the_console(scene, access, address_of(site))
