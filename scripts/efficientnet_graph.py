"""EfficientNet-Lite0 as an ONNX graph, written from its published weights: batch norms folded, the classifier left out.

The network (Tan and Le, "EfficientNet", ICML 2019; the Lite variant by Google, 2020) is a stem, sixteen blocks and a head,
all of them convolutions with ReLU6. Its shape is read from the weights; only strides are listed here. Nothing of the
weights' file is executed: it is read by `torch.load(weights_only=True)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import ModelProto

    Array = NDArray[np.float32]

SIZE = 224
"""Pixels of a side of the picture that the network was trained on."""

MEAN, DEVIATION = 127 / 255, 128 / 255
"""Of each colour, as in the official code (`tensorflow/tpu`, efficientnet/lite), which counts from 0 to 255."""

STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
"""Of the sixteen blocks; the stem's is 2."""

EPSILON = 1e-3
"""Of the batch norms, as in the official code; PyTorch's default differs."""

OPSET, IR_VERSION = 17, 8
"""Read by every onnxruntime since 1.13."""


def read_weights(path: Path) -> dict[str, Array]:
    """Return the tensors of a PyTorch checkpoint by name."""
    import torch

    return {name: tensor.numpy() for name, tensor in torch.load(path, weights_only=True).items()}


class Graph:
    """Nodes and initializers. *quantised*: weights are kept as int8, a scale for each output channel."""

    def __init__(self, quantised: bool) -> None:
        self.quantised = quantised
        self.nodes: list = []
        self.initializers: list = []

    def constant(self, name: str, array: NDArray) -> str:
        """Return *name*, an array inside the graph."""
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        """Append a node; return the name of its output."""
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def weight(self, name: str, array: Array) -> str:
        """Return the name of a kernel (out, in, h, w).

        Quantised it is a Cast and a Mul, which every onnxruntime computes once, when it loads the graph.
        """
        if not self.quantised:
            return self.constant(name, array)
        scale = np.abs(array).max(axis=(1, 2, 3), keepdims=True) / 127
        scale[scale == 0] = 1
        whole = self.constant(f"{name}/int8", np.rint(array / scale).astype(np.int8))
        cast = self.node("Cast", [whole], f"{name}/cast", to=TensorProto.FLOAT)
        return self.node("Mul", [cast, self.constant(f"{name}/scale", scale.astype(np.float32))], name)

    def matrix(self, name: str, array: Array) -> str:
        """Return the name of a matrix, quantised to float16: its numbers are of too many sizes for one scale."""
        if not self.quantised:
            return self.constant(name, array)
        return self.node("Cast", [self.constant(f"{name}/half", array.astype(np.float16))], name, to=TensorProto.FLOAT)

    def convolution(self, x: str, name: str, kernel: Array, bias: Array, stride: int = 1, groups: int = 1) -> str:
        """Append a convolution whose output has 1 / *stride* of the sides of its input, which are even."""
        size = kernel.shape[2]
        missing = size - stride  # what TensorFlow's SAME adds to even sides, one more at the end where it is odd
        pads = [missing // 2] * 2 + [missing - missing // 2] * 2
        inputs = [x, self.weight(f"{name}.weight", kernel), self.constant(f"{name}.bias", bias)]
        return self.node("Conv", inputs, name, pads=pads, strides=[stride] * 2, group=groups, kernel_shape=[size] * 2)


class Network:
    """Appends the network's layers to a graph, with the weights of a checkpoint."""

    def __init__(self, graph: Graph, weights: Mapping[str, Array]) -> None:
        self.graph = graph
        self.weights = weights

    def layer(
        self, x: str, name: str, norm: str, stride: int = 1, *, depthwise: bool = False, linear: bool = False
    ) -> str:
        """Convolution, batch norm folded into it, and ReLU6 unless it is *linear*."""
        kernel, bias = folded(self.weights, name, norm)
        groups = kernel.shape[0] if depthwise else 1
        x = self.graph.convolution(x, name, kernel, bias, stride, groups)
        return x if linear else self.graph.node("Clip", [x, "zero", "six"], f"{name}/relu6")

    def block(self, x: str, number: int, stride: int) -> str:
        """Widen, convolve each channel alone, narrow; add the input where it has the output's shape."""
        own = f"_blocks.{number}."
        wide = x
        if f"{own}_expand_conv.weight" in self.weights:
            wide = self.layer(x, f"{own}_expand_conv", f"{own}_bn0")
        wide = self.layer(wide, f"{own}_depthwise_conv", f"{own}_bn1", stride, depthwise=True)
        narrow = self.layer(wide, f"{own}_project_conv", f"{own}_bn2", linear=True)
        first = self.weights.get(f"{own}_expand_conv.weight", self.weights[f"{own}_depthwise_conv.weight"])
        same = stride == 1 and first.shape[1] == self.weights[f"{own}_project_conv.weight"].shape[0]
        return self.graph.node("Add", [narrow, x], f"{own}out") if same else narrow

    def stages(self, pixels: str) -> list[str]:
        """Return the outputs of stem, blocks and head."""
        self.graph.constant("zero", np.float32(0))
        self.graph.constant("six", np.float32(6))
        x = self.layer(pixels, "_conv_stem", "_bn0", 2)
        outputs = [x]
        for number, stride in enumerate(STRIDES):
            x = self.block(x, number, stride)
            outputs.append(x)
        return [*outputs, self.layer(x, "_conv_head", "_bn1")]


def folded(weights: Mapping[str, Array], name: str, norm: str) -> tuple[Array, Array]:
    """Return kernel and bias of a convolution that does what the batch norm after it did."""
    scale = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + EPSILON)
    bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
    return weights[f"{name}.weight"] * scale[:, None, None, None], bias


def finished(graph: Graph, name: str, outputs: Mapping[str, int]) -> ModelProto:
    """Return the model: pixel_values (n, 3, 224, 224) to *outputs*, each (n, columns)."""
    pixels = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])
    values = [
        helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", columns])
        for output, columns in outputs.items()
    ]
    body = helper.make_graph(graph.nodes, name, [pixels], values, graph.initializers)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
