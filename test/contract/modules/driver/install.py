"""Runs a module's requirements.py, or hands its requirements.txt to pip."""

import importlib.util
import subprocess
import sys
from pathlib import Path

folder = Path(sys.argv[1])
script = folder / "requirements.py"
if script.exists():
    spec = importlib.util.spec_from_file_location("requirements", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.Install(None)
else:
    subprocess.check_call([sys.executable, "-m", "pip", "install", "--quiet", "-r", str(folder / "requirements.txt")])
