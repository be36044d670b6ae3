"""Endpoints, and what balances them, with little to write in a test."""

from __future__ import annotations

import random

from uproxy.core.balance import AffinityTable, Balancer, Ejector
from uproxy.core.model import Endpoint, Protocol, ServicePortName

A, B, C, D = (Endpoint(f"10.0.0.{number}", 80) for number in range(1, 5))
WEB = ServicePortName("default", "web", "http", Protocol.TCP)
API = ServicePortName("default", "api", "http", Protocol.TCP)


def ejector(failures: int = 3, base: float = 10, limit: float = 60) -> Ejector:
    return Ejector(failures, base, limit)


def balancer(
    *endpoints: Endpoint,
    affinity_seconds: int | None = None,
    ejecting: Ejector | None = None,
    table: AffinityTable | None = None,
    of: ServicePortName = WEB,
    seed: int = 1,
) -> Balancer:
    made = Balancer(of, ejecting or ejector(), AffinityTable(100) if table is None else table, random.Random(seed))
    made.set(endpoints, affinity_seconds)
    return made


def turns(made: Balancer, count: int, now: float = 0.0) -> list[Endpoint | None]:
    return [made.pick("10.1.0.1", now) for _ in range(count)]


def eject(found: Ejector, endpoint: Endpoint, now: float) -> None:
    assert [found.failed(endpoint, now) for _ in range(3)] == [False, False, True]
