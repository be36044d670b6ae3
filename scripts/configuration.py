"""Writes docs/configuration.md from the code, or checks it: settings, defaults and docstrings of uproxy/config.py, flags, environment.

`--write` brings the file up to date, `--check` exits 1 when it is not.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from uproxy import config
from uproxy.cli import run
from uproxy.config_file import API_VERSION, ENVIRONMENT, KIND
from uproxy.config_rules import Duration

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"

INTRODUCTION: Final = f"""\
# Configuration

A setting comes from a flag of `uproxy run`, else from the file that `--config` names, else from the environment, else it
has its default. What a setting may not be is said in one line that names the flag or the file, document and field,
and `uproxy` exits with 2.

The file holds YAML documents. The one of kind `{KIND}` is uproxy's own; others are named in a warning and
passed over. A field that does not exist is an error.

```yaml
apiVersion: {API_VERSION}
kind: {KIND}
manifests: /etc/uproxy/manifests
nodePortAddresses: [192.168.0.0/16]
tcp:
  connectTimeouts: [250ms, 500ms, 1s]
```

Durations are written as Go writes them: `250ms`, `30s`, `1h30m`. This page is made from the code by `make docs`.
"""
FLAG_OF: Final = {"logging.format": "logging_format"}
HEXADECIMAL: Final = {"capture.deliverMark", "capture.sentMark"}


def page() -> str:
    """Make the whole page: the settings of the top level, then one table per group."""
    settings = config.Config()
    groups = {name: value for name, value in _fields(settings) if isinstance(value, msgspec.Struct)}
    parts = [INTRODUCTION, "## General\n", _table(settings, "")]
    for name, group in groups.items():
        parts += [f"## {name}\n", inspect.cleandoc(type(group).__doc__ or "") + "\n", _table(group, f"{name}.")]
    return "\n".join(parts)


def _fields(settings: msgspec.Struct) -> Iterator[tuple[str, object]]:
    names = zip(settings.__struct_encode_fields__, settings.__struct_fields__, strict=True)
    return ((encoded, getattr(settings, name)) for encoded, name in names)


def _table(settings: msgspec.Struct, prefix: str) -> str:
    """Make the table of one group's own settings; groups within it are not part of it."""
    meanings = _docstrings(type(settings))
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for (name, value), field in zip(_fields(settings), settings.__struct_fields__, strict=True):
        if not isinstance(value, msgspec.Struct):
            meaning = " ".join([meanings[field], *_also(prefix + name, field)]).replace("|", "\\|")
            rows.append(f"| `{prefix}{name}` | {_shown(prefix + name, value)} | {meaning} |")
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


def _also(setting: str, field: str) -> Iterator[str]:
    """Name the flags and the environment variables that set it."""
    flags = {str(each.name): each.opts for each in run.params}
    if "." not in setting or setting in FLAG_OF:
        yield from (f"Flag `{flag}`." for flag in flags.get(FLAG_OF.get(setting, field), ())[:1])
    yield from (f"Environment `{name}`." for name, own in ENVIRONMENT.items() if own == setting)


def _shown(setting: str, value: object) -> str:
    if isinstance(value, tuple):
        return f"`[{', '.join(_shown(setting, each).strip('`') for each in value)}]`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, Duration):
        return f"`{_duration(value)}`"
    if setting in HEXADECIMAL:
        return f"`{value:#06x}`"
    return f"`{value}`" if value != "" else "empty"


def _duration(value: Duration) -> str:
    """Write seconds as Go would, in the largest unit that gives a whole number."""
    for unit, size in (("h", 3600), ("m", 60), ("s", 1)):
        if value % size == 0:
            return f"{int(value) // size}{unit}"
    return f"{value * 1000:g}ms"


def main() -> str:
    """Write or check; gives what is wrong, empty if nothing is."""
    wanted = page()
    if "--write" in sys.argv:
        PAGE.write_text(wanted, encoding="utf-8")
        return ""
    is_current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == wanted
    return "" if is_current else "docs/configuration.md is out of date: run `make docs`"


if __name__ == "__main__":
    sys.exit(main() or 0)
