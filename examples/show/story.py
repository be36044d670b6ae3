"""The story: six things that happen to the endpoints, and what must be true of the requests meanwhile.

A phase acts, lets the clients ask for a while, and checks what was counted. Nothing here knows how it is shown.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from examples.show.held import hold
from examples.show.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from examples.show.company import Company
    from examples.show.held import Held
    from examples.show.manifests import Manifests
    from examples.show.stage import Stage
    from examples.show.traffic import Tally

PROMISED_SECONDS: Final = 1.0
"""Within this time a changed manifest is served."""
RETURN_SECONDS: Final = 5.0
"""How long the demo waits for an endpoint that is there again, or new."""
UNEVEN: Final = 0.25
"""How far an endpoint's share may be from an equal one, as a part of it."""


class Check(NamedTuple):
    """Something that was promised, and whether it was so."""

    promise: str
    kept: bool


class Phase(NamedTuple):
    """One thing that happens. act ends when it has happened and counting has begun anew."""

    title: str
    told: str
    act: Callable[[], Awaitable[None]]
    checks: Callable[[Tally], Iterator[Check]]


class Screen(Protocol):
    """Whoever shows the story."""

    def begins(self, number: int, of: int, phase: Phase) -> None:
        """Show that a phase begins."""

    def note(self, text: str) -> None:
        """Show something that is worth a line."""

    def ends(self, tally: Tally, checks: Sequence[Check]) -> None:
        """Show what came out of a phase."""


