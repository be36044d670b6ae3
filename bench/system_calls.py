"""How often each system call is made while a load counts: perf's tracepoints, or strace where there is no perf.

perf counts inside the kernel and hardly slows anything down; under strace a proxy is so much slower that more is ready whenever
it looks, so that it makes fewer calls per unit than it would. Knows processes, nothing of loads or proxies.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from bench.measurement import Failed
from bench.programs import environment, find

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import IO

ATTACH_SECONDS: Final = 20.0
EVENTS: Final = "syscalls:sys_enter_"
ALL: Final = "raw_syscalls:sys_enter"
OTHER: Final = "other"
_NAMED = """
    accept4 bind brk clock_gettime clock_nanosleep close connect epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd2 fcntl futex
    getpeername getpid getppid getrusage getsockname getsockopt gettid io_uring_enter ioctl listen madvise mmap mprotect munmap
    nanosleep pipe2 poll ppoll read readv recvfrom recvmmsg recvmsg rt_sigprocmask rt_sigreturn sched_yield sendfile64 sendmmsg
    sendmsg sendto setsockopt shutdown socket splice tgkill timerfd_settime write writev
"""
NAMED: Final = frozenset(_NAMED.split())
"""Those that perf counts by name, where the kernel has them: the rest is one number. Each takes 35 ms to be let go of."""
TRACING: Final = (Path("/sys/kernel/tracing/events/syscalls"), Path("/sys/kernel/debug/tracing/events/syscalls"))
_LINE = re.compile(r"^(?:\[pid +\d+\] )?(\d+\.\d+) (\w+)\(")
_ATTACHED = re.compile(r"strace: Process \d+ attached", re.MULTILINE)


class Tracer(Protocol):
    """Counts the system calls of processes that run already, and of their threads."""

    def counting(self) -> AbstractContextManager[None]:
        """Count while entered; raises Failed."""

    def counts(self) -> Counter[str]:
        """End and give the counts by name; raises Failed with the tool's own words."""

    def close(self) -> None:
        """End; repeating it is no error."""


def tools() -> list[str]:
    """Name what can count here, the best first: none where neither perf nor strace is installed and allowed."""
    return [name for name, probe in _PROBES.items() if _works(name, probe)]


@contextmanager
def attached(name: str, pids: Sequence[int]) -> Iterator[Tracer]:
    """Attach a tool to processes until left; raises Failed when it does not attach."""
    tracer = TOOLS[name](pids)
    try:
        yield tracer
    finally:
        tracer.close()


class Perf:
    """perf stat with a counter for all system calls and one for each that has a name here, switched on and off through two pipes.

    They are one group: all of a thread's counters are switched at the same moment, else the first would count more than the last.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        control, self._control = os.pipe()
        self._answers, answers = os.pipe()
        switches = ["--delay", "-1", "--control", f"fd:{control},{answers}"]
        together = ",".join([ALL, *_named_events()])
        what = ["--event", f"{{{together}}}", "--pid", ",".join(map(str, pids))]
        argv = ["stat", "--field-separator", ",", *switches, *what]
        try:
            self._process = _start("perf", argv, subprocess.PIPE, (control, answers))
        finally:
            os.close(control)
            os.close(answers)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count while entered; raises Failed."""
        self._say("enable")
        yield
        self._say("disable")

    def counts(self) -> Counter[str]:
        """End and give the counts by name; raises Failed."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=ATTACH_SECONDS)
        return by_perf(_pipe(self._process).read().decode())

    def close(self) -> None:
        """End."""
        for descriptor in (self._control, self._answers):
            with suppress(OSError):
                os.close(descriptor)
        _end(self._process)

    def _say(self, word: str) -> None:
        with suppress(BrokenPipeError):
            os.write(self._control, f"{word}\n".encode())
        ready, _, _ = select.select([self._answers], [], [], ATTACH_SECONDS)
        if not ready or not os.read(self._answers, 16):
            self._process.kill()
            words = _pipe(self._process).read().decode(errors="replace").strip().splitlines()
            raise Failed(f"perf: {words[0] if words else 'it does not answer'}")


class Strace:
    """strace, which writes a line with the time of each call to a file without a name; those made meanwhile are counted at the end."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        argv = ["-f", "-ttt", "-s", "0", "-e", "verbose=none", "-e", "signal=none", *(part for pid in pids for part in ("-p", str(pid)))]
        self._process = _start("strace", argv, self._output.fileno())
        self._window = 0.0, 0.0
        self._wait(len(pids))

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count while entered."""
        begin = time.time()
        yield
        self._window = begin, time.time()

    def counts(self) -> Counter[str]:
        """End and give the counts by name."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(timeout=ATTACH_SECONDS)
        return by_strace(self._text(), *self._window)

    def close(self) -> None:
        """End."""
        _end(self._process)
        self._output.close()

    def _wait(self, processes: int) -> None:
        deadline = time.monotonic() + ATTACH_SECONDS
        while len(_ATTACHED.findall(self._text())) < processes:
            if self._process.poll() is not None or time.monotonic() > deadline:
                words = self._text().strip().splitlines()
                self.close()
                raise Failed(words[0] if words else "strace does not attach")
            time.sleep(0.01)

    def _text(self) -> str:
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace")


def by_perf(text: str) -> Counter[str]:
    """Take counts from what perf stat prints: value,unit,event,...; raises Failed where an event could not be counted."""
    found: Counter[str] = Counter()
    for value, _unit, event, *_rest in (line.split(",", 3) for line in text.splitlines() if line.count(",") > 2):
        if not value.isdigit():
            raise Failed(f"perf: {event}: {value}")
        found[event.removeprefix(EVENTS)] = int(value)
    found[OTHER] = found.pop(ALL, 0) - found.total()
    return +found


def by_strace(text: str, begin: float, end: float) -> Counter[str]:
    """Count the calls that began between two times (seconds since the epoch); where one is resumed it counts no second time."""
    lines = (_LINE.match(line) for line in text.splitlines())
    return Counter(line[2] for line in lines if line and begin <= float(line[1]) < end)


TOOLS: Final[dict[str, Callable[[Sequence[int]], Tracer]]] = {"perf": Perf, "strace": Strace}
_PROBES: Final = {"perf": ["stat", "--event", ALL, "true"], "strace": ["-o", "/dev/null", "true"]}


def _named_events() -> list[str]:
    known = (path.name for folder in TRACING for path in folder.glob("sys_enter_*"))
    return sorted({f"syscalls:{name}" for name in known if name.removeprefix("sys_enter_") in NAMED})


def _works(name: str, probe: Sequence[str]) -> bool:
    program = find(name)
    if program is None:
        return False
    done = subprocess.run([program, *probe], capture_output=True, check=False, env={**os.environ, **environment(program)})
    return done.returncode == 0


def _start(name: str, argv: Sequence[str], stderr: int, descriptors: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    program = find(name)
    if program is None:
        raise Failed(f"{name} is not installed")
    prefix = ["setpriv", "--pdeathsig", "KILL"]
    variables = {**os.environ, **environment(program)}
    return subprocess.Popen(
        [*prefix, program, *argv], stdout=subprocess.DEVNULL, stderr=stderr, pass_fds=descriptors, env=variables, start_new_session=True
    )


def _pipe(process: subprocess.Popen[bytes]) -> IO[bytes]:
    if process.stderr is None:
        raise ValueError("the process was started without this pipe")
    return process.stderr


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill it if it runs still: the kernel lets go of what was traced."""
    process.kill()
    process.wait()
    if process.stderr:
        process.stderr.close()
