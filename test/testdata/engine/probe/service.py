"""A small module that shows the engine contract what a workload sees and does."""

import os
import subprocess
import time

print("probe imported")


def SERVICE_LOAD_MODELS(Models):
    for step in range(1, 6):
        print(f"probe step {step}", flush=True)


def SERVICE_OFFLOAD_MODELS(Names):
    print("probe offloaded", flush=True)


def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    action = UserParameters.get("do", "echo")
    if action == "echo":
        yield {"text": UserParameters.get("say", "")}
    elif action == "environment":
        yield {"extra": {"environment": {name: os.environ.get(name) for name in UserParameters["names"]}}}
    elif action == "keep":
        with open("kept.txt", "a", encoding="utf-8") as kept:
            kept.write(UserParameters["say"])
        with open("kept.txt", encoding="utf-8") as kept:
            yield {"text": kept.read()}
    elif action == "fork":
        # Leaves the session and the group of the worker, as daemons do.
        child = subprocess.Popen(["sleep", "3600"], start_new_session=True)
        yield {"extra": {"pid": child.pid}}
    elif action == "endless":
        while True:
            yield {"text": "."}
            time.sleep(0.02)
