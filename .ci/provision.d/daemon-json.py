"""Adds to Docker's daemon.json, keeping everything else in it, what simulated GPUs need: CDI and its folder.

Writes only when something changes, so that the file's time tells whether a running daemon has read it.
"""

import json
import os
import pathlib
import sys

path = pathlib.Path(sys.argv[1])
before = path.read_text() if path.exists() else ""
try:
    config = json.loads(before) if before.strip() else {}
except json.JSONDecodeError as error:
    sys.exit(f"{path} is not JSON: {error}")

config.setdefault("features", {})["cdi"] = True
folders = config.setdefault("cdi-spec-dirs", [])
if "/etc/cdi" not in folders:
    folders.append("/etc/cdi")

if not before.strip() or config != json.loads(before):
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".berth")
    beside.write_text(json.dumps(config, indent=2) + "\n")
    os.replace(beside, path)
