"""Installs a package of its own making: no index is needed, and every install can be told from every other."""

import os
import sysconfig
import uuid


def Install(requirements):
    token = uuid.uuid4().hex
    print(f"probe install {token}", flush=True)
    with open(os.path.join(sysconfig.get_path("purelib"), "berth_probe.py"), "w", encoding="utf-8") as package:
        package.write(f"token = {token!r}\n")
