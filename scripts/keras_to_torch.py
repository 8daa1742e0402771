"""Recipe: move a Keras LSTM or GRU to PyTorch, and check it. Copy it into your migration and put your own layer in.

Run: python scripts/keras_to_torch.py
"""

import keras
import numpy as np
import torch

import parity

# Your trained layer or model; a path to a .keras file works as well.
layer = keras.layers.Bidirectional(keras.layers.LSTM(16, return_sequences=True, return_state=True))
layer.build((None, None, 8))

# The same function as torch.nn.LSTM(8, 16, batch_first=True, bidirectional=True).
lstm = parity.to_torch(layer)

# It returns what torch returns: (output, (h_n, c_n)). parity.explain(layer) says which Keras value is where.
x = np.random.default_rng(0).standard_normal((4, 25, 8)).astype("float32")
keras_output, keras_forward_h, *_ = layer(x)
with torch.no_grad():
    output, (h_n, c_n) = lstm(torch.from_numpy(x))
print("largest difference of the sequence:", abs(np.asarray(keras_output) - output.numpy()).max())
print("largest difference of the forward h:", abs(np.asarray(keras_forward_h) - h_n[0].numpy()).max())

# Is that difference rounding, or a mistake? The float32 floor of this very layer says.
print(parity.compare(layer, lstm))

# Keep the weights; nn.LSTM(...).load_state_dict(torch.load(path)) opens them without parity.
# torch.save(lstm.state_dict(), "lstm.pt")
