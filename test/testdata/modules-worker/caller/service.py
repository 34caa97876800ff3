"""Calls other models."""

import services_manager

calls = {}


def SERVICE_LOAD_MODELS(models):
    pass


def SERVICE_OFFLOAD_MODELS(models):
    pass


def SERVICE_INFERENCE(name, config, parameters):
    return globals()[parameters["do"]](parameters)


def infer(parameters):
    for token in services_manager.InferenceModel(
        ModelName=parameters["model"], Prompt={"conversation": [], "media": b"\x01"}, UserParameters={"a": 1}
    ):
        yield {"text": token["response"]["text"].upper(), "extra": {"keys": sorted(token)}}


def pass_on(parameters):
    yield from services_manager.InferenceModel(parameters["model"], {}, {})


def first_only(parameters):
    answers = services_manager.InferenceModel(parameters["model"], {}, {})
    yield next(answers)
    answers.close()
    yield {"text": " enough"}


def refused(parameters):
    try:
        list(services_manager.InferenceModel(parameters["model"], {}, {}))
    except PermissionError as reason:
        yield {"text": str(reason)}


def unfit(parameters):
    for value in (float("nan"), [float("-inf")], {"a": {1: 2}}, {"a": object()}):
        try:
            services_manager.InferenceModel(parameters["model"], value, {})
        except (TypeError, ValueError) as reason:
            yield {"text": f"{type(reason).__name__}: {reason}\n"}


def others(parameters):
    services_manager.LoadModels({"friend": {}})
    services_manager.OffloadModels(["friend"])
    yield {
        "extra": {
            "configuration": services_manager.GetModelConfiguration("friend"),
            "own": services_manager.GetModelConfiguration("m"),
            "installed": services_manager.IsServiceInstalled("chatbot"),
        }
    }
