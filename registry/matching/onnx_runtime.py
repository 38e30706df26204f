"""Runs an encoder's weights with onnxruntime, to the same vectors as NumPy in less time.

Sources: Devlin et al., "BERT" (2019); the operators of ONNX.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from registry.matching.weights import Weights

_OPERATORS = 20
"""The version of ONNX's operators, the first that has all that are used."""
_ERRORS_ONLY = 3
_OWN = "com.microsoft"
"""The operators that onnxruntime adds."""
_TOGETHER = 32
_LARGEST, _ZERO = 127, 128
_IN_WHOLE_NUMBERS = 4
"""How ``MatMulNBits`` is to multiply: it rounds the other side as well."""
_SILENT = "ORT_DISABLE_TELEMETRY"
"""Read when onnxruntime is imported. From 1.29 on it otherwise tells its makers of the models it runs, and keeps what it could
not send below the home folder."""


def installed() -> bool:
    """Whether what it takes is there: onnxruntime, and onnx, which the graph is built with. Neither is imported."""
    return all(find_spec(name) is not None for name in ("onnx", "onnxruntime"))


class OnnxRuntime:
    """A row for each text of a batch, as :class:`~registry.matching.numpy_runtime.NumpyRuntime` gives it.

    Args:
        weights: what is run. The session reads them where they are, so they are kept.
        rounded: run the linear maps in whole numbers of 8 bits, 32 weights to a scale: a quarter of the memory that a short
            text reads, and vectors that point another way by some three hundredths (cosine .9997).

    Raises:
        Exception: an installation that does not work raises anything, and so does a session that cannot be made.
    """

    name = "onnxruntime"

    def __init__(self, weights: Weights, rounded: bool = False) -> None:
        self._words = weights.tensors["embeddings.word_embeddings.weight"]
        self._places = weights.tensors["embeddings.position_embeddings.weight"]
        self._kinds = weights.tensors["embeddings.token_type_embeddings.weight"]
        graph = _Graph(weights, rounded)
        os.environ.setdefault(_SILENT, "1")
        ort: Any = import_module("onnxruntime")
        options = ort.SessionOptions()
        # One thread is the caller's own: none waits or spins, and a forked child can go on with the session. A second one
        # made no batch faster where other work runs, and took more of the processors.
        options.intra_op_num_threads = 1
        # An arena would keep what the longest batch took: 0.3 GB.
        options.enable_cpu_mem_arena = False
        options.log_severity_level = _ERRORS_ONLY
        self._given = {name: ort.OrtValue.ortvalue_from_numpy(tensor) for name, tensor in graph.given.items()}
        options.add_external_initializers([*self._given], [*self._given.values()])
        self._session = ort.InferenceSession(graph.model(), options, providers=["CPUExecutionProvider"])

    def __call__(self, ids: Any, mask: Any) -> Any:
        """Vectors of length 1, a row for each text.

        Args:
            ids: numbers of pieces, a row for each text, filled up with any.
            mask: 1 where a piece is, 0 where a row was filled up.
        """
        hidden = self._words[ids]  # looked up here, since a session would keep a table of its own
        hidden += self._places[: ids.shape[1]]
        hidden += self._kinds[0]
        return self._session.run(None, {"hidden": hidden, "mask": mask})[0]


