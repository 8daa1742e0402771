"""The architectures as torch modules with random weights, written as torch people write them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class CRNN(nn.Module):
    """CRNN text recogniser (Shi et al. 2015): convolutions over a line of text, two BiLSTMs, time first."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2, 2),
            nn.Conv2d(6, 10, 3, padding=1, bias=False),
            nn.BatchNorm2d(10),
            nn.ReLU(),
            nn.MaxPool2d((4, 1)),
        )
        self.rnn1 = nn.LSTM(10, 7, bidirectional=True)
        self.embedding1 = nn.Linear(14, 9)
        self.rnn2 = nn.LSTM(9, 5, bidirectional=True)
        self.embedding2 = nn.Linear(10, 11)

    def forward(self, image: Tensor) -> Tensor:
        """image (batch, 1, 8, width) -> log probabilities (width / 2, batch, 11)."""
        x = self.cnn(image).squeeze(2).permute(2, 0, 1)
        x, _ = self.rnn1(x)
        time, batch, features = x.size()
        x = self.embedding1(x.view(time * batch, features)).view(time, batch, -1)
        x, _ = self.rnn2(x)
        return F.log_softmax(self.embedding2(x), dim=2)


class DeepSpeech(nn.Module):
    """DeepSpeech2 style (Amodei et al. 2016): a convolution, BiGRUs whose directions are summed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(13, 12, 5, stride=2, padding=2, bias=False)
        self.bn = nn.BatchNorm1d(12)
        sizes = [12, 6, 6, 6, 6]
        self.rnns = nn.ModuleList(nn.GRU(size, 6, bidirectional=True, batch_first=True) for size in sizes)
        self.fc = nn.Linear(6, 9, bias=False)

    def forward(self, spectrogram: Tensor) -> Tensor:
        """spectrogram (batch, 13, time) -> logits (batch, time / 2, 9)."""
        x = F.hardtanh(self.bn(self.conv(spectrogram)), 0, 20).transpose(1, 2)
        for rnn in self.rnns:
            x, _ = rnn(x)
            x = x.view(x.size(0), x.size(1), 2, -1).sum(2)
        return self.fc(x)


class Seq2Seq(nn.Module):
    """Sequence to sequence with state hand-over and dot attention (Luong et al. 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.source_embedding, self.target_embedding = nn.Embedding(13, 6), nn.Embedding(17, 5)
        self.encoder = nn.LSTM(6, 8, batch_first=True)
        self.decoder = nn.LSTM(5, 8, batch_first=True)
        self.mixed, self.words = nn.Linear(16, 9), nn.Linear(9, 17)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """source (batch, time), target (batch, steps) -> logits (batch, steps, 17)."""
        encoded, state = self.encoder(self.source_embedding(source))
        decoded, _ = self.decoder(self.target_embedding(target), state)
        weights = torch.softmax(torch.bmm(decoded, encoded.transpose(1, 2)), dim=-1)
        context = torch.bmm(weights, encoded)
        return self.words(torch.tanh(self.mixed(torch.cat((context, decoded), dim=-1))))


class TacotronEncoder(nn.Module):
    """The encoder of Tacotron 2 (Shen et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(19, 8)
        self.convolutions = nn.ModuleList(
            nn.Sequential(nn.Conv1d(8, 8, 5, padding=2), nn.BatchNorm1d(8)) for _ in range(3)
        )
        self.lstm = nn.LSTM(8, 4, 1, batch_first=True, bidirectional=True)

    def forward(self, characters: Tensor) -> Tensor:
        """characters (batch, time) -> (batch, time, 8)."""
        x = self.embedding(characters).transpose(1, 2)
        for conv in self.convolutions:
            x = F.dropout(F.relu(conv(x)), 0.5, self.training)
        outputs, _ = self.lstm(x.transpose(1, 2))
        return outputs


class OpenUnmix(nn.Module):
    """Open-Unmix (Stöter et al. 2019): time first, scaled inputs, a three-layer BiLSTM with a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.bn1 = nn.Linear(10, 8, bias=False), nn.BatchNorm1d(8)
        self.lstm = nn.LSTM(8, 4, num_layers=3, bidirectional=True, dropout=0.4)
        self.fc2, self.bn2 = nn.Linear(16, 8, bias=False), nn.BatchNorm1d(8)
        self.fc3, self.bn3 = nn.Linear(8, 10, bias=False), nn.BatchNorm1d(10)
        self.input_mean, self.input_scale = nn.Parameter(torch.randn(10)), nn.Parameter(torch.rand(10) + 0.5)
        self.output_mean, self.output_scale = nn.Parameter(torch.randn(10)), nn.Parameter(torch.rand(10) + 0.5)

    def forward(self, spectrogram: Tensor) -> Tensor:
        """spectrogram (batch, 10, time), as it is estimated to be: the same shape."""
        x = spectrogram.permute(2, 0, 1)
        mix = x.detach().clone()
        frames, samples, bins = x.shape
        x = (x + self.input_mean) * self.input_scale
        x = self.bn1(self.fc1(x.reshape(-1, bins))).reshape(frames, samples, 8)
        x = torch.tanh(x)
        out, _ = self.lstm(x)
        x = torch.cat([x, out], -1)
        x = F.relu(self.bn2(self.fc2(x.reshape(-1, x.shape[-1]))))
        x = self.bn3(self.fc3(x)).reshape(frames, samples, bins)
        x = F.relu(x * self.output_scale + self.output_mean) * mix
        return x.permute(1, 2, 0)


class DTLN(nn.Module):
    """DTLN (Westhausen and Meyer 2020): two LSTM cores with explicit states."""

    def __init__(self) -> None:
        super().__init__()
        self.core1, self.mask1 = nn.LSTM(12, 6, 2, batch_first=True), nn.Linear(6, 12)
        self.encoder = nn.Conv1d(12, 9, 1, bias=False)
        self.norm = nn.LayerNorm(9, eps=1e-7)
        self.core2, self.mask2 = nn.LSTM(9, 6, 2, batch_first=True), nn.Linear(6, 9)
        self.decoder = nn.Conv1d(9, 12, 1, bias=False)

    def forward(
        self, frame: Tensor, h1: Tensor, c1: Tensor, h2: Tensor, c2: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """frame (batch, time, 12), states (2, batch, 6) -> the frame and the new states."""
        x, (h1, c1) = self.core1(frame, (h1, c1))
        estimated = torch.sigmoid(self.mask1(x)) * frame
        encoded = self.encoder(estimated.transpose(1, 2)).transpose(1, 2)
        x, (h2, c2) = self.core2(self.norm(encoded), (h2, c2))
        features = encoded * self.mask2(x).sigmoid()
        return self.decoder(features.transpose(1, 2)).transpose(1, 2), h1, c1, h2, c2


class EQTransformer(nn.Module):
    """EQTransformer-like (Mousavi et al. 2020), channels first: convolutions, a BiLSTM block, multi-head attention, three decoders."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0, self.conv1 = nn.Conv1d(3, 8, 5, padding=2), nn.Conv1d(8, 10, 5, padding=2)
        self.pool = nn.MaxPool1d(2, ceil_mode=False)
        self.block = nn.LSTM(10, 5, batch_first=True, bidirectional=True)
        self.block_conv, self.block_bn = nn.Conv1d(10, 10, 1), nn.BatchNorm1d(10)
        self.attention = nn.MultiheadAttention(10, 2, batch_first=True)
        self.norm = nn.LayerNorm(10)
        self.up_conv = nn.Conv1d(10, 6, 3, padding=1)
        self.detection, self.p, self.s = (nn.Conv1d(6, 1, 3, padding=1) for _ in range(3))

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """waveform (batch, 3, time) -> three probabilities (batch, time)."""
        x = self.pool(F.relu(self.conv0(waveform)))
        x = self.pool(F.relu(self.conv1(x)))
        block, _ = self.block(x.transpose(1, 2))
        x = x + self.block_bn(self.block_conv(block.transpose(1, 2)))
        x = x.transpose(1, 2)
        attended, _ = self.attention(x, x, x, need_weights=False)
        x = self.norm(x + attended).transpose(1, 2)
        x = F.interpolate(x, scale_factor=4.0, mode="nearest")
        x = F.relu(self.up_conv(x))
        detection, p, s = (torch.sigmoid(head(x)).squeeze(1) for head in (self.detection, self.p, self.s))
        return detection, p, s


class Tagger(nn.Module):
    """A tagger that multiplies padding away."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(23, 7, padding_idx=0)
        self.lstm = nn.LSTM(7, 6, batch_first=True, bidirectional=True)
        self.tags = nn.Linear(12, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (batch, time) -> log probabilities (batch, time, 5), zero at padding."""
        mask = (tokens != 0).unsqueeze(-1)
        x, _ = self.lstm(self.embedding(tokens) * mask)
        return F.log_softmax(self.tags(x), dim=-1).masked_fill(~mask, 0.0)


class Forecaster(nn.Module):
    """Two inputs, two outputs, a decoder that is fed one vector for every step."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.gru = nn.LSTM(4, 9, batch_first=True), nn.GRU(9, 7, batch_first=True)
        self.known_dense = nn.Linear(6, 5)
        self.decoder = nn.LSTM(12, 6, batch_first=True)
        self.mean, self.spread = nn.Linear(6, 1), nn.Linear(6, 1)

    def forward(self, past: Tensor, known: Tensor) -> dict[str, Tensor]:
        """past (batch, time, 4), known (batch, 6) -> mean and spread (batch, 3, 1)."""
        x, _ = self.lstm(past)
        _, h = self.gru(x)
        x = torch.cat([h[-1], F.elu(self.known_dense(known))], dim=1)
        x, _ = self.decoder(x.unsqueeze(1).repeat(1, 3, 1))
        return {"mean": self.mean(x), "spread": F.softplus(self.spread(x))}


class SpeakerEncoder(nn.Module):
    """Resemblyzer (Wan et al. 2018): the last state of a three-layer LSTM, a linear layer, a vector of length one."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(10, 8, 3, batch_first=True)
        self.linear, self.relu = nn.Linear(8, 8), nn.ReLU()

    def forward(self, mels: Tensor) -> Tensor:
        """mels (batch, time, 10) -> (batch, 8)."""
        _, (hidden, _) = self.lstm(mels)
        raw = self.relu(self.linear(hidden[-1]))
        return raw / torch.norm(raw, dim=1, keepdim=True)


def _images(batch: int, time: int) -> tuple[Tensor, ...]:
    return (torch.randn(batch, 1, 8, 2 * time),)


def _tokens(size: int) -> Callable[[int, int], tuple[Tensor, ...]]:
    return lambda batch, time: (torch.randint(1, size, (batch, time)),)


ARCHITECTURES: dict[str, tuple[type[nn.Module], Callable[[int, int], tuple[Tensor, ...]]]] = {
    "crnn": (CRNN, _images),
    "deepspeech": (DeepSpeech, lambda batch, time: (torch.randn(batch, 13, time),)),
    "seq2seq": (Seq2Seq, lambda b, t: (torch.randint(0, 13, (b, t)), torch.randint(0, 17, (b, t + 2)))),
    "tacotron_encoder": (TacotronEncoder, _tokens(19)),
    "open_unmix": (OpenUnmix, lambda batch, time: (torch.rand(batch, 10, time),)),
    "dtln": (DTLN, lambda b, t: (torch.randn(b, t, 12), *(torch.randn(2, b, 6) for _ in range(4)))),
    "eq_transformer": (EQTransformer, lambda batch, time: (torch.randn(batch, 3, 4 * time),)),
    "tagger": (Tagger, _tokens(23)),
    "forecaster": (Forecaster, lambda batch, time: (torch.randn(batch, time, 4), torch.randn(batch, 6))),
    "speaker_encoder": (SpeakerEncoder, lambda batch, time: (torch.randn(batch, time, 10),)),
}
"""Each module with a function that draws its inputs for so many samples and steps."""


def randomized(kind: type[nn.Module], seed: int = 0) -> nn.Module:
    """A module with random non-zero parameters and running statistics, in evaluation mode."""
    torch.manual_seed(seed)
    module = kind()
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            if buffer.is_floating_point():
                buffer.copy_(
                    torch.rand_like(buffer) + 0.5 if name.endswith("running_var") else torch.randn_like(buffer)
                )
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval()
