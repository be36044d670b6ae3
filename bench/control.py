"""What a whole run measures beside packets: the control plane from manifests, from an API server, and the CNI plugins.

Owns which of them there are and how each is asked for; their commands (bench scale, cluster, cni) print the same by themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bench import cluster, cni, scale
from bench.progress import Reporter
from tests.cluster.binaries import missing

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Sequence


class Part(NamedTuple):
    """One of the measurements. reason: why it cannot run here, else empty; estimate: seconds, more or less."""

    title: str
    parse: Callable[[Sequence[str]], argparse.Namespace]
    reason: Callable[[], str]
    estimate: Callable[[argparse.Namespace], int]
    collect: Callable[[argparse.Namespace, Reporter], dict[str, Any]]


def _nothing_missing() -> str:
    return ""


def _scale(options: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    return scale.collect(options, reporter).section()


def _cluster(options: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    comparison = cluster.Comparison(options)
    comparison.run(reporter)
    return comparison.section()


def _cni(options: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    return cni.section(cni.collect(options, reporter), options.rounds)


PARTS: Final[dict[str, Part]] = {
    "scale": Part("Services from manifests", scale.parse, _nothing_missing, scale.estimate, _scale),
    "cluster": Part(
        "Services from an API server", cluster.parse, missing, lambda options: cluster.Comparison(options).estimate, _cluster
    ),
    "cni": Part("CNI plugins", cni.parse, _nothing_missing, cni.estimate, _cni),
}
"""By name, in the report's order."""


class Aside(Reporter):
    """Says within a run what one of them has to say. Its own steps count for nothing: the run knows how many of its own it takes."""

    def __init__(self, run: Reporter) -> None:
        self._run = run

    def begin(self, what: str) -> None:
        """Say what is being measured now."""
        self._run.begin(what)

    def going(self, what: str) -> None:
        """Say how far it is."""
        self._run.going(what)

    def done(self, what: str, steps: int = 0) -> None:  # noqa: ARG002 - as the class says
        """Say what came out."""
        self._run.done(what, 0)

    def left_out(self, what: str, steps: int = 0) -> None:  # noqa: ARG002 - as the class says
        """Say why something is not measured."""
        self._run.left_out(what, 0)

    def more(self, steps: int) -> None:
        """Do nothing, as the class says."""


def estimate(name: str, *, quick: bool) -> int:
    """Give the seconds that one of them takes, more or less."""
    return PARTS[name].estimate(_options(PARTS[name], quick=quick))


def sections(names: Iterable[str], quick: bool, reporter: Reporter) -> dict[str, dict[str, Any]]:  # noqa: FBT001 - the run's own option
    """Measure these, one after the other, and give what Document.sections keeps of each, by name.

    Each has at least title, markdown (a table and notes), reason (why some of it is missing; else empty) and runs (as they were
    measured: seconds and bytes). Raises OSError or RuntimeError when there is nothing to keep.
    """
    return {name: _section(PARTS[name], quick=quick, reporter=Aside(reporter)) for name in names}


def _section(part: Part, *, quick: bool, reporter: Reporter) -> dict[str, Any]:
    about: dict[str, Any] = {"title": part.title, "markdown": "", "reason": part.reason(), "runs": []}
    return about if about["reason"] else about | part.collect(_options(part, quick=quick), reporter)


def _options(part: Part, *, quick: bool) -> argparse.Namespace:
    return part.parse(["--quick"] if quick else [])
