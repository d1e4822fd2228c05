"""Write datasette_embeddings/models/data/minilm.onnx: the computation of all-MiniLM-L6-v2, without its weights.

    python scripts/make_minilm_graph.py MODEL.safetensors [OUT.onnx]

Needs the `onnx` package. Only names, shapes and offsets of the tensors are read from the file. In the graph every tensor is
"external data" at its place in `model.safetensors`, so the one official file serves as it is, without a conversion or a
second copy. Operators are those that onnxruntime itself fuses an exported BERT into (domain com.microsoft); the weights of
the linear layers stay as PyTorch stores them, (out, in), and are transposed while onnxruntime packs them.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

from onnx import ModelProto, TensorProto, helper

OUT = Path(__file__).parent.parent / "datasette_embeddings" / "models" / "data" / "minilm.onnx"
FUSED = "com.microsoft"
LAYERS, HEADS, DIMENSIONS, EPSILON = 6, 12, 384, 1e-12
OPSET, IR_VERSION = 18, 9  # read by every onnxruntime since 1.16


class Graph:
    """Nodes and initializers, named after the tensors of the checkpoint."""

    def __init__(self, header: dict, data_start: int) -> None:
        self.header = header
        self.data_start = data_start
        self.nodes: list = []
        self.initializers: dict[str, TensorProto] = {}

    def weight(self, name: str) -> str:
        """Return *name*, an initializer that points into the safetensors file."""
        entry = self.header[name]
        assert entry["dtype"] == "F32", entry
        begin, end = entry["data_offsets"]
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=entry["shape"])
        tensor.data_location = TensorProto.EXTERNAL
        where = {"location": "model.safetensors", "offset": self.data_start + begin, "length": end - begin}
        for key, value in where.items():
            tensor.external_data.add(key=key, value=str(value))
        self.initializers[name] = tensor
        return name

    def constant(self, name: str, kind: int, values: list[int]) -> str:
        """Return *name*, a small constant inside the graph."""
        self.initializers[name] = helper.make_tensor(name, kind, [len(values)], values)
        return name

    def node(self, operator: str, inputs: list[str], output: str, domain: str = "", **attributes: object) -> str:
        """Append a node; return the name of its output."""
        outputs = [output, "lengths"] if operator == "EmbedLayerNormalization" else [output]  # the second one is unused
        self.nodes.append(helper.make_node(operator, inputs, outputs, name=output, domain=domain, **attributes))
        return output

    def linear(self, x: str, name: str) -> str:
        """Return x @ W.T without the bias, which the operator that follows adds."""
        return self.node("FusedMatMul", [x, self.weight(f"{name}.weight")], f"{name}/matmul", FUSED, transB=1)

    def add_and_normalise(self, x: str, bias: str, residual: str, norm: str) -> str:
        """LayerNorm(x + bias + residual)."""
        inputs = [x, residual, self.weight(f"{norm}.weight"), self.weight(f"{norm}.bias"), self.weight(bias)]
        return self.node("SkipLayerNormalization", inputs, f"{norm}/out", FUSED, epsilon=EPSILON)


def embeddings(graph: Graph, prefix: str) -> str:
    """Word + position + segment 0, layer-normalised: (batch, tokens, 384)."""
    ids = graph.node("Cast", ["input_ids"], "ids", to=TensorProto.INT32)
    segments = graph.node("Mul", [ids, graph.constant("zero", TensorProto.INT32, [0])], "segments")
    tables = [graph.weight(f"{prefix}{kind}_embeddings.weight") for kind in ("word", "position", "token_type")]
    norm = [graph.weight(f"{prefix}LayerNorm.{part}") for part in ("weight", "bias")]
    return graph.node("EmbedLayerNormalization", [ids, segments, *tables, *norm], "embeddings", FUSED, epsilon=EPSILON)


def layer(graph: Graph, x: str, prefix: str) -> str:
    """One layer of the transformer: attention, then the two linear layers around an exact GELU."""
    own = f"{prefix}attention.self."
    projected = [graph.linear(x, own + part) for part in ("query", "key", "value")]
    biases = [graph.weight(f"{own}{part}.bias") for part in ("query", "key", "value")]
    bias = graph.node("Concat", biases, own + "bias", axis=0)
    attended = graph.node("MultiHeadAttention", [*projected, bias, "mask"], own + "out", FUSED, num_heads=HEADS)
    dense = f"{prefix}attention.output."
    x = graph.add_and_normalise(graph.linear(attended, dense + "dense"), dense + "dense.bias", x, dense + "LayerNorm")
    inner = f"{prefix}intermediate.dense"
    hidden = graph.node("BiasGelu", [graph.linear(x, inner), graph.weight(f"{inner}.bias")], inner + "/gelu", FUSED)
    dense = f"{prefix}output."
    return graph.add_and_normalise(graph.linear(hidden, dense + "dense"), dense + "dense.bias", x, dense + "LayerNorm")


def mean_of_tokens(graph: Graph, x: str) -> str:
    """Mean over the tokens that the mask shows: (batch, 384), not normalised."""
    mask = graph.node("Cast", ["attention_mask"], "mask/float", to=TensorProto.FLOAT)
    axis = graph.constant("axis", TensorProto.INT64, [1])
    rows = graph.node("Unsqueeze", [mask, axis], "mask/rows")
    total = graph.node("Squeeze", [graph.node("MatMul", [rows, x], "total/rows"), axis], "total")
    count = graph.node("ReduceSum", [mask, axis], "count", keepdims=1)
    return graph.node("Div", [total, count], "sentence_embedding")


def build(safetensors: Path) -> ModelProto:
    """Return the graph for the checkpoint in that file."""
    with safetensors.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        graph = Graph(json.loads(file.read(size)), 8 + size)
    graph.node("Cast", ["attention_mask"], "mask", to=TensorProto.INT32)
    x = embeddings(graph, "embeddings.")
    for number in range(LAYERS):
        x = layer(graph, x, f"encoder.layer.{number}.")
    output = mean_of_tokens(graph, x)
    names = ("input_ids", "attention_mask")
    ints = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in names]
    floats = [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", DIMENSIONS])]
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(FUSED, 1)]
    body = helper.make_graph(graph.nodes, "all-MiniLM-L6-v2", ints, floats, list(graph.initializers.values()))
    return helper.make_model(body, opset_imports=opsets, ir_version=IR_VERSION, producer_name="make_minilm_graph")


def main() -> None:
    """Write the graph and say how large it is."""
    source, out = Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else OUT
    data = build(source).SerializeToString(deterministic=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(data)
    print(f"{out}: {len(data):,} bytes")


if __name__ == "__main__":
    main()
