"""Recipe: check a port that you wrote by hand. Copy it into your tests and put your own layers in.

Run: python scripts/compare.py
"""

import keras
import torch

import parity

layer = keras.layers.GRU(16, return_sequences=True, return_state=True)
layer.build((None, None, 8))
layer.set_weights([0.3 * keras.random.normal(w.shape, seed=i) for i, w in enumerate(layer.weights)])

# A port by hand: Keras keeps the gates as z, r, h; torch as r, z, n. This one forgot to swap them.
port = torch.nn.GRU(8, 16, batch_first=True)
kernel, recurrent_kernel, bias = (torch.tensor(w) for w in layer.get_weights())
port.load_state_dict(
    {
        "weight_ih_l0": kernel.T,
        "weight_hh_l0": recurrent_kernel.T,
        "bias_ih_l0": bias[0],
        "bias_hh_l0": bias[1],
    }
)

comparison = parity.compare(layer, port)
print(comparison)
print("verdict of the port by hand:", comparison.verdict)

# What parity's own conversion says, and the line for a test:
parity.assert_parity(layer, parity.to_torch(layer))
print("verdict of parity.to_torch:", parity.compare(layer, parity.to_torch(layer)).verdict)

# comparison.save_html("report.html")
