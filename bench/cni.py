"""The CNI plugins next to the reference pair, request by request: `python -m bench cni`.

CPU time of a request's whole process tree and wall time, interleaved: every round makes each kind of request to every
subject in turn, so that what else the machine does meets all of them. Needs root.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median, quantiles
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bench.cni_run import PATH, Cost, Failed, Process, Site, Subject
from bench.entry import guarded
from bench.progress import Reporter
from bench.results import save
from cni_bridge import install, interpreter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT: Final = Path(__file__).resolve().parents[1]
OURS: Final = "ours"
EMPTY: Final = "-"
AT_ONCE: Final = 8
ROUND_SECONDS: Final = 3
"""What a round takes, more or less."""
VERSION: Final = "VERSION"
LONGEST_PAUSE: Final = 0.04
"""Seconds before a request, at random. Removing a link waits for grace periods of the kernel (RCU), each some ticks of 4 ms long: requests
that follow each other at once keep in step with them, and a plugin that asks 4 ms later waits 6 ms longer or shorter, always."""
FLOORS: Final = {"python3 -c pass": ("-c", "pass"), "python3 -IS -c pass": ("-IS", "-c", "pass")}
V4, DUAL = ("10.200.0.0/16",), ("10.201.0.0/16", "fd00:c9::/64")


class Case(NamedTuple):
    """One kind of network; verbs are asked for in order. pods: how many at once."""

    title: str
    verbs: tuple[str, ...] = ("ADD", "DEL")
    subnets: tuple[str, ...] = V4
    pods: int = 1
    keys: dict[str, Any] = {}  # noqa: RUF012 - never changed; a tuple of pairs would be read as less than it is


CASES: Final = {
    "v4": Case("IPv4"),
    "dual": Case("dual stack", subnets=DUAL),
    "masq": Case("masquerade", keys={"ipMasq": True}),
    "many": Case(f"{AT_ONCE} at once", pods=AT_ONCE),
    "status": Case("", verbs=("STATUS",), keys={"cniVersion": "1.1.0"}),
    "version": Case("", verbs=(VERSION,)),
}


class Sample(NamedTuple):
    """What one request cost, in seconds."""

    subject: str
    row: str
    round: int
    cpu: float
    wall: float


@dataclass
class Found:
    """All samples, and why some are missing, by subject and row. problem: why all that follow are."""

    subjects: list[Subject]
    samples: list[Sample] = field(default_factory=list)
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)
    problem: str = ""

    def of(self, subject: str, row: str) -> list[Sample]:
        """Give the samples of a subject in the order of the rounds; what an interpreter alone costs is compared with VERSION."""
        return [sample for sample in self.samples if (sample.subject, sample.row) == (subject, row)]


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench cni", description=__doc__)
    parser.add_argument("--rounds", type=int, default=60, help="how often each kind of request is made")
    parser.add_argument("--cases", default=",".join(CASES), help=f"some of {','.join(CASES)}")
    parser.add_argument("--python", default=_python(), help="the interpreter to install our plugins for")
    parser.add_argument("--quick", action="store_true", help="5 rounds: enough to see whether everything runs")
    options = parser.parse_args(argv)
    options.rounds = 5 if options.quick else options.rounds
    options.cases = options.cases.split(",")
    if options.rounds < 1:
        parser.error("--rounds: 1 or more")
    if set(options.cases) - set(CASES):
        parser.error(f"--cases: some of {','.join(CASES)}")
    return options


def _python() -> str:
    """Give the distribution's Python where it can run the plugins: that is what a node has."""
    try:
        return interpreter.find("/usr/bin/python3").path
    except interpreter.Unusable:
        return sys.executable


def peers() -> Iterator[Subject]:
    """Find the reference plugins: Debian's, and those that scripts/cni-binaries.sh built."""
    for folder in (Path("/usr/lib/cni"), ROOT / ".cache/debian/usr/lib/cni"):
        if (folder / "bridge").is_file():
            yield Subject("debian", "Go, Debian's", folder, "containernetworking-plugins of the distribution")
            break
    for folder in sorted((ROOT / ".cache/cni").glob("v*")):
        if (folder / "bridge").is_file() and (folder / "host-local").is_file():
            yield Subject(f"go{folder.name.replace('.', '')}", f"Go, {folder.name}", folder, "built here from its Go modules")


def installed(work: Path, python: str) -> Subject:
    """Install ours as a node has it. Raises interpreter.Unusable and install.Unsuitable."""
    found = interpreter.find(python)
    place = install.Place(str(work / "bin"), str(work / "lib"))
    install.install(place, found)
    return Subject(OURS, "cni_bridge", place.bin, f"Python {'.'.join(map(str, found.version))}, {found.path}")


def measure(options: argparse.Namespace, found: Found, work: Path, reporter: Reporter) -> None:
    """Make all requests, round by round; found has them even if one fails. Raises Failed, RuntimeError."""
    with Site(found.subjects, AT_ONCE, work / "stores") as site:
        for number in range(-1, options.rounds):  # the first one makes bridges and rules, and counts for nothing
            reporter.begin(f"round {number + 1} of {options.rounds}")
            for case in options.cases:
                _turn(site, found, case, number)
            for title, arguments in FLOORS.items():
                floor = Process([options.python, *arguments], {"PATH": PATH}, b"").end()
                _note(found, OURS, title, number, floor)
            if number >= 0:
                reporter.done(f"CNI plugins: round {number + 1} of {options.rounds}", ROUND_SECONDS)


