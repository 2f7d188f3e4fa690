"""diffusers' explicit attention, with its probabilities recorded and changed: the reference for tests of attention
control."""

from contextlib import contextmanager

from diffusers.models.attention_processor import Attention, AttnProcessor


def attention_of(model):
    """Every attention layer of a model by name."""
    return {name: module for name, module in model.unet.named_modules() if isinstance(module, Attention)}


class Explicit(AttnProcessor):
    """Records the probabilities [rows, heads, queries, keys] in `seen` and continues with `change(name, maps)`."""

    def __init__(self, name, seen, change):
        self.name, self.seen, self.change = name, seen, change

    def __call__(self, attn, hidden_states, *args, **kwargs):
        own = attn.get_attention_scores

        def scores(*given):
            maps = own(*given).unflatten(0, (-1, attn.heads))
            self.seen[self.name] = maps
            return self.change(self.name, maps).flatten(0, 1)

        attn.get_attention_scores = scores
        try:
            return super().__call__(attn, hidden_states, *args, **kwargs)
        finally:
            del attn.get_attention_scores


@contextmanager
def explicit(model, change):
    """Use this processor in every attention layer of the model; yields the recorded maps."""
    seen, layers = {}, attention_of(model)
    own = {name: layer.processor for name, layer in layers.items()}
    try:
        for name, layer in layers.items():
            layer.processor = Explicit(name, seen, change)
        yield seen
    finally:
        for name, layer in layers.items():
            layer.processor = own[name]
