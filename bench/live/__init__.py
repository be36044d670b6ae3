"""Load against any address of one's own: `python -m bench load tcp|udp|http ADDRESS`.

Open loop: units fall due at a given rate, whatever the target does, and each latency counts from the due time. The
rate is a limit as much as a goal. What decides (schedule, tally, latencies, options, summary) does no I/O.
"""
