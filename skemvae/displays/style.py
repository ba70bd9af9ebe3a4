"""The style of the displays: colours, axes and legends; imports matplotlib on demand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from skemvae.optional import require

# Ten colours that colour-blind readers can tell apart, from M. A. Petroff (2021), "Accessible
# color sequences for data visualization", arXiv:2107.02270, with the greys further back.
PALETTE = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#832db6",
    "#94a4a2",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
# Beyond ten, colours repeat with another marker.
MARKERS = "os^Dv"
SEQUENTIAL = "viridis"
DIVERGING = "PuOr_r"
GREY = "0.45"
NATS = "nats per sample"


def pyplot() -> Any:
    """Import matplotlib.pyplot and return it."""
    return require("matplotlib.pyplot", purpose="A plot")


def colours(n: int) -> Any:
    """n colours, shape (n, 3), from the palette, which repeats."""
    pyplot()
    from matplotlib.colors import to_rgb

    return np.array([to_rgb(PALETTE[i % len(PALETTE)]) for i in range(n)])


def markers(n: int) -> list[str]:
    """n markers: the next one each time the palette repeats."""
    return [MARKERS[i // len(PALETTE) % len(MARKERS)] for i in range(n)]


def axes_for(ax: Any, n: int = 1, **subplots: Any) -> Any:
    """n axes as a list: new ones in a row if ``ax`` is None, otherwise those in ``ax``.

    Raises
    ------
    TypeError
        If ``ax`` is neither None nor n axes.
    """
    plt = pyplot()
    from matplotlib.axes import Axes

    if ax is None:
        return list(plt.subplots(1, n, squeeze=False, layout="constrained", **subplots)[1][0])
    axes = list(np.ravel(np.array(ax, dtype=object)))
    if len(axes) != n or not all(isinstance(one, Axes) for one in axes):
        wanted = "one matplotlib Axes" if n == 1 else f"{n} matplotlib Axes"
        kinds = ", ".join(type(one).__name__ for one in axes)
        raise TypeError(f"ax must be {wanted} or None, but is {len(axes)} object(s): {kinds}.")
    return axes


def point_size(n: int) -> float:
    """Area of a marker, such that n of them fill about the same share of a plot for all n."""
    return float(np.clip(9000 / n, 4, 25))


def legend_beside(ax: Any, n_entries: int, **kwargs: Any) -> Any:
    """Draw a legend to the right of the axes, where it hides no data."""
    return ax.legend(
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0,
        frameon=False,
        ncols=1 + (n_entries - 1) // 12,
        **kwargs,
    )


def outlined(artist: Any) -> Any:
    """Give a text or a patch a white outline, so that it shows on any background."""
    from matplotlib.patheffects import withStroke

    artist.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    return artist


def number(value: float, form: str = ".3g") -> str:
    """Format a number with a minus sign instead of a hyphen."""
    return f"{value:{form}}".replace("-", "−")


def shorten(names: Sequence[str], longest: int = 28) -> list[str]:
    """Shorten names to fit beside an axis."""
    return [name if len(name) <= longest else f"{name[: longest - 1]}…" for name in names]
