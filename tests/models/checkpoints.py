"""Tiny models with random weights, written as their libraries write real ones: a BERT and a CLIP. Quick, and right in form only."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "cat", "dog", "query", "passage", ":"]


def write_bert(folder: Path, **prompts: str) -> Path:
    """Write a sentence-transformers model of 32 dimensions that reads 16 tokens."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(1)
    network = folder.with_name(folder.name + "-network")
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(network)
    vocabulary = network / "vocab.txt"
    vocabulary.write_text("\n".join(WORDS))
    BertTokenizerFast(vocab=str(vocabulary)).save_pretrained(network)
    transformer = Transformer(str(network), max_seq_length=16)
    SentenceTransformer(modules=[transformer, Pooling(32)], prompts=prompts, device="cpu").save(str(folder))
    return folder


def write_clip(folder: Path) -> Path:
    """Write a transformers CLIP of 32 dimensions for images of 32 x 32 pixels."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizerFast

    torch.manual_seed(2)
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = letters + [letter + "</w>" for letter in letters] + ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: n for n, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    config = CLIPConfig(
        text_config={**small, **ends, "vocab_size": len(words), "max_position_embeddings": 24, "projection_dim": 32},
        vision_config={**small, "image_size": 32, "patch_size": 8, "projection_dim": 32},
        projection_dim=32,
    )
    CLIPModel(config).save_pretrained(folder)
    tokenizer = CLIPTokenizerFast(
        vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), model_max_length=24
    )
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def export_clip(checkpoint: Path, folder: Path, *, both: bool = False) -> Path:
    """Write a CLIP of transformers as ONNX: its two halves, or *both* in one file, with its tokenizer and preprocessing."""
    import torch
    from transformers import CLIPModel, CLIPProcessor, CLIPTextModelWithProjection, CLIPVisionModelWithProjection

    folder.mkdir(parents=True)
    CLIPProcessor.from_pretrained(checkpoint).save_pretrained(folder)
    (folder / "config.json").write_text((checkpoint / "config.json").read_text())
    ids = torch.tensor([[52, 1, 2, 53]] * 2)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": torch.zeros(2, 3, 32, 32)}
    words, pictures = ("input_ids", "attention_mask"), ("pixel_values",)
    if both:
        outputs = ("logits_per_image", "logits_per_text", "text_embeds", "image_embeds")
        plan = {"model.onnx": (CLIPModel, words + pictures, outputs)}
    else:
        plan = {
            "text_model.onnx": (CLIPTextModelWithProjection, words, ("text_embeds", "last_hidden_state")),
            "vision_model.onnx": (CLIPVisionModelWithProjection, pictures, ("image_embeds", "last_hidden_state")),
        }
    for name, (kind, taken, given) in plan.items():
        network = kind.from_pretrained(checkpoint, attn_implementation="eager").eval()
        axes = {key: {0: "texts", 1: "tokens"} if key in words else {0: "pictures"} for key in taken}
        network.forward = partial(_by_position, network.forward, taken, given)
        torch.onnx.export(
            network,
            tuple(inputs[key] for key in taken),
            folder / name,
            input_names=list(taken),
            output_names=list(given),
            dynamic_axes=axes,
            dynamo=False,
        )
    return folder


def _by_position(forward: Callable, taken: tuple[str, ...], given: tuple[str, ...], *values: object) -> tuple:
    """Call a model of transformers as ONNX has it: inputs and outputs in an order, without names."""
    answer = forward(**dict(zip(taken, values, strict=True)))
    return tuple(answer[key] for key in given)