class _Graph:
    """The encoder as an ONNX model from its embedded pieces on, without the weights, which are given beside it."""

    def __init__(self, weights: Weights, rounded: bool) -> None:
        self._onnx: Any = import_module("onnx")
        self._np: Any = import_module("numpy")
        self._weights = weights
        self._linear = self._rounded if rounded else self._exact
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self.given: dict[str, Any] = {}
        """Tensors that the model names and does not hold."""
        self._build()

    def model(self) -> bytes:
        """The model as a session takes it."""
        helper, kinds = self._onnx.helper, self._onnx.TensorProto
        rows = ["texts", "pieces"]
        graph = helper.make_graph(
            self._nodes,
            "encoder",
            [
                helper.make_tensor_value_info("hidden", kinds.FLOAT, [*rows, self._weights.dimensions]),
                helper.make_tensor_value_info("mask", kinds.FLOAT, rows),
            ],
            [helper.make_tensor_value_info("vectors", kinds.FLOAT, ["texts", self._weights.dimensions])],
            self._constants,
        )
        operators, own = helper.make_opsetid("", _OPERATORS), helper.make_opsetid(_OWN, 1)
        version = helper.find_min_ir_version_for([operators])
        return helper.make_model(graph, opset_imports=[operators, own], ir_version=version).SerializeToString()

    def _build(self) -> None:
        np, size = self._np, self._weights.dimensions
        heads, each = self._weights.heads, size // self._weights.heads
        shape = self._node("Shape", "hidden", end=2)
        parted = self._node("Concat", shape, self._constant("heads", [heads, each]), axis=0)
        whole = self._node("Concat", shape, self._constant("size", [size]), axis=0)
        rows = self._constant("rows", [-1, size])
        scale = self._constant("scale", np.float32(each**-0.5))
        hiding = self._node("Unsqueeze", "mask", self._constant("over heads and pieces", [1, 2]))
        hiding = self._node("Sub", hiding, self._constant("one", np.float32(1.0)))
        hiding = self._node("Mul", hiding, self._constant("large", np.float32(1e9)))

        hidden = self._norm(self._node("Reshape", "hidden", rows), "embeddings.LayerNorm")
        for number in range(self._weights.layers):
            layer = f"encoder.layer.{number}."
            query, key, value = (
                self._node("Reshape", self._linear(hidden, f"{layer}attention.self.{part}"), parted)
                for part in ("query", "key", "value")
            )
            query = self._node("Mul", self._node("Transpose", query, perm=[0, 2, 1, 3]), scale)
            scores = self._node("MatMul", query, self._node("Transpose", key, perm=[0, 2, 3, 1]))
            shares = self._node("Softmax", self._node("Add", scores, hiding), axis=-1)
            seen = self._node("MatMul", shares, self._node("Transpose", value, perm=[0, 2, 1, 3]))
            seen = self._node("Reshape", self._node("Transpose", seen, perm=[0, 2, 1, 3]), rows)
            attended = self._linear(seen, f"{layer}attention.output.dense")
            hidden = self._norm(self._node("Add", attended, hidden), f"{layer}attention.output.LayerNorm")
            inner = self._node("Gelu", self._linear(hidden, f"{layer}intermediate.dense"))
            inner = self._linear(inner, f"{layer}output.dense")
            hidden = self._norm(self._node("Add", inner, hidden), f"{layer}output.LayerNorm")
        second = self._constant("second", [1])
        # The sum of what is seen of a text; its mean has the same direction.
        seen = self._node("MatMul", self._node("Unsqueeze", "mask", second), self._node("Reshape", hidden, whole))
        self._node("LpNormalization", self._node("Squeeze", seen, second), to="vectors")

    def _exact(self, rows: str, name: str) -> str:
        return self._node("Gemm", rows, self._tensor(f"{name}.weight"), self._tensor(f"{name}.bias"), transB=1)

    def _rounded(self, rows: str, name: str) -> str:
        np, weight = self._np, self._weights.tensors[f"{name}.weight"]
        columns, size = weight.shape
        blocks = np.zeros((columns, -(-size // _TOGETHER), _TOGETHER), dtype=np.float32)
        blocks.reshape(columns, -1)[:, :size] = weight
        scale = np.maximum(np.abs(blocks).max(axis=2, keepdims=True) / _LARGEST, np.float32(1e-30))
        whole = self._constant(f"{name}.whole", (np.rint(blocks / scale) + _ZERO).astype(np.uint8))
        return self._node(
            "MatMulNBits", rows, whole, self._constant(f"{name}.scale", scale.ravel()), "", "", self._tensor(f"{name}.bias"),
            domain=_OWN, K=size, N=columns, bits=8, block_size=_TOGETHER, accuracy_level=_IN_WHOLE_NUMBERS,
        )  # fmt: skip

    def _norm(self, rows: str, name: str) -> str:
        weight, bias = self._tensor(f"{name}.weight"), self._tensor(f"{name}.bias")
        return self._node("LayerNormalization", rows, weight, bias, epsilon=self._weights.epsilon)

    def _tensor(self, name: str) -> str:
        kinds = self._onnx.TensorProto
        self.given[name] = tensor = self._weights.tensors[name]
        about = kinds(name=name, data_type=kinds.FLOAT, dims=tensor.shape, data_location=kinds.EXTERNAL)
        about.external_data.add(key="location", value=name)
        self._constants.append(about)
        return name

    def _constant(self, name: str, value: Any) -> str:
        self._constants.append(self._onnx.numpy_helper.from_array(self._np.asarray(value), name))
        return name

    def _node(self, operator: str, *of: str, to: str = "", **attributes: Any) -> str:
        to = to or f"value {len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(operator, of, [to], **attributes))
        return to
