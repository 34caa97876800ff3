"""Configuration values as what torch and transformers take. Both are imported only when they are used."""

import importlib
import re
from typing import Any, Optional

_DTYPE = re.compile(r"(bfloat|bfp|bf|float|fp|f|uint|u|int|i)(\d\w*)")
_FAMILIES = {
    "bfloat": "bfloat",
    "bfp": "bfloat",
    "bf": "bfloat",
    "float": "float",
    "fp": "float",
    "f": "float",
    "uint": "uint",
    "u": "uint",
    "int": "int",
    "i": "int",
}
_ATTENTION = {
    "none": None,
    "eager": "eager",
    "sdpa": "sdpa",
    "flash": "flash_attention_2",
    "flash_attn": "flash_attention_2",
    "flash_attn_2": "flash_attention_2",
    "flash_attention_2": "flash_attention_2",
    "flash_3": "flash_attention_3",
    "flash_attn_3": "flash_attention_3",
    "flash_attention_3": "flash_attention_3",
    "flex": "flex_attention",
    "flex_attn": "flex_attention",
    "flex_attention": "flex_attention",
}


def __getattr__(name: str) -> Any:
    """``model_utils.torch`` and the like: modules take them from here."""
    if name in ("torch", "transformers"):
        return importlib.import_module(name)
    if name == "BitsAndBytesConfig":
        return importlib.import_module("transformers").BitsAndBytesConfig
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def StringToDType(DType: str) -> Any:
    """The dtype of torch by name: fp16, bf16, float32, f8_e4m3fn, int8 and so on; f, fp and float alone are float32."""
    name = str(DType).strip().lower()
    if name.startswith("torch."):
        name = name[len("torch.") :]
    if name in ("f", "fp", "float"):
        name = "float32"
    parts = _DTYPE.fullmatch(name)
    torch = importlib.import_module("torch")
    found = getattr(torch, _FAMILIES[parts.group(1)] + parts.group(2), None) if parts else None
    if not isinstance(found, torch.dtype):
        raise ValueError(f"{DType!r} is no data type that this torch knows")
    return found


def CreateBNBQuantization(Config: Optional[dict[str, Any]], FromModelConfig: bool = False) -> Any:
    """
    A BitsAndBytesConfig, or None when no quantization is configured. ``Config`` is a model's configuration (with
    ``FromModelConfig``), or the inside of its ``bnb_quantization``.
    """
    config = Config or {}
    inside = config.get("bnb_quantization")
    if inside is None and not FromModelConfig and "bits" in config:
        inside = config
    if inside is None:
        return None
    bits = inside.get("bits")
    if bits not in (4, 8):
        raise ValueError(f"bnb_quantization: bits has to be 4 or 8, not {bits!r}")
    transformers = importlib.import_module("transformers")
    return transformers.BitsAndBytesConfig(load_in_8bit=bits == 8, load_in_4bit=bits == 4)


def GetAttnImpl(ModelConfig: dict[str, Any], ParamName: str = "attn") -> Optional[str]:
    """The name transformers takes as ``attn_implementation``, or None when the configuration names none."""
    value = ModelConfig.get(ParamName)
    if value is None:
        return None
    name = str(value).strip().lower()
    if name not in _ATTENTION:
        raise ValueError(
            f"{ParamName}: {value!r} is no attention implementation; known are {', '.join(sorted(_ATTENTION))}"
        )
    return _ATTENTION[name]
