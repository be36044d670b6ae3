"""The load of the measurements: one server for all of them, and one closed-loop generator per kind of traffic.

Python, so that they run wherever uproxy does; an epoll loop without asyncio, so that they are not what limits:
next to a proxy on the other CPU it is the proxy that is busy all the time (each result says how busy).
"""
