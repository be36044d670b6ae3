"""Writes docs/configuration.md and docs/kube-proxy-configuration.md from the code, or checks them.

The first: settings, defaults and docstrings of uproxy/config.py, flags, environment. The second: the table of
uproxy/kube_proxy_fields.py. `--write` brings the files up to date, `--check` exits 1 when one is not.
"""
from __future__ import annotations

import ast
import inspect
import json
import sys
import textwrap
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from uproxy import config
from uproxy.cli import OWN_FLAGS
from uproxy.config_documents import API_VERSION, KIND
from uproxy.config_file import ENVIRONMENT
from uproxy.config_rules import Duration
from uproxy.config_watch import LIVE
from uproxy.kube_proxy_config import ALSO, DERIVED
from uproxy.kube_proxy_fields import FIELDS, Field

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"

INTRODUCTION: Final = f"""\
# Configuration

Each setting comes from the first of these that says something about it:

1. a flag of `uproxy run`: uproxy's own, or one of kube-proxy's
2. the document of kind `{KIND}` in the file of `--config`
3. the document of kind `KubeProxyConfiguration` there: [kube-proxy-configuration.md](kube-proxy-configuration.md)
4. the environment
5. its default

```yaml
apiVersion: {API_VERSION}
kind: {KIND}
manifests: /etc/uproxy/manifests
nodePortAddresses: [192.168.0.0/16]
tcp:
  connectTimeouts: [250ms, 500ms, 1s]
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clusterCIDR: 10.244.0.0/16
```

What a setting may not be is said in one line that names the flag, or the file, document and field, and `uproxy` exits with 2. So
is a field of `{KIND}` that does not exist, and a file with neither of the two documents. Documents of other kinds beside
them are passed over with a warning.

`uproxy run --write-config-to FILE` with any other flags writes out all settings that are in force with them, as both documents,
and exits. A running process shows the same on `metricsBindAddress`, path `/configz`, as JSON.

Durations are written as Go writes them: `250ms`, `30s`, `1h30m`. This page is made from the code by `make docs`.

## When the file changes

uproxy notices within seconds that the file was written, replaced, or changed with its ConfigMap (not where a ConfigMap is mounted by
`subPath`: Kubernetes does not update those), and reads all settings anew:

* Settings marked "at once" are applied (`configuration_applied`). Open connections go on with what they began with.
* The rest waits for the next start (`configuration_pending`, `uproxy_config_pending_restart{{setting}}`): it could not be changed without
  closing listeners, or is needed only at the start.
* A file that is wrong, or gone, changes nothing (`configuration_refused`, `uproxy_config_refused`).

kube-proxy ends instead. With `--exit-on-config-change` uproxy does so too: it drains, as after SIGTERM, and exits with 1.
"""
KUBE_PROXY_INTRODUCTION: Final = """\
# kube-proxy's configuration, and what becomes of it here

The file of kube-proxy's `--config` is one for uproxy's `--config` as it stands: a document of kind `KubeProxyConfiguration`, version
`kubeproxy.config.k8s.io/v1alpha1`, alone or with a [`UproxyConfiguration`](configuration.md) beside it, which is stronger. kube-proxy's
flags are flags of `uproxy run`. What is given and has no effect is named in one warning each (`configuration_passed_over`), unless it
is kube-proxy's default or zero: programs write out every field. Validation is kube-proxy's: a wrong value is an error even where the
field has no effect.

| verdict | |
|---|---|
| Y | means the same |
| R | means something near it |
| A | accepted, without effect |
| N | accepted, and has no meaning here |

Different from kube-proxy on purpose:

* A flag wins over the file, whichever flag it is. kube-proxy passes over most flags when there is `--config`.
* `250ms` for `udpIdleTimeout` is taken for kube-proxy's former default, not for a wish.
* What is unset gets [uproxy's default](configuration.md), which is not always kube-proxy's. The column shows kube-proxy's.
* A changed file is [applied at once](configuration.md#when-the-file-changes) as far as that goes; `--exit-on-config-change` is
  kube-proxy's way.

And the same as there: what only a strict reader objects to, a field that does not exist or that is there twice, is named in a warning,
and the rest counts.

This page is made from the code by `make docs`.

## Fields and flags
"""
KUBE_PROXY_COMMANDS: Final = """
## Flags that are not settings

| flag | verdict | here |
|---|---|---|
| `--config` | Y | the file with the documents; it is followed while uproxy runs |
| `--write-config-to` | Y | write all settings to a file, as both documents, and exit; what is passed over is said on stderr |
| `--cleanup` | Y | remove all that any uproxy installed in the kernel, and exit, as `uproxy cleanup`; not what kube-proxy installed |
| `--init-only` | Y | check the settings, and exit: what kube-proxy does there is writing sysctls, and uproxy writes none |
| `--version` | Y | print the version, and exit |
| `-h`, `--help` | Y | show the flags that have an effect |

## What other modes have

`mode` and `--proxy-mode` may be empty or `userspace`. `iptables`, `ipvs`, `nftables` and `kernelspace` are refused by name: who asks for
one of them should notice that it is something else. `/proxyMode` says `userspace`. The groups `iptables`, `nftables` and
`ipvs` are read all the same, for what they say is often meant for any proxy: where two of them speak of one setting, the one that
stands first in the table counts, and the other is named in a warning if it differs.
"""
FLAG_OF: Final = {
    **{field.setting: "-v" if field.flag == "v" else f"--{field.flag}" for field in reversed(FIELDS) if field.setting and field.flag},
    **{setting: f"--{name.replace('_', '-')}" for name, setting in OWN_FLAGS.items()},
}
"""Setting -> the flag that names it best."""
HEXADECIMAL: Final = {"capture.deliverMark", "capture.sentMark"}


