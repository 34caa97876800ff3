def SERVICE_LOAD_MODELS(models)
    pass
