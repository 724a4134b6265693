"""The store that several servers share: transactions over etcd that are right whatever the other servers do.

A transaction sees what this server believes of etcd's rows, and at its submission etcd decides which of its parts still
hold. A message whose answer is missing is settled before anything else is written.
"""

import contextlib
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from als import clock
from als.store.etcd import commit, reading
from als.store.etcd.baton import Baton
from als.store.etcd.cache import CACHED_MAX, Unknown
from als.store.etcd.commit import Joint, Message, Verdict
from als.store.etcd.errors import EtcdFullError, EtcdGaveUpError, EtcdTooLargeError, EtcdUnavailableError
from als.store.etcd.fence import FENCED, Fence, FencedError
from als.store.etcd.hearing import Hearing
from als.store.etcd.keys import Keys
from als.store.etcd.marks import MARKED, bare
from als.store.etcd.moves import Moves
from als.store.etcd.ops import KeyValue, get
from als.store.etcd.parts import OUTSIDE, Part
from als.store.etcd.reading import Client
from als.store.etcd.recount import Recount
from als.store.etcd.rivals import Rivals
from als.store.etcd.snapshot import EtcdSnapshot
from als.store.etcd.transaction import EtcdTransaction
from als.store.etcd.view import EtcdView, ForgottenError, told
from als.store.transaction import StoreUnavailableError, Table, Transaction

SUBMIT_S = 2.5  # from the first try to the verdict: an election takes 1 to 1.5 s
PAUSE_S = 0.05
MESSAGE_BYTES_MAX = 1 << 20  # etcd takes 1.5 MiB by default

Result = TypeVar("Result")


class Submitted(NamedTuple):
    """The fate of a transaction: the places of the units that were not written, since what they saw has changed.

    OUTSIDE (-1) is among them when what was done outside of units was not written. All these are to be applied again,
    those of `too_large` with fewer others: together they change more at once than etcd takes.
    """

    done: bool
    rejected: frozenset[int]
    too_large: frozenset[int] = frozenset()


