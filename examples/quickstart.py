"""
One search over three families
==============================

Which density best describes the benign tumours of scikit-learn's breast-cancer table,
with 30 measurements each: a Gaussian mixture by EM, a Bayesian mixture by variational
EM, or a VAE? All three report nats per row in the units of the measurements, so one
search can choose among them. Then we use the best one to find malignant tumours among
tumours that no fit has seen, and to generate new benign ones.

``make demo`` runs this.
"""

# %%
# The data
# --------
# We fit to two thirds of the benign tumours. All other tumours are only scored.

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, train_test_split
from sklearn.pipeline import Pipeline

from skemvae import EMGaussianMixture, VAEEstimator, VariationalEM, compare
from skemvae.models import BayesianMixture

data = load_breast_cancer()
X, malignant = data.data, data.target == 0
X_train, X_benign = train_test_split(X[~malignant], test_size=1 / 3, random_state=0)
X_unseen = np.concatenate([X_benign, X[malignant]])
is_malignant = np.arange(len(X_unseen)) >= len(X_benign)

# %%
# One search
# ----------
# The search also chooses the last step of the pipeline. No scaler is needed, because
# none of the three depends on units.

pipeline = Pipeline([("density", EMGaussianMixture())])
grid = [
    {
        "density": [EMGaussianMixture(reg_covar=1e-2, random_state=0)],
        "density__n_components": [1, 2, 3, 4],
        "density__covariance_type": ["full", "tied", "diag"],
    },
    {
        "density": [VariationalEM(BayesianMixture(10), random_state=0)],
        "density__model__covariance_type": ["full", "tied", "diag"],
    },
    {
        "density": [VAEEstimator(8, likelihood="student_t", random_state=0)],
        "density__hidden_layer_sizes": [(), (32,)],
    },
]
folds = KFold(5, shuffle=True, random_state=0)
print("Searching 17 densities, 5 folds each ...", flush=True)
search = GridSearchCV(pipeline, grid, cv=folds).fit(X_train)
print(f"Best: {search.best_params_}, {search.best_score_:.2f} nats per row")

# %%
# The best of each family
# -----------------------
# ``compare`` fits them to the same folds. A row that is hard for one density is usually
# hard for all, so the errors of the *differences* are much smaller than those of the
# means.

results = search.cv_results_
family = np.array([type(params["density"]).__name__ for params in results["params"]])
candidates = {}
for name in dict.fromkeys(family):
    first = results["rank_test_score"][family == name].argmin()
    params = np.array(results["params"])[family == name][first]
    candidates[name] = clone(pipeline.set_params(**params))
comparison = compare(candidates, X_train, cv=folds)
print(f"\n{comparison}")

# %%
# The left picture shows the fit time and the score of each candidate, the right one the
# best of each family. The bars show the standard error of the difference to the best.

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
for name, marker in zip(candidates, "os^", strict=True):
    chosen = family == name
    times, scores = results["mean_fit_time"][chosen], results["mean_test_score"][chosen]
    left.plot(times, scores, marker, label=name, alpha=0.8)
left.set(
    title=f"One search, {len(family)} densities",
    xscale="log",
    xlabel="seconds of a fit",
    ylabel="held-out nats per row",
)
left.legend(loc="lower right")
comparison.plot(right)
right.set_title("The best of each family")


def save(figure, name):
    """Save a picture in output/, next to examples/."""
    folder = Path("output")
    folder.mkdir(exist_ok=True)
    figure.savefig(folder / name, dpi=100)
    print(f"Picture: {folder / name}", flush=True)


save(figure, "comparison.png")

# %%
# Anomalies
# ---------
# ``comparison`` holds the log density of each training row, by a fit that has not seen
# it. From these we take a threshold with 5 % false alarms. (Rows that a fit has seen
# get too high a density.)

log_density = search.score_samples(X_unseen)
threshold = np.quantile(comparison.best.log_density, 0.05)
flagged = log_density < threshold
auroc = roc_auc_score(is_malignant, -log_density)
print(f"\nMalignant against unseen benign tumours: AUROC {auroc:.3f}.")
print(
    "Flagged at a threshold for 5 % false alarms: "
    f"{flagged[is_malignant].mean():.0%} of the malignant, "
    f"{flagged[~is_malignant].mean():.0%} of the unseen benign tumours."
)

# %%
# Samples
# -------
# These are new benign tumours, in the units of the measurements.

samples, _ = search.best_estimator_["density"].sample(500, random_state=1)
print("\nOne invented benign tumour:")
for name, value in list(zip(data.feature_names, samples[0], strict=True))[:4]:
    print(f"  {name:<16}{value:9.3f}")

# %%
# One picture shows anomalies and samples.

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
lowest = np.quantile(log_density, 0.01)
clipped = np.clip(log_density, lowest, None)
bins = np.linspace(lowest, clipped.max(), 40)
for group, label, colour in (
    (~is_malignant, "benign", "C0"),
    (is_malignant, "malignant", "C3"),
):
    left.hist(clipped[group], bins, alpha=0.6, label=f"{label}, unseen", color=colour)
left.axvline(
    threshold, color="k", linestyle="--", label="5 % of held-out rows are below"
)
left.set(
    title=f"Anomalies: AUROC {auroc:.3f}",
    xlabel=f"log density, nats ({lowest:.0f} and below in the first bar)",
    ylabel="tumours",
)
left.legend(loc="upper left", framealpha=1)

first, second = 5, 7  # two columns that depend on each other in no straight way
right.scatter(*samples[:, [first, second]].T, s=8, alpha=0.5, label="samples")
right.scatter(*X_train[:, [first, second]].T, s=8, alpha=0.8, label="training rows")
right.set(
    title="Samples", xlabel=data.feature_names[first], ylabel=data.feature_names[second]
)
right.legend()
save(figure, "quickstart.png")
