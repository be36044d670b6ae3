"""uproxy next to its peers, over network namespaces: `python -m bench run`.

Measures every workload through every subject in interleaved rounds, then counts system calls, then runs the other measurements
(scale, cluster, cni). Keeps raw runs as JSON beside a report as Markdown and one as HTML. Needs root.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.document import write
from bench.entry import USAGE_ERROR, guarded
from bench.matrix import SECTIONS, everything, only
from bench.progress import Reporter
from bench.report import markdown
from bench.report_command import write_page
from bench.results import FOLDER, new_path
from bench.subjects import DEFAULT, SUBJECTS
from bench.suite import Plan, Suite
from bench.topology import Topology
from bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.document import Document
    from bench.matrix import Matrix


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; options.matrix is what it names."""
    parser = argparse.ArgumentParser(prog="python -m bench run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the main workloads for a second, once: enough to see whether everything runs")
    globs = 'globs of "subject/workload", or of a subject, a workload or a section alone'
    parser.add_argument("--only", metavar="GLOB,...", type=_names, help=f"{globs}: {', '.join(SECTIONS)}")
    parser.add_argument("--subjects", type=_names, help=f"some of {','.join(SUBJECTS)}; usually {','.join(DEFAULT)}")
    parser.add_argument("--workloads", type=_names, help=f"some of {','.join(WORKLOADS)}")
    parser.add_argument("--families", type=_names, default=["4"], help="4, 6 or 4,6")
    parser.add_argument("--rounds", type=int, help="3; with --quick 1")
    parser.add_argument("--seconds", type=float, help="of each measurement: 3; with --quick 1")
    parser.add_argument("--system-calls", action=argparse.BooleanOptionalAction, help="count them in a run of their own; with --quick not")
    sections = parser.add_mutually_exclusive_group()
    sections.add_argument("--control-plane", action="store_true", default=None, help=f"include {', '.join(SECTIONS)} whatever is chosen")
    sections.add_argument("--without-control-plane", action="store_false", dest="control_plane", help="leave them out")
    parser.add_argument("--output", metavar="FOLDER", type=Path, default=FOLDER, help="where JSON and reports are kept")
    options = parser.parse_args(argv)
    _complete(parser, options)
    return options


def _complete(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Fill in what follows from other options."""
    for flag, known in (("subjects", SUBJECTS), ("workloads", WORKLOADS), ("families", ("4", "6"))):
        unknown = [name for name in getattr(options, flag) or () if name not in known]
        if unknown:
            parser.error(f"--{flag}: {', '.join(unknown)} is none of {', '.join(known)}")
    options.rounds = (1 if options.quick else 3) if options.rounds is None else options.rounds
    options.seconds = (1.0 if options.quick else 3.0) if options.seconds is None else options.seconds
    if options.rounds < 1 or not 0 < options.seconds <= 3600:
        parser.error("--rounds: 1 or more; --seconds: more than 0, at most 3600")
    if options.system_calls is None:
        options.system_calls = not options.quick
    try:
        options.matrix = _matrix(options)
    except ValueError as reason:
        parser.error(f"--only: {reason}")


def _matrix(options: argparse.Namespace) -> Matrix:
    """Give the cells that the command line names; raises ValueError."""
    patterns: list[str] = options.only or []
    named = [name for name in SUBJECTS if name not in DEFAULT and any(pattern.partition("/")[0] == name for pattern in patterns)]
    workloads = options.workloads or [name for name, workload in WORKLOADS.items() if workload.quick or patterns or not options.quick]
    subjects = options.subjects or [*DEFAULT, *named]
    chosen = everything(subjects, workloads, [int(family) for family in options.families], SECTIONS)
    if patterns:
        chosen = only(chosen, patterns)
    elif options.control_plane is None and (options.subjects or options.workloads):
        chosen = chosen._replace(sections=())
    if options.control_plane is None:
        return chosen
    return chosen._replace(sections=SECTIONS if options.control_plane else ())


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def run(options: argparse.Namespace) -> int:
    """Run the suite and keep what comes out, also when it is interrupted; exit code 2 where it cannot begin."""
    try:
        path = new_path("run", datetime.now(tz=UTC), options.output)
        with Topology():
            pass
    except (OSError, RuntimeError) as error:
        print(f"bench run: {error}", file=sys.stderr)
        return USAGE_ERROR
    with tempfile.TemporaryDirectory(prefix="bench-") as work:
        plan = Plan(options.matrix, options.rounds, options.seconds, options.quick, options.system_calls, Path(work))
        suite = Suite(plan, partial(_keep, path))
        try:
            with Reporter(suite.steps()) as reporter:
                suite.run(reporter)
        finally:
            suite.keep()
            final_words(suite.document, path)
    return 0


def final_words(document: Document, path: Path) -> None:
    """Print the report and write it beside the raw runs, as Markdown and as HTML; name the files."""
    if not path.exists():
        print("Nothing has been measured.")
        return
    text = markdown(document)
    print(text)
    report = path.with_suffix(".md")
    report.write_text(text)
    print(f"Raw runs: {path}\nReport: {report}", flush=True)
    plots = path.with_suffix(".html")
    try:
        write_page(document, plots)
    except ImportError as error:  # plots need what nothing else needs: without it there are figures still
        print(f"No plots: {error}")
        return
    print(f"With plots: {plots}")


def _keep(path: Path, document: Document) -> None:
    if document.runs or document.system_calls or document.sections:
        write(document, path)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    options = parse(argv)
    return guarded("bench run", lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
