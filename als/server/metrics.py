"""The metrics page for Prometheus: what `status` says, over HTTP in a thread of its own, off unless asked for.

The loop hands over a finished status each second and never waits; the page reads the latest and touches no store.
"""

import socket
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

_POOL_GAUGES = {
    "total": "Licenses of a product's valid serials.",
    "used": "Licenses in use.",
    "free": "Licenses free.",
    "lapsed": "Leases that lapsed and are not forgotten yet.",
}
_COUNT_GAUGES = {
    "serials": "Serials in the store.",
    "leases": "Leases in the store, lapsed ones too.",
    "computers": "Computers known.",
    "events": "Events in the log.",
}


class MetricsError(Exception):
    """The page cannot be served; one line for the administrator."""


class Metrics(Collector):
    """The latest status as metrics. `status` is replaced as a whole, and a reader sees one or the other."""

    def __init__(self) -> None:
        self.status: Mapping[str, Any] | None = None

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily | InfoMetricFamily]:
        """Give the metrics of the latest status; none before the first."""
        status = self.status
        if status is None:
            return
        server = status["server"]
        info = InfoMetricFamily("als_server", "The server.")
        info.add_metric([], {key: str(server[key]) for key in ("server_id", "name", "version", "engine")})
        yield info
        yield GaugeMetricFamily("als_started_at_seconds", "When it started, since 1970.", server["started_at"])
        clock = server["clock"]
        yield GaugeMetricFamily("als_clock_trusted", "1 while it goes by the wall clock.", clock["state"] == "ok")
        yield GaugeMetricFamily("als_clock_behind_seconds", "How far the wall clock is behind.", clock["behind_s"])
        cluster = server.get("cluster")
        if cluster is not None:
            text = "1 while the cluster's store answers."
            yield GaugeMetricFamily("als_cluster_available", text, cluster["state"] == "ok")
            yield GaugeMetricFamily("als_cluster_servers", "Servers of the cluster.", len(cluster["servers"]))
            yield GaugeMetricFamily("als_cluster_troubles", "What is wrong, in number.", len(cluster["troubles"]))
            yield GaugeMetricFamily("als_cluster_store_bytes", "etcd's largest file.", cluster["store_bytes"])
        dropped = "Replies that could not be sent, since the start."
        yield CounterMetricFamily("als_replies_dropped", dropped, server["replies_dropped"])
        for name, value in status["rates"].items():
            what = "Served a second, over the last ten seconds."
            yield GaugeMetricFamily(f"als_{name.removesuffix('_per_s')}_per_second", what, value)
        for name, text in _COUNT_GAUGES.items():
            yield GaugeMetricFamily(f"als_{name}", text, status["counts"][name])
        for name, text in _POOL_GAUGES.items():
            family = GaugeMetricFamily(f"als_pool_{name}", text, labels=["product"])
            for pool in status["pools"]:
                family.add_metric([pool["product"]], pool[name])
            yield family


class Page:
    """The page, being served. `port` is the one it got."""

    def __init__(self, metrics: Metrics, address: str, port: int) -> None:
        """Begin to serve. Raises MetricsError."""
        registry = CollectorRegistry()
        registry.register(metrics)
        self._server: WSGIServer
        self._thread: threading.Thread
        try:
            self._server, self._thread = start_http_server(port, address, registry)
        except (OSError, socket.gaierror) as error:
            raise MetricsError(f"cannot serve metrics on {address}:{port}: {error.strerror or error}") from None
        self.port = int(self._server.server_port)

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