def _turn(site: Site, found: Found, name: str, number: int) -> None:
    """Make the requests of a case to every subject, another one first each time."""
    case = CASES[name]
    first = number % len(found.subjects)
    for subject in found.subjects[first:] + found.subjects[:first]:
        for verb in case.verbs:
            row = f"{case.title} {verb}".strip()
            if (subject.name, row) in found.reasons:
                continue
            config = site.config(subject, name, case.subnets, case.keys)
            time.sleep(random.uniform(0, LONGEST_PAUSE))
            try:
                _note(found, subject.name, row, number, site.request(subject, verb, config, case.pods))
            except Failed as failure:
                if subject.name == OURS or verb != "STATUS":
                    raise
                found.reasons[subject.name, row] = str(failure)


def _note(found: Found, subject: str, row: str, number: int, cost: Cost) -> None:
    if number >= 0:
        found.samples.append(Sample(subject, row, number, *cost))


def table(found: Found) -> str:
    """Give everything as a Markdown table: a row per kind of request, and ours in relation to each peer."""
    ours, *others = found.subjects
    head = ["CPU / wall, ms", *(subject.title for subject in found.subjects), *(f"ours : {peer.title}" for peer in others)]
    rows = [head, ["---", *("---:" for _ in head[1:])]]
    for row in dict.fromkeys(sample.row for sample in found.samples):
        cells = [_cell(found.of(subject.name, row)) for subject in found.subjects]
        compared = VERSION if row in FLOORS else row
        ratios = [_ratios(found.of(ours.name, row), found.of(peer.name, compared)) for peer in others]
        rows.append([row, *cells, *ratios])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(samples: Sequence[Sample]) -> str:
    if not samples:
        return EMPTY
    return " / ".join(_spread([1000 * of(sample) for sample in samples]) for of in (_cpu, _wall))


def _cpu(sample: Sample) -> float:
    return sample.cpu


def _wall(sample: Sample) -> float:
    return sample.wall


def _spread(values: Sequence[float]) -> str:
    """Give the median and half the distance between the quartiles."""
    quarters = quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return f"{median(values):.1f} ±{(quarters[2] - quarters[0]) / 2:.1f}"


def _ratios(ours: Sequence[Sample], theirs: Sequence[Sample]) -> str:
    if not ours or not theirs:
        return EMPTY
    return " / ".join(f"{found:.2f}" for found in (ratio(ours, theirs, _cpu), ratio(ours, theirs, _wall), mean_ratio(ours, theirs)))


def ratio(ours: Sequence[Sample], theirs: Sequence[Sample], of: Callable[[Sample], float]) -> float:
    """Give the median of ours : theirs within each round: neighbours in time met the same machine."""
    other = {sample.round: of(sample) for sample in theirs}
    return median(of(sample) / other[sample.round] for sample in ours if sample.round in other)


def mean_ratio(ours: Sequence[Sample], theirs: Sequence[Sample]) -> float:
    """Give ours : theirs of the wall time that all of them together took: what a poll costs now and then is in it, unlike in a median."""
    return mean(map(_wall, ours)) / mean(map(_wall, theirs))


def notes(found: Found, rounds: int) -> Iterator[str]:
    """Say what the figures are, and what is missing."""
    yield f"Medians of {rounds} rounds, ± half the distance between the quartiles."
    yield "Ratios: CPU / wall / wall on average. The first two are medians of each round's own ratio, the third is of the sums."
    yield f"CPU is user and system time of the whole process tree. {AT_ONCE} at once: what one of them takes, wall as a share of the whole."
    yield f"What an interpreter takes to do nothing is compared with the peers' {VERSION}."
    yield from (f"{subject.title}: {subject.version}." for subject in found.subjects)
    for (name, row), reason in found.reasons.items():
        yield f"{row} of {name}: {reason}"


def estimate(options: argparse.Namespace) -> int:
    """Give the seconds that all of it takes, more or less: as many steps does the reporter count."""
    return ROUND_SECONDS * int(options.rounds)


def collect(options: argparse.Namespace, reporter: Reporter) -> Found:
    """Make all requests; found.problem says what kept some from being made, or from being compared. Raises RuntimeError without ours."""
    with tempfile.TemporaryDirectory(prefix="bench-cni-") as folder:
        work = Path(folder)
        work.chmod(0o755)
        reporter.begin("installing the CNI plugins")
        try:
            ours = installed(work, options.python)
        except (interpreter.Unusable, install.Unsuitable) as reason:
            raise RuntimeError(f"our plugins cannot be installed: {reason}") from reason
        found = Found([ours, *peers()])
        if not found.subjects[1:]:
            found.problem = "there are no reference plugins here: scripts/debian-tools.sh, scripts/cni-binaries.sh"
        try:
            measure(options, found, work, reporter)
        except (Failed, RuntimeError, OSError) as reason:
            found.problem = str(reason)
    return found


def section(found: Found, rounds: int) -> dict[str, Any]:
    """Give all of it as it is kept: the table as Markdown, and what it was made of."""
    text = "\n".join([table(found), "", *notes(found, rounds)])
    document = {"rounds": rounds, "load": os.getloadavg(), "subjects": [[*map(str, one)] for one in found.subjects]}
    return {"markdown": text, "reason": found.problem, **document, "runs": [sample._asdict() for sample in found.samples]}


def run(options: argparse.Namespace) -> int:
    """Measure and print everything; exit code 1 when a request failed or there is nothing to compare with."""
    try:
        with Reporter(estimate(options)) as reporter:
            found = collect(options, reporter)
    except RuntimeError as reason:
        print(f"bench cni: {reason}", file=sys.stderr)
        return 1
    kept = section(found, options.rounds)
    print(kept["markdown"])
    print(f"Raw figures: {save('cni', kept)}")
    if found.problem:
        print(f"bench cni: {found.problem}", file=sys.stderr)
    return 1 if found.problem else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    options = parse(argv)
    return guarded("bench cni", lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
