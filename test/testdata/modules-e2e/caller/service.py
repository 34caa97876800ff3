"""Calls other models through services_manager, as `parameters["do"]` says."""

import services_manager


def SERVICE_LOAD_MODELS(Models):
    pass


def SERVICE_OFFLOAD_MODELS(Names):
    pass


def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    return globals()[UserParameters["do"]](UserParameters)


def passes_on(parameters):
    yield from services_manager.InferenceModel(
        ModelName=parameters["model"], Prompt=parameters["prompt"], UserParameters=parameters["parameters"]
    )


def first_only(parameters):
    answer = services_manager.InferenceModel(parameters["model"], "go on", parameters["parameters"])
    yield {"text": next(answer)["text"]}
    answer.close()


def asks(parameters):
    yield {
        "extra": {
            "installed": [services_manager.IsServiceInstalled(name) for name in ("probe", "no-such-module")],
            "configuration": services_manager.GetModelConfiguration(parameters["model"]),
        }
    }


def changes(parameters):
    services_manager.LoadModels(Models={parameters["model"]: {}})
    yield {"text": "loaded"}
    services_manager.OffloadModels(Names=[parameters["model"]])
    yield {"text": " offloaded"}
