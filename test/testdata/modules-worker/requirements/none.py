import Utilities.gpu_utils as gpu


def Install():
    print("none", gpu.DetectGPU().name)
