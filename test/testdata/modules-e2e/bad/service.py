"""Goes wrong in the way that `parameters["do"]` or the model's configuration names."""

import ctypes
import os
import sys
import time

worker = os.urandom(8).hex()


def SERVICE_LOAD_MODELS(Models):
    for config in Models.values():
        if "load" in config:
            globals()[config["load"]]()


def SERVICE_OFFLOAD_MODELS(Names):
    pass


def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    yield from globals()[UserParameters.get("do", "which")]()


def which():
    yield {"extra": {"worker": worker}}


def exits_at_load():
    sys.exit("no reason to go on")


def raises_at_load():
    raise FileNotFoundError("weights.bin is not there")


def hangs_at_load():
    time.sleep(3600)


def dies_at_load():
    os._exit(7)


def exits():
    yield {"text": "before"}
    sys.exit(3)


def dies():
    yield {"text": "before"}
    os._exit(9)


def crashes():
    yield {"text": "before"}
    ctypes.string_at(0)


def never_yields():
    time.sleep(3600)
    yield {"text": "never"}


def stops_yielding():
    yield {"text": "before"}
    time.sleep(3600)


def runs_on():
    while True:
        time.sleep(0.05)
        yield {"text": "."}


def no_dict():
    yield "just text"


def bare_bytes():
    yield b"raw"


def not_a_number():
    yield {"extra": {"scores": [0.5, float("nan")]}}


def an_object():
    yield {"extra": {"inner": {"thing": object()}}}


def text_of_bytes():
    yield {"text": b"abc"}


def returns_a_number():
    return 5


def out_of_memory():
    raise MemoryError("no more")
    yield


def takes_memory():
    hoard = []
    while True:
        hoard.append(bytearray(os.urandom(1024)) * 16 * 1024)
        yield {"text": "more"}
