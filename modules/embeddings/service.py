"""Sentence embeddings: texts of one meaning get vectors that point in one direction.

Start reading here: a service module is a `service.py` with three functions. Berth calls them by position, inside the
module's own container. What a module prints goes to its log (`berth logs embeddings`).

    berth infer minilm "a cat on a mat"
    berth infer minilm --param 'input=["a cat", "a dog"]' --json
"""

import os

# The linear algebra inside numpy would start one thread per core of the machine, however few cores this container
# has a share of. It reads this once, when numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", str(min(4, os.cpu_count() or 1)))

from Services.embeddings.minilm import MiniLM  # a file beside this one: `Services.<folder>.<file>`

models = {}


def SERVICE_LOAD_MODELS(Models):
    """Models: {"minilm": {...its entry in module.yaml or berth.yaml...}}"""
    for name in Models:
        if name not in models:
            models[name] = MiniLM()


def SERVICE_OFFLOAD_MODELS(Models):
    """Models: ["minilm"]. What is dropped here can be loaded again later."""
    for name in Models:
        models.pop(name, None)


def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    """A generator of answers. One text gives `extra.embedding`, several give `extra.embeddings` in the same order."""
    texts, single = _texts(UserParameters)
    vectors, tokens = models[Name].embed(texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    if single:
        yield {"extra": {"embedding": vectors[0].tolist(), "usage": usage}}
    else:
        yield {"extra": {"embeddings": vectors.tolist(), "usage": usage}}


def _texts(parameters):
    """The texts to embed, and whether it is one alone: `parameters.input`, else the last message of the user."""
    given = parameters.get("input")
    if given is None:
        user = [message for message in parameters.get("conversation", []) if message.get("role") == "user"]
        content = user[-1]["content"] if user else []
        given = [entry["text"] for entry in content if entry.get("type") == "text"]
        if len(given) == 1:
            given = given[0]
    if isinstance(given, str):
        return [given], True
    if not isinstance(given, list) or not given or not all(isinstance(text, str) for text in given):
        raise ValueError("nothing to embed: send a text in the conversation, or a text or a list of texts as the parameter 'input'")
    return given, False
