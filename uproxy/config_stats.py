"""What became of changes of the configuration file: integers and names, written by the watch, read by the metrics.

Owns nothing but the numbers.
"""

from __future__ import annotations


class ConfigStats:
    """reloads: changed files, by result: in force as a whole, in part waiting for the next start, or wrong.

    pending: the settings that wait for it. is_refused: the file is wrong now.
    """

    def __init__(self) -> None:
        self.reloads = {"applied": 0, "pending": 0, "refused": 0}
        self.pending: tuple[str, ...] = ()
        self.is_refused = False
