"""A transaction of a store that several servers share: it remembers what it has seen, and gathers what it writes.

What it sees may be old. At the commit etcd compares all that was seen, and the parts of the transaction whose sights
have changed are not written. A part is a unit (one request that touched only its own records), or the joint part: all
other units and all that was done outside of units. What was read before the first unit is ground that all stand on.
Makes no call itself; `memo` should hold nothing that a unit which stands alone takes from another unit.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, Protocol

from als.store.etcd.cache import UNKNOWN, Cache, Unknown, after
from als.store.etcd.keys import Keys
from als.store.etcd.marks import MARK_BYTES, MARKED, bare
from als.store.etcd.moves import STEADY
from als.store.etcd.parts import OUTSIDE, Part, Whole
from als.store.transaction import Rows, Table, restamp

JOINT_COMPARES_FULL = 800  # some 200 requests; the store lets it be less while rivals spoil them
JOINT_BYTES_FULL = 500_000  # of the 1.5 MiB that etcd takes by default
UNIT_COMPARES_FULL = 600  # of a unit that could do less: some 200 lapses, which take etcd and us 0.1 s
UNIT_BYTES_FULL = 300_000  # with a joint part that was all but full before it, still below what etcd takes
ALONE_ROWS_MAX = 20  # read or written: what touches more belongs to the joint part
ALONE_UNITS_FULL = 1_000  # some 40 ms of etcd: above 100 it writes the whole message into its log as slow


class Look(NamedTuple):
    """The first rows of a range (for a reverse look the last), by name, ascending; at least as many as were wanted.

    `rows` are given where there are many, at `revision`; else their values are to be had one by one.
    """

    names: list[bytes]
    is_all: bool
    rows: dict[bytes, bytes] | None = None
    revision: int = 0


class View(Protocol):
    """What a server believes of etcd's rows. `cache` is asked first, `value` for what it does not know."""

    keys: Keys
    cache: Cache

    def value(self, name: bytes) -> bytes | None:
        """Give a row's value."""
        ...

    def look(self, lo: bytes, hi: bytes, wanted: int, reverse: bool) -> Look:
        """Give the first or last rows of lo <= name < hi."""
        ...

    def doubt(self, lo: bytes, hi: bytes) -> None:
        """Look at a range anew the next time."""
        ...

    def learn(self, names: Iterable[bytes]) -> None:
        """Read the rows that are not known, in as few calls as possible."""
        ...


