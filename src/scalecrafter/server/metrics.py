"""Figures for Prometheus.

Requests are counted in this process. The figures about pictures are read from the store: they cover all workers and
replicas, and a restart does not reset them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .claims import BUCKETS
from .store import Store

_METHODS = frozenset({"GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"})
_ENDINGS = {
    "accepted": "accepted into the queue",
    "done": "made",
    "failed": "that failed by the server's fault",
    "refused": "that could not be made as requested",
    "cancelled": "cancelled",
    "requeued": "queued again after their worker ended",
}


class Metrics:
    """The figures of one server."""

    def __init__(self, store: Store, lease: float) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Pictures(store, lease))
        self.requests = Counter(
            "scalecrafter_requests", "HTTP requests", ("route", "method", "status"), registry=self.registry
        )
        self.answer_seconds = Histogram(
            "scalecrafter_request_seconds", "Seconds until an answer began", ("route",), registry=self.registry
        )

    def text(self) -> tuple[bytes, str]:
        """The figures in Prometheus' text format, and its content type."""
        return generate_latest(self.registry), "text/plain; version=0.0.4; charset=utf-8"


class CountRequests:
    """Middleware that counts requests by route, method and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        answered = False

        def count(status: int) -> None:
            nonlocal answered
            answered = True
            route = getattr(scope.get("route"), "path", "other")  # not the path itself: clients could make up many
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.labels(route, method, str(status)).inc()
            self._metrics.answer_seconds.labels(route).observe(time.perf_counter() - began)

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                count(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, counted)
        except Exception:
            if not answered:
                count(500)  # which is answered further out
            raise


class _Pictures(Collector):
    """What the store knows."""

    def __init__(self, store: Store, lease: float) -> None:
        self._store, self._lease = store, lease

    def describe(self) -> list[Metric]:
        """Nothing, so that the store is not read before it is needed."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The figures as they are now."""
        totals = self._store.totals()
        yield GaugeMetricFamily("scalecrafter_queue_pictures", "Pictures that wait", self._store.waiting())
        yield GaugeMetricFamily("scalecrafter_running_pictures", "Pictures being made", self._store.running())
        workers = self._store.ready_workers(3 * self._lease)
        yield GaugeMetricFamily("scalecrafter_workers", "Workers with a model loaded", workers)
        for name, message in _ENDINGS.items():
            yield CounterMetricFamily(f"scalecrafter_pictures_{name}", f"Pictures {message}", totals.get(name, 0.0))
        done = totals.get("done", 0.0)
        bounds = [(str(bound), totals.get(f"within {bound}", 0.0)) for bound in BUCKETS]
        yield HistogramMetricFamily(
            "scalecrafter_picture_seconds",
            "Seconds that making a picture took",
            [*bounds, ("+Inf", done)],
            totals.get("seconds", 0.0),
        )
