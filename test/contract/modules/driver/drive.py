"""Plays the runner's part for one module: import, load, one inference per request, offload.

Reads {"model", "requests": [parameters]} from standard input and writes a JSON list: the yields of each request, or its error.
"""

import importlib.util
import json
import sys
import types
from pathlib import Path

folder = Path(sys.argv[1])
for name, path in (("Services", folder.parent), (f"Services.{folder.name}", folder)):
    package = types.ModuleType(name)
    package.__path__ = [str(path)]
    sys.modules[name] = package
spec = importlib.util.spec_from_file_location(folder.name, folder / "service.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)

order = json.load(sys.stdin)
model = order["model"]
answers = []
for parameters in order["requests"]:
    module.SERVICE_LOAD_MODELS({model: {}})
    try:
        answers.append({"yields": list(module.SERVICE_INFERENCE(model, {}, parameters))})
    except Exception as error:
        answers.append({"error": f"{type(error).__name__}: {error}"})
    module.SERVICE_OFFLOAD_MODELS([model])  # so each request also shows that loading again works
json.dump(answers, sys.stdout, allow_nan=False)
