"""What a load has come to: as values, as JSON, and as a table with a histogram. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from bench.live.drawing import Marks, amount, bar, listing, span
from bench.live.latencies import Bar
from bench.live.tally import LOST

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.live.lane import Site
    from bench.live.schedule import Schedule

QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
WIDTH: Final = 40


class Summary(Struct, frozen=True, kw_only=True):
    """One load. sent = answered + failed + lost + cut_off, and sent + not_sent_busy + not_sent_late is all that was due.

    lost: datagrams without an answer in time. cut_off: under way when a signal came. not_sent_busy: all connections had one
    under way; not_sent_late: this program was too slow. seconds: how long units fell due. latency_us: from when a unit was
    due until its answer, of those answered. histogram: pairs of microseconds and how many took at most that, and more than in
    the pair before. addresses: of the target, those that were tried, or for udp those that could be.
    """

    kind: str
    target: str
    addresses: list[str]
    rate: float
    duration: float
    connections: int
    size: int
    expect: str
    interrupted: bool
    seconds: float
    rate_achieved: float
    sent: int
    answered: int
    failed: int
    lost: int
    cut_off: int
    not_sent_busy: int
    not_sent_late: int
    reasons: dict[str, int]
    statuses: dict[str, int]
    opened: int
    stray: int
    bytes_sent: int
    bytes_received: int
    latency_us: dict[str, int]
    histogram: list[Bar]

    @property
    def troubled(self) -> bool:
        """Whether anything had no right answer."""
        return bool(self.failed or self.lost)


def summary(site: Site, schedule: Schedule, elapsed: float, *, interrupted: bool) -> Summary:
    """Sum up. elapsed: seconds until the last answer, or until the signal."""
    options, tally = site.options, site.tally
    reasons = dict(tally.reasons)
    lost = reasons.pop(LOST, 0) if options.kind == "udp" else 0
    seconds = min(elapsed, options.duration) if interrupted else options.duration
    return Summary(
        kind=options.kind,
        target=str(options.target),
        addresses=[address.host for address in site.addresses],
        rate=options.rate,
        duration=options.duration,
        connections=options.connections,
        size=options.size,
        expect="status" if options.kind == "http" else options.expect,
        interrupted=interrupted,
        seconds=round(seconds, 3),
        rate_achieved=round(tally.sent / seconds, 3) if seconds else 0.0,
        sent=tally.sent,
        answered=tally.answered,
        failed=sum(reasons.values()),
        lost=lost,
        cut_off=tally.under_way,
        not_sent_busy=schedule.busy,
        not_sent_late=schedule.late,
        reasons=reasons,
        statuses=dict(tally.statuses),
        opened=tally.opened,
        stray=tally.stray,
        bytes_sent=tally.bytes_sent,
        bytes_received=tally.bytes_received,
        latency_us=_latencies(site),
        histogram=tally.latencies.bars(),
    )


def as_json(found: Summary) -> str:
    """Write it as one line."""
    return msgspec.json.encode(found).decode()


def as_text(found: Summary, style: Marks) -> str:
    """Write it as a table, a histogram, and what should be known of it."""
    rows = list(_rows(found))
    width = max(len(title) for title, _text in rows)
    parts = ["\n".join(f"{title:<{width}}  {text}" for title, text in rows)]
    if found.histogram:
        parts.append("\n".join(_drawn(found.histogram, style)))
    return "\n\n".join([*parts, *_notes(found)])


def _latencies(site: Site) -> dict[str, int]:
    late = site.tally.latencies
    if not late.count:
        return {}
    quantiles = {name: late.quantile(share) for name, share in QUANTILES.items()}
    return {"min": late.least, "mean": round(late.total / late.count), **quantiles, "max": late.greatest}


def _rows(found: Summary) -> Iterator[tuple[str, str]]:
    yield found.kind, _place(found)
    yield "rate", f"{found.rate_achieved:.1f}/s of {found.rate:g}/s, {found.seconds:g} s"
    yield "connections", f"{found.connections} at a time, {found.opened} opened"
    yield "sent", f"{found.sent}"
    yield "answered" if found.expect != "none" else "taken", _share(found.answered, found.sent)
    yield "failed", _share(found.failed, found.sent) + (f": {listing(found.reasons)}" if found.reasons else "")
    if found.kind == "udp":
        yield "lost", _share(found.lost, found.sent)
    if found.cut_off:
        yield "cut off", f"{found.cut_off} under way at the interruption"
    if found.not_sent_busy or found.not_sent_late:
        yield "not sent", f"{found.not_sent_busy + found.not_sent_late}"
    if found.stray:
        yield "stray", f"{found.stray} answers that nobody waited for"
    if found.statuses:
        yield "statuses", listing(found.statuses)
    yield "bytes", f"{amount(found.bytes_sent)} sent, {amount(found.bytes_received)} received"
    for name, value in found.latency_us.items():
        yield "p99.9" if name == "p999" else name, span(value)


def _place(found: Summary) -> str:
    tried = found.addresses[:1] if found.kind == "udp" else found.addresses
    return found.target if tried[0] in found.target else f"{found.target} ({', '.join(tried)})"


def _share(count: int, total: int) -> str:
    return f"{count} ({100 * count / total:.3g} %)" if count else "0"


def _drawn(histogram: list[Bar], style: Marks) -> Iterator[str]:
    top, digits = max(found.values for found in histogram), max(len(f"{found.values}") for found in histogram)
    edge = max(len(span(found.upto)) for found in histogram)
    for found in histogram:
        yield f"up to {span(found.upto):>{edge}}  {found.values:>{digits}}  {bar(found.values / top, WIDTH, style)}".rstrip()


def _notes(found: Summary) -> Iterator[str]:
    if found.troubled and not found.answered and not found.statuses:
        yield f"Nothing answered at {_place(found)}: {listing(found.reasons) or LOST}."
        if found.kind == "udp" and found.addresses[1:]:
            yield f"All went to {found.addresses[0]}: give {' or '.join(found.addresses[1:])} in place of the name to try that."
    if found.not_sent_busy:
        yield (
            f"The target did not keep up: {found.not_sent_busy} units were not sent, for all {found.connections} connections were waiting. "
            "More --connections, or a lower --rate."
        )
    if found.not_sent_late:
        yield f"This program did not keep up: {found.not_sent_late} units were not sent. A lower --rate, or a less busy machine."