def configuration() -> str:
    """Make the page of settings: those of the top level, then one table per group."""
    settings = config.Config()
    groups = {name: value for name, value in _fields(settings) if isinstance(value, msgspec.Struct)}
    parts = [INTRODUCTION, "## General\n", _table(settings, "")]
    for name, group in groups.items():
        parts += [f"## {name}\n", inspect.cleandoc(type(group).__doc__ or "") + "\n", _table(group, f"{name}.")]
    return "\n".join(parts)


def kube_proxy_configuration() -> str:
    """Make the page of kube-proxy's fields and flags: one row each, in the table's order."""
    rows = ["| field | flag | kube-proxy's default | verdict | here |", "|---|---|---|---|---|", *map(_row, FIELDS)]
    return "\n".join([KUBE_PROXY_INTRODUCTION, *rows, KUBE_PROXY_COMMANDS])


def _row(field: Field) -> str:
    flag = f"`{'-' if len(field.flag) == 1 else '--'}{field.flag}`" if field.flag else ""
    path = f"`{field.path}`" if field.path else ""
    default = field.default if isinstance(field.default, str) else json.dumps(field.default)
    settings = ", ".join(f"`{name}`" for name in (field.setting, ALSO.get(field.path), DERIVED.get(field.path)) if name)
    meaning = (field.meaning + (f" ({settings})" if settings else "")).replace("|", "\\|")
    return f"| {path} | {flag} | {f'`{default}`' if default else 'empty'} | {field.verdict.name} | {meaning} |"


def _fields(settings: msgspec.Struct) -> Iterator[tuple[str, object]]:
    names = zip(settings.__struct_encode_fields__, settings.__struct_fields__, strict=True)
    return ((encoded, getattr(settings, name)) for encoded, name in names)


def _table(settings: msgspec.Struct, prefix: str) -> str:
    """Make the table of one group's own settings; groups within it are not part of it."""
    meanings = _docstrings(type(settings))
    rows = ["| setting | default | meaning | a change is applied |", "|---|---|---|---|"]
    for (name, value), field in zip(_fields(settings), settings.__struct_fields__, strict=True):
        if not isinstance(value, msgspec.Struct):
            meaning = " ".join([meanings[field], *_also(prefix + name)]).replace("|", "\\|")
            applied = "at once" if prefix + name in LIVE else "at the next start"
            rows.append(f"| `{prefix}{name}` | {_shown(prefix + name, value)} | {meaning} | {applied} |")
    return "\n".join(rows) + "\n"


def _docstrings(settings: type) -> dict[str, str]:
    """Give each field's docstring: the string below it; KeyError later on means that a field has none."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(settings))).body
    found = pairwise(body.body if isinstance(body, ast.ClassDef) else ())
    return {
        ast.unparse(field.target): " ".join(str(text.value.value).split())
        for field, text in found
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


def _also(setting: str) -> Iterator[str]:
    """Name the flag and the environment variable that set it."""
    if setting in FLAG_OF:
        yield f"Flag `{FLAG_OF[setting]}`."
    yield from (f"Environment `{name}`." for name, own in ENVIRONMENT.items() if own == setting)


def _shown(setting: str, value: object) -> str:
    """Show a value as a file spells it."""
    if isinstance(value, tuple):
        return f"`[{', '.join(_shown(setting, each).strip('`') for each in value)}]`"
    if isinstance(value, Duration):
        return f"`{value.text()}`"
    if value is None or isinstance(value, bool):
        return f"`{json.dumps(value)}`"
    if setting in HEXADECIMAL:
        return f"`{value:#06x}`"
    return f"`{value}`" if value != "" else "empty"


PAGES: Final = {"configuration.md": configuration, "kube-proxy-configuration.md": kube_proxy_configuration}


def main() -> str:
    """Write or check; gives what is wrong, empty if nothing is."""
    wanted = {DOCS / name: page() for name, page in PAGES.items()}
    if "--write" in sys.argv:
        for path, text in wanted.items():
            path.write_text(text, encoding="utf-8")
        return ""
    stale = [path.name for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    return f"docs/{' and docs/'.join(stale)}: out of date, run `make docs`" if stale else ""


if __name__ == "__main__":
    sys.exit(main() or 0)
