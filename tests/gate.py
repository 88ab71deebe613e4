"""An engine that waits at the door of each run until the test opens it."""

import asyncio
import threading


class Gate:
    def __init__(self, engine):
        self.engine, self.device, self.threads, self.runs = engine, "cpu", engine.threads, []
        self.config, self.dimension, self.max_tokens = engine.config, engine.dimension, engine.max_tokens
        self.tokenize_parts, self.accept_ids = engine.tokenize_parts, engine.accept_ids
        self.precision, self.only_large, self.n_given_back = engine.precision, False, 0
        self.started, self.open, self.fail = threading.Semaphore(0), threading.Semaphore(0), lambda tokens: None

    def encode(self, tokens, threads=None):
        if self.only_large and len(tokens) < 64:
            return self.engine.encode(tokens, threads=threads)
        self.started.release()
        assert self.open.acquire(timeout=20)
        self.runs.append(len(tokens))
        self.fail(tokens)
        return self.engine.encode(tokens)

    def give_back(self):
        self.n_given_back += 1
        self.engine.give_back()

    def warmup(self):
        """Would wait, too."""

    def close(self):
        self.engine.close()


async def until(condition, timeout_s=20):
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.001)


async def started(gate):
    await asyncio.to_thread(gate.started.acquire, timeout=20)
