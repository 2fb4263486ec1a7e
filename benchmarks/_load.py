"""Clients of a server, good and bad, over plain sockets: what they send, and what they must get."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

MIX = {
    "question": 0.84,
    "malformed": 0.04,
    "oversized": 0.02,
    "slow": 0.04,
    "wrong key": 0.02,
    "bad value": 0.02,
    "hang-up": 0.02,
}
"""Kind of request -> its share."""

EXPECTED = {
    "question": 200,
    "malformed": 400,
    "oversized": 413,
    "slow": 200,
    "wrong key": 401,
    "bad value": 400,
}
"""Kind of request -> the status that it must get."""

OVERSIZED = 2 << 20
SLOW = 1.0
"""Seconds over which a slow request is sent."""


@dataclass(frozen=True)
class Plan:
    """Where to send what.

    Attributes:
        port: Of the server on loopback.
        key: That it wants.
        asked: Questions with options.
    """

    port: int
    key: str
    asked: Sequence[Mapping[str, Any]]

    def body(self, chooser: random.Random, **more: Any) -> bytes:
        """A chat request with one of the questions."""
        one = chooser.choice(self.asked)
        messages = [{"role": "user", "content": one["question"]}]
        request = {"model": "atlas", "messages": messages, "options": one["options"], **more}
        return json.dumps(request).encode()

    def request(self, body: bytes, key: str | None = None) -> bytes:
        """A whole request."""
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: application/json\r\nAuthorization: Bearer {key or self.key}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@dataclass
class Load:
    """Connections that ask until the time is over, and what came of it.

    Attributes:
        plan: Where to send what.
        finished: Seconds from the beginning at which plain questions were answered.
        latencies: Seconds that each took.
        statuses: (kind, status) -> how often; status 0 for no answer or a wrong one.
    """

    plan: Plan
    finished: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)

    async def run(self, connections: int, seconds: float) -> None:
        """Keep so many connections busy for so long; what is begun is waited for."""
        began = time.perf_counter()
        await asyncio.gather(*(self._client(seed, began, seconds) for seed in range(connections)))

    def summary(self) -> dict[str, Any]:
        """Latencies in seconds, and the counts; `lost` are those that got no or a wrong answer."""
        wrong = {
            kind: sum(
                count
                for (of, status), count in self.statuses.items()
                if of == kind and status != expected
            )
            for kind, expected in EXPECTED.items()
        }
        p50, p99 = np.quantile(self.latencies, [0.5, 0.99]).tolist() if self.latencies else (0, 0)
        return {
            "p50": p50,
            "p99": p99,
            "most": max(self.latencies, default=0.0),
            "questions": len(self.latencies),
            "requests": sum(self.statuses.values()),
            "lost": sum(wrong.values()),
            "lost_by_kind": wrong,
            "statuses": {
                f"{kind}: {status}": n for (kind, status), n in sorted(self.statuses.items())
            },
        }

    async def _client(self, seed: int, began: float, seconds: float) -> None:
        chooser = random.Random(seed)
        connection = None
        while time.perf_counter() - began < seconds:
            kind = chooser.choices(list(MIX), list(MIX.values()))[0]
            connection = connection or await self._connect()
            sent = time.perf_counter()
            try:
                status = await asyncio.wait_for(self._ask(kind, chooser, *connection), 120)
            except (OSError, EOFError, ValueError, TimeoutError):
                status = 0
            self.statuses[kind, status] += 1
            if kind == "question":
                self.finished.append(time.perf_counter() - began)
                self.latencies.append(time.perf_counter() - sent)
            if status == 0 or kind in ("hang-up", "oversized"):
                connection[1].close()
                connection = None
        if connection is not None:
            connection[1].close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.plan.port)

    async def _ask(
        self,
        kind: str,
        chooser: random.Random,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> int:
        """The status of the answer; 0 if it is none that a client could use."""
        plan = self.plan
        body = plan.body(chooser)
        request = plan.request(body)
        if kind == "malformed":
            request = plan.request(body[: len(body) // 2])
        elif kind == "oversized":
            request = plan.request(b" " * OVERSIZED)
        elif kind == "wrong key":
            request = plan.request(body, "another key")
        elif kind == "bad value":
            request = plan.request(plan.body(chooser, n=3))
        pieces = 10 if kind == "slow" else 1
        step = -(-len(request) // pieces)
        for at in range(0, len(request), step):
            writer.write(request[at : at + step])
            await writer.drain()
            if kind == "slow":
                await asyncio.sleep(SLOW / pieces)
        if kind == "hang-up":
            return 0
        return await self._read(reader, kind)

    async def _read(self, reader: asyncio.StreamReader, kind: str) -> int:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.partition(b":")[2])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length")
        )
        content = json.loads(await reader.readexactly(length))
        status = int(head.split(b" ", 2)[1])
        if status == 200:
            field = content["choices"][0]["cogcalib"]
            usable = 0 <= field["confidence"] <= 1 and isinstance(field["abstain"], bool)
        else:
            usable = "message" in content["error"]
        return status if usable else 0
