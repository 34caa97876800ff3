"""Loses against service.py: importing this would show in the probe's answer."""

import os

os.environ["SERV_PY_WAS_IMPORTED"] = "serv.py was imported"
