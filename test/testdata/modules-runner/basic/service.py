"""Does what its parameters say; a file named in them is what it waits for."""
import os
import time

loaded = []


def SERVICE_LOAD_MODELS(Models):
    for name, config in Models.items():
        print("loading", name, {key: repr(value) for key, value in config.items()})
        if config.get("fail"):
            raise RuntimeError("it does not want to")
        while config.get("hang") and not os.path.exists(config["hang"]):
            time.sleep(0.02)
        loaded.append(name)


def SERVICE_OFFLOAD_MODELS(Names):
    print("offloading", Names)
    for name in Names:
        loaded.remove(name)


def touch(path):
    with open(path, "w"):
        pass


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)


def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    p = UserParameters
    if "early" in p:
        raise ValueError(p["early"])
    return generate(p)


def generate(p):
    if "configuration" in p:
        yield {"extra": {"service": repr(ServiceConfiguration), "server": repr(ServerConfiguration["services"])}}
    if "parameters" in p:
        yield {"text": repr(p["parameters"])}
    try:
        for number in range(p.get("chunks", 0)):
            yield {"text": f"{number} " + "x" * p.get("size", 0)}
            if "started" in p and number == 0:
                touch(p["started"])
            if "then" in p:
                wait_for(p["then"])
            if "pause" in p:
                time.sleep(p["pause"])
        if "late" in p:
            raise ValueError(p["late"])
        if "files" in p:
            for size in p["files"]:
                yield {"files": [{"type": "file", "file": bytes(range(256)) * (size // 256) + bytes(size % 256)}]}
    finally:
        if "closed" in p:
            touch(p["closed"])
