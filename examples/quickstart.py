"""Choose a density by cross-validation, flag anomalies, draw samples, look at it.

    python examples/quickstart.py        (or: make demo)

The table is scikit-learn's breast-cancer data: 569 tumours, 30 measurements.
A density is fitted to benign tumours only; malignant ones should then have a
low density. Mixtures fitted by EM and VAEs are compared on one scale: held-out
nats per sample. Nothing is downloaded; it takes about half a minute.
"""

from pathlib import Path

import matplotlib
import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skemvae import EMGaussianMixture, VAEEstimator

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# 1. The data: half of the benign tumours to fit, everything else to test.
data = load_breast_cancer()
X, malignant = data.data, data.target == 0
X_train, X_benign = train_test_split(X[~malignant], test_size=0.5, random_state=0)
X_test = np.concatenate([X_benign, X[malignant]])
is_anomaly = np.arange(len(X_test)) >= len(X_benign)

# 2. Choose the number of components and their structure by held-out log-likelihood.
pipeline = Pipeline(
    [
        ("scale", StandardScaler()),
        ("mixture", EMGaussianMixture(reg_covar=1e-2, max_iter=500, random_state=0)),
    ]
)
grid = {
    "mixture__n_components": [1, 2, 3, 4, 6],
    "mixture__covariance_type": ["full", "tied", "diag", "spherical"],
}
print(f"Searching {np.prod([len(v) for v in grid.values()])} mixtures, 5-fold ...", flush=True)
search = GridSearchCV(pipeline, grid, cv=5).fit(X_train)
results = search.cv_results_
print("\nHeld-out log-likelihood, nats per sample (higher is better):")
print("K    " + "".join(f"{name:>12}" for name in grid["mixture__covariance_type"]))
held_out = {}
for k in grid["mixture__n_components"]:
    for name in grid["mixture__covariance_type"]:
        chosen = (results["param_mixture__n_components"] == k) & (
            results["param_mixture__covariance_type"] == name
        )
        held_out[name, k] = results["mean_test_score"][chosen][0]
    row = [held_out[name, k] for name in grid["mixture__covariance_type"]]
    print(f"{k:<5}" + "".join(f"{value:>12.2f}" for value in row))
mixture = search.best_estimator_["mixture"]
print(
    f"\nBest: {mixture.n_components} components, {mixture.covariance_type} covariances; "
    f"{mixture.status_} after {mixture.n_iter_} iterations."
)

# 3. The same question to VAEs, in the same unit.
vaes = {
    "VAE, linear, Student's t": VAEEstimator(
        8, hidden_layer_sizes=(), likelihood="student_t", random_state=0
    ),
    "VAE, network, Student's t": VAEEstimator(
        8, hidden_layer_sizes=(32,), likelihood="student_t", random_state=0
    ),
    "VAE, network, Gaussian": VAEEstimator(8, hidden_layer_sizes=(32,), random_state=0),
}
print("\nEM and VAE, held-out nats per sample:")
print(f"  {'EM, ' + mixture.covariance_type:<28}{search.best_score_:8.2f}", flush=True)
for name, vae in vaes.items():
    score = cross_val_score(make_pipeline(StandardScaler(), vae), X_train, cv=5).mean()
    print(f"  {name:<28}{score:8.2f}", flush=True)
print("With 178 rows the simplest model that fits wins; networks want more.")

# 4. Anomalies: the log density of rows that the fit has never seen.
log_density = search.score_samples(X_test)
auroc = roc_auc_score(is_anomaly, -log_density)
# Each training row is scored by a fit that has not seen it: else the threshold is too high.
unseen = [
    clone(search.best_estimator_).fit(X_train[fit]).score_samples(X_train[held_out_rows])
    for fit, held_out_rows in KFold(10).split(X_train)
]
threshold = np.quantile(np.concatenate(unseen), 0.05)
flagged = log_density < threshold
everything = roc_auc_score(malignant, -search.score_samples(X))
print(
    f"Malignant against unseen benign tumours: AUROC {auroc:.3f} (all tumours: {everything:.3f})."
)
print(
    f"Flagged at a threshold set for 5 % false alarms: {flagged[is_anomaly].mean():.0%} of the "
    f"malignant, {flagged[~is_anomaly].mean():.0%} of the unseen benign tumours."
)

# 5. Samples: new tumours, back in the units of the measurements.
scaled, _ = mixture.sample(500, random_state=1)
samples = search.best_estimator_["scale"].inverse_transform(scaled)
print("\nOne invented benign tumour:")
for name, value in list(zip(data.feature_names, samples[0], strict=True))[:4]:
    print(f"  {name:<18}{value:10.3f}")

# 6. One picture.
figure, axes = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
for name in grid["mixture__covariance_type"]:
    ks = grid["mixture__n_components"]
    axes[0].plot(ks, [held_out[name, k] for k in ks], marker="o", label=name)
axes[0].set(title="Choosing the mixture", xlabel="components", ylabel="held-out nats per sample")
lowest = max(min(held_out.values()), max(held_out.values()) - 40)
axes[0].set_ylim(lowest - 2, max(held_out.values()) + 2)
axes[0].legend(title="covariances")

clipped = np.clip(log_density, -250, None)
bins = np.linspace(clipped.min(), clipped.max(), 40)
for group, label, colour in ((~is_anomaly, "benign", "C0"), (is_anomaly, "malignant", "C3")):
    axes[1].hist(clipped[group], bins, alpha=0.6, label=f"{label}, unseen", color=colour)
axes[1].axvline(threshold, color="k", linestyle="--", label="5 % of held-out training rows")
axes[1].set(
    title=f"Anomalies: AUROC {auroc:.3f}",
    xlabel="log density, nats (-250 and below in one bar)",
    ylabel="tumours",
)
axes[1].legend(framealpha=1)

radius, texture = 0, 1  # columns of the mean radius and the mean texture
axes[2].scatter(samples[:, radius], samples[:, texture], s=8, alpha=0.5, label="samples")
axes[2].scatter(X_train[:, radius], X_train[:, texture], s=8, alpha=0.8, label="training rows")
axes[2].set(title="Samples", xlabel="mean radius", ylabel="mean texture")
axes[2].legend()

path = Path(__file__).parents[1] / "output" / "quickstart.png"
path.parent.mkdir(exist_ok=True)
figure.savefig(path, dpi=120)
print(f"\nPicture: {path}")
