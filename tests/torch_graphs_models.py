"""Architectures that people port, small, for `test_torch_graphs.py`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TextRecogniser(nn.Module):
    """CRNN: convolutions over an image, its columns as time, two bidirectional layers, time-major as the original."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(True), nn.MaxPool2d(2, 2), nn.Conv2d(4, 6, 3, padding=1),
            nn.BatchNorm2d(6), nn.ReLU(True), nn.MaxPool2d((2, 2), (2, 1), (0, 1)), nn.Conv2d(6, 7, (4, 2)),
        )  # fmt: skip
        self.first = nn.LSTM(7, 5, bidirectional=True)
        self.between = nn.Linear(10, 6)
        self.second = nn.LSTM(6, 5, bidirectional=True)
        self.classes = nn.Linear(10, 9)

    def forward(self, image: Tensor) -> Tensor:
        """Logarithms of probabilities, (time, batch, classes)."""
        x = self.features(image)
        height = x.size(2)
        assert height == 1, "the height of the features must be 1"
        x, _ = self.first(x.squeeze(2).permute(2, 0, 1))
        t, b, h = x.size()
        x = self.between(x.view(t * b, h)).view(t, b, -1)
        x, _ = self.second(x)
        return F.log_softmax(self.classes(x), dim=2)


class SpeechRecogniser(nn.Module):
    """DeepSpeech2: convolutions over a spectrogram, bidirectional GRUs with their directions summed, batch norm between."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 3, (5, 3), stride=(2, 2), padding=(2, 1)), nn.BatchNorm2d(3), nn.Hardtanh(0, 20, inplace=True)
        )
        self.rnns = nn.ModuleList([nn.GRU(size, 6, bidirectional=True, bias=True) for size in (24, 6, 6)])
        self.norms = nn.ModuleList([nn.BatchNorm1d(6) for _ in range(2)])
        self.fc = nn.Linear(6, 7, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Probabilities, (batch, time, classes), of a spectrogram (batch, 1, frequency, time)."""
        x = self.conv(x)
        x = x.view(x.size(0), x.size(1) * x.size(2), x.size(3)).transpose(1, 2).transpose(0, 1).contiguous()
        for place, rnn in enumerate(self.rnns):
            if place:
                t, n = x.size(0), x.size(1)
                x = self.norms[place - 1](x.view(t * n, -1)).view(t, n, -1)
            x, _ = rnn(x)
            x = x.view(x.size(0), x.size(1), 2, -1).sum(2)
        return F.softmax(self.fc(x.transpose(0, 1)), dim=-1)


class Translator(nn.Module):
    """Sequence to sequence: the encoder's states start the decoder, whose steps attend to the encoder's outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.source_embedding, self.target_embedding = nn.Embedding(30, 6), nn.Embedding(25, 5)
        self.encoder = nn.LSTM(6, 7, batch_first=True)
        self.decoder = nn.LSTM(5, 7, batch_first=True)
        self.combine = nn.Linear(14, 8)
        self.out = nn.Linear(8, 25)

    def forward(self, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (batch, target time, words) and the attention."""
        memory, states = self.encoder(self.source_embedding(source))
        y, _ = self.decoder(self.target_embedding(target), states)
        scores = torch.bmm(y, memory.transpose(1, 2)).masked_fill((source == 0).unsqueeze(1), -1e9)
        weights = F.softmax(scores, dim=-1)
        context = torch.bmm(weights, memory)
        return self.out(torch.tanh(self.combine(torch.cat([context, y], dim=-1)))), weights


