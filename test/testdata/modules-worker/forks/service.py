"""Forks wherever a module can, with children that come back into the worker."""

import multiprocessing
import os
import subprocess


def SERVICE_LOAD_MODELS(models):
    if os.fork() == 0:
        return
    print("loaded", flush=True)


def SERVICE_OFFLOAD_MODELS(models):
    pass


def square(number):
    return number * number


def SERVICE_INFERENCE(name, config, parameters):
    if parameters.get("do") == "pool":
        with multiprocessing.get_context("fork").Pool(2) as pool:
            yield {"extra": {"squares": pool.map(square, [1, 2, 3])}}
        return
    if parameters.get("do") == "linger":
        child = os.fork()
        if child == 0:
            # Keeps standard output and every inherited descriptor until it is ended.
            import time

            time.sleep(3600)
        yield {"extra": {"child": child}}
        return
    if parameters.get("do") == "descriptors":
        # The sockets that a program gets beyond its three streams, close_fds or not.
        program = "ls -l /proc/self/fd | grep -c ' [0-9]* -> socket' || true"
        answer = subprocess.run(program, shell=True, capture_output=True, close_fds=False, check=True)
        yield {"extra": {"inherited": int(answer.stdout)}}
        return
    try:
        yield {"text": "a"}
        child = os.fork()
        yield {"text": "b"}
        os.waitpid(child, 0)
        yield {"text": "c"}
    finally:
        print("closed in", "the worker" if child else "a child", flush=True)
