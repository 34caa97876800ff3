"""Calls other models through services_manager."""
import services_manager


def SERVICE_LOAD_MODELS(Models):
    pass


def SERVICE_OFFLOAD_MODELS(Names):
    pass


def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    try:
        if "installed" in UserParameters:
            name = float("nan") if UserParameters["installed"] is None else UserParameters["installed"]
            yield {"extra": {"got": services_manager.IsServiceInstalled(name)}}
            return
        for number, chunk in enumerate(services_manager.InferenceModel("other", "a prompt", {"a": 1, "b": 1.0, "c": 2**70})):
            yield {"extra": {"got": chunk}}
            if UserParameters.get("take") == number + 1:
                return
    except Exception as problem:
        yield {"extra": {"problem": f"{type(problem).__name__}: {problem}"}}