class EtcdStore:
    """The tables under one prefix of an etcd, for the server whose row is `fence`.

    begin, submit and every read may raise StoreUnavailableError (no answer: the transaction is lost, or nobody knows
    yet; ask again later) and StoreError (it is no use: FencedError, or etcd refuses).
    """

    def __init__(
        self, client: Client, keys: Keys, fence: Fence, *, cached_max: int = CACHED_MAX, submit_s: float = SUBMIT_S
    ) -> None:
        self.fence = fence
        self.view = EtcdView(client, keys, cached_max)
        self._hearing = Hearing(client, self.view, Moves(keys, fence.number))
        self._rivals = Rivals(self.view, Baton(client, keys))
        self._client = client
        self._submit_s = submit_s
        self._newest: EtcdTransaction | None = None  # the one that was begun last, unless it is submitted
        self._unclear: bytes | None = None  # what a message without an answer puts into the server's row

    def begin(self) -> EtcdTransaction:
        """Open a transaction that may write."""
        if self._unclear is not None:
            self._settle(self._unclear, clock.monotonic_s())
        self._hearing.listen()
        transaction = EtcdTransaction(self.view, self._hearing.moves.mark, self._rivals.joint_full)
        self._newest = transaction
        return transaction

    def submit(self, transaction: Transaction) -> Submitted:
        """Have etcd write those parts of the transaction whose sights are unchanged."""
        assert isinstance(transaction, EtcdTransaction)
        transaction.finish()
        end_s = clock.monotonic_s() + self._submit_s
        rejected: set[int] = set()
        too_large: set[int] = set()
        doubtful: list[bytes] = []
        hearing, rivals = self._hearing, self._rivals
        trust = hearing.trust() if transaction is self._newest else None  # else more was written meanwhile
        self._newest = None
        recount = Recount(transaction, self.view.keys)
        work = [(transaction.joint, transaction.alone())]
        if commit.is_large(transaction.joint):
            work = [(Part(), work[0][1]), (transaction.joint, [])]
            rivals.await_turn(recount)
        while work:
            joint, alone = work.pop()
            if not joint and not alone:
                continue
            bundles = commit.bundled(alone, trust)
            telling = hearing.telling(transaction, joint, bundles)
            last = [*rivals.baton.giving_back(), *([] if telling is None else [telling.put, telling.look])]
            message = commit.assemble(self.fence, transaction.ground, joint, bundles, trust, recount.names, last)
            is_divisible = len(alone) > (not joint)
            is_known = is_divisible and message.bytes_sent > MESSAGE_BYTES_MAX
            verdict = commit.too_large(message) if is_known else self._decide(message, end_s)
            if verdict is None:
                work.append((joint, alone))
                continue
            if verdict.is_too_large and is_divisible:
                half = len(alone) // 2
                work += [(Part(), alone[half:]), (joint, alone[:half])]
                continue
            if verdict.is_too_large:
                too_large.update(joint.places, *(unit.places for unit in alone))
            if trust is not None and hearing.is_spoiled(verdict):
                trust = hearing.after_news(trust, verdict)
                work.append((joint, alone))
                continue
            if verdict.is_accepted:
                rivals.baton.given_back()
                if telling is not None:
                    trust = hearing.told(telling, trust, verdict)
            if joint and not verdict.is_joint and clock.monotonic_s() < end_s and rivals.is_recounted(recount, verdict):
                work.append((joint, []))
                joint = Part()
            elif not verdict.is_accepted:
                rejected.update([OUTSIDE] if transaction.ground else [])
                self._reconsider(transaction.ground, verdict, doubtful)
            self._take_over(joint, message, verdict, rejected, doubtful)
        is_rejected = not rejected.isdisjoint(transaction.joint.places)
        rivals.learn(is_rejected=is_rejected, is_full=transaction.is_full)
        self._look_again(doubtful)
        return Submitted(True, frozenset(rejected), frozenset(too_large))

    def snapshot(self) -> EtcdSnapshot:
        """Open a consistent look at the newest state, for long reading; it needs no confirmation."""
        with told():
            revision = self._client.range(self.fence.name).revision
        return EtcdSnapshot(self._client, self.view.keys, revision)

    def read(self, work: Callable[[EtcdSnapshot], Result]) -> Result:
        """Have `work` read a snapshot, and another one from the beginning when somebody compacts meanwhile.

        Raises ForgottenError when that happens again.
        """
        try:
            return work(self.snapshot())
        except ForgottenError:
            return work(self.snapshot())

    def is_outdated(self, transaction: EtcdTransaction) -> bool:
        """Say whether anything that an open transaction has seen is changed by now; what is so is read anew.

        Ask this when the ledger stumbles: old and new sights beside each other can contradict.
        """
        parts = transaction.parts()
        compares = [compare for part in parts for compare in commit.compares_of(part)]
        looks = [get(self.fence.name), *commit.leveled(commit.checks(compares))]
        with told():
            result = self._client.txn((), looks)
        if all(commit.verdicts(result.responses[1:])):
            return False
        for part in parts:
            self.view.forget(part)
        return True

    def prefetch(self, keys: Iterable[tuple[Table, bytes]]) -> None:
        """Read rows ahead for a whole batch, those that are not known, in as few calls as possible."""
        heads, young = self.view.keys.heads, self.view.cache.young
        strange = [name for table, key in keys if (name := heads[table] + key) not in young]
        if strange:
            self.view.learn(strange)

    def look_ahead(self, ranges: Iterable[tuple[Table, bytes, bytes]], limit: int) -> None:
        """Read the beginnings of ranges ahead, up to `limit` rows of each, in as few calls as possible."""
        self.view.look_ahead((self.view.keys.bounds(*place) for place in ranges), limit)

    def peek(self, table: Table, key: bytes) -> bytes | None:
        """Give what is believed of a row; None also when nobody has looked."""
        value = self.view.cache.get(self.view.keys.name(table, key))
        if value is None or isinstance(value, Unknown):
            return None
        return bare(value) if table is MARKED else value

    def grow(self) -> None:
        """etcd's quota is its administrators' matter."""

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    # The verdict on a message.

    def _decide(self, message: Message, end_s: float) -> Verdict | None:
        """Send; None when nothing was applied for lack of an answer, and may be sent anew."""
        with told():
            try:
                result = self._client.txn(message.compares, message.success, message.failure)
            except EtcdGaveUpError:
                return commit.nothing(message)
            except EtcdTooLargeError:
                return commit.too_large(message)
            except (EtcdUnavailableError, EtcdFullError) as error:
                return self._find_out(message, error, end_s)
        verdict = commit.verdict_of(message, result)
        if verdict.is_accepted and message.row is not None:
            self.fence.move_on(message.row)
        if not verdict.is_accepted and verdict.fresh.pop(self.fence.name) != self.fence.value:
            raise FencedError(FENCED)
        return verdict

    def _find_out(self, message: Message, error: EtcdUnavailableError | EtcdFullError, end_s: float) -> Verdict | None:
        """Find out what became of a message without an answer.

        etcd says that it is full also of the message that has filled it, which it has applied.
        """
        is_full = isinstance(error, EtcdFullError)
        if message.row is not None:
            if isinstance(error, EtcdUnavailableError) and not error.maybe_applied:
                raise error
            row = self._settle(message.row, end_s, may_come_late=not is_full)
            if row is not None:
                return self._verdict_by_rows(message, row, end_s)
        if is_full or clock.monotonic_s() > end_s:
            raise error
        clock.pause(PAUSE_S)
        return None

    def _settle(self, written: bytes, end_s: float, *, may_come_late: bool = True) -> KeyValue | None:
        """Find the server's row as a message put it; None when the message never will. Else nobody knows, for now."""
        while True:
            try:
                with told():
                    row = self.fence.settle(self._client, written, may_come_late=may_come_late)
            except StoreUnavailableError:
                if clock.monotonic_s() > end_s:
                    self._unclear = written
                    self._hearing.moves.lose_count()
                    self.view.cache.clear()
                    raise
                clock.pause(PAUSE_S)
            else:
                self._unclear = None
                return row

    def _verdict_by_rows(self, message: Message, row: KeyValue, end_s: float) -> Verdict:
        """Read the verdict on a message that was applied from the rows that it has written."""
        written = [[name for part in bundle for name in commit.written_names(part)] for bundle in message.bundles]
        names = [self.fence.joint_name, *(name for few in written for name in few)]
        while True:
            try:
                with told():
                    found = reading.values(self._client, names)
                break
            except StoreUnavailableError:
                if clock.monotonic_s() > end_s:
                    self.view.cache.clear()
                    raise
                clock.pause(PAUSE_S)
        fresh = {name for name, now in found.items() if now is not None and now.mod_revision == row.mod_revision}
        is_joint = message.joint is not Joint.NESTED or self.fence.joint_name in fresh
        return Verdict(True, is_joint, [not fresh.isdisjoint(few) for few in written], {})

    def _take_over(
        self, joint: Part, message: Message, verdict: Verdict, rejected: set[int], doubtful: list[bytes]
    ) -> None:
        """Believe what was written, and gather what was not."""
        if joint and verdict.is_joint:
            self.view.cache.change(joint.writes)
        elif joint:
            rejected.update(joint.places)
            self._reconsider(joint, verdict, doubtful)
        for bundle, is_written in zip(message.bundles, verdict.bundles, strict=True):
            for part in bundle:
                if is_written:
                    self.view.cache.change(part.writes)
                    continue
                rejected.update(part.places)
                if verdict.is_accepted:
                    doubtful += part.reads

    def _reconsider(self, part: Part, verdict: Verdict, doubtful: list[bytes]) -> None:
        """Take up what a part that has failed should have seen."""
        for lo, hi in part.spans:
            self.view.doubt(lo, hi)
        doubtful += part.reads.keys() - verdict.fresh.keys()
        self.view.cache.change(verdict.fresh)

    def _look_again(self, doubtful: list[bytes]) -> None:
        """Read again what was wrong, so that who applies it again finds it known."""
        if doubtful:
            self.view.cache.forget(doubtful)
            with contextlib.suppress(StoreUnavailableError):  # it is read when it is needed
                self.view.read_again(doubtful)
