"""Holds every inference until a file says `go`, and counts how many run at once."""

import os
import threading
import time

lock = threading.Lock()
running = 0
most = 0
begun = 0


def SERVICE_LOAD_MODELS(Models):
    pass


def SERVICE_OFFLOAD_MODELS(Names):
    print("offloaded", *Names)


def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    global running, most, begun
    with lock:
        running += 1
        begun += 1
        most = max(most, running)
        mine = begun
    try:
        yield {"extra": {"begun": mine}}
        while not os.path.exists(UserParameters["gate"]):
            time.sleep(0.01)
        yield {"extra": {"most": most}}
    finally:
        with lock:
            running -= 1
