"""What config.json says of rotary positions and of windows, which newer encoders choose for each layer."""

from __future__ import annotations

from collections.abc import Callable

from ..documents import Document
from .architecture import read_size, require, unknown_variant
from .positions import MOST_ANGLES
from .stack import Rotary

FULL, SLIDING = "full_attention", "sliding_attention"


def read_positions(config: Document) -> int:
    """The most tokens of one text.

    Raises:
        ModelCorrupt: no number, or more than there are angles for.
    """
    n_positions = config.integer("max_position_embeddings", None, least=1, most=MOST_ANGLES)
    return read_size(config, "max_position_embeddings") if n_positions is None else n_positions


def read_rotary(config: Document, rope: Document, key: str, default: float, size: int) -> Rotary:
    """Angles, whose frequencies a factor may divide ("linear").

    Args:
        config: config.json.
        rope: its section about these angles; empty if it has none.
        key: of config.json, that has the base where the section has none.
        default: the base where nothing says it.
        size: of a head.

    Raises:
        UnsupportedModel: angles of another kind.
        ModelCorrupt: a base that cannot be one, or heads of an odd size.
    """
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "linear"):
        raise unknown_variant(rope, f"rope_type={kind!r}", "'default' and 'linear'")
    if size % 2:
        raise config.refused("head_dim", f"an even size, whose halves are rotated (heads have {size} components),")
    for values in (rope, config):
        require(values, partial_rotary_factor=1.0)
    factor = rope.number("factor", None, least=1) if kind == "linear" else 1.0
    if factor is None:
        raise rope.refused("factor", "a number")
    for values, name in ((rope, "rope_theta"), (config, key)):
        if name in values:
            theta = values.number(name, None, least=1)
            if theta is None:
                raise values.refused(name, "a number")
            return Rotary(theta, size, factor)
    return Rotary(default, size, factor)


def read_windowed(config: Document, n_layers: int, usual: Callable[[int], bool]) -> list[bool]:
    """Whether each layer sees a window only.

    Args:
        config: config.json.
        n_layers: how many there are.
        usual: says it of a layer, where config.json lists no layer_types.

    Raises:
        ModelCorrupt: another list.
    """
    kinds = config.get("layer_types")
    if kinds is None:
        return [usual(number) for number in range(n_layers)]
    if not isinstance(kinds, list) or len(kinds) != n_layers or any(kind not in (FULL, SLIDING) for kind in kinds):
        raise config.refused("layer_types", f"{FULL} or {SLIDING} for each of {n_layers} layers")
    return [kind == SLIDING for kind in kinds]
