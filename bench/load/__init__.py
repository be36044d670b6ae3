"""The load of the measurements: one server for all of them, and one generator per kind of traffic.

Python, so that they run wherever uproxy does; an epoll loop without asyncio, so that they are not what limits:
next to a proxy on the other CPU it is the proxy that is busy all the time (each result says how busy).
Where a C compiler is, native.py puts a program in C in the place of the server and of the kinds whose units are small.

Why not wrk, iperf3 and sockperf: wrk speaks HTTP alone and closes no connection, iperf3 opens a control connection of its own
and counts one UDP flow per process, sockperf keeps to few flows: each needs another server behind the proxy and another
way to read its figures. Here all loads share one CPU, one clock and one definition of a latency, for TCP and for UDP.
"""
