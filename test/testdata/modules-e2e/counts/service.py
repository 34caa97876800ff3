"""Holds every inference until its gate opens (a file is there, or `control` named it), and counts how many run at once."""

import os
import threading
import time

lock = threading.Lock()
running = 0
most = 0
begun = 0
opened = set()


def SERVICE_LOAD_MODELS(Models):
    pass


def SERVICE_OFFLOAD_MODELS(Names):
    print("offloaded", *Names)


def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    global running, most, begun
    if Name == "control":
        opened.add(UserParameters["opens"])
        yield {"extra": {"most": most}}
        return
    with lock:
        running += 1
        begun += 1
        most = max(most, running)
        mine = begun
    try:
        yield {"extra": {"begun": mine, "label": UserParameters.get("label")}}
        gate = UserParameters["gate"]
        while gate not in opened and not os.path.exists(gate):
            time.sleep(0.01)
        yield {"extra": {"most": most}}
    finally:
        with lock:
            running -= 1
