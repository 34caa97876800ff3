import os

import sibling
from Utilities.install_requirements import GetPIPCommand, InstallPackage


def Install(Env, Args):
    print("command", GetPIPCommand(False))
    InstallPackage(Packages=[sibling.PACKAGE, "b"], PIPCommand=None, EnvVars={"CMAKE_ARGS": "-DX=1", "N": 2}, PIPOptions=Args)
    InstallPackage("c", "pip")
    print("still here", os.environ.get("CMAKE_ARGS"))
