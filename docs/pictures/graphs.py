"""Graphical models: hidden and observed variables, parameters, plates."""

from dataclasses import dataclass, field

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

RADIUS = 0.36
SHADE = {"hidden": "white", "observed": "0.8"}


@dataclass
class Graph:
    """A graphical model; positions are in units of an inch.

    Attributes
    ----------
    nodes : dict
        Name to (x, y, label, kind); kind is "hidden", "observed" or "parameter".
    edges : list of (parent, child)
    plates : list of (left, bottom, right, top, label)
    guesses : list of (from, to, label)
        What q says, as dashed arrows.
    """

    nodes: dict[str, tuple[float, float, str, str]]
    edges: list[tuple[str, str]]
    plates: list[tuple[float, float, float, float, str]]
    guesses: list[tuple[str, str, str]] = field(default_factory=list)

    def draw(self):
        """Return a figure of it."""
        x, y = np.array([node[:2] for node in self.nodes.values()]).T
        left, bottom = (
            min(x.min() - 0.5, *(p[0] for p in self.plates)) - 0.1,
            min(y.min() - 0.5, *(p[1] for p in self.plates)) - 0.1,
        )
        right, top = (
            max(x.max() + 0.5, *(p[2] for p in self.plates)) + 0.1,
            max(y.max() + 0.5, *(p[3] for p in self.plates)) + 0.1,
        )
        figure = plt.figure(figsize=(right - left, top - bottom))
        ax = figure.add_axes((0, 0, 1, 1))
        ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
        ax.axis("off")
        for plate in self.plates:
            self._plate(ax, *plate)
        for parent, child in self.edges:
            self._arrow(ax, parent, child, "-", 0)
        for start, end, label in self.guesses:
            self._arrow(ax, start, end, "--", 0.45, "C3")
            middle = np.mean([self.nodes[start][:2], self.nodes[end][:2]], 0)
            ax.text(
                *middle - (0, 0.62),
                label,
                color="C3",
                ha="center",
                va="center",
                fontsize=12,
            )
        for node in self.nodes.values():
            self._node(ax, *node)
        return figure

    def _arrow(self, ax, start, end, style, bend, colour="0.2"):
        shrink = [
            72 * (0.06 if self.nodes[name][3] == "parameter" else RADIUS) + 2
            for name in (start, end)
        ]
        arrow = FancyArrowPatch(
            self.nodes[start][:2],
            self.nodes[end][:2],
            connectionstyle=f"arc3,rad={-bend}",
            arrowstyle="-|>",
            mutation_scale=14,
            linestyle=style,
            color=colour,
            shrinkA=shrink[0],
            shrinkB=shrink[1],
        )
        ax.add_patch(arrow)

    @staticmethod
    def _node(ax, x, y, label, kind):
        if kind == "parameter":
            ax.add_patch(Circle((x, y), 0.06, color="0.2"))
            ax.text(x, y + 0.13, label, ha="center", va="bottom", fontsize=14)
            return
        ax.add_patch(
            Circle(
                (x, y), RADIUS, facecolor=SHADE[kind], edgecolor="0.2", linewidth=1.3
            )
        )
        ax.text(x, y, label, ha="center", va="center", fontsize=15)

    @staticmethod
    def _plate(ax, left, bottom, right, top, label):
        box = FancyBboxPatch(
            (left + 0.1, bottom + 0.1),
            right - left - 0.2,
            top - bottom - 0.2,
            boxstyle="round,pad=0.1",
            facecolor="none",
            edgecolor="0.5",
        )
        ax.add_patch(box)
        ax.text(right - 0.1, bottom + 0.07, label, ha="right", va="bottom", fontsize=11)


