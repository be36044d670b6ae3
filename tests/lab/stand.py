"""Everything a test needs in one value: the lab, endpoints in every host, a folder of Services, uproxy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, Unpack

from tests.lab import client
from tests.lab.manifests import Options, Served, Services, Target, targets
from tests.lab.process import Uproxy
from tests.lab.servers import Servers
from tests.lab.topology import Lab
from tests.lab.wiring import ADDRESSES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from tests.lab.topology import Host


class Stand:
    """A lab with endpoints that serve under their host's name on every host. A context manager."""

    def __init__(self, folder: Path) -> None:
        self.lab = Lab()
        self._settings = folder / "settings.yaml"
        self.services = Services(folder / "manifests")
        self.services.write_node(self.lab.node)
        self._started: list[Uproxy] = []
        self._servers = Servers([self.lab[name] for name in ADDRESSES])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        logs = [uproxy.log() for uproxy in self._started if uproxy.stop() is not None]
        self._servers.close()
        self.lab.close()
        assert "Traceback" not in "\n".join(logs), "\n".join(logs)

    @property
    def uproxy(self) -> Uproxy:
        """The uproxy that was started last."""
        return self._started[-1]

    def start(self, *flags: str, environment: Mapping[str, str] | None = None, prefix: Sequence[str] = ()) -> Uproxy:
        """Start uproxy on the node and wait until it is healthy."""
        started = self.launch(*flags, environment=environment, prefix=prefix)
        started.wait_healthy()
        return started

    def start_with(self, *settings: str) -> Uproxy:
        """Start uproxy with settings of its own, lines of YAML each; set() changes them while it runs."""
        self.set(*settings)
        return self.start("--config", str(self._settings))

    def set(self, *settings: str) -> None:
        """Write the settings, in one step as a deployment tool would."""
        staged = self._settings.with_suffix(".staged")
        staged.write_text("\n".join(("apiVersion: uproxy.io/v1alpha1", "kind: UproxyConfiguration", *settings)))
        staged.replace(self._settings)

    def launch(self, *flags: str, environment: Mapping[str, str] | None = None, prefix: Sequence[str] = ()) -> Uproxy:
        """Start uproxy on the node without waiting for anything."""
        started = Uproxy(self.lab.node, *flags, manifests=self.services.folder, environment=environment, prefix=prefix)
        self._started.append(started)
        return started

    def serve(self, name: str, *to: Host, port: int = 80, **options: Unpack[Options]) -> Served:
        """Add a Service behind which these hosts are, and wait until it answers."""
        return self.await_served(self.services.add(name, targets(to), port, **options))

    def retarget(self, served: Served, to: Iterable[Target], **options: Unpack[Options]) -> None:
        """Give a Service other endpoints, without waiting for anything."""
        self.services.put(served, to, **options)

    def await_served(self, served: Served) -> Served:
        """Wait until a Service answers a pod on both families."""
        for family in (4, 6):
            client.poll(self.lab.pod, served.vip(family), served.port)
        return served

    def await_refused(self, served: Served) -> Served:
        """Wait until a Service refuses on both families."""
        for family in (4, 6):
            client.poll_refusal(self.lab.pod, served.vip(family), served.port)
        return served