class EtcdTransaction:
    """See als/store/transaction.py for what every transaction does."""

    __slots__ = (
        "_alone",
        "_cache",
        "_has_units",
        "_heads",
        "_hooks",
        "_joint_bytes",
        "_joint_compares",
        "_joint_full",
        "_mark",
        "_outside",
        "_outside_wholes",
        "_own_names",
        "_part",
        "_reads",
        "_touched",
        "_view",
        "_writes",
        "_written",
        "ground",
        "inserted",
        "joint",
        "memo",
    )

    def __init__(self, view: View, mark: bytes, joint_full: int = JOINT_COMPARES_FULL) -> None:
        """Begin; `mark` is for the leases written, `joint_full` is how much the joint part should compare at most."""
        self._mark = mark
        self.inserted: set[bytes] = set()  # leases, by name
        self.memo: dict[Any, Any] = {}
        self.ground = Part()
        self.joint = Part()
        self._alone: list[Part] = []
        self._view = view
        self._cache = view.cache
        self._heads = view.keys.heads
        self._has_units = False
        self._part = self._outside = Part(OUTSIDE)
        self._reads = self._part.reads
        self._writes = self._part.writes
        self._written: dict[bytes, Part] = {}  # who before the present part wrote a row
        self._touched: list[bytes] = []  # what the present part saw or replaced of theirs
        self._own_names: dict[int, list[bytes]] = {}  # what was written, in order, of the tables that are scanned
        self._hooks: list[Callable[[], None]] = []
        self._outside_wholes: tuple[Whole, ...] = ()
        self._joint_full = joint_full
        self._joint_compares = 0
        self._joint_bytes = 0

    # What the ledger asks for.

    def get(self, table: Table, key: bytes) -> bytes | None:
        """Give the value, None when there is none. Raises StoreUnavailableError."""
        name = self._heads[table] + key
        if name in self._writes:
            value = self._writes[name]
        elif name in self._written:
            self._touched.append(name)
            value = self._written[name].writes[name]
        elif name in self._reads:
            value = self._reads[name]
        else:
            known = self._cache.young.get(name, UNKNOWN)
            value = self._reads[name] = self._view.value(name) if isinstance(known, Unknown) else known
        if table is MARKED and value is not None:
            return value[MARK_BYTES:] if value.startswith(self._mark) else bare(value)
        return value

    def put(self, table: Table, key: bytes, value: bytes) -> None:
        """Insert or replace."""
        self._write(table, self._heads[table] + key, self._mark + value if table is MARKED else value)

    replace = put

    def insert(self, table: Table, key: bytes, value: bytes) -> None:
        """Write a row that is not there: no server relies on it."""
        if table is MARKED:
            self.inserted.add(self._heads[table] + key)
        self.put(table, key, value)

    def inserting(self, table: Table) -> Callable[[bytes, bytes], None]:
        """Give the function that inserts into one table."""
        return partial(self.insert, table)

    def stamping(self) -> Callable[[int, int], None]:
        """Give the function that writes other STAMPED_BYTES into a row."""
        return partial(restamp, self)

    def delete(self, table: Table, key: bytes) -> None:
        """Remove; a key that is not there is no error."""
        self._write(table, self._heads[table] + key, None)

    def scan(
        self,
        table: Table,
        start: bytes = b"",
        stop: bytes | None = None,
        limit: int = 1000,
        reverse: bool = False,
    ) -> Rows:
        """List at most `limit` rows with start <= key < stop, ascending, or descending from below `stop`.

        Raises StoreUnavailableError.
        """
        lo, hi = self._view.keys.bounds(table, start, stop)
        if limit <= 0 or lo >= hi:
            return []
        own = self._own_between(table, lo, hi)
        wanted = limit + sum(self._own_value(name) is None for name in own)
        look, rows = self._base_rows(lo, hi, wanted, reverse)
        if not look.is_all:
            lo, hi = (look.names[0], hi) if reverse else (lo, after(look.names[-1]))
        for name in own:
            if lo <= name < hi:
                value = self._own_value(name)
                if value is None:
                    rows.pop(name, None)
                else:
                    rows[name] = value
                if name not in self._writes:
                    self._touched.append(name)
        ordered = sorted(rows, reverse=reverse)
        if len(ordered) > limit:
            del ordered[limit:]
            lo, hi = (ordered[-1], hi) if reverse else (lo, after(ordered[-1]))
        self._note_look(look, lo, hi)
        head_bytes = len(self._heads[table])
        if table is MARKED:
            return [(name[head_bytes:], bare(rows[name])) for name in ordered]
        return [(name[head_bytes:], rows[name]) for name in ordered]

    def expect(self, rows: Iterable[tuple[Table, bytes]]) -> None:
        """Read those of these rows that are not known, in as few calls as possible. Raises StoreUnavailableError."""
        self._view.learn(self._heads[table] + key for table, key in rows)

    def has_room(self) -> bool:
        """Say whether the unit under way may become larger."""
        return self._part.compares() < UNIT_COMPARES_FULL and self._part.size_bytes() < UNIT_BYTES_FULL

    def at_commit(self, function: Callable[[], None]) -> None:
        """Have `function` run just before the commit, for the joint part."""
        self._hooks.append(function)

    def abort(self) -> None:
        """Forget every change."""
        self._hooks.clear()

    # What the server tells of its requests.

    def begin_unit(self, place: int) -> None:
        """What follows belongs to request number `place`."""
        if self._part or self._touched or not self._has_units:
            self._close_outside()
        part = self._part = Part(place)
        self._reads = part.reads
        self._writes = part.writes

    def end_unit(self, alone: bool) -> None:
        """The request is done. `alone`: it touched only its own records, so it can be written without the others."""
        part = self._part
        if not alone or not self._may_stand_alone(part):
            self._join(part)
        elif self._touched:
            self._join_others(part)
        elif part:
            self._alone.append(part)
            for name in part.writes:
                self._written[name] = part
        self._start(self._outside)

    @property
    def is_full(self) -> bool:
        """Say whether no further request should join: commit, and go on in a new transaction."""
        return (
            self._joint_compares >= self._joint_full
            or self._joint_bytes >= JOINT_BYTES_FULL
            or len(self._alone) >= ALONE_UNITS_FULL
        )

    # What the store asks for.

    def finish(self) -> None:
        """Run the hooks and close the parts; the transaction takes nothing more."""
        if self._part or self._touched:
            self._join(self._part)
        self._start(Part())
        hooks, self._hooks = self._hooks, []
        for function in hooks:
            function()
        if self._part or self._touched:
            self._join(self._part)
        if self.joint and not self.joint.places:
            self.joint.places = (OUTSIDE,)
        if self.joint.writes:
            self.joint.wholes += self._outside_wholes

    def alone(self) -> list[Part]:
        """The units, or the few that met, that stand alone."""
        return [part for part in self._alone if not part.is_merged]

    def parts(self) -> list[Part]:
        """All that was seen, by an unfinished unit too."""
        outside = Part()
        outside.wholes = self._outside_wholes
        return [self.ground, self.joint, *self.alone(), self._part, outside]

    # Parts.

    def _start(self, part: Part) -> None:
        self._part = part
        self._reads = part.reads
        self._writes = part.writes
        if self._touched:
            self._touched = []

    def _close_outside(self) -> None:
        """Take what was read before the first unit as ground; all else outside of units belongs to the joint part."""
        part = self._outside
        if not self._has_units:
            self._has_units = True
            self.ground.reads, self.ground.spans, self.ground.is_broken = part.reads, part.spans, part.is_broken
            part.reads, part.spans = {}, {}
        if part or self._touched:
            self._join(part)
        self._outside = Part(OUTSIDE)
        self._start(self._outside)

    def _join(self, part: Part) -> None:
        """Add a part to the joint one, and every part whose writes it has met."""
        for name in self._touched:
            met = self._written[name]
            if met is not self.joint:
                self._enter(met)
        self._enter(part)

    def _enter(self, part: Part) -> None:
        if OUTSIDE in part.places:
            self._outside_wholes += part.wholes
            part.wholes = ()
            if OUTSIDE in self.joint.places:
                part.places = tuple(place for place in part.places if place != OUTSIDE)
        elif not part.writes:
            part.wholes = ()  # a listing: what it shows was so when it looked
        for name in part.writes:
            self._written[name] = self.joint
        self._joint_bytes += part.size_bytes()
        self.joint.take_in(part)
        self._joint_compares = self.joint.compares()

    def _may_stand_alone(self, part: Part) -> bool:
        """Say whether a part is small, and leaves a trace by which it can be told later that it was written.

        A deletion leaves none. Changes that have to be told of are told beside the joint part; a lease that was not
        looked at may be one.
        """
        if part.spans or part.wholes or None in part.writes.values():
            return False
        for name in part.writes:
            if name.startswith(self._heads[STEADY]) or (
                name not in part.reads and name.startswith(self._heads[MARKED]) and name not in self._touched
            ):
                return False
        return len(part.reads) + len(part.writes) <= ALONE_ROWS_MAX

    def _join_others(self, part: Part) -> None:
        """Make a unit one with that whose writes it has met, or with the joint part if it has met more."""
        met = {id(owner): owner for owner in map(self._written.__getitem__, self._touched)}
        [first, *others] = met.values()
        if others or first is self.joint or len(first.reads) + len(first.writes) > ALONE_ROWS_MAX:
            self._join(part)
            return
        first.take_in(part)
        for name in part.writes:
            self._written[name] = first

    # Writes and looks.

    def _write(self, table: Table, name: bytes, value: bytes | None) -> None:
        if name in self._written and name not in self._writes:
            self._touched.append(name)
        self._writes[name] = value
        own = self._own_names.get(table)
        if own is not None:
            place = bisect_left(own, name)
            if place == len(own) or own[place] != name:
                own.insert(place, name)

    def _own_value(self, name: bytes) -> bytes | None:
        return self._writes[name] if name in self._writes else self._written[name].writes[name]

    def _own_between(self, table: Table, lo: bytes, hi: bytes) -> list[bytes]:
        own = self._own_names.get(table)
        if own is None:
            head = self._heads[table]
            own = sorted(name for name in self._written.keys() | self._writes.keys() if name.startswith(head))
            self._own_names[table] = own
        return own[bisect_left(own, lo) : bisect_left(own, hi)]

    def _base_rows(self, lo: bytes, hi: bytes, wanted: int, reverse: bool) -> tuple[Look, dict[bytes, bytes]]:
        """Look at a range as it is without what is written here."""
        while True:
            look = self._view.look(lo, hi, wanted, reverse)
            if look.rows is not None:
                return look, dict(look.rows)
            rows = {name: value for name in look.names if (value := self._view.value(name)) is not None}
            if len(rows) == len(look.names):
                return look, rows
            self._view.doubt(lo, hi)  # a row is gone of which the range does not know yet

    def _note_look(self, look: Look, lo: bytes, hi: bytes) -> None:
        """Remember what was seen of a range."""
        names = look.names[bisect_left(look.names, lo) : bisect_left(look.names, hi)]
        if look.rows is not None:
            self._part.wholes += (Whole(lo, hi, {name: look.rows[name] for name in names}, look.revision),)
            return
        for name in names:
            self._part.see(name, self._view.value(name))
        self._part.see_span((lo, hi), tuple(names))
