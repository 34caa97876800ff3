"""Never runs: its requirements can't be installed."""


def SERVICE_LOAD_MODELS(Models):
    pass


def SERVICE_OFFLOAD_MODELS(Names):
    pass


def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    yield {}
