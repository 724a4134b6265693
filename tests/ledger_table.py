"""Reads a table of requests and expected replies, and holds each line against the ledger and the model.

One line is one request, `acquire ATIES agent pc1 -> granted on A`; time is a line too, `tick 30 days`.
Its words are explained in table/README.md.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from als import catalog
from als.catalog import Catalog, Component, Product
from als.ledger import Rules
from als.protocol import SERIALS_PER_IMPORT_MAX, Refusal
from als.store.transaction import Store
from comparison import Reply
from pair import ROOT, ROOT_ADDRESS, Pair, Post
from press import print_serial
from table_words import EventWords, Words, seconds, short_seconds, size, value

AGENT_ADDRESS = "192.0.2.1"
AGENT_KEY = "agent"
FLEET_TURN = 50
HOUR_S = 3_600
DAY_S = 86_400
DAY_ZERO = 10_957  # 2000-01-01, in days since 1970


class Line(NamedTuple):
    """One line: where it stands, its words before and after the arrow (None: no arrow)."""

    number: int
    words: list[str]
    expected: list[str] | None


class Case(NamedTuple):
    """Lines that begin with an empty server."""

    title: str
    lines: list[Line]


class TableError(AssertionError):
    """A line that is not true, or not understood; the message names file and line."""


def read_cases(path: Path) -> list[Case]:
    """Read a table. Raises TableError for lines outside of a case."""
    cases: list[Case] = []
    for number, whole in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text = whole.split("#")[0].strip()
        if text.startswith("case "):
            cases.append(Case(text[5:], []))
        elif text:
            if not cases:
                raise TableError(f"{path.name}:{number}: a line before the first case")
            words, arrow, expected = text.partition("->")
            cases[-1].lines.append(Line(number, words.split(), expected.split() if arrow else None))
    return cases


def run_case(path: Path, case: Case, open_store: Callable[[], Store]) -> None:
    """Run one case from an empty store, the books checked after each line. Raises TableError."""
    table = Table(open_store)
    for line in case.lines:
        try:
            table.run(line)
            table.pair.check_books()
        except (AssertionError, KeyError, IndexError, ValueError) as error:
            words = " ".join([*line.words, "->", *(line.expected or [])])
            raise TableError(f"{path.name}:{line.number}: {words}\n{type(error).__name__}: {error}") from error
    if table.pair.modeled:
        table.pair.check_listings()
        table.pair.check_events()
    table.pair.check_books()
    table.pair.store.close()


class Table:
    """The state of one case: the pair under test, and what the table's names stand for."""

    def __init__(self, open_store: Callable[[], Store]) -> None:
        self._open_store = open_store
        self._products = list(catalog.builtin().products)
        self._rules = Rules()
        self._pair: Pair | None = None
        self._texts: dict[str, str] = {}  # of serials, by name
        self._ids: dict[str, str] = {}
        self._computers: dict[str, dict[str, Any]] = {}
        self._last_seq = 0

    @property
    def pair(self) -> Pair:
        """Ledger and model; made when first needed, so that products and settings may be said before."""
        if self._pair is None:
            self._pair = Pair(self._open_store, Catalog(self._products), self._rules)
            self._new_events()
        return self._pair

    def run(self, line: Line) -> None:
        """Run one line."""
        words = Words(line.words)
        verb = words.next()
        if verb in ("product", "limit", "agents"):
            assert self._pair is None, f"{verb} must stand before the first request"
        found = getattr(self, "_" + verb.replace("-", "_"))(words)
        assert not words.rest, f"{words.rest} is not understood"
        if line.expected is None:
            assert not isinstance(found, Refusal), found
            return
        expected = Words(line.expected)
        if isinstance(found, list):
            self._expect_rows(verb, expected, found)
        else:
            self._expect(expected, found)
        assert not expected.rest, f"{expected.rest} is not understood"

    # Before the first request.

    def _product(self, words: Words) -> None:
        code = words.next()
        period = words.option("period") or "30d"
        heartbeat = words.option("heartbeat") or "1h"
        components = (words.option("components") or "agent").split(",")
        product = Product(
            code=code,
            number=900 + len(self._products),
            name=code,
            components={part: Component(part, part) for part in components},
            period_s=None if period == "never" else short_seconds(period),
            heartbeat_s=short_seconds(heartbeat),
            reusable=not words.flag("not-reusable"),
        )
        self._products.append(product)

    def _limit(self, words: Words) -> None:
        self._rules = Rules(self._rules.agents, int(words.next()))

    def _agents(self, words: Words) -> None:
        self._rules = Rules(words.next(), self._rules.new_seats_per_address_h)

    def _catalog(self, words: Words) -> None:
        """The catalog changes under the store: a product has another period, or is gone."""
        place = [product.code for product in self._products].index(words.next())
        if words.take("gone"):
            del self._products[place]
        else:
            period_s = short_seconds(words.option("period") or "")
            self._products[place] = replace(self._products[place], period_s=period_s)
        self.pair.change_catalog(Catalog(self._products))

    def _beyond_the_model(self, words: Words) -> None:
        self.pair.modeled = frozenset()

    # Names.

    def _computer(self, words: Words) -> None:
        name = words.next()
        host, kind, machine_id = words.option("host", name), words.option("kind"), words.option("machine")
        assert words.next() == "macs"
        macs = []
        while words.rest:
            first, dots, last = words.next().partition("..")
            macs += [_mac(number) for number in range(int(first), int(last if dots else first) + 1)]
        self._computers[name] = {
            "macs": macs,
            "host": host,
            "address": "",
            "kind": kind,
            "machine_id": machine_id,
        }

    def _known(self, name: str) -> dict[str, Any]:
        """A computer by its name; one that was not described has one address of its own."""
        if name not in self._computers:
            number = 1_000_000 + len(self._computers)
            self._computers[name] = {"macs": [_mac(number)], "host": name, "address": "10.0.0.1"}
        return self._computers[name]

    def _print(self, words: Words) -> None:
        self._print_one(words, words.next())

    def _print_one(self, words: Words, name: str) -> str:
        product = self.pair.catalog.by_code[words.next()]
        ends, trial = words.time_after("ends-in"), words.time_after("trial")
        today = self.pair.now // DAY_S
        text, slip = print_serial(
            product,
            len(self._texts) + 1,
            size(words.next()),
            last_day=0 if ends is None else today + ends // DAY_S - DAY_ZERO - 1,
            trial_days=(trial or 0) // DAY_S,
            fault=words.option("fault") or "",
            locked=words.flag("locked"),
        )
        self._texts[name], self._ids[name] = text, slip.id
        self.pair.slips[text] = slip
        return text

    # Requests.

    def _ask(self, words: Words, operation: str, **fields: Any) -> Reply | Refusal:
        agent = operation in ("acquire", "renew", "release", "check")
        key = words.option("by", AGENT_KEY if agent else "root")
        address = words.option("from", AGENT_ADDRESS if agent else ROOT_ADDRESS)
        assert key and address
        return self.pair.ask(operation, _key(key), address, **fields)

    def _run_component(self, words: Words, operation: str, **more: Any) -> Reply | Refusal:
        product, component, computer = words.next(), words.next(), self._known(words.next())
        return self._ask(words, operation, product=product, component=component, computer=computer, **more)

    def _acquire(self, words: Words) -> Reply | Refusal:
        return self._run_component(words, "acquire", version=words.option("version"))

    def _renew(self, words: Words) -> Reply | Refusal:
        wanted = words.flag("want-lease") or None
        return self._run_component(words, "renew", version=words.option("version"), want_lease=wanted)

    def _release(self, words: Words) -> Reply | Refusal:
        return self._run_component(words, "release")

    def _fleet(self, words: Words) -> None:
        """Let many new computers acquire, fifty in a turn and from an address."""
        product, component, count, code = words.next(), words.next(), size(words.next()), words.option("refused")
        for first in range(0, count, FLEET_TURN):
            posts = []
            for number in range(first, min(first + FLEET_TURN, count)):
                computer = {"macs": [_mac(2_000_000 + number)], "host": f"fleet-{number}", "address": ""}
                fields = {"product": product, "component": component, "computer": computer}
                posts.append(Post("acquire", _key(AGENT_KEY), f"10.9.{first // FLEET_TURN}.1", fields))
            for reply in self.pair.turn(posts):
                assert (reply.code if isinstance(reply, Refusal) else None) == code, reply

    def _serials(self, words: Words) -> None:
        """Print and import many serials of one seat."""
        product, count, rest = words.next(), size(words.next()), words.rest
        texts = [self._print_one(Words([product, "x1", *rest]), f"many-{number}") for number in range(count)]
        words.rest = []
        for first in range(0, count, SERIALS_PER_IMPORT_MAX):
            self.pair.ask("import", serials=texts[first : first + SERIALS_PER_IMPORT_MAX])

    def _check(self, words: Words) -> Reply | Refusal:
        product = words.next()
        computer = self._known(words.next()) if words.rest and words.rest[0] not in ("by", "from") else None
        return self._ask(words, "check", product=product, computer=computer)

    def _import(self, words: Words) -> Reply | Refusal:
        if words.rest[0] in self.pair.catalog.by_code:
            name = words.option("as") or f"S{len(self._texts) + 1}"
            texts = [self._print_one(words, name)]
        else:
            texts = []
            while words.rest and words.rest[0] in self._texts:
                texts.append(self._texts[words.next()])
        reply = self._ask(words, "import", serials=texts)
        if isinstance(reply, Refusal):
            return reply
        return {**reply, "result": ",".join(row["result"] for row in reply["rows"])}

    def _revoke(self, words: Words) -> Reply | Refusal:
        return self._ask(words, "revoke", product=words.next(), mac=self._known(words.next())["macs"][0])

    def _remove(self, words: Words) -> Reply | Refusal:
        force = words.flag("force") or None
        reply = self._ask(words, "remove", serial_id=self._ids[words.next()], force=force)
        return reply if isinstance(reply, Refusal) else {**reply, "result": "removed"}

    def _admin(self, words: Words) -> Reply | Refusal:
        what, name = words.next(), words.next()
        if what == "remove":
            return self._ask(words, "admin_remove", key=_key(name))
        return self._ask(words, "admin_add", key=_key(name), name=name, role=words.next())

    # Time.

    def _tick(self, words: Words) -> None:
        self.pair.now += seconds(words.next(), words.next())

    def _outage(self, words: Words) -> None:
        self.pair.outage(seconds(words.next(), words.next()))

    def _restart(self, words: Words) -> None:
        self.pair.restart()

    def _sweep(self, words: Words) -> None:
        self.pair.sweep()

    # Listings, which may trail the sweep, so it runs before each.

    def _status(self, words: Words) -> Reply | Refusal:
        self.pair.sweep()
        code = words.next()
        reply = self._ask(words, "status")
        if isinstance(reply, Refusal):
            return reply
        pools: list[Reply] = reply["pools"]
        return next(pool for pool in pools if pool["product"] == code)

    def _rows(self, words: Words, operation: str, **fields: Any) -> list[dict[str, Any]] | Refusal:
        self.pair.sweep()
        key = _key(words.option("by", "root") or "")
        reply = self.pair.ask(operation, key, limit=1, **fields)  # a refusal shows here
        return reply if isinstance(reply, Refusal) else self.pair.rows(operation, sender=key, **fields)

    def _licenses(self, words: Words) -> list[dict[str, Any]] | Refusal:
        return self._rows(words, "licenses", product=words.option("of"))

    def _leases(self, words: Words) -> list[dict[str, Any]] | Refusal:
        serial = words.option("on")
        filters = {key: words.option(key) for key in ("host", "state")}
        serial_id = self._ids[serial] if serial else None
        return self._rows(words, "leases", product=words.option("of"), serial_id=serial_id, **filters)

    def _admins(self, words: Words) -> list[dict[str, Any]] | Refusal:
        return self._rows(words, "admins")

    def _events(self, words: Words) -> list[dict[str, Any]] | Refusal:
        """The events since the last such line; with a filter, all of them."""
        kind, product = words.option("kind"), words.option("of")
        if kind or product:
            return self._rows(words, "events", kind=kind, product=product)
        self.pair.sweep()
        return self._new_events()

    def _new_events(self) -> list[dict[str, Any]]:
        new = [row for row in self.pair.rows("events") if row["seq"] > self._last_seq]
        self._last_seq = max([self._last_seq, *(row["seq"] for row in new)])
        return new

    def _usage(self, words: Words) -> Reply | Refusal:
        self.pair.sweep()
        code, ago = words.next(), int(words.option("hours-ago", "0") or 0)
        hour = self.pair.now // HOUR_S * HOUR_S - ago * HOUR_S
        found = self.pair.rows("usage", product=code, since=hour, until=hour + HOUR_S)
        return found[0] if found else {"result": "nothing"}

    # After the arrow.

    def _expect(self, expected: Words, found: Reply | Refusal) -> None:
        if isinstance(found, Refusal):
            assert expected.next() == found.code, f"refused: {found}"
            fields = dict(found.detail)
        else:
            fields = {**(found.get("lease") or {}), **found}
            if "result" in fields:
                assert expected.next() == fields["result"], f"the reply was {found}"
        self._expect_fields(expected, fields)

    def _expect_fields(self, expected: Words, fields: dict[str, Any]) -> None:
        while expected.rest:
            key = expected.next()
            if key == "on":
                assert fields["serial_id"] == self._ids[expected.next()], f"the reply was {fields}"
            elif key == "components":
                assert sorted(fields["components"]) == sorted(expected.next().split("+")), fields
            elif key == "mac":
                assert fields["mac"] == _mac(int(expected.next())), fields
            else:
                assert fields[key] == value(expected.next(), self.pair.now), f"{key} in {fields}"

    def _expect_rows(self, verb: str, expected: Words, rows: list[dict[str, Any]]) -> None:
        if expected.take("nothing"):
            assert not rows, rows
            return
        if verb == "events":
            self._expect_events(expected, rows)
            return
        name_key = {"licenses": "serial_id", "leases": "host", "admins": "name"}[verb]
        seen = {row[name_key]: row for row in rows}
        for part in expected.split(";"):
            name = part.next()
            row = seen.pop(self._ids[name] if verb == "licenses" else name, None)
            assert row is not None, f"no row of {name} in {rows}"
            self._expect_fields(part, row)
        assert not seen, f"rows that no one expects: {seen}"

    def _expect_events(self, expected: Words, rows: list[dict[str, Any]]) -> None:
        macs = {name: computer["macs"][0] for name, computer in self._computers.items()}
        wanted = EventWords.read_all(expected.rest)
        expected.rest = []
        shown = [(row["kind"], row["host"], row["serial_id"], row["actor"], row["count"]) for row in rows]
        assert len(wanted) == len(rows), f"the events were {shown}"
        for want, row in zip(wanted, rows, strict=True):
            assert want.is_like(row, macs, self._ids), f"not {want}; the events were {shown}"


def _mac(number: int) -> bytes:
    """An address of a table: small numbers are written in it."""
    return number.to_bytes(6, "big")


def _key(name: str) -> bytes:
    """The key of a sender by its name."""
    return ROOT if name == "root" else random.Random(name).randbytes(32)