class Story:
    """Plays the phases. state: endpoint -> what it is at the moment; checks: of all phases so far."""

    def __init__(self, stage: Stage, company: Company, manifests: Manifests, screen: Screen, seconds: float) -> None:
        self.stage = stage
        self._company = company
        self._manifests = manifests
        self._screen = screen
        self._seconds = seconds
        self.traffic = Traffic(stage.clients, stage.services)
        self.state = {backend.name: "ready" for backend in stage.backends} | {stage.newcomer.name: "not listed"}
        self.checks: list[Check] = []
        self.held: Held | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def play(self) -> None:
        """Start everybody, then one phase after the other; raises CannotPlay."""
        for backend in (*self.stage.backends, self.stage.newcomer):
            await self._company.start_backend(backend)
        probe = self.stage.clients[0], self.stage.services["web"]
        await self._company.start_uproxy(self.stage.uproxy, self._manifests.folder, probe)
        self._tasks.append(asyncio.create_task(self.traffic.run()))
        try:
            phases = list(self._phases())
            for number, phase in enumerate(phases, 1):
                self._screen.begins(number, len(phases), phase)
                await self._play(phase)
        finally:
            await self._stop()

    async def _play(self, phase: Phase) -> None:
        await phase.act()
        await asyncio.sleep(self._seconds)
        tally = self.traffic.phase
        checks = [*phase.checks(tally), Check("no request failed", not tally.failures)]
        self.checks += checks
        self._screen.ends(tally, checks)

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        broken = [error for error in ended if isinstance(error, Exception)]
        if broken:
            raise broken[0]

    def _phases(self) -> Iterator[Phase]:
        _first, second, third = (backend.name for backend in self.stage.backends)
        new = self.stage.newcomer.name
        told = "Each request to web (TCP) and clock (UDP) is a new connection or flow: every endpoint gets its turn."
        yield Phase("Three endpoints", told, self._count, self._shares("web", "clock"))
        told = "cart has sessionAffinity: ClientIP: each client stays with one endpoint."
        yield Phase("Affinity", told, self._count, self._pinned_and_seen)
        told = f"The process of {second} is killed. Nobody tells uproxy, the manifests still name it: it is passed by."
        yield Phase(f"{second} dies", told, self._kill, self._survived)
        told = f"{second} runs again. It was passed over for a moment after its failures; now it is tried, and trusted."
        yield Phase(f"{second} returns", told, self._revive, self._shares("web", "clock"))
        told = f"{third} is taken out of the manifests: no new request for it, but a connection that is open stays open."
        yield Phase(f"{third} is taken out", told, self._take_out, self._left_alone)
        told = f"{new} is added to the manifests: it gets its share."
        yield Phase(f"{new} is added", told, self._add, self._shares("web", "clock"))

    # What happens.

    async def _count(self) -> None:
        self.traffic.new_phase()

    async def _kill(self) -> None:
        victim = self.stage.backends[1]
        async with self.traffic.between_requests():
            await self._company.kill_backend(victim)
            self.state[victim.name] = "killed"
            self.traffic.new_phase()

    async def _revive(self) -> None:
        backend = self.stage.backends[1]
        await self._company.start_backend(backend)
        self.state[backend.name] = "ready"
        await self._until_served(backend.name, "is served again")

    async def _take_out(self) -> None:
        backend = self.stage.backends[2]
        self.held = await hold(self.traffic, self.stage, backend)
        self._tasks.append(asyncio.create_task(self.held.use()))
        self._manifests.take_out(backend.address)
        self.state[backend.name] = "not listed"
        await asyncio.sleep(PROMISED_SECONDS)
        self.traffic.new_phase()

    async def _add(self) -> None:
        newcomer = self.stage.newcomer
        self._manifests.add(newcomer.address)
        self.state[newcomer.name] = "ready"
        await self._until_served(newcomer.name, "answers")

    async def _until_served(self, backend: str, what: str) -> None:
        self.traffic.new_phase()
        try:
            seconds = await self.traffic.until_answered_by(backend, ("web", "clock"), RETURN_SECONDS)
        except TimeoutError:
            self._screen.note(f"{backend} is not asked within {RETURN_SECONDS:g} s")
        else:
            self._screen.note(f"{backend} {what} after {seconds * 1000:.0f} ms")
        self.traffic.new_phase()

    # What must be true.

    def _shares(self, *services: str) -> Callable[[Tally], Iterator[Check]]:
        def check(tally: Tally) -> Iterator[Check]:
            serving = [name for name, state in self.state.items() if state == "ready"]
            even = all(_even(tally, service, serving) for service in services)
            yield Check(f"{', '.join(services)}: {', '.join(serving)} have equal shares", even)

        return check

    def _pinned(self, tally: Tally) -> Iterator[Check]:
        found = [tally.backends_of("cart", client.name) for client in self.stage.clients]
        yield Check("cart: each client has one endpoint", all(len(backends) == 1 for backends in found))

    def _pinned_and_seen(self, tally: Tally) -> Iterator[Check]:
        yield from self._pinned(tally)
        if self.stage.seen_as:
            seen = all(tally.seen.get(client) == {address} for client, address in self.stage.seen_as.items())
            yield Check("endpoints see the clients' own addresses", seen)

    def _without(self, name: str, *services: str) -> Callable[[Tally], Iterator[Check]]:
        def check(tally: Tally) -> Iterator[Check]:
            found = [tally.by_backend(service) for service in services]
            yield Check(f"{', '.join(services)}: answered, never by {name}", all(one.total() and not one[name] for one in found))

        return check

    def _survived(self, tally: Tally) -> Iterator[Check]:
        yield from self._without(self.stage.backends[1].name, "web", "cart", "clock")(tally)
        yield from self._pinned(tally)

    def _left_alone(self, tally: Tally) -> Iterator[Check]:
        name = self.stage.backends[2].name
        kept = self.held is not None and self.held.answers > 0
        yield Check(f"the open connection to {name} goes on", kept)
        yield from self._without(name, "web", "cart", "clock")(tally)


def _even(tally: Tally, service: str, serving: list[str]) -> bool:
    answered = tally.by_backend(service)
    if not answered or set(answered) - set(serving):
        return False
    equal = answered.total() / len(serving)
    return all(abs(answered[name] - equal) <= max(2, UNEVEN * equal) for name in serving)
