"""Where another plugin's executable is: CNI_PATH, searched as the specification wants it (section 4).

Owns the search alone; `delegate` executes what is found.
"""

from __future__ import annotations

from cni_bridge.fast import posix
from cni_bridge.protocol.errors import INVALID_CONFIG, INVALID_ENVIRONMENT, CniError

_REGULAR_FILE, _FILE_KIND = 0o100000, 0o170000  # S_IFREG and S_IFMT, inode(7)


def find(plugin: str, path: str) -> str:
    """Give the first regular file of that name in CNI_PATH (folders with ":" between them).

    Raises CniError: 4 without a path, 7 for a name with "/" and for one that is nowhere.
    """
    if not path:
        raise CniError(INVALID_ENVIRONMENT, "required env variables [CNI_PATH] missing", f'plugin "{plugin}" is looked for there')
    if not plugin or "/" in plugin or "\0" in plugin:
        raise CniError(INVALID_CONFIG, f'invalid plugin name "{plugin}"')
    for folder in path.split(":"):
        candidate = f"{folder}/{plugin}"
        if folder and _is_regular_file(candidate):
            return candidate
    raise CniError(INVALID_CONFIG, f'failed to find plugin "{plugin}" in path [{path.replace(":", " ")}]')


def _is_regular_file(path: str) -> bool:
    try:
        return posix.stat(path).st_mode & _FILE_KIND == _REGULAR_FILE
    except (OSError, ValueError):
        return False
