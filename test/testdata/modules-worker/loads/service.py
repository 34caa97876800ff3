"""Loads, keeps live objects in its configuration, loads again lazily, fails on demand."""

import sys
import threading
import time

ServerConfiguration = None
given = {}


def SERVICE_LOAD_MODELS(models):
    for name, configuration in models.items():
        what = configuration.get("do")
        if what == "fail":
            raise ValueError("weights are broken")
        if what == "exit":
            sys.exit(4)
        if what == "memory":
            raise MemoryError
        if what == "hang":
            print("hanging", flush=True)
            time.sleep(3600)
        given[name] = configuration
        configuration["_private_model"] = object()
        configuration["_private_loads"] = configuration.get("_private_loads", 0) + 1


def SERVICE_OFFLOAD_MODELS(Names):
    print("offload", Names, threading.current_thread() is threading.main_thread())
    for name in Names:
        if given[name].get("do") == "fail_offload":
            raise RuntimeError("stuck")
        given.pop(name)["_private_model"] = None


def SERVICE_INFERENCE(name, config, parameters):
    SERVICE_LOAD_MODELS({name: ServerConfiguration["services"][name]})
    own = ServerConfiguration["services"][name]
    public = {key: value for key, value in own.items() if not key.startswith("_")}
    yield {
        "extra": {
            "same": given[name] is own,
            "live": type(own.get("_private_model")).__name__,
            "loads": own["_private_loads"],
            "configuration": public,
            "types": {key: type(value).__name__ for key, value in public.items()},
        }
    }