GRAPHS = {
    "graph_gaussian_mixture": Graph(
        {
            "w": (0, 0, "$w$", "parameter"),
            "z": (1.3, 0, "$z_i$", "hidden"),
            "x": (2.9, 0, "$x_i$", "observed"),
            "mu": (4.6, 0.35, r"$\mu_k$", "parameter"),
            "sigma": (4.6, -0.35, r"$\Sigma_k$", "parameter"),
        },
        [("w", "z"), ("z", "x"), ("mu", "x"), ("sigma", "x")],
        [(0.7, -0.8, 3.5, 0.6, "$i = 1 … n$"), (4.0, -0.8, 5.4, 0.9, "$k = 1 … K$")],
    ),
    "graph_bayesian_mixture": Graph(
        {
            "alpha": (-1.5, 0, r"$\alpha$", "parameter"),
            "w": (-0.2, 0, "$w$", "hidden"),
            "z": (1.3, 0, "$z_i$", "hidden"),
            "x": (2.9, 0, "$x_i$", "observed"),
            "mu": (4.7, 0.5, r"$\mu_k$", "hidden"),
            "lambda": (4.7, -0.5, r"$\Lambda_k$", "hidden"),
            "mean_prior": (6.3, 0.5, r"$m_0, \beta_0$", "parameter"),
            "covariance_prior": (6.3, -0.5, r"$C_0, \nu_0$", "parameter"),
        },
        [
            ("alpha", "w"),
            ("w", "z"),
            ("z", "x"),
            ("mu", "x"),
            ("lambda", "x"),
            ("lambda", "mu"),
            ("mean_prior", "mu"),
            ("covariance_prior", "lambda"),
        ],
        [(0.7, -0.8, 3.5, 0.6, "$i = 1 … n$"), (4.1, -1.2, 5.4, 1.1, "$k = 1 … K$")],
    ),
    "graph_factor_model": Graph(
        {
            "z": (0, 0, "$z_i$", "hidden"),
            "x": (1.7, 0, "$x_{ij}$", "observed"),
            "W": (3.3, 0.35, "$W_j$", "parameter"),
            "b": (3.3, -0.35, "$b_j$", "parameter"),
        },
        [("z", "x"), ("W", "x"), ("b", "x")],
        [(-0.6, -1.0, 2.3, 0.7, "$i = 1 … n$"), (1.1, -0.75, 4.2, 1.0, "$j = 1 … d$")],
    ),
    "graph_own_model": Graph(
        {
            "theta": (0.85, 1.1, r"$\theta$", "parameter"),
            "z": (0, 0, "$z_i$", "hidden"),
            "x": (1.7, 0, "$x_i$", "observed"),
        },
        [("theta", "z"), ("theta", "x"), ("z", "x")],
        [(-0.6, -0.8, 2.3, 0.6, "$i = 1 … n$")],
    ),
    "graph_vae": Graph(
        {
            "z": (0, 0, "$z_i$", "hidden"),
            "x": (1.9, 0, "$x_i$", "observed"),
            "theta": (3.4, 0, r"$\theta$", "parameter"),
        },
        [("z", "x"), ("theta", "x")],
        [(-0.6, -1.2, 2.5, 0.6, "$i = 1 … n$")],
        [("x", "z", r"$q_\varphi(z \mid x)$")],
    ),
    "graph_vae_mixture_prior": Graph(
        {
            "w": (-2.9, 0, "$w$", "parameter"),
            "c": (-1.7, 0, "$c_i$", "hidden"),
            "z": (0, 0, "$z_i$", "hidden"),
            "m": (-0.4, 1.2, "$m_k$", "parameter"),
            "s": (0.4, 1.2, "$s_k$", "parameter"),
            "x": (1.9, 0, "$x_i$", "observed"),
            "theta": (3.4, 0, r"$\theta$", "parameter"),
        },
        [("w", "c"), ("c", "z"), ("m", "z"), ("s", "z"), ("z", "x"), ("theta", "x")],
        [(-2.3, -1.2, 2.5, 0.6, "$i = 1 … n$"), (-0.9, 0.8, 1.9, 1.75, "$k = 1 … K$")],
        [("x", "z", r"$q_\varphi(z \mid x)$")],
    ),
}
