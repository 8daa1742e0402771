"""Recipe: export a Keras or torch LSTM/GRU to ONNX as native nodes, with batch and time left open, and check it.

Run: python scripts/to_onnx.py
"""

import keras
import numpy as np
import onnxruntime

import parity

# Your trained model; a torch.nn.LSTM, or a path to a .keras, .pt or .safetensors file works as well.
model = keras.Sequential(
    [
        keras.Input((None, 8)),
        keras.layers.GRU(16, return_sequences=True),
        keras.layers.GRU(12),
        keras.layers.Dense(3, activation="softmax", name="classes"),
    ]
)

onnx_model = parity.to_onnx(model)
print("nodes:", ", ".join(node.op_type for node in onnx_model.graph.node))

# Any batch, any length: nothing is frozen, and there is no Loop.
session = onnxruntime.InferenceSession(onnx_model.SerializeToString())
for batch, time in ((1, 5), (7, 40)):
    x = np.random.default_rng(0).standard_normal((batch, time, 8)).astype("float32")
    (classes,) = session.run(["classes"], {"input": x})
    print(f"{batch} x {time}: largest difference {abs(classes - np.asarray(model(x))).max():.2g}")

print(parity.compare(model, onnx_model))

# onnx.save(onnx_model, "model.onnx")
