"""Recipe: move a torch.nn.LSTM or nn.GRU to Keras, and check it. Copy it into your migration and put your own module in.

Run: python scripts/torch_to_keras.py
"""

import numpy as np
import torch

import parity

# Your trained module; a path to a .pt or .safetensors state dict works as well.
gru = torch.nn.GRU(8, 16, num_layers=2, bidirectional=True, batch_first=True)

# One layer gives keras.layers.GRU or Bidirectional; a stack like this one a functional model.
# Its outputs: the sequence, then each layer's states, direction by direction.
model = parity.to_keras(gru)

x = np.random.default_rng(0).standard_normal((4, 25, 8)).astype("float32")
sequence, *states = model(x)
with torch.no_grad():
    output, h_n = gru(torch.from_numpy(x))
print("largest difference of the sequence:", abs(np.asarray(sequence) - output.numpy()).max())
for index, state in enumerate(states):
    print(f"largest difference of h_n[{index}]:", abs(np.asarray(state) - h_n[index].numpy()).max())

# An LSTM's two torch biases become one in Keras: their sum, rounded once. A GRU keeps both.
print(parity.compare(gru, model))

# model.save("gru.keras")
