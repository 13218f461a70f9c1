"""Adapters of low rank on a decoder's query and value projections, under the names that peft gives them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from mechaudio.models.network import Network

#: What the released checkpoints adapt.
TARGETS = ("q_proj", "v_proj")


class LoraLinear(nn.Module):
    """A linear map plus `scaling` times one of low rank.

    Attributes:
        base_layer: The map.
        lora_A: Down to the rank, under the key `default`.
        lora_B: Up from it, under the key `default`.
        scaling: `alpha / rank`.
        dropout: Share of its input that the second map does not see in training.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float | int, dropout: float = 0.0):
        super().__init__()
        self.base_layer = base
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base.in_features, rank, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(rank, base.out_features, bias=False)})
        nn.init.zeros_(self.lora_B["default"].weight)
        self.scaling = alpha / rank
        self.dropout = dropout

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Return both maps' sum."""
        dropped = functional.dropout(hidden_states, self.dropout, training=self.training)
        low = self.lora_B["default"](self.lora_A["default"](dropped))
        return self.base_layer(hidden_states) + self.scaling * low


def put_lora_in(decoder: Network, settings: dict[str, Any]) -> None:
    """Replace the query and value projections of every layer of a decoder by adapted ones."""
    for layer in decoder.model.layers:
        for name in TARGETS:
            base = getattr(layer.self_attn, name)
            setattr(layer.self_attn, name, LoraLinear(base, settings["r"], settings["lora_alpha"]))


def peft_names(tensors: dict[str, Tensor], known: set[str]) -> dict[str, Tensor]:
    """Rename tensors that older versions of peft saved.

    Up to 0.3 an adapted projection's own weight is called `q_proj.weight`, later `q_proj.base_layer.weight`.
    """

    def renamed(name: str) -> str:
        stem, _, last = name.rpartition(".")
        other = f"{stem}.base_layer.{last}"
        return other if name not in known and other in known else name

    return {renamed(name): value for name, value in tensors.items()}
