"""`python -m bench.scale`: uproxy with 1,000 and 10,000 Services from manifests.

How long until all are served, how long one change takes, memory, the longest pause of the event loop, and
what nft takes for such a table. The real `uproxy run` with nftables, on all CPUs. Needs root.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple

from bench.compare import interrupted
from bench.measurement import load_server
from bench.namespaces import Namespaces
from bench.processes import cpu_seconds, memory
from bench.progress import Reporter
from bench.results import save
from bench.scale_manifests import ENDPOINT_NETWORK, FORMATS, MOST, PORT, Manifests, new_endpoint, vip
from bench.subjects.base import name_of_endpoint
from bench.subjects.uproxy import METRICS, command, settings
from bench.topology import SERVER, Topology, end, start

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

START_SECONDS: Final = 300.0
CHANGE_SECONDS: Final = 20.0
PROBE_SECONDS: Final = 0.05
"""How long a probe waits for an answer: what is served answers in less than a millisecond."""
POLL_SECONDS: Final = 0.002
MEGABYTE: Final = 1e6
DESCRIPTORS: Final = 4096
"""Beside one per Service."""
