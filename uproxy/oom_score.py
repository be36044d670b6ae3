"""How willingly the kernel kills this process when memory runs out: /proc/self/oom_score_adj (proc_pid_oom_score_adj(5)).

Owns writing it. A node on which that is not permitted is served all the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from uproxy.log import Log

FILE: Final = Path("/proc/self/oom_score_adj")


def adjust(score: int | None, log: Log, file: Path = FILE) -> None:
    """Write the score, from -1000 to 1000; None leaves it alone. A warning says why it could not be done."""
    if score is None:
        return
    try:
        file.write_text(str(score), encoding="ascii")
    except OSError as error:
        log.warning("oom_score_adj_refused", score=score, reason=error.strerror or error, remedy="less than before needs CAP_SYS_RESOURCE")