class TextEncoder(nn.Module):
    """Tacotron 2: embedding, three convolutions with batch norm, a bidirectional layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(40, 8)
        self.convolutions = nn.ModuleList(
            [nn.Sequential(nn.Conv1d(8, 8, 5, padding=2), nn.BatchNorm1d(8)) for _ in range(3)]
        )
        self.lstm = nn.LSTM(8, 4, 1, batch_first=True, bidirectional=True)

    def forward(self, text: Tensor) -> Tensor:
        """(batch, time, 8)."""
        x = self.embedding(text).transpose(1, 2)
        for conv in self.convolutions:
            x = F.dropout(F.relu(conv(x)), 0.5, self.training)
        self.lstm.flatten_parameters()
        return self.lstm(x.transpose(1, 2))[0]


class Unmixer(nn.Module):
    """Open-Unmix: scaled spectrogram, a dense layer with batch norm, three bidirectional layers, a skip, a mask on the input."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.bn1 = nn.Linear(12, 8, bias=False), nn.BatchNorm1d(8)
        self.lstm = nn.LSTM(8, 4, num_layers=3, bidirectional=True, dropout=0.4)
        self.fc2, self.bn2 = nn.Linear(16, 8, bias=False), nn.BatchNorm1d(8)
        self.fc3, self.bn3 = nn.Linear(8, 14, bias=False), nn.BatchNorm1d(14)
        self.input_mean, self.input_scale = nn.Parameter(torch.rand(6)), nn.Parameter(torch.rand(6))
        self.output_scale, self.output_mean = nn.Parameter(torch.rand(7)), nn.Parameter(torch.rand(7))

    def forward(self, x: Tensor) -> Tensor:
        """A spectrogram (batch, 2, 7, time) masked."""
        x = x.permute(3, 0, 1, 2)
        frames, samples, channels, _ = x.data.shape
        mix = x.detach().clone()
        x = (x[..., :6] + self.input_mean) * self.input_scale
        x = self.bn1(self.fc1(x.reshape(-1, channels * 6)))
        x = torch.tanh(x.reshape(frames, samples, 8))
        out = self.lstm(x)
        x = torch.cat([x, out[0]], -1)
        x = F.relu(self.bn2(self.fc2(x.reshape(-1, x.shape[-1]))))
        x = self.bn3(self.fc3(x)).reshape(frames, samples, channels, 7)
        x *= self.output_scale
        x += self.output_mean
        return (F.relu(x) * mix).permute(1, 2, 3, 0)


class Denoiser(nn.Module):
    """DTLN: a core with its states as inputs and outputs, one chunk at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(9)
        self.rnn1, self.rnn2 = nn.LSTM(9, 6, batch_first=True), nn.LSTM(6, 5, batch_first=True)
        self.dense = nn.Linear(5, 9)

    def forward(self, magnitude: Tensor, state: tuple[Tensor, Tensor, Tensor, Tensor]) -> Any:
        """The masked magnitude and the states."""
        h1, c1, h2, c2 = state
        x, (h1, c1) = self.rnn1(self.norm(magnitude), (h1, c1))
        x, (h2, c2) = self.rnn2(x, (h2, c2))
        return torch.sigmoid(self.dense(x)) * magnitude, (h1, c1, h2, c2)


class VoiceEncoder(nn.Module):
    """Resemblyzer: the last state of the last layer, projected and of length one."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(10, 6, 3, batch_first=True)
        self.linear = nn.Linear(6, 6)

    def forward(self, mels: Tensor) -> Tensor:
        """(batch, 6)."""
        _, (hidden, _) = self.lstm(mels)
        raw = F.relu(self.linear(hidden[-1]))
        return raw / (torch.norm(raw, dim=1, keepdim=True) + 1e-6)


class Tagger(nn.Module):
    """A tag for every word of sentences of different lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 7, padding_idx=0)
        self.dropout = nn.Dropout(0.3)
        self.lstm = nn.LSTM(7, 5, num_layers=2, bidirectional=True, batch_first=True, dropout=0.3)
        self.tags = nn.Linear(10, 6)

    def forward(self, words: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Logits (batch, time, tags), and a summary of the states."""
        x = self.dropout(self.embedding(words))
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        y, (h, _) = self.lstm(packed)
        y, _ = nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=words.size(1))
        return {"logits": self.tags(self.dropout(y)), "summary": torch.cat((h[-2], h[-1]), dim=1)}


