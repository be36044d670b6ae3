"""The command `cni-bridge`: puts the plugins on a node, takes them away, says what a host lacks.

Owns flags, output and exit codes: 0 done, 1 it did not work or something is missing, 2 the operator's mistake. The plugins
themselves are executables of their own and need none of this.
"""

from __future__ import annotations

import sys
from typing import Final

import click

from cni_bridge import interpreter, own_rules
from cni_bridge.install import BIN_DIR, LIB_DIR, Place, Unsuitable
from cni_bridge.install import install as install_plugins
from cni_bridge.install import uninstall as uninstall_plugins
from cni_bridge.netlink.message import NetlinkError

USAGE_ERROR: Final = 2
BIN = click.option("--bin-dir", metavar="DIR", default=BIN_DIR, show_default=True, help="Where the runtime looks for plugins.")
LIB = click.option("--lib-dir", metavar="DIR", default=LIB_DIR, show_default=True, help="Where modules and byte code are.")
ROOT = click.option("--root", metavar="DIR", default="", help="The node's root folder, in a container that has it mounted.")
PYTHON = click.option("--python", metavar="PATH", default="", help="The interpreter that runs the plugins; default: this one.")


def main() -> None:
    """Run the command line and exit."""
    sys.exit(_exit_code())


def _exit_code() -> int:
    try:
        return int(commands.main(prog_name="cni-bridge", standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return USAGE_ERROR
    except click.ClickException as error:
        return _say(error.format_message(), USAGE_ERROR)
    except (Unsuitable, interpreter.Unusable) as error:
        return _say(str(error), USAGE_ERROR)
    except (OSError, NetlinkError) as error:
        return _say(str(error), 1)
    except click.Abort:
        return _say("interrupted", 1)


def _say(line: str, code: int) -> int:
    click.echo(f"error: {' '.join(line.split())}", err=True)
    return code


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def commands() -> None:
    """CNI plugins: bridge, host-local, loopback, portmap, firewall."""


@commands.command()
@BIN
@LIB
@ROOT
@PYTHON
def install(bin_dir: str, lib_dir: str, root: str, python: str) -> None:
    """Install the plugins, or bring them up to date: at no moment is one missing, and those that run go on.

    Repeat it after an upgrade of the interpreter.
    """
    found = interpreter.find(python, root.rstrip("/"))
    names = install_plugins(Place(bin_dir, lib_dir, root.rstrip("/")), found)
    click.echo(f"{', '.join(names)}: installed in {bin_dir}, run by {found.path}")
    for module in found.missing:
        click.echo(f"{found.path} has no module {module}: every start is slower without", err=True)


@commands.command()
@BIN
@LIB
@ROOT
def uninstall(bin_dir: str, lib_dir: str, root: str) -> None:
    """Remove the plugins and the rules by which they masquerade; what they replaced is put back. Leases stay."""
    names = uninstall_plugins(Place(bin_dir, lib_dir, root.rstrip("/")))
    click.echo(f"{', '.join(names) or 'nothing'}: removed from {bin_dir}")
    if own_rules.remove():  # last: without the right to it the files are removed all the same
        click.echo("nftables table inet cni_bridge: removed")


@commands.command()
@BIN
@LIB
@PYTHON
def check(bin_dir: str, lib_dir: str, python: str) -> int:
    """Say what is missing on this host and how to get it; exit code 1 when the plugins cannot work without."""
    from cni_bridge.host_check import Grade, findings  # noqa: PLC0415 - the other commands need not load it

    worst = 0
    for finding in findings(Place(bin_dir, lib_dir), python):
        click.echo(str(finding))
        worst = max(worst, int(finding.grade is Grade.MISSING))
    return worst
