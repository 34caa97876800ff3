"""The least a module can do: `n` yields of two letters. FastAPI serves this same generator (peers/fastapi_app.py)."""


def SERVICE_LOAD_MODELS(Models):
    pass


def SERVICE_OFFLOAD_MODELS(Models):
    pass


def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    for _ in range(UserParameters.get("n", 1)):
        yield {"text": "ok"}