class Forecaster(nn.Module):
    """The past through a GRU, what does not change beside it, a dense layer for all steps ahead."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 6, batch_first=True)
        self.static = nn.Sequential(nn.Linear(3, 5), nn.ReLU())
        self.head = nn.Linear(11, 8)

    def forward(self, past: Tensor, static: Tensor) -> Tensor:
        """(batch, 4 steps, 2 quantities)."""
        y, _ = self.gru(past)
        return self.head(torch.cat([y[:, -1, :], self.static(static)], dim=-1)).view(-1, 4, 2)


class Picker(nn.Module):
    """Residual blocks, an attention with heads and additive attention with parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 8, 7, stride=2, padding=3)
        self.pool = nn.MaxPool1d(2)
        self.lstm = nn.LSTM(8, 4, bidirectional=True, batch_first=True)
        self.heads = nn.MultiheadAttention(8, 2, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
        self.norm = nn.LayerNorm(8)
        self.weight, self.bias = nn.Parameter(torch.rand(8, 1)), nn.Parameter(torch.rand(1))

    def forward(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        """A summary (batch, 8) of a signal (batch, 3, time), and every step."""
        x = self.pool(F.relu(self.conv(signal))).transpose(1, 2)
        y, _ = self.lstm(x)
        a, _ = self.heads(y, y, y)
        y = self.layer(self.norm(y + a))
        share = torch.softmax(torch.tanh(y @ self.weight + self.bias), dim=1)
        return (y * share).sum(1), y


class Streamer(nn.Module):
    """One step with its states, through two cells."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LSTMCell(5, 6), nn.GRUCell(6, 4)

    def forward(self, x: Tensor, states: tuple[tuple[Tensor, Tensor], Tensor]) -> Any:
        """What the second gives, and all states."""
        (h, c), g = states
        h, c = self.first(x, (h, c))
        g = self.second(h, g)
        return g, ((h, c), g)


class LastStep(nn.Module):
    """The output at the last valid step of every sample, in two ways of saying it."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 6, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(batch, 6) twice, and the mean of the valid steps."""
        y, _ = self.gru(x)
        last = y[torch.arange(y.size(0)), lengths - 1]
        places = (lengths - 1).view(-1, 1, 1).expand(-1, 1, y.size(2))
        valid = torch.arange(x.size(1), device=x.device)[None, :] < lengths[:, None]
        mean = (y * valid.unsqueeze(-1)).sum(1) / lengths.unsqueeze(1)
        return last, y.gather(1, places).squeeze(1), mean


class Shared(nn.Module):
    """One encoder for two inputs, and tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.encoder = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
        self.out = nn.Linear(6, 20, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Logits."""
        one, two = self.encoder(self.embedding(left)).mean(1), self.encoder(self.embedding(right)).mean(1)
        return self.out(torch.abs(one - two))


class Positioned(nn.Module):
    """Positions added from a table that is longer than any input; a learned initial state."""

    def __init__(self) -> None:
        super().__init__()
        self.table: Tensor
        self.register_buffer("table", torch.randn(1, 2000, 6))
        self.start = nn.Parameter(torch.rand(2, 1, 5))
        self.gru = nn.GRU(6, 5, num_layers=2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, 5)."""
        x = x + self.table[:, : x.size(1)]
        y, _ = self.gru(x, self.start.expand(-1, x.size(0), -1).contiguous())
        return y


class Attending(nn.Module):
    """Attention with a mask of padded steps, and its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What is attended to, and how much."""
        y, weights = self.attention(x, x, x, key_padding_mask=mask)
        z, _ = self.attention(y, x, x, key_padding_mask=mask, need_weights=False)
        return z, weights


class Decoding(nn.Module):
    """A decoder layer of a transformer, its batch told by two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """(batch, time, 8)."""
        return self.layer(x, memory)


class VoiceDetector(nn.Module):
    """Silero: a spectrum by convolution, an encoder, one step of a cell whose states come stacked."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrum = nn.Conv1d(1, 18, 16, stride=8, bias=False)
        self.encoder = nn.Sequential(nn.Conv1d(9, 8, 3, padding=1), nn.ReLU(), nn.Conv1d(8, 6, 3, stride=2, padding=1))
        self.rnn = nn.LSTMCell(6, 6)
        self.decoder = nn.Sequential(nn.Dropout(0.1), nn.ReLU(), nn.Conv1d(6, 1, 1), nn.Sigmoid())

    def forward(self, chunk: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The probability of speech (batch, 1), and the states (2, batch, 6)."""
        x = self.spectrum(F.pad(chunk.unsqueeze(1), (0, 8), "reflect"))
        x = torch.sqrt(x[:, :9] ** 2 + x[:, 9:] ** 2)
        h, c = self.rnn(self.encoder(x).mean(-1), (state[0], state[1]))
        return self.decoder(h.unsqueeze(-1)).squeeze(1).mean(1, keepdim=True), torch.stack([h, c])
