"""Ends its own process in every way, when and how its parameters say."""
import ctypes
import os
import signal
import time

if os.path.exists(os.path.join(os.environ["TEST_FOLDER"], "die-at-import")):
    os._exit(5)


def die(how):
    print("about to die:", how)
    if how == "exit":
        os._exit(7)
    if how == "segfault":
        ctypes.string_at(0)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "memory":
        held = []
        while True:
            held.append(bytearray(b"x" * 4_000_000))


def SERVICE_LOAD_MODELS(Models):
    for config in Models.values():
        die(config.get("die"))


def SERVICE_OFFLOAD_MODELS(Names):
    pass


def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    if "fork" in UserParameters:
        if os.fork() == 0:
            with open(UserParameters["fork"], "w") as file:
                file.write(str(os.getpid()))
            time.sleep(600)
            os._exit(0)
        while not os.path.exists(UserParameters["fork"]):
            time.sleep(0.01)
    for number in range(UserParameters.get("chunks", 0)):
        yield {"text": str(number)}
    die(UserParameters.get("die"))
    yield {"text": "alive"}
