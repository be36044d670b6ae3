"""The command line: argv, environment and configuration file become a Config; what happens becomes an exit code.

Owns flags, their precedence (flags over files over environment) and exit codes: 0 done, 2 the operator's
mistake (one line on stderr, no traceback), 1 the rest. Must not know how anything is served.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

import click
from msgspec.structs import replace

from uproxy import __version__
from uproxy.config_file import load
from uproxy.config_rules import Duration, SettingError
from uproxy.errors import AlreadyRunning, UproxyError, UsageError

if TYPE_CHECKING:
    from uproxy.config import Config

USAGE_ERROR: Final = 2


class DurationType(click.ParamType[Duration]):
    """A flag that takes a Go duration."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Duration:
        """Parse what the operator wrote."""
        try:
            return Duration.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


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


@commands.command()
@click.option("--config", "config_file", metavar="FILE", default="", help="Settings as YAML documents (kind UproxyConfiguration).")
@click.option("--manifests", metavar="DIR", help="Folder with Service, EndpointSlice and Node manifests.")
@click.option("--kubeconfig", metavar="FILE", help="Where the API server is; default: KUBECONFIG, then what a pod is given.")
@click.option("--master", metavar="URL", help="The API server's URL, instead of the kubeconfig's.")
@click.option("--service-proxy-name", metavar="NAME", help="Serve the Services labelled with this name, and no others.")
@click.option("--state-dir", metavar="DIR", help='Where the last known state is kept; "" keeps none.')
@click.option("--redirect", type=click.Choice(["nftables", "routes", "none"]), help="How service addresses are captured.")
@click.option("--node-name", "--hostname-override", metavar="NAME", help="This node's name; default: the host name.")
@click.option("--nodeport-addresses", "node_port_addresses", metavar="CIDR,...", help="The node's addresses that serve node ports.")
@click.option("--keep-client-address", type=click.Choice(["auto", "never"]), help="Whether endpoints see the client's address.")
@click.option("--healthz-bind-address", metavar="A:P", help='Address of /healthz and /livez; "" switches it off.')
@click.option("--metrics-bind-address", metavar="A:P", help='Address of /metrics and /proxyMode; "" switches it off.')
@click.option("--drain-timeout", type=DurationType(), help="How long open connections may go on after SIGTERM.")
@click.option("--logging-format", type=click.Choice(["text", "json"]), help="How facts are written to stderr.")
@click.option("--loop", type=click.Choice(["uvloop", "asyncio"]), help="The event loop.")
def run(config_file: str, **flags: object) -> int:
    """Serve in the foreground until SIGTERM or SIGINT; rules and routes stay for the next start."""
    config, others = load(config_file, os.environ)
    config = _lay_over(config, {name: value for name, value in flags.items() if value is not None})
    from uproxy.app import run as run_app  # noqa: PLC0415 - a mistake in a flag is told before the rest is loaded

    return run_app(config, tuple(f"{config_file}, {other}" for other in others))


def _lay_over(config: Config, flags: dict[str, object]) -> Config:
    """Put the flags over what files and environment say; raises UsageError naming the flag."""
    for name, value in flags.items():
        flag = "--nodeport-addresses" if name == "node_port_addresses" else "--" + name.replace("_", "-")
        setting, settled = _setting(config, name, value)
        try:
            config = replace(config, **{setting: settled})
        except SettingError as error:
            raise UsageError(f"{flag}: {error.reason}") from error
    return config


def _setting(config: Config, name: str, value: object) -> tuple[str, object]:
    """Give the setting that a flag stands for, and its value."""
    if name == "logging_format":
        return "logging", replace(config.logging, format=value)
    if name == "node_port_addresses":
        return name, tuple(part.strip() for part in str(value).split(",") if part.strip())
    return name, str(value).strip().lower() if name == "node_name" else value
