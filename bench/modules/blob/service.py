"""A long answer: `mib` mebibytes of text, 64 KiB a yield."""

PIECE = "x" * (64 * 1024)


def SERVICE_LOAD_MODELS(Models):
    pass


def SERVICE_OFFLOAD_MODELS(Models):
    pass


def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    for _ in range(UserParameters["mib"] * 16):
        yield {"text": PIECE}
