"""GPT-2 decoding one token (Radford et al., 2019), in plain torch.

What is modelled: the step that computes the logits of the next token from one token and the keys and values of the
`past` tokens before it. These are buffers of each layer, so that a layer's cache is memory of the stage that has the
layer, is read whole for every token, and never crosses stages. The new key and value are concatenated to the cached
ones for the attention, which costs a copy of the cache. What is not: they are not kept, so each call computes the same
position; and copies of a stage have a cache each, so that a sequence has to stay with a copy.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Layer(nn.Module):
    """Attention over the cached tokens and the new one, then the two-layer perceptron, both with residuals."""

    key: torch.Tensor
    value: torch.Tensor

    def __init__(self, width: int, heads: int, batch: int, past: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        for name in ("key", "value"):  # state, no weights: not in files of weights
            self.register_buffer(name, torch.randn(batch, heads, past, width // heads), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`x` of shape (batch, 1, width) after this layer."""
        batch, _, width = x.shape
        parts = self.qkv(self.ln_1(x)).split(width, dim=-1)
        query, key, value = (part.view(batch, 1, self.heads, -1).transpose(1, 2) for part in parts)
        keys, values = torch.cat([self.key, key], dim=2), torch.cat([self.value, value], dim=2)
        mixed = functional.scaled_dot_product_attention(query, keys, values)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, 1, width))
        return x + self.down(functional.gelu(self.up(self.ln_2(x)), approximate="tanh"))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Token numbers of shape (batch, 1) to logits of shape (batch, 1, vocabulary)."""

    def __init__(
        self, batch: int = 1, past: int = 128, vocabulary: int = 50257, positions: int = 1024, width: int = 768,
        heads: int = 12, layers: int = 12,
    ) -> None:  # fmt: skip
        super().__init__()
        self.past = past
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(positions, width)
        self.layers = nn.ModuleList(Layer(width, heads, batch, past) for _ in range(layers))
        self.ln_f, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.wte.weight

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Logits of the token after `input_ids`."""
        x = self.wte(input_ids) + self.wpe.weight[self.past]
        for layer in self.layers:
            x = layer(x)
        return self.head(self.ln_f(x))  # type: ignore[no-any-return]
