"""Metrics for Prometheus, and whether the run is well, over HTTP on loopback.

http://127.0.0.1:PORT/metrics
http://127.0.0.1:PORT/health        200, or 503 if no frame has left for ten seconds (more if the source sends few)
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from ....errors import MachineError, MissingPackageError
from .counts import LiveStatistics

if TYPE_CHECKING:
    from prometheus_client.core import Metric

ADDRESS = "127.0.0.1"
_BOUNDS_S = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)

_COUNTERS = {
    "frames_in": "Frames decoded",
    "frames_out": "Frames sent, restored or bypassed",
    "bypassed": "Frames enlarged plainly because they were late",
    "dropped": "Frames left out because they were late",
    "unsent": "Frames lost because the receiver was away",
    "disordered": "Frames left out because their time had passed",
    "held": "Pictures repeated while the source was away",
    "damaged": "Decoded frames with damage",
    "packets_damaged": "Packets that are damaged or could not be decoded",
    "gaps": "Times that the source was away",
    "gap_s": "Seconds that the source was away",
    "jumps": "Jumps of the clock of the source",
    "resized": "Changes of size or format",
    "scenes": "Cuts between scenes at which the network began anew",
    "reconnects_in": "Reconnections to the source",
    "reconnects_out": "Reconnections to the receiver",
    "packets_lost": "Packets of sound that were damaged, out of order, without a time or a receiver, or too many",
}


class _Collector:
    """Reads the statistics when Prometheus asks."""

    def __init__(self, statistics: LiveStatistics) -> None:
        self._statistics = statistics

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus-client."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        report = self._statistics.report()
        for name, text in _COUNTERS.items():
            unit = name.replace("gap_s", "gap_seconds")
            yield CounterMetricFamily(f"swiftvr_live_{unit}", text, value=getattr(report.counts, name))
        yield GaugeMetricFamily("swiftvr_live_waiting", "Frames that wait for their turn", value=report.counts.waiting)
        yield GaugeMetricFamily(
            "swiftvr_live_behind_seconds",
            "Seconds that data in pieces waits, more than at the beginning",
            value=report.counts.behind_s,
        )
        with self._statistics.delays() as delays:
            buckets = [(str(bound), float(delays.at_most(bound))) for bound in _BOUNDS_S]
            buckets.append(("+Inf", float(delays.count)))
            total = delays.total
        yield HistogramMetricFamily(
            "swiftvr_live_delay_seconds", "From packet in to packet out", buckets=buckets, sum_value=total
        )


class _Quiet(WSGIRequestHandler):
    """Prints no line for each request, and hangs up on clients that send none."""

    timeout = 5

    def log_message(self, *_: Any) -> None: ...


class _Server(ThreadingMixIn, WSGIServer):
    """Asks no name service for the name of this machine. No client keeps another one waiting, or the end of the run."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = os.name != "nt"  # there, it would let two programs share a port

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away or was too slow is nobody's business."""

    def server_bind(self) -> None:
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()


@contextmanager
def serve_metrics(port: int | None, statistics: LiveStatistics) -> Iterator[int | None]:
    """Serve metrics while the block runs. Yields the port; None serves nothing.

    Raises `MissingPackageError` without prometheus-client, `MachineError` if the port is taken.
    """
    if port is None:
        yield None
        return
    server = _server(port, statistics)
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="swiftvr-metrics", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def _server(port: int, statistics: LiveStatistics) -> WSGIServer:
    try:
        from prometheus_client import CollectorRegistry, make_wsgi_app
    except ModuleNotFoundError:
        raise MissingPackageError("prometheus-client", "--metrics", "live") from None
    registry = CollectorRegistry()
    collector: Any = _Collector(statistics)
    registry.register(collector)
    metrics: Callable[..., Iterable[bytes]] = make_wsgi_app(registry)

    def answer(request: dict[str, Any], start: Any) -> Iterable[bytes]:
        path = request.get("PATH_INFO")
        if path == "/metrics":
            return metrics(request, start)
        well, known = statistics.quiet_s() < statistics.patience_s, path == "/health"
        quiet = f"no frame has left for {statistics.patience_s:.0f} s\n".encode()
        status = "404 Not Found" if not known else "200 OK" if well else "503 Service Unavailable"
        start(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [b"" if not known else b"ok\n" if well else quiet]

    try:
        return make_server(ADDRESS, port, answer, _Server, _Quiet)
    except OSError as error:
        raise MachineError(f"--metrics is {port}: {error.strerror}; choose another port, or 0 for any") from None
