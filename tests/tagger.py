"""A model that several tests of reports compare."""

from __future__ import annotations

import torch


class Tagger(torch.nn.Module):
    """A whole model, no chain: an embedding, a sum around a norm, two kinds of recurrent layers; scores of four tags at every step.

    Args:
        end: "last" for the scores of the last step, "softmax" for shares of them, "sigmoid" for that of a single tag.
    """

    def __init__(self, end: str = "") -> None:
        super().__init__()
        torch.manual_seed(3)
        self.embed = torch.nn.Embedding(30, 8)
        self.first = torch.nn.LSTM(8, 6, batch_first=True)
        self.norm = torch.nn.LayerNorm(6)
        self.second = torch.nn.GRU(6, 5, batch_first=True)
        self.out = torch.nn.Linear(5, 1 if end == "sigmoid" else 4)
        self.end = end

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        sequence, _ = self.first(self.embed(tokens))
        sequence, _ = self.second(sequence + self.norm(sequence))
        scores: torch.Tensor = self.out(sequence[:, -1] if self.end == "last" else sequence)
        if self.end == "sigmoid":
            return torch.sigmoid(scores)
        return torch.softmax(scores, -1) if self.end == "softmax" else scores
