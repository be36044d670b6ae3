"""Asks this container's uproxy whether it lives: the exit code is what HEALTHCHECK wants, 0 or 1.

The image has no curl. The address is the one that UPROXY_HEALTHZ_BIND_ADDRESS gives, else uproxy's default.
"""
# ruff: noqa: INP001, T201 - a program of the image, in no package; what it prints is kept with the container's health

import http.client
import os
import sys

PATIENCE = 4.0
"""Seconds: less than HEALTHCHECK's own limit, so that the reason is seen."""


def main() -> int:
    """Ask once, say what came, give the exit code."""
    host, _, port = (os.environ.get("UPROXY_HEALTHZ_BIND_ADDRESS") or "127.0.0.1:10256").rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]") or "127.0.0.1", int(port), timeout=PATIENCE)
    try:
        connection.request("GET", "/livez")
        answer = connection.getresponse()
        print(answer.status, answer.read().decode(errors="replace").strip())
    except (OSError, http.client.HTTPException) as error:
        print(error)
        return 1
    return int(answer.status != http.HTTPStatus.OK)


if __name__ == "__main__":
    sys.exit(main())
