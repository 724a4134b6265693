"""The rules of the license (R1 to R17 of the design) as plainly as they can be written down.

Dictionaries and loops over everything: no index, no sweep, no store, no counter that could go wrong.
Written from the rules alone; where it differs from the ledger, one of the two has misread a rule.
"""

from collections import Counter
from typing import Any

from als.catalog import Catalog, Product
from als.protocol import OPERATIONS, Role
from press import Slip

HOUR_S = 3_600
MACS_MAX = 32
SAID = ("host", "address", "machine_id", "kind")  # what a computer says of itself beside its addresses


def refused(code: str, **detail: Any) -> dict[str, Any]:
    """Write down a refusal."""
    return {"refused": code, **detail}


class Model:
    """All that the server knows. `slips` tells what is printed in the text of a serial number."""

    def __init__(self, catalog: Catalog, slips: dict[str, Slip], new_seats_h: int, listed: bool) -> None:
        self.products = catalog.by_code
        self.slips = slips
        self.new_seats_h = new_seats_h
        self.listed = listed
        self.roles: dict[bytes, Role] = {}  # by key
        self.serials: dict[str, dict[str, Any]] = {}  # id -> slip, turn (of import), expires_at, removed
        self.first_imports: dict[str, int] = {}  # id of a trial -> when it was first imported, for good
        self.computers: list[dict[str, Any]] = []  # macs (latest first), latest (request), host, address, ...
        self.leases: dict[tuple[str, int], dict[str, Any]] = {}  # (product, computer) -> see `_run`
        self.outages: list[tuple[int, int]] = []
        self.turn = 0  # imports so far
        self.new_seats = Counter[tuple[str, int]]()  # (source address, hour) -> seats engaged
        self.denials = Counter[tuple[str, bytes, str, int]]()  # (product, MAC, reason, hour) -> how many
        self.events: list[tuple[str | None, ...]] = []  # kind, product, serial id, component

    def apply(self, request: dict[str, Any], key: bytes, address: str, now: int) -> dict[str, Any]:
        """Apply one request that `key` sent from `address`."""
        role = self.roles.get(key, Role.AGENT)
        self.lapse(now)
        if role < OPERATIONS[request["op"]].role:
            return refused("not_authorized")
        if request["op"] in ("acquire", "renew"):
            free_of_limit = role >= Role.DEPLOYER or address in ("127.0.0.1", "::1") or self.new_seats_h == 0
            return self._run(request, key, None if free_of_limit else address, now)
        return dict(getattr(self, "_" + request["op"])(request, key, now))

    # What a lease is worth, and until when.

    def lapse(self, now: int) -> None:
        """R5: from its renew_by on a lease holds no seat; the record stays."""
        for (code, _), lease in self.leases.items():
            renew_by = self.renew_by(lease)
            if not lease["lapsed"] and renew_by is not None and renew_by <= now:
                lease["lapsed"] = True
                self._event("lapsed", code, lease["serial"])

    def renew_by(self, lease: dict[str, Any]) -> int | None:
        """R3, R12: the last run, plus the period of then, plus the time since in which the server did not run."""
        period_s = lease["period_s"]
        if period_s is None:
            return None
        deadline: int = lease["renewed_at"] + period_s
        for start, end in sorted(self.outages):
            if start < deadline:  # an outage that begins after the lapse revives nothing
                deadline += min(period_s, max(0, end - max(start, lease["renewed_at"])))
        return deadline

    def state(self, lease: dict[str, Any] | None, now: int) -> str:
        """None, lapsed (R5), gone (R4: kept in mind while its serial is removed), expired (R6) or active."""
        if lease is None or lease["lapsed"]:
            return "none" if lease is None else "lapsed"
        serial = self.serials[lease["serial"]]
        return "gone" if serial["removed"] else "active" if self._is_valid(serial, now) else "expired"

    def _is_valid(self, serial: dict[str, Any], now: int) -> bool:
        return not serial["removed"] and (serial["expires_at"] is None or now < serial["expires_at"])

    # Seats.

    def used(self, serial_id: str) -> int:
        """How many leases hold a seat of the serial."""
        return sum(not lease["lapsed"] and lease["serial"] == serial_id for lease in self.leases.values())

    def seats(self, serial_id: str) -> int:
        """How many computers the serial is for."""
        return int(self.serials[serial_id]["slip"].seats)

    def valid_serials(self, code: str, now: int) -> list[str]:
        """R2: the product's valid serials: no end first, then the latest end, then the oldest import."""
        ranks = {
            serial_id: (s["expires_at"] is not None, -(s["expires_at"] or 0), s["turn"])
            for serial_id, s in self.serials.items()
            if s["slip"].product == code and self._is_valid(s, now)
        }
        return sorted(ranks, key=ranks.__getitem__)

    def pool(self, code: str, now: int) -> dict[str, int]:
        """The seats of a product, as `status` tells them."""
        self.lapse(now)
        valid = self.valid_serials(code, now)
        total, used = sum(map(self.seats, valid)), sum(map(self.used, valid))
        states = [self.state(lease, now) for (product, _), lease in self.leases.items() if product == code]
        lapsed, ended = states.count("lapsed"), states.count("expired")
        return {"total": total, "free": total - used, "used": used, "lapsed": lapsed, "on_expired": ended}

    # Computers (R10).

    def owner(self, mac: bytes) -> int | None:
        """The number of the computer that an address belongs to."""
        return next((number for number, known in enumerate(self.computers) if mac in known["macs"]), None)

    def find(self, computer: dict[str, Any]) -> int | None:
        """The owner of the first address, else of any other unless two machine ids speak against it."""
        for place, mac in enumerate(computer["macs"]):
            number = self.owner(mac)
            if number is not None:
                ids = {computer.get("machine_id"), self.computers[number]["machine_id"]} - {None, ""}
                if place == 0 or len(ids) < 2:
                    return number
        return None

    def lease_of(self, code: str, computer: dict[str, Any]) -> dict[str, Any] | None:
        """The record of a product on a computer, whatever it is worth."""
        number = self.find(computer)
        return None if number is None else self.leases.get((code, number))

    def _meet(self, computer: dict[str, Any]) -> int:
        """Remember what a computer says of itself; learn the addresses that nobody owns."""
        number = self.find(computer)
        if number is None:
            number = len(self.computers)
            self.computers.append({"macs": [], "latest": None, **dict.fromkeys(SAID)})
        known = self.computers[number]
        said = list(computer.items())  # told again when it is said in another order: the server compares bytes
        if len({self.owner(mac) for mac in computer["macs"]} - {None}) > 1 and said != known["latest"]:
            self._event("computers_conflict", None, None)
        known["latest"] = said
        mine = [mac for mac in computer["macs"] if self.owner(mac) in (None, number)]
        known["macs"] = list(dict.fromkeys(mine + known["macs"]))[:MACS_MAX]  # the longest unseen last
        known.update({key: computer[key] for key in SAID if computer.get(key) or key == "address"})
        return number

    # What agents ask for.

    def _run(self, request: dict[str, Any], key: bytes, limited: str | None, now: int) -> dict[str, Any]:
        """Acquire and renew: a run of a component, which engages a seat when there is none (R1, R3, R7)."""
        product = self.products.get(request["product"])
        if product is None or request["component"] not in product.components:
            return refused("unknown_component" if product else "unknown_product")
        if self.listed and key not in self.roles:
            return self._deny(product.code, request, "not_authorized", now)
        if not product.components[request["component"]].licensed:
            return {"result": "not_counted", "heartbeat_s": product.heartbeat_s, "lease": None}
        code = product.code
        lease = self.lease_of(code, request["computer"])
        before = self.state(lease, now)
        if before != "active":
            free = [i for i in self.valid_serials(code, now) if self.used(i) < self.seats(i)]
            if not free:
                return self._deny(code, request, before, now)
            if before in ("none", "lapsed") and limited:  # R17; a move engages no new seat
                if self.new_seats[limited, now // HOUR_S] >= self.new_seats_h:
                    return self._deny(code, request, "too_many", now)
                self.new_seats[limited, now // HOUR_S] += 1
        number = self._meet(request["computer"])
        if lease is None:
            lease = self.leases[code, number] = {"acquired_at": now}
        if before in ("none", "lapsed"):
            lease.update(components={}, version=None)
        if before != "active":
            lease.update(serial=free[0], lapsed=False)
            self._event("moved" if before in ("expired", "gone") else "granted", code, free[0])
        lease.update(renewed_at=now, period_s=product.period_s, version=request.get("version") or lease["version"])
        self._hold(product, lease, request["component"], key, before in ("none", "lapsed"), now)
        plainly = "already_held" if request["op"] == "acquire" else "renewed"
        return {
            "result": "granted" if before in ("none", "lapsed") else plainly,
            "renew_by": self.renew_by(lease),
            "heartbeat_s": product.heartbeat_s,
            "lease": self.row(code, number, now),
            "lease_is_told": request["op"] == "acquire" or before != "active" or request.get("want_lease"),
        }

    def _deny(self, code: str, request: dict[str, Any], why: str, now: int) -> dict[str, Any]:
        """R6, R14: say no. Nothing changes but the count of denials, and no computer is created."""
        there = [s for s in self.serials.values() if s["slip"].product == code and not s["removed"]]
        if why not in ("too_many", "not_authorized"):
            only_ended = there and not self.valid_serials(code, now)
            why = "license_expired" if why == "expired" or only_ended else "no_free_license"
        known = self.find(request["computer"])
        mac = request["computer"]["macs"][0] if known is None else self.computers[known]["macs"][0]
        self.denials[code, mac, why, now // HOUR_S] += 1
        return refused(why, **(self.pool(code, now) if why == "no_free_license" else {}))

    def _hold(self, product: Product, lease: Any, code: str, key: bytes, granted: bool, now: int) -> None:
        """R11: any key may share the seat; the holder changes only when the old one has long been silent."""
        part = lease["components"].setdefault(code, {"holder": key})
        if "seen" not in part and not granted:  # else `granted` has said it
            self._event("component_added", product.code, lease["serial"], code)
        elif part["holder"] != key and now - part["seen"] >= max(2 * product.heartbeat_s, HOUR_S):
            part["holder"] = key
            self._event("holder_changed", product.code, lease["serial"], code)
        if part["holder"] == key:
            part["seen"] = now

    def _release(self, request: dict[str, Any], key: bytes, now: int) -> dict[str, Any]:
        """R4: the last component of a product that goes frees the seat, unless it is never given back."""
        code, component = request["product"], request["component"]
        lease = self.lease_of(code, request["computer"])
        held = lease is not None and self.state(lease, now) in ("active", "expired")
        if lease is None or not held or component not in lease["components"]:
            return {"result": "not_held"}
        if lease["components"][component]["holder"] != key:
            return refused("not_holder")
        del lease["components"][component]
        last = "freed" if self.products[code].reusable else "kept"
        result = "component_removed" if lease["components"] else last
        self._event(result, code, lease["serial"], component)
        if result == "freed":
            self._forget(lease)
        return {"result": result}

    def _forget(self, gone: dict[str, Any]) -> None:
        self.leases = {which: lease for which, lease in self.leases.items() if lease is not gone}

    def _check(self, request: dict[str, Any], key: bytes, now: int) -> dict[str, Any]:
        """R9: how many seats there are; none is taken."""
        if request["product"] not in self.products:
            return refused("unknown_product")
        lease = self.lease_of(request["product"], request.get("computer") or {"macs": []})
        return {**self.pool(request["product"], now), "engaged": self.state(lease, now) == "active"}

    # What administrators ask for.

    def _import(self, request: dict[str, Any], key: bytes, now: int) -> dict[str, Any]:
        rows = [(slip, self._import_one(slip, now)) for slip in map(self.slips.__getitem__, request["serials"])]
        seats = [slip.seats for slip, result in rows if result == "added"]
        return {"results": [row[1] for row in rows], "added": len(seats), "licenses_added": sum(seats)}

    def _import_one(self, slip: Slip, now: int) -> str:
        ends = [] if slip.ends is None else [slip.ends]
        if slip.trial_days:
            ends.append(self.first_imports.get(slip.id, now) + slip.trial_days * 24 * HOUR_S)
        expires_at = min(ends, default=None)
        if slip.fault or (expires_at is not None and expires_at <= now):
            return slip.fault or "expired"
        known = self.serials.get(slip.id)
        if known and not known["removed"]:
            return "already_present"
        self.first_imports.setdefault(slip.id, now)
        self.turn += 1
        turn = known["turn"] if known else self.turn
        self.serials[slip.id] = {"slip": slip, "turn": turn, "expires_at": expires_at, "removed": False}
        self._event("restored" if known else "imported", slip.product, slip.id)
        return "added"

    def _remove(self, request: dict[str, Any], key: bytes, now: int) -> dict[str, Any]:
        """R4: a serial goes with its leases; where seats are never given back, they are kept in mind."""
        serial, used = self.serials.get(request["serial_id"]), self.used(request["serial_id"])
        if serial is None or serial["removed"]:
            return refused("unknown_serial")
        if used and not request.get("force"):
            return refused("serial_in_use", leases=used)
        serial["removed"] = True
        self._event("removed", serial["slip"].product, request["serial_id"])
        if self.products[serial["slip"].product].reusable or not used:
            del self.serials[request["serial_id"]]
            self.leases = {k: lease for k, lease in self.leases.items() if lease["serial"] in self.serials}
        return {}

    def _revoke(self, request: dict[str, Any], key: bytes, now: int) -> dict[str, Any]:
        code = request["product"]
        lease = self.lease_of(code, {"macs": [request["mac"]]})
        if code not in self.products or lease is None or self.state(lease, now) in ("lapsed", "gone"):
            return refused("unknown_lease" if code in self.products else "unknown_product")
        if not self.products[code].reusable:
            return refused("not_reusable")
        self._event("revoked", code, lease["serial"])
        self._forget(lease)
        return {"result": "freed"}

    def row(self, code: str, number: int, now: int) -> dict[str, Any]:
        """A lease as it is told on the wire, without the texts."""
        lease, known = self.leases[code, number], self.computers[number]
        return {
            **{key: known[key] for key in ("host", "address", "kind")},
            **{key: lease[key] for key in ("version", "acquired_at", "renewed_at")},
            **{"product": code, "serial_id": lease["serial"], "mac": known["macs"][0]},
            **{"components": sorted(lease["components"]), "state": self.state(lease, now)},
            "renew_by": self.renew_by(lease),
        }

    def _event(self, kind: str, *about: str | None) -> None:
        self.events.append((kind, *about))
