"""What the server counts, in the format of Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_TOKENS = (16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


class Metrics:
    """One server's counters; not the library's global registry, so that two servers do not mix."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "neuralcore_requests", "Requests answered.", ["route", "status"], registry=registry
        )  # fmt: skip
        self.seconds = Histogram(
            "neuralcore_request_seconds", "Time from headers to answer.", ["route"], buckets=_SECONDS, registry=registry
        )
        self.displaced = Counter(
            "neuralcore_displaced_connections", "Connections that said nothing and made room.", registry=registry
        )  # fmt: skip
        self.queue_seconds = Histogram(
            "neuralcore_queue_seconds", "Time a request waited for the engine.", buckets=_SECONDS, registry=registry
        )
        self.texts = Counter("neuralcore_texts", "Texts embedded.", registry=registry)
        self.tokens = Counter("neuralcore_tokens", "Tokens embedded.", registry=registry)
        self.truncated = Counter("neuralcore_truncated_texts", "Texts cut to the model's limit.", registry=registry)
        self.waiting = Gauge("neuralcore_waiting_requests", "Requests that wait for the engine.", registry=registry)
        self.run_texts = Histogram(
            "neuralcore_batch_texts", "Texts of one run of the engine.", buckets=_TEXTS, registry=registry
        )
        self.run_tokens = Histogram(
            "neuralcore_batch_tokens", "Tokens of one run of the engine.", buckets=_TOKENS, registry=registry
        )

    def observe_run(self, n_texts: int, n_tokens: int) -> None:
        """Count one run of the engine."""
        self.run_texts.observe(n_texts)
        self.run_tokens.observe(n_tokens)

    def observe_request(self, route: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def render(self) -> bytes:
        """All of it, for `/metrics`."""
        return generate_latest(self.registry)
