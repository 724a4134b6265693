"""From etcd's messages to the plain results of als/store/etcd/ops.py."""

from collections.abc import Iterable

from als.store.etcd import rpc_pb2 as rpc
from als.store.etcd.ops import KeyValue, RangeResult, TxnResult


def range_result(reply: rpc.RangeResponse) -> RangeResult:
    """Give the rows of a range."""
    return RangeResult(_rows(reply.kvs), reply.more, reply.header.revision)


def txn_result(reply: rpc.TxnResponse) -> TxnResult:
    """Give the verdict of a transaction and of all that is nested in it."""
    return _verdict(reply, reply.header.revision)


def _verdict(reply: rpc.TxnResponse, revision: int) -> TxnResult:
    """Read a transaction's reply; only the outermost one tells the revision."""
    responses: list[list[KeyValue] | TxnResult | None] = []
    for response in reply.responses:
        kind = response.WhichOneof("response")
        if kind == "response_txn":
            responses.append(_verdict(response.response_txn, revision))
        elif kind == "response_range":
            responses.append(_rows(response.response_range.kvs))
        else:
            responses.append(None)
    return TxnResult(reply.succeeded, responses, revision)


def _rows(rows: Iterable[rpc.KeyValue]) -> list[KeyValue]:
    return [KeyValue(row.key, row.value, row.create_revision, row.mod_revision, row.version) for row in rows]
