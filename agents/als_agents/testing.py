"""A license server for the tests of programs that are licensed by ALS: real sockets, real encryption, no disk.

It counts seats as a server does and can be told to refuse, to fall silent, to stop and to come back with another
key; twins are a cluster. It knows nothing of serials, roles, holders or lapsing, and is no server to work with.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

import zmq

from als import beacon, clock, keyfile, protocol
from als.protocol import Refusal, Request

BIND_TRIES_MAX = 100  # a port must be free for TCP and UDP at once
REQUESTS_PER_TURN_MAX = 1_000  # so that `stop` is heard under any load
WAIT_S_DEFAULT = 10.0
THREAD_END_S = 10.0  # far above what the thread needs to notice
HEARTBEAT_S_DEFAULT = 3_600
PERIOD_S_DEFAULT = 30 * 86_400
_DATAGRAM_BYTES_MAX = beacon.QUERY_BYTES + 1  # one more than a query, so that a longer one is seen to be longer


class FakeComponent(NamedTuple):
    """What `hello` says of a component; one that is not described is licensed and needs a server."""

    licensed: bool = True
    works_offline: bool = False


class FakeServer:
    """A license server in a thread of this process, on a free port of 127.0.0.1.

    `seats` says how many computers each product is for, and may be changed while it runs, as may `serials` (the
    text that a lease of a product carries), `period_s` (None: never lapses) and `heartbeat_s`. `requests` holds
    every request that came, silent or not. Use it with `with`, or `start` and `stop`; it may be started again.
    """

    def __init__(
        self,
        seats: Mapping[str, int],
        *,
        components: Mapping[str, FakeComponent] | None = None,
        serials: Mapping[str, str] | None = None,
        period_s: int | None = PERIOD_S_DEFAULT,
        heartbeat_s: int = HEARTBEAT_S_DEFAULT,
        name: str = "fake",
    ) -> None:
        self.seats = dict(seats)
        self.components = dict(components or {})
        self.serials = dict(serials or {})
        self.period_s = period_s
        self.heartbeat_s = heartbeat_s
        self.name = name
        self.host = "127.0.0.1"
        self.port = 0
        self.server_id = os.urandom(8).hex()
        self.role = "agent"
        self.requests: list[Request] = []
        self._pair = keyfile.generate()
        self._leases: dict[tuple[str, bytes], dict[str, Any]] = {}
        self._books = threading.Lock()  # guards `_leases`, which twins share
        self._refusals: dict[str | None, Refusal] = {}
        self._silent = False
        self._arrived = threading.Condition()  # guards `requests`
        self._wake: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()

    def twin(self) -> "FakeServer":
        """Make another server of the same cluster: one name, id and key, the same seats, serials and licenses.

        It has an address of its own, is to be started and stopped for itself, and does as it is told alone.
        """
        other = FakeServer({}, period_s=self.period_s, heartbeat_s=self.heartbeat_s, name=self.name)
        other.seats, other.components, other.serials = self.seats, self.components, self.serials
        other.server_id, other.role, other._pair = self.server_id, self.role, self._pair
        other._leases, other._books = self._leases, self._books
        return other

    @property
    def address(self) -> str:
        """Give "HOST:PORT", as every `server` argument takes it."""
        return f"{self.host}:{self.port}"

    @property
    def key(self) -> bytes:
        """Give the server's public key, 32 bytes."""
        return self._pair.public

    def requests_for(self, operation: str) -> list[Request]:
        """Give the requests of one operation, in their order."""
        with self._arrived:
            return [request for request in self.requests if request["op"] == operation]

    def await_requests(self, operation: str, count: int = 1, wait_s: float = WAIT_S_DEFAULT) -> list[Request]:
        """Wait until `count` requests of one operation have come, and give them. Raises TimeoutError."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.requests_for(operation)) >= count, wait_s):
                raise TimeoutError(f"fewer than {count} {operation} requests came within {wait_s:g} s")
            return self.requests_for(operation)

    def used(self, product: str) -> int:
        """Count the computers that hold a license of `product`."""
        return sum(1 for code, _ in list(self._leases) if code == product)

    def refuse(
        self,
        code: str,
        message: str = "The fake server was told to refuse.",
        *,
        operation: str | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Refuse every request, or those of one operation, until `accept`."""
        self._refusals[operation] = Refusal(code, message, detail or {})

    def accept(self) -> None:
        """Go back to answering by what is true."""
        self._refusals.clear()
        self._silent = False

    def fall_silent(self) -> None:
        """Take requests and queries and answer none of them, until `accept`."""
        self._silent = True

    def forget_leases(self) -> None:
        """Take every license away, as if its time had passed."""
        self._leases.clear()

    def change_key(self) -> None:
        """Become another server at the same address: a new key, and nothing remembered."""
        self.stop()
        self._pair = keyfile.generate()
        self.forget_leases()
        self.start()

    def start(self) -> None:
        """Serve, on the port that it had before if it had one. Raises OSError when the port is taken."""
        assert self._thread is None, "it runs already"
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            router, udp = self._bind(context)
        except BaseException:
            context.term()
            raise
        awaken, self._wake = socket.socketpair()
        self._thread = threading.Thread(
            target=self._serve, args=(context, router, udp, awaken), name="als-fake-server", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Close every connection; what was granted stays granted. Does nothing when it does not run."""
        if self._thread is None or self._wake is None:
            return
        self._wake.close()
        self._thread.join(THREAD_END_S)
        assert not self._thread.is_alive()
        self._thread = self._wake = None

    def _bind(self, context: "zmq.Context[zmq.Socket[bytes]]") -> tuple["zmq.Socket[bytes]", socket.socket]:
        """Take a port that is free for TCP and UDP, or the one that it had."""
        for _ in range(BIND_TRIES_MAX):
            router = context.socket(zmq.ROUTER)
            router.set(zmq.LINGER, 0)
            router.set(zmq.CURVE_SERVER, 1)
            router.set(zmq.CURVE_SECRETKEY, self._pair.secret)
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                router.bind(f"tcp://{self.host}:{self.port or '*'}")
                endpoint = router.get(zmq.LAST_ENDPOINT)
                assert isinstance(endpoint, bytes)
                port = int(endpoint.rstrip(b"\0").rsplit(b":", 1)[1])
                udp.bind((self.host, port))
            except (OSError, zmq.ZMQError) as error:
                router.close()
                udp.close()
                if self.port:
                    raise OSError(f"the port {self.port} of {self.host} is taken") from error
                continue
            self.port = port
            return router, udp
        raise OSError(f"no port of {self.host} is free for TCP and UDP")

    def _serve(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        router: "zmq.Socket[bytes]",
        udp: socket.socket,
        awaken: socket.socket,
    ) -> None:
        """Answer until `awaken` hangs up; then close everything."""
        poller = zmq.Poller()
        for source in (router, udp, awaken):
            poller.register(source, zmq.POLLIN)
        with context, contextlib.closing(router), udp, awaken:
            while True:
                ready = dict(poller.poll())
                if awaken.fileno() in ready:
                    return
                if udp.fileno() in ready:
                    self._answer_query(udp)
                if router in ready:
                    self._answer_requests(router)

    def _answer_query(self, udp: socket.socket) -> None:
        with contextlib.suppress(OSError):  # Windows reports here that an earlier answer found nobody
            query, sender = udp.recvfrom(_DATAGRAM_BYTES_MAX)
            nonce = beacon.decode_query(query)
            if nonce is not None and not self._silent:
                answer = beacon.Answer(self.server_id, self.name, "0", self.port, self.key)
                udp.sendto(beacon.encode_answer(nonce, answer), sender)

    def _answer_requests(self, router: "zmq.Socket[bytes]") -> None:
        for _ in range(REQUESTS_PER_TURN_MAX):
            try:
                *envelope, frame = router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            reply = self._answer(frame)
            if reply is not None:
                router.send_multipart([*envelope, reply])

    def _answer(self, frame: bytes) -> bytes | None:
        """Give the reply to one request, None while it is silent."""
        now = clock.wall_s()
        try:
            request = protocol.decode(frame)
        except protocol.MalformedError as error:
            return None if self._silent else protocol.encode_refusal(error.request_id, now, error.refusal)
        with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()
        if self._silent:
            return None
        operation = request["op"]
        refusal = self._refusals.get(operation) or self._refusals.get(None)
        answer = refusal or self._decide(operation, request, now)
        if isinstance(answer, Refusal):
            return protocol.encode_refusal(request["id"], now, answer)
        return protocol.encode_reply(request["id"], now, answer)

    def _decide(self, operation: str, request: Request, now: int) -> dict[str, Any] | Refusal:
        if operation == "hello":
            return self._hello()
        if operation not in ("acquire", "renew", "release", "check"):
            return Refusal("not_authorized", "The fake server serves agents alone.")
        if request["product"] not in self.seats:
            return Refusal("unknown_product", "The fake server knows no such product.")
        with self._books:
            if operation == "check":
                return self._check(request)
            if operation == "release":
                return self._release(request)
            return self._engage(operation, request, now)

    def _hello(self) -> dict[str, Any]:
        components = [
            {"code": code, "name": code, "licensed": facts.licensed, "works_offline": facts.works_offline}
            for code, facts in self.components.items()
        ]
        products = [{"code": code, "name": code, "components": components} for code in self.seats]
        who = {"server_id": self.server_id, "name": self.name, "version": "0", "your_role": self.role}
        return {**who, "products": products}

    def _check(self, request: Request) -> dict[str, Any]:
        product = request["product"]
        total, used = self.seats[product], self.used(product)
        macs = (request.get("computer") or {}).get("macs", [])
        engaged = any((product, mac) in self._leases for mac in macs)
        return {"total": total, "used": used, "free": max(0, total - used), "engaged": engaged}

    def _engage(self, operation: str, request: Request, now: int) -> dict[str, Any] | Refusal:
        product, component = request["product"], request["component"]
        if not self.components.get(component, FakeComponent()).licensed:
            reply = {"result": "not_counted", "heartbeat_s": self.heartbeat_s}
            return {**reply, "lease": None} if operation == "acquire" else {**reply, "renew_by": None}
        key, lease = self._find(request)
        held = lease is not None
        if lease is None:
            total, used = self.seats[product], self.used(product)
            if used >= total:
                detail = {"total": total, "used": used, "free": 0}
                return Refusal("no_free_license", f"All {total} licenses of {product} are in use.", detail)
            lease = self._leases[key] = self._new_lease(request, now)
        if component not in lease["components"]:
            lease["components"].append(component)
        lease["serial"] = self.serials.get(product, lease["serial"])
        lease["renewed_at"] = now
        lease["renew_by"] = None if self.period_s is None else now + self.period_s
        lease["version"] = request.get("version") or lease["version"]
        reply = {"heartbeat_s": self.heartbeat_s}
        if operation == "acquire":
            return {**reply, "result": "already_held" if held else "granted", "lease": lease}
        reply |= {"result": "renewed" if held else "granted", "renew_by": lease["renew_by"]}
        return {**reply, "lease": lease} if not held or request.get("want_lease") else reply

    def _find(self, request: Request) -> tuple[tuple[str, bytes], dict[str, Any] | None]:
        """Give the key and the lease of a request's computer; the key of a new lease when it has none."""
        keys = [(request["product"], mac) for mac in request["computer"]["macs"]]
        for key in keys:
            if key in self._leases:
                return key, self._leases[key]
        return keys[0], None

    def _new_lease(self, request: Request, now: int) -> dict[str, Any]:
        product, computer = request["product"], request["computer"]
        return {
            "product": product,
            "product_name": product,
            "serial": "a fake server's serial",
            "serial_id": f"{product}-0000000000000",
            "host": computer["host"],
            "address": computer["address"],
            "mac": computer["macs"][0],
            "kind": computer.get("kind"),
            "components": [],
            "version": None,
            "acquired_at": now,
            "renewed_at": now,
            "renew_by": None,
            "state": "active",
        }

    def _release(self, request: Request) -> dict[str, Any]:
        key, lease = self._find(request)
        if lease is None or request["component"] not in lease["components"]:
            return {"result": "not_held"}
        lease["components"].remove(request["component"])
        if lease["components"]:
            return {"result": "component_removed"}
        del self._leases[key]
        return {"result": "freed"}
