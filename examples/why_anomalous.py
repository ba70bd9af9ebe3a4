"""
Which tumours are anomalous, and why?
=====================================

The table is scikit-learn's breast-cancer data. A density is fitted to benign tumours; the
threshold comes from rows that each fit has not seen. Then some values are spoiled on purpose,
as by a slip of the pen, and found again.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skemvae import DensityOutlierDetector, EMGaussianMixture

# %%
# Half of the benign tumours to fit; the others, and all malignant ones, are new.

data = load_breast_cancer()
names, malignant = data.feature_names, data.target == 0
X_train, X_benign = train_test_split(data.data[~malignant], test_size=0.5, random_state=0)
X_malignant = data.data[malignant]

# %%
# A density, and a threshold that 5 % of new benign tumours should miss.

density = make_pipeline(StandardScaler(), EMGaussianMixture(reg_covar=1e-2, random_state=0))
detector = DensityOutlierDetector(density, false_alarm_rate=0.05).fit(X_train)
print(f"Threshold: a log density of {detector.offset_:.1f} nats.")
for group, rows in (("unseen benign", X_benign), ("malignant", X_malignant)):
    print(f"  flagged of the {group} tumours: {(detector.predict(rows) == -1).mean():.0%}")

# %%
# The threshold of a quantile of the rows' scores on their own fit, for comparison.

naive = DensityOutlierDetector(density, contamination=0.05).fit(X_train)
print(
    "With a quantile of the scores on their own fit it would be "
    f"{naive.offset_:.1f}, and {(naive.predict(X_benign) == -1).mean():.0%} of the unseen benign "
    "ones would be flagged."
)

# %%
# The most anomalous of the unseen benign tumours: why?

log_density = detector.score_samples(X_benign)
scores = detector.feature_scores(X_benign)
print("The most anomalous unseen benign tumours, and their most surprising measurements:")
most_anomalous = log_density.argsort()[:5]
for row in most_anomalous:
    blamed = [f"{names[j]} ({scores[row, j]:.0f})" for j in scores[row].argsort()[:-4:-1]]
    print(f"  {log_density[row]:8.1f} nats   {', '.join(blamed)}")

# %%
# Are the right values blamed? One measurement of each tumour is put down 3 times as large.

rng = np.random.RandomState(0)
slips = rng.randint(len(names), size=len(X_benign))
spoiled = X_benign.copy()
spoiled[np.arange(len(slips)), slips] *= 3
blame = detector.feature_scores(spoiled)
rank = (blame > blame[np.arange(len(slips)), slips][:, None]).sum(1)
far = np.abs(spoiled - X_train.mean(0)) / X_train.std(0)
rank_far = (far > far[np.arange(len(slips)), slips][:, None]).sum(1)
print("One measurement of each unseen benign tumour tripled, and looked for:")
print(f"  it has the largest feature score         {(rank == 0).mean():6.0%}")
print(f"  ... and is furthest from its mean        {(rank_far == 0).mean():6.0%}")

# %%
# One picture: where the rows lie, and what is to blame.

figure, (left, right) = plt.subplots(
    1, 2, figsize=(13, 4.8), layout="constrained", width_ratios=[2, 3]
)
bins = np.linspace(-150, log_density.max(), 50)
for rows, label, colour in ((X_benign, "benign", "C0"), (X_malignant, "malignant", "C1")):
    values = np.clip(detector.score_samples(rows), bins[0], None)
    left.hist(values, bins, alpha=0.6, label=f"{label}, unseen", color=colour)
left.axvline(detector.offset_, color="k", linestyle="--", label="threshold")
left.set(xlabel=f"log density, nats ({bins[0]:.0f} and below in one bar)", ylabel="tumours")
left.legend()

shown = np.sort(np.argsort(scores[most_anomalous].max(0))[-12:])
image = right.imshow(scores[most_anomalous][:, shown], cmap="Reds", vmin=0, vmax=50, aspect="auto")
right.set_xticks(range(len(shown)), names[shown], rotation=40, ha="right")
right.set_yticks(range(len(most_anomalous)), [f"tumour {row}" for row in most_anomalous])
right.set_title("Feature scores of the most anomalous benign tumours")
figure.colorbar(image, ax=right, label="nats (50 and more in one colour)")
plt.show()
