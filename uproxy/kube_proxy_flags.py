"""kube-proxy's flags as options of `uproxy run`.

Owns how they are written (what pflag takes: --name=value, --name for true, -v=2, lists given several times) and
gathering their texts. Which there are and what they mean is the table's (kube_proxy_fields.py). Flags without
effect are accepted and not shown by --help.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from uproxy.kube_proxy_fields import FIELDS, Field, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX: Final = "kube_proxy_"
"""Of the options' parameter names, which tells them from uproxy's own."""
FIELD_OF: Final = {PREFIX + field.flag.replace("-", "_"): field for field in FIELDS if field.flag}
OTHER_NAMES: Final = {"v": ("-v", "--v"), "hostname-override": ("--hostname-override", "--node-name")}
METAVARS: Final = {"duration": "DURATION", "number": "N", "decimal": "N", "list": "A,...", "map": "A=B,..."}


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add every flag of kube-proxy to a command; all default to None, for not given."""
    for name, field in reversed(FIELD_OF.items()):
        command = _option(name, field)(command)
    return command


def _option(name: str, field: Field) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    switch: dict[str, Any] = {"is_flag": False, "flag_value": "true", "metavar": "[true|false]"} if field.kind == "switch" else {}
    return click.option(
        *OTHER_NAMES.get(field.flag, (f"--{field.flag}",)),
        name,
        default=None,
        multiple=field.kind in {"list", "map"},
        hidden=field.verdict in {Verdict.A, Verdict.N},
        help=field.meaning[0].upper() + field.meaning[1:] + ".",
        **{"metavar": METAVARS.get(field.kind, "TEXT"), **switch},
    )


def texts(flags: dict[str, Any]) -> dict[str, str]:
    """Take kube-proxy's flags out of a command's parameters: the texts of those that were given, by flag."""
    found: dict[str, str] = {}
    for name, field in FIELD_OF.items():
        value = flags.pop(name)
        if isinstance(value, tuple):
            value = ",".join(value) if value else None
        if value is not None:
            # What click makes of -v=2, which Go's pflag takes.
            found[field.flag] = str(value).removeprefix("=") if len(field.flag) == 1 else str(value)
    return found
