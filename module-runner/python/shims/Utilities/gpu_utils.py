"""Which kind of GPU is there: what the engine gave to the module, else what devices show."""

import os
import shutil
import subprocess
from enum import Enum

_VULKAN_SECONDS = 10
_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "INTEL"}


class GPUType(Enum):
    NVIDIA = 0
    AMD = 1
    INTEL = 2
    NO_GPU = 3


def DetectGPU() -> GPUType:
    told = os.environ.get("BERTH_GPU", "")
    if told in GPUType.__members__:
        return GPUType[told]
    if any(os.path.exists(device) for device in ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg")):
        return GPUType.NVIDIA
    if os.path.exists("/dev/kfd"):
        return GPUType.AMD
    for device in _render_devices():
        vendor = _VENDORS.get(_vendor(device))
        if vendor is not None:
            return GPUType[vendor]
    return GPUType.NO_GPU


def GPUHasVulkan() -> bool:
    program = shutil.which("vulkaninfo")
    if program is None:
        return False
    try:
        answer = subprocess.run(
            [program, "--summary"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=_VULKAN_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return answer.returncode == 0 and b"GPU" in answer.stdout


def _render_devices() -> list[str]:
    try:
        return sorted(name for name in os.listdir("/dev/dri") if name.startswith("renderD"))
    except OSError:
        return []


def _vendor(device: str) -> str:
    try:
        with open(f"/sys/class/drm/{device}/device/vendor", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
