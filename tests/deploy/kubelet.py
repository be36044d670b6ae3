"""The part of a kubelet that makes a container of a Pod: environment, files, token; podman does the rest.

Owns a folder that stands for the node's: below it are the mounts. A container gets what tests/deploy/image.py gives
every one; that the Pod asks for the same is checked here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.deploy import image
from tests.deploy.image import Container

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cluster.control_plane import ControlPlane
    from tests.lab.topology import Host

Document = dict[str, Any]

ACCOUNT_FOLDER: Final = "/var/run/secrets/kubernetes.io/serviceaccount"


@dataclass(frozen=True)
class Kubelet:
    """The kubelet of a host whose Node has the host's name. folder: where hostPaths and other volumes are, by name."""

    control_plane: ControlPlane
    host: Host
    folder: Path

    def prepare(self, pod: Document) -> Callable[[], Container]:
        """Make all that the Pod's only container needs, and give what starts it, also when the API server is away."""
        (container,) = pod["spec"]["containers"]
        context = container["securityContext"]
        assert (context["capabilities"], context["runAsUser"]) == ({"drop": ["ALL"], "add": list(image.CAPABILITIES)}, 0)
        assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)
        assert pod["spec"]["hostNetwork"] is True
        entry_point, *arguments = container["command"]
        assert [entry_point] == image.inspect()["Config"]["Entrypoint"]
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        mounts = {each["mountPath"]: self._volume(pod, volumes[each["name"]]) for each in container["volumeMounts"]}
        writable = tuple(each["mountPath"] for each in container["volumeMounts"] if not each.get("readOnly"))
        mounts[ACCOUNT_FOLDER] = self._account(pod)
        environment = self._environment(pod, container)
        return lambda: Container(self.host, *arguments, mounts=mounts, environment=environment, writable=writable)

    def state(self, volume: str) -> Path:
        """Give the folder on the node behind a hostPath."""
        return self.folder / volume

    def _volume(self, pod: Document, volume: Document) -> Path:
        """Make what is mounted. A hostPath's folder is made as DirectoryOrCreate says: root's, 0755."""
        folder = self.folder / str(volume["name"])
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        if "configMap" in volume:
            data = self._config_map(pod, volume["configMap"]["name"])
            for item in volume["configMap"]["items"]:
                (folder / item["path"]).write_text(data[item["key"]], encoding="utf-8")
        else:
            assert volume["hostPath"]["type"] == "DirectoryOrCreate"
        return folder

    def _account(self, pod: Document) -> Path:
        """Get a token for the Pod's ServiceAccount."""
        admin, namespace = self.control_plane.admin, pod["metadata"]["namespace"]
        path = admin.path("ServiceAccount", namespace, pod["spec"]["serviceAccountName"])
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        folder = self.folder / "service-account"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "token").write_text(admin.request("POST", f"{path}/token", request)["status"]["token"], encoding="utf-8")
        (folder / "namespace").write_text(namespace, encoding="utf-8")
        self.control_plane.authority.write(folder / "ca.crt")
        return folder

    def _environment(self, pod: Document, container: Document) -> dict[str, str]:
        """Give the variables: first those of Service default/kubernetes, which every container has."""
        cluster_ip = self.control_plane.admin.get("Service", "kubernetes", "default")["spec"]["clusterIP"]
        given = {"KUBERNETES_SERVICE_HOST": cluster_ip, "KUBERNETES_SERVICE_PORT": "443", "KUBERNETES_PORT_443_TCP_ADDR": cluster_ip}
        for each in container["env"]:
            source = each["valueFrom"]
            if "fieldRef" in source:
                assert source["fieldRef"]["fieldPath"] == "spec.nodeName"
                given[each["name"]] = self.host.name
            else:
                reference = source["configMapKeyRef"]
                given[each["name"]] = self._config_map(pod, reference["name"])[reference["key"]]
        return given

    def _config_map(self, pod: Document, name: str) -> dict[str, str]:
        return dict(self.control_plane.admin.get("ConfigMap", name, pod["metadata"]["namespace"])["data"])
