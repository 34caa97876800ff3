"""Stands in for torch: enough of it for data types."""


class dtype:
    def __init__(self, name):
        self.name = name

    def __str__(self):
        return "torch." + self.name


float16, float32, bfloat16, int8 = map(dtype, ("float16", "float32", "bfloat16", "int8"))
float17 = "no data type"
