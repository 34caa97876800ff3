"""Stands in for the runner's shim: plain pip into the environment whose interpreter this is."""

import subprocess
import sys


def InstallPackage(Packages, PIPCommand=None, EnvVars={}, PIPOptions=[]):
    subprocess.check_call([sys.executable, "-m", "pip", "install", "--quiet", *PIPOptions, *Packages])
