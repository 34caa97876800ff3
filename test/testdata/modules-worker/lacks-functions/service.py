SERVICE_LOAD_MODELS = "not callable"


def SERVICE_OFFLOAD_MODELS(models):
    pass
