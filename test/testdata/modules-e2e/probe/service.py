"""Answers what `parameters["do"]` asks for: how the world looks to a module, and what becomes of what it yields."""

import os
import socket
import sys

import EnabledModules.probe.helper as by_enabled
import helper as by_path
import Services.probe.helper as by_services

ServiceConfiguration = "not injected"
loads = []
offloads = []


def SERVICE_LOAD_MODELS(Models, /):
    for name, config in Models.items():
        loads.append([name, dict(config)])
        config["_private_live"] = object()
        config["_private_same"] = config is ServerConfiguration["services"][name]  # noqa: F821 (injected)


def SERVICE_OFFLOAD_MODELS(Names, /):
    offloads.append(Names)
    print("offloaded", *Names)


def SERVICE_INFERENCE(Name, UserConfig, UserParameters, /):
    return globals()[UserParameters["do"]](Name, UserConfig, UserParameters)


def arguments(name, config, parameters):
    yield {"extra": {"name": name, "config": config, "parameters": parameters}}


def injected(name, config, parameters):
    own = ServerConfiguration["services"][name]  # noqa: F821 (injected)
    yield {
        "extra": {
            "service": ServiceConfiguration,
            "services": sorted(ServerConfiguration["services"]),  # noqa: F821 (injected)
            "live": type(own["_private_live"]).__name__,
            "same": own["_private_same"],
            "loads": loads,
            "types": {key: type(value).__name__ for key, value in own.items()},
        }
    }


def imported(name, config, parameters):
    yield {
        "extra": {
            "one": by_services is by_enabled,
            "sibling": by_path.SAID,
            "name": __name__,
            "package": __name__ in sys.modules and sys.modules[__name__].__package__,
            "entry": os.path.basename(__file__),
            "loser": os.environ.get("SERV_PY_WAS_IMPORTED", "never imported"),
        }
    }


def _read(path):
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def _writable(folder):
    path = os.path.join(folder, "berth-probe.tmp")
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write("x")
        os.unlink(path)
        return True
    except OSError:
        return False


def world(name, config, parameters):
    folder = os.path.dirname(os.path.abspath(__file__))
    yield {
        "extra": {
            "private": _read(os.path.join(folder, "private.txt")),
            "links": [_read("Services/probe/private.txt"), _read("EnabledModules/probe/private.txt")],
            "cwdIsFolder": os.path.samefile(os.getcwd(), folder),
            "writable": {
                "cwd": _writable("."),
                "temp": _writable("Temp"),
                "folder": _writable(folder),
                "home": _writable(os.environ["HOME"]),
                "root": _writable("/usr"),
                "tmp": _writable("/tmp"),
            },
            "cache": [_made(os.environ[key]) for key in ("HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME")],
            "user": [os.getuid(), os.getgid()],
            "visits": _count_visit(),
            "gpu": {
                "devices": sorted(entry for entry in os.listdir("/dev") if entry.startswith("nvidia")),
                "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
            },
        }
    }


def _made(folder):
    os.makedirs(folder, exist_ok=True)
    return _writable(folder)


def _count_visit():
    """Kept in the working directory, which lasts longer than the process."""
    path = "visits.txt"
    count = int(_read(path)) + 1 if os.path.exists(path) else 1
    with open(path, "w", encoding="utf-8") as file:
        file.write(str(count))
    return count


def reach(name, config, parameters):
    try:
        socket.create_connection((parameters["host"], parameters["port"]), timeout=3).close()
        yield {"extra": {"reached": True}}
    except OSError as reason:
        yield {"extra": {"reached": False, "reason": str(reason)}}


def texts(name, config, parameters):
    for text in parameters["texts"]:
        yield {"text": text}


def items(name, config, parameters):
    yield from parameters["items"]


def returns_nothing(name, config, parameters):
    return None


async def asynchronous(name, config, parameters):
    yield {"text": "a"}
    yield {"text": "sync"}


def loads_again(name, config, parameters):
    SERVICE_LOAD_MODELS({name: ServerConfiguration["services"][name]})  # noqa: F821 (injected)
    yield {"text": "loaded again"}


def raises(name, config, parameters):
    yield {"text": "before"}
    raise ValueError("the reason")


def files(name, config, parameters):
    yield {"text": "one ", "files": [{"type": "image", "image": b"\x00\xffpng"}], "extra": {"a": 1, "b": 1}}
    yield {"text": "two", "files": ({"type": "file", "file": memoryview(b"last"), "name": "a.txt"},), "extra": {"b": 2}}


def dropped(name, config, parameters):
    yield {"text": "kept", "_save_response": False, "_secret": 1, "unknown": 2, "warnings": ["w"], "errors": ["e"]}


def appends_itself(name, config, parameters):
    parameters["conversation"].append({"role": "assistant", "content": [{"type": "text", "text": "mine"}]})
    yield {"text": "theirs"}


def large(name, config, parameters):
    yield {"text": "x" * parameters["size"]}


def noisy(name, config, parameters):
    print("printed by the module")
    print("and on standard error", file=sys.stderr)
    os.write(1, b"past Python\n")
    child = os.fork()
    if child == 0:
        print("printed by its child")
        os._exit(0)
    os.waitpid(child, 0)
    os.system("echo printed by a shell")
    yield {"text": "answer"}


def logs(name, config, parameters):
    from Utilities.logs import WARNING, WriteLog

    WriteLog(WARNING, "said through the shim")
    yield {"text": "logged"}


def until_closed(name, config, parameters):
    print("begun", parameters["mark"])
    try:
        while True:
            yield {"text": "x" * 100}
    finally:
        print("closed", parameters["mark"])


def offloaded(name, config, parameters):
    yield {"extra": {"offloads": offloads}}
