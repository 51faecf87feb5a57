"""A decoder-only transformer, GPT-2 by default (Radford et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from hpcsynapse.errors import TrainError

_DEVIATION = 0.02


class Attention(nn.Module):
    """Causal self-attention of several heads; (N, T, width) to the same."""

    def __init__(self, width: int, heads: int, dropout: float, bias: bool) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.c_attn = nn.Linear(width, 3 * width, bias=bias)
        self.c_proj = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return what every position takes from itself and those before it."""
        count, length, width = x.shape
        parts = self.c_attn(x).view(count, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        dropout = self.dropout if self.training else 0.0
        found = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        result: Tensor = self.c_proj(found.transpose(1, 2).reshape(count, length, width))
        return result


class Block(nn.Module):
    """Attention, then two dense layers of four times the width, each behind a norm and beside a shortcut."""

    def __init__(self, width: int, heads: int, dropout: float, bias: bool) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width, bias=bias), nn.LayerNorm(width, bias=bias)
        self.attn = Attention(width, heads, dropout, bias)
        self.c_fc = nn.Linear(width, 4 * width, bias=bias)
        self.c_proj = nn.Linear(4 * width, width, bias=bias)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, T, width) of the same."""
        x = x + self.drop(self.attn(self.ln_1(x)))
        dense = self.c_proj(functional.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))
        result: Tensor = x + self.drop(dense)
        return result


class Embedded(nn.Module):
    """The first piece of a transformer: tokens (N, T) to (N, T, width)."""

    def __init__(self, wte: nn.Embedding, wpe: nn.Embedding, drop: nn.Dropout) -> None:
        super().__init__()
        self.wte, self.wpe, self.drop = wte, wpe, drop

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the sum of what stands for tokens and for their places."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        result: Tensor = self.drop(self.wte(tokens) + self.wpe(places))
        return result


class Logits(nn.Module):
    """The last piece of a transformer: (N, T, width) to (N, classes, T)."""

    def __init__(self, ln_f: nn.LayerNorm, head: nn.Linear) -> None:
        super().__init__()
        self.ln_f, self.head = ln_f, head

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of the token that follows each."""
        result: Tensor = self.head(self.ln_f(x)).transpose(1, 2)
        return result


class GPT(nn.Module):
    """Token and position embeddings, blocks, a norm, and a last layer, whose weight is the token embedding if `tied`.

    Input (N, T) token numbers with T up to the context, output (N, classes, T) logits of the token that follows.
    """

    input_type = torch.int64

    def __init__(
        self, context: int, classes: int, *, layers: int, heads: int, width: int, dropout: float, bias: bool, tied: bool
    ) -> None:
        super().__init__()
        self.context, self.tied = context, tied
        self.wte, self.wpe = nn.Embedding(classes, width), nn.Embedding(context, width)
        self.drop = nn.Dropout(dropout)
        self.h = nn.ModuleList(Block(width, heads, dropout, bias) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width, bias=bias)
        if not tied:
            self.head = nn.Linear(width, classes, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                last = name.endswith("c_proj.weight")  # 2 a block add up along the shortcuts
                nn.init.normal_(parameter, std=_DEVIATION / math.sqrt(2 * layers) if last else _DEVIATION)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits (N, classes, T) of token numbers (N, T)."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.drop(self.wte(tokens) + self.wpe(places))
        for block in self.h:
            x = block(x)
        weight = self.wte.weight if self.tied else self.head.weight
        return functional.linear(self.ln_f(x), weight).transpose(1, 2)

    def pieces(self) -> list[tuple[nn.Module, list[tuple[nn.Module, str]]]]:
        """Return what can be on devices of its own, and where it is held; raises TrainError for one that is tied."""
        if self.tied:
            raise TrainError(
                "gpt: first and last layer share a weight, which two stages cannot; say --model-args tied=false"
            )
        first: nn.Module = Embedded(self.wte, self.wpe, self.drop)
        blocks: list[tuple[nn.Module, list[tuple[nn.Module, str]]]] = [
            (block, [(self.h, str(number))]) for number, block in enumerate(self.h)
        ]
        last: nn.Module = Logits(self.ln_f, self.head)
        return [(first, [(self, "wte"), (self, "wpe")]), *blocks, (last, [(self, "ln_f"), (self, "head")])]


def gpt(
    shape: Sequence[int] = (1024,),
    classes: int = 50257,
    layers: int = 12,
    heads: int = 12,
    width: int = 768,
    dropout: float = 0.0,
    bias: bool = True,
    tied: bool = True,
) -> GPT:
    """Return GPT-2's 124,439,808 parameters; `shape` is (context,), `classes` the size of the vocabulary.

    24 layers, 16 heads, width 1024: 354,823,168; 36, 20, 1280: 774,030,080; 48, 25, 1600: 1,557,611,200. Raises
    TrainError for sizes that do not go together.
    """
    if len(shape) != 1:
        raise TrainError(f"gpt takes sequences of tokens, shape (context,), not {tuple(shape)}; use --data tokens")
    sizes = {"context": shape[0], "classes": classes, "layers": layers, "heads": heads, "width": width}
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise TrainError(f"gpt: {name} = {value!r} must be a positive whole number")
    if width % heads:
        raise TrainError(f"gpt: width = {width} must be a multiple of heads = {heads}")
    if not 0 <= dropout < 1:
        raise TrainError(f"gpt: dropout = {dropout!r} must be in [0, 1)")
    return GPT(shape[0], classes, layers=layers, heads=heads, width=width, dropout=dropout, bias=bias, tied=tied)
