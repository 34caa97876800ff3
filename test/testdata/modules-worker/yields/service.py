"""Does what `parameters["do"]` names: every way to answer an inference."""

import os
import socket
import sys

# Meant for its own downloads; the worker's connections must not follow it.
socket.setdefaulttimeout(0.05)


def SERVICE_LOAD_MODELS(models, /):
    pass


def SERVICE_OFFLOAD_MODELS(Names, /):
    print("offloaded", ",".join(Names))


def SERVICE_INFERENCE(name, config, parameters, /):
    return globals()[parameters["do"]](name, config, parameters)


def texts(name, config, parameters):
    for text in parameters.get("texts", ["one ", "two"]):
        yield {"text": text}


def items(name, config, parameters):
    yield from parameters["items"]


def arguments(name, config, parameters):
    yield {"extra": {"name": name, "config": config, "parameters": parameters}}


def types(name, config, parameters):
    yield {"extra": {key: type(value).__name__ for key, value in parameters["values"].items()}}


def nothing(name, config, parameters):
    return None


def as_list(name, config, parameters):
    return [{"text": "a"}, {"text": "b"}]


def a_number(name, config, parameters):
    return 5


def files(name, config, parameters):
    yield {"files": [{"type": "image", "image": b"\x00\xffpng"}, {"type": "audio", "audio": bytearray(b"wav")}]}
    yield {"text": "and ", "files": ({"type": "file", "file": memoryview(b"last"), "name": "a.txt"},)}


def kept_back(name, config, parameters):
    yield {"text": "secret", "_save_response": False, "_private": 1, "unknown": 2}


def appends_itself(name, config, parameters):
    parameters["conversation"].append({"role": "assistant", "content": [{"type": "text", "text": "mine"}]})
    yield {"text": "mine"}


def fails(name, config, parameters):
    yield {"text": "before"}
    raise ValueError("the reason")


def fails_at_once(name, config, parameters):
    raise KeyError("at once")


def exits(name, config, parameters):
    yield {"text": "before"}
    sys.exit(3)


def out_of_memory(name, config, parameters):
    raise MemoryError("no more")
    yield


class OutOfMemoryError(RuntimeError):
    """As torch names it."""


def out_of_gpu_memory(name, config, parameters):
    try:
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    except OutOfMemoryError as cause:
        raise RuntimeError("generation failed") from cause
    yield


def no_dict(name, config, parameters):
    yield "just text"


def bare_bytes(name, config, parameters):
    yield b"raw"


def not_a_number(name, config, parameters):
    yield {"extra": {"scores": [0.5, float("nan")]}}


def an_object(name, config, parameters):
    yield {"extra": {"inner": {"thing": object()}}}


def contains_itself(name, config, parameters):
    loop = []
    loop.append(loop)
    yield {"extra": {"loop": loop}}


def text_of_bytes(name, config, parameters):
    yield {"text": b"abc"}


def files_no_list(name, config, parameters):
    yield {"files": {"type": "image"}}


def large(name, config, parameters):
    yield {"text": "x" * parameters["size"]}


def half_a_pair(name, config, parameters):
    yield {"text": "a\ud800b"}
    yield {"text": "ü€😀", "warnings": "w\ud800"}


def like_numpy(name, config, parameters):
    class Array:
        def tolist(self):
            return [0.25, 0.5]

    yield {"extra": {"embedding": Array()}}


def prints(name, config, parameters):
    print("to standard output")
    print("to standard error", file=sys.stderr)
    os.write(1, b"raw bytes\n")
    yield {"text": "ok"}


counts = {"yielded": 0}


def counts_closing(name, config, parameters):
    try:
        while True:
            counts["yielded"] += 1
            yield {"text": "x" * 1000}
    finally:
        print("closed", parameters["mark"])


def yielded(name, config, parameters):
    yield {"extra": {**counts, "default_timeout": socket.getdefaulttimeout()}}


def dies(name, config, parameters):
    yield {"text": "before"}
    os._exit(9)


def crashes(name, config, parameters):
    import ctypes

    yield {"text": "before"}
    ctypes.string_at(0)


def waits_for_file(name, config, parameters):
    import time

    print("waiting", parameters["file"])
    while not os.path.exists(parameters["file"]):
        time.sleep(0.01)
    yield {"text": "seen"}
