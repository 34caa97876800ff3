"""Answers with what its environment holds."""

import berth_probe


def SERVICE_LOAD_MODELS(Models):
    pass


def SERVICE_OFFLOAD_MODELS(Names):
    pass


def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    yield {"text": berth_probe.token}
