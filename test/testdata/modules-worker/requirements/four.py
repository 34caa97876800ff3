import services_manager
import Utilities.logs as logs
from Utilities.gpu_utils import GPUType


def Install(gpu, vulkan, env, args):
    logs.PrintLog(logs.INFO, "logged")
    print("four", gpu is GPUType.NVIDIA, type(vulkan).__name__, env["MARK"], args, services_manager.IsServiceInstalled("x"))
