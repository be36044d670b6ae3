"""The command line: argv, environment and configuration file become a Config; what happens becomes an exit code.

Owns flags, their precedence (flags over files over environment) and exit codes: 0 done, 2 the operator's
mistake (one line on stderr, no traceback), 1 the rest. Must not know how anything is served.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from uproxy import __version__, kube_proxy_flags
from uproxy.config_documents import as_file
from uproxy.config_file import Flags, load
from uproxy.config_watch import ConfigFile
from uproxy.errors import AlreadyRunning, UproxyError, UsageError
from uproxy.kube_proxy_config import Said

USAGE_ERROR: Final = 2


def main() -> None:
    """Run the command line and exit."""
    sys.exit(_exit_code())


def _exit_code() -> int:
    try:
        return int(commands.main(prog_name="uproxy", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return USAGE_ERROR
    except click.ClickException as error:
        return _say(f"error: {error.format_message()}", USAGE_ERROR)
    except (UsageError, AlreadyRunning) as error:
        return _say(f"error: {error}", USAGE_ERROR)
    except UproxyError as error:
        return _say(f"error: {error}", 1)
    except click.Abort:
        return _say("interrupted", 1)


def _say(line: str, code: int) -> int:
    click.echo(" ".join(line.split()), err=True)
    return code


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def commands() -> None:
    """Serve the addresses of Kubernetes Services from userspace, in kube-proxy's place."""


@commands.command()
def version() -> None:
    """Print uproxy's version."""
    click.echo(f"uproxy {__version__}")


@commands.command()
def cleanup() -> int:
    """Remove everything that any uproxy ever installs in the kernel: table, rules, routes. Repeating it is no error."""
    from uproxy.app import clean  # noqa: PLC0415 - `uproxy version` need not load the rest

    return clean()


OWN_FLAGS: Final = {
    "manifests": "manifests",
    "service_proxy_name": "serviceProxyName",
    "state_dir": "stateDir",
    "redirect": "redirect",
    "keep_client_address": "keepClientAddress",
    "allow_external_ips": "allowExternalIps",
    "drain_timeout": "drainTimeout",
    "exit_on_config_change": "exitOnConfigChange",
    "loop": "loop",
}
"""Flag of uproxy's own -> setting; kube-proxy's are in kube_proxy_fields.py."""
SWITCH: Final[dict[str, Any]] = {"is_flag": False, "flag_value": "true", "type": click.BOOL, "metavar": "[true|false]"}


@commands.command()
@click.option("--config", "config_file", metavar="FILE", default="", help="Settings: UproxyConfiguration, KubeProxyConfiguration or both.")
@click.option("--write-config-to", metavar="FILE", help="Write the effective settings to a file, as both kinds of document, and exit.")
@click.option("--manifests", metavar="DIR", help="Folder with Service, EndpointSlice and Node manifests.")
@click.option("--service-proxy-name", metavar="NAME", help="Serve the Services labelled with this name, and no others.")
@click.option("--state-dir", metavar="DIR", help='Where the last known state is kept; "" keeps none.')
@click.option("--redirect", type=click.Choice(["nftables", "routes", "none"]), help="How service addresses are captured.")
@click.option("--keep-client-address", type=click.Choice(["auto", "never"]), help="Whether endpoints see the client's address.")
@click.option("--allow-external-ips", **SWITCH, help="Whether spec.externalIPs is served; default: true.")
@click.option("--drain-timeout", metavar="DURATION", help="How long open connections may go on after SIGTERM.")
@click.option("--exit-on-config-change", **SWITCH, help="End, drained, when the file of --config changes, to be started again.")
@click.option("--loop", type=click.Choice(["uvloop", "asyncio"]), help="The event loop.")
@click.option("--cleanup", "do_cleanup", **SWITCH, help="Do what `uproxy cleanup` does, and exit.")
@click.option("--init-only", **SWITCH, help="Do what needs full privileges, and exit: nothing, for uproxy writes no sysctl.")
@click.option("--version", "show_version", is_flag=False, flag_value="true", metavar="[true|raw]", help="Print the version, and exit.")
@kube_proxy_flags.options
def run(**flags: Any) -> int:  # noqa: ANN401 - what click gives: texts, switches, lists of texts
    """Serve in the foreground until SIGTERM or SIGINT; rules and routes stay for the next start. kube-proxy's flags are taken too."""
    if flags.pop("show_version") not in {None, "false"}:
        click.echo(f"uproxy {__version__}")
        return 0
    from uproxy import app  # noqa: PLC0415 - `uproxy version` need not load the rest

    if flags.pop("do_cleanup"):
        return app.clean()
    path, write_to, init_only = (flags.pop(name) for name in ("config_file", "write_config_to", "init_only"))
    load_again = partial(load, path, os.environ, _flags(flags))
    loaded = load_again()
    if not write_to and not init_only:
        return app.run(loaded.config, loaded.remarks, ConfigFile(path, load_again))
    for place, reason in loaded.remarks:
        _say(f"warning: {place}: {reason}", 0)
    return _write(write_to, as_file(loaded.config)) if write_to else 0


def _flags(given: dict[str, Any]) -> Flags:
    """Tell uproxy's own flags from kube-proxy's."""
    kube_proxy = kube_proxy_flags.texts(given)
    own = {OWN_FLAGS[name]: Said(value, "--" + name.replace("_", "-")) for name, value in given.items() if value is not None}
    return Flags(own, kube_proxy)


def _write(path: str, text: str) -> int:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--write-config-to {path}: {error.strerror}") from error
    return 0
