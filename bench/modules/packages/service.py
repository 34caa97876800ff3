"""Only its requirements matter."""


def SERVICE_LOAD_MODELS(Models):
    pass


def SERVICE_OFFLOAD_MODELS(Models):
    pass


def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    yield {"text": "ok"}
