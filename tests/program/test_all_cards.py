"""Every bundled card, whole (soak) or made small: stages compute what the model does, and planning needs no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mapper.graph.measure import graph_of
from mapper.graph.model import Graph
from mapper.program.cards import card_names, load_card
from mapper.program.items import random_items
from mapper.program.model import Program
from mapper.program.realise import Options, Realised, realise, realise_card
from mapper.program.split import split
from mapper.program.trace import trace_program
from tests.program.modules import convex, run_pieces, same

QUICK = settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TRANSFORMER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SMALL: dict[str, tuple[dict[str, Any], int]] = {
    "albert": ({**TRANSFORMER, "embedding_size": 8}, 6),
    "bert": (TRANSFORMER, 6),
    "densenet121": ({"layers": [2, 3], "growth": 4, "channels": 8}, 32),
    "gpt2_decode": ({"width": 32, "heads": 2, "layers": 2}, 6),
    "llama": ({**TRANSFORMER, "num_key_value_heads": 1}, 6),
    "mixer": ({"size": 32, "patch": 8, "width": 16, "blocks": 2, "across_patches": 8, "across_channels": 32}, 32),
    "resnet18": ({"hidden_sizes": [4, 8, 8, 8], "embedding_size": 4, "depths": [1, 1, 1, 1]}, 32),
    "swin": ({"embed_dim": 8, "depths": [2, 2], "num_heads": [1, 2], "image_size": 32, "window_size": 4}, 32),
    "unet": ({"width": 4, "depth": 2}, 32),
}
"""Options that make a card small, and the length of its sequences, or the height and width of its images."""


@dataclass(frozen=True)
class Whole:
    """A model with its real weights, and what it computes for an item."""

    program: Program
    weights: Mapping[str, torch.Tensor]
    graph: Graph
    inputs: list[torch.Tensor]
    expected: list[torch.Tensor]


def whole(made: Realised) -> Whole:
    """`made`, traced and run. Products of three-dimensional tensors take another path for weights that require
    gradients, which those of stages do not."""
    made.module.requires_grad_(False)
    program, weights = trace_program(made.module, made.args, made.kwargs, name=made.name)
    with torch.no_grad():
        leaves = torch.utils._pytree.tree_leaves(made.module(**made.kwargs))
    expected = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    return Whole(program, weights, graph_of(program), [made.kwargs[i.name] for i in program.inputs], expected)


def pieces_of(model: Whole, stages: int, random: Random) -> list[torch.Tensor]:
    """What `model` computes in `stages` stages."""
    pieces = split(model.program, convex(model.graph, stages, random))
    return run_pieces(model.program, model.weights, model.inputs, pieces)


@lru_cache
def small(name: str) -> Whole:
    """The card called `name`, made small, for two elements of the batch."""
    card, (options, size) = load_card(name), SMALL[name]
    inputs = tuple(
        given.model_copy(update={"shape": tuple(size if n == 224 or n == 256 else n for n in given.shape)})
        for given in card.inputs
    )
    card = card.model_copy(update={"options": card.options | options, "inputs": inputs})
    return whole(realise_card(card, Options(batch=2, length=size if card.length else None)))


@pytest.mark.parametrize(
    "stages", [pytest.param(2, marks=pytest.mark.soak), 3, pytest.param(7, marks=pytest.mark.soak)]
)
@pytest.mark.parametrize("name", SMALL)
@QUICK
@given(random=st.randoms(use_true_random=False))
def test_stages_of_a_small_model_compute_what_it_does(name: str, stages: int, random: Random) -> None:
    assert same(pieces_of(small(name), stages, random), small(name).expected)


@lru_cache(maxsize=1)
def large(name: str) -> Whole:
    """The card called `name`, as it is."""
    return whole(realise(name))


@pytest.mark.soak
@pytest.mark.parametrize("name", card_names())
def test_stages_of_every_card_compute_what_it_does(name: str) -> None:
    model = large(name)
    for stages in (2, 3, 7):
        for seed in range(3):
            assert same(pieces_of(model, stages, Random(seed)), model.expected), f"{stages} stages, seed {seed}"
    made = realise(name, fake=True)
    assert trace_program(made.module, made.args, made.kwargs, name=made.name)[0].sha256 == model.program.sha256


@pytest.mark.parametrize(
    "name", [name if name == "efficientnet" else pytest.param(name, marks=pytest.mark.soak) for name in card_names()]
)
def test_outputs_depend_on_the_item(name: str) -> None:
    """Else to compare them would say nothing of the weights that the item goes through."""
    made = realise(name)
    with torch.no_grad():
        one, other = (
            torch.cat(
                [leaf.flatten() for leaf in torch.utils._pytree.tree_leaves(made.module(**item)) if leaf is not None]
            )
            for item in random_items(made.inputs, 2)
        )
    assert (one - other).abs().max() > 1e-3 * one.abs().max()
    assert 1e-6 < one.abs().max() < 1e6


@pytest.mark.parametrize("name", [pytest.param("gpt2_decode", marks=pytest.mark.soak), "mixer", "resnet18"])
def test_a_card_without_memory_for_weights_has_the_same_program(name: str) -> None:
    programs = []
    for fake in (False, True):
        made = realise(name, {"batch": 2}, fake=fake)
        programs.append(trace_program(made.module, made.args, made.kwargs, name=made.name)[0])
    assert programs[0].sha256 == programs[1].sha256


def test_a_cache_is_read_whole_and_stays_with_the_stage_of_its_layer() -> None:
    model = small("gpt2_decode")
    caches = {name: size for name, size in model.graph.weights.items() if name.endswith((".key", ".value"))}
    assert caches == {f"layers.{i}.{part}": 2 * 6 * 32 * 4 for i in range(2) for part in ("key", "value")}
    readers = {use.name: op for op in model.graph.ops for use in op.weights if use.name in caches}
    assert all(use.touched_bytes == use.bytes for op in readers.values() for use in op.weights)
    for seed in range(10):
        stages = convex(model.graph, 3, Random(seed))
        for stage, piece in zip(stages, split(model.program, stages), strict=True):
            held = {weight.name for weight in piece.weights} & caches.keys()
            assert held == {name for name, op in readers.items() if op.name in stage}


def test_a_cache_is_no_weight_of_a_file() -> None:
    module = realise("gpt2_decode", {"length": 5}).module
    assert not any(name.endswith((".key", ".value")) for name in module.state_dict())
    assert module.layers[0].key.shape == (1, 12, 5, 64)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("densenet121", 7_978_856), ("inception", 23_834_568), ("mixer", 59_880_472), ("vgg16", 138_357_544)],
)
def test_our_own_modules_have_the_published_number_of_parameters(name: str, parameters: int) -> None:
    """Those of the papers' models as other libraries build them: 8.0, 23.8, 59.9 and 138.4 million."""
    assert sum(parameter.numel() for parameter in realise(name, fake=True).module.parameters()) == parameters
