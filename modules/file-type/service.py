"""File types: any file goes in; what it is comes out, judged by its content and not by its name.

The smallest of the three examples: a `requirements.txt`, three functions, one answer per file.

    berth infer file-type --file unknown.bin
"""

import base64

from magika import Magika

models = {}


def SERVICE_LOAD_MODELS(Models):
    for name in Models:
        if name not in models:
            models[name] = Magika()


def SERVICE_OFFLOAD_MODELS(Models):
    for name in Models:
        models.pop(name, None)


def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    for name, data in _files(UserParameters.get("conversation", [])):
        result = models[Name].identify_bytes(data)
        found = result.output
        yield {
            "text": f"{name}: {found.description} ({found.mime_type}), {result.score:.0%} sure\n",
            "extra": {"label": found.label, "mime": found.mime_type, "group": found.group, "score": result.score},
        }


def _files(conversation):
    """Name and bytes of each file, image or sound in the user's last message: {"type": "file", "file": <base64>, "name"}."""
    user = [message for message in conversation if message.get("role") == "user"]
    content = user[-1]["content"] if user else []
    entries = [entry for entry in content if entry.get("type") in ("file", "image", "audio")]
    if not entries:
        raise ValueError("no file to judge: send one in the conversation as {'type': 'file', 'file': <base64>}")
    return [(entry.get("name", entry["type"]), base64.b64decode(entry[entry["type"]])) for entry in entries]
