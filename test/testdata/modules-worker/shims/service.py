"""Uses the shims as modules do, by position and by name."""

import sys

import Utilities.encryption as encryption
import Utilities.gpu_utils as gpu
import Utilities.install_requirements as requirements
import Utilities.logs as logs
import Utilities.model_utils as model_utils


def SERVICE_LOAD_MODELS(models):
    pass


def SERVICE_OFFLOAD_MODELS(models):
    pass


def refusal(call):
    try:
        return call()
    except Exception as reason:
        return f"{type(reason).__name__}: {reason}"


def SERVICE_INFERENCE(name, config, parameters):
    logs.WriteLog(logs.WARNING, "written")
    logs.PrintLog(level=logs.CRITICAL, message="printed", flush=False)
    logs.PrintLog(Level=logs.ERROR, Message="by the other names", Flush=True)
    yield {
        "extra": {
            "levels": [logs.INFO, logs.WARNING, logs.ERROR, logs.CRITICAL],
            "gpu": gpu.DetectGPU().name,
            "types": [kind.name for kind in gpu.GPUType],
            "vulkan": type(gpu.GPUHasVulkan()).__name__,
            "hash": encryption.HashContent(Content="abc", Hash=encryption.ParseHash(HashName="sha256")),
            "no_hash": encryption.ParseHash("none"),
            "bad_hash": refusal(lambda: encryption.ParseHash("md0")),
            "none_hash": refusal(lambda: encryption.HashContent("abc", None)),
            "attn": [
                model_utils.GetAttnImpl(ModelConfig={}),
                model_utils.GetAttnImpl({"attn": "flash"}, ParamName="attn"),
                model_utils.GetAttnImpl({"a": "flash_attn"}, "a"),
                model_utils.GetAttnImpl({"attn": "sdpa"}),
            ],
            "bad_attn": refusal(lambda: model_utils.GetAttnImpl({"attn": "magic"})),
            "bnb": [
                model_utils.CreateBNBQuantization(Config={}, FromModelConfig=True),
                model_utils.CreateBNBQuantization({}),
            ],
            "bnb_config": model_utils.CreateBNBQuantization({"bnb_quantization": {"bits": 4}}, FromModelConfig=True).options,
            "dtypes": [str(model_utils.StringToDType(DType=text)) for text in ("f16", "fp32", "bf16", "float32", "int8", "f")],
            "bad_dtype": refusal(lambda: model_utils.StringToDType("f17")),
            "torch": model_utils.torch.__name__,
            "pip": type(requirements.GetPIPCommand(False)).__name__,
            "imported_early": early,
        }
    }


early = [name for name in ("torch", "transformers") if name in sys.modules]
