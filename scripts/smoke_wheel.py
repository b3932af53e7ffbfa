# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""Install the built wheel where nothing else is, and import every module that it holds.

    python scripts/smoke_wheel.py dist

Twice: as `pip install forktex-core` brings it, where a module may only fail by naming the extra
that it needs, and with all extras, where none may fail.
"""

import subprocess
import sys
import tempfile
import venv
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

_IMPORT_ALL = """
import importlib, importlib.metadata, pkgutil, sys, warnings
import forktex_core

extra_may_miss = sys.argv[1] == "plain"
warnings.filterwarnings("error")
warnings.filterwarnings("ignore", category=DeprecationWarning, message=r"forktex_core\\.")
found = pkgutil.walk_packages(forktex_core.__path__, "forktex_core.", onerror=lambda name: None)
names = [module.name for module in found if not module.name.endswith("__main__")]
failed = 0
for name in names:
    try:
        importlib.import_module(name)
    except ImportError as error:
        if extra_may_miss and "forktex-core[" in str(error):
            print(f"  {name}: needs an extra, and says so: {error}")
            continue
        failed += 1
        print(f"  {name}: {error!r}")
for script in importlib.metadata.distribution("forktex-core").entry_points:
    try:
        script.load()
    except (ImportError, AttributeError) as error:
        failed += 1
        print(f"  command {script.name} points to nothing: {error!r}")
assert forktex_core.__version__ == importlib.metadata.version("forktex-core")
print(f"  {len(names)} modules imported, {failed} failed")
sys.exit(bool(failed))
"""


def the_wheel(folder: Path) -> Path:
    """The one wheel in `folder`."""
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        sys.exit(f"{folder}: one wheel expected, found {len(wheels)}; run `make build`")
    return wheels[0]


def metadata_of(wheel: Path) -> Message:
    """The wheel's metadata, after a look at the files that a wheel of ours must carry."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        for end in ("forktex_core/py.typed", "licenses/LICENSE", "licenses/NOTICE"):
            if not any(name.endswith(end) for name in names):
                sys.exit(f"{wheel.name} lacks {end}")
        strangers = [n for n in names if not n.startswith(("forktex_core/", "forktex_core-"))]
        if strangers:
            sys.exit(f"{wheel.name} holds what isn't ours: {strangers}")
        [name] = [name for name in names if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


def import_all(wheel: Path, extras: list[str]) -> bool:
    """Install into a fresh environment and import everything; whether that went well."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder, "bin", "python")
        wanted = f"{wheel.resolve()}[{','.join(extras)}]" if extras else str(wheel.resolve())
        subprocess.run([python, "-m", "pip", "install", "--quiet", wanted], check=True)
        print(f"{wheel.name}, {'with ' + ', '.join(extras) if extras else 'plain'}:", flush=True)
        kind = "all" if extras else "plain"
        done = subprocess.run([python, "-I", "-c", _IMPORT_ALL, kind], cwd=folder, check=False)
        return done.returncode == 0


def main(arguments: list[str]) -> int:
    """Try the wheel in the folder named first."""
    wheel = the_wheel(Path(arguments[0]))
    extras = metadata_of(wheel).get_all("Provides-Extra", [])
    return 0 if import_all(wheel, []) and import_all(wheel, extras) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
