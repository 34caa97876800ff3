"""Everything async: load, offload, a generator, a coroutine that returns a generator or nothing."""

import asyncio
import sys

state = {}


async def SERVICE_LOAD_MODELS(models):
    await asyncio.sleep(0)
    state["loop"] = asyncio.get_running_loop()


async def SERVICE_OFFLOAD_MODELS(models):
    await asyncio.sleep(0)
    print("offloaded", models)


def SERVICE_INFERENCE(name, config, parameters):
    return globals()[parameters["do"]](parameters)


async def generator(parameters):
    try:
        for number in range(parameters.get("count", 3)):
            await asyncio.sleep(0)
            yield {"text": str(number), "extra": {"same_loop": asyncio.get_running_loop() is state["loop"]}}
    finally:
        print("async closed")


async def returns_generator(parameters):
    await asyncio.sleep(0)
    return iter([{"text": "from a coroutine"}])


async def returns_nothing(parameters):
    await asyncio.sleep(0)


async def fails(parameters):
    yield {"text": "before"}
    raise ValueError("async reason")


async def exits(parameters):
    yield {"text": "before"}
    sys.exit(1)
