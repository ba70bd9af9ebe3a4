"""
Why is a row anomalous?
=======================

Which tumours are anomalous, at which threshold, and which of their measurements are to
blame? We fit a density to benign tumours. The threshold comes from the training rows,
each scored by a fit that has not seen it. Then we multiply one measurement of each new
tumour by a wrong factor, as by a slip of the pen, and find it again.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skemvae import DensityOutlierDetector, EMGaussianMixture
from skemvae.displays import FeatureScoreDisplay

# %%
# We fit to half of the benign tumours. The others, and all malignant ones, are new. The
# threshold is chosen so that 5 % of new benign tumours should lie below it.

data = load_breast_cancer()
malignant = data.target == 0
X_train, X_benign = train_test_split(
    data.data[~malignant], test_size=0.5, random_state=0
)
X_malignant = data.data[malignant]

density = make_pipeline(
    StandardScaler(), EMGaussianMixture(reg_covar=1e-2, random_state=0)
)
detector = DensityOutlierDetector(density, false_alarm_rate=0.05).fit(X_train)
print(f"Threshold: a log density of {detector.offset_:.1f} nats")
for group, rows in (("unseen benign", X_benign), ("malignant", X_malignant)):
    print(
        f"  flagged of the {group} tumours: {(detector.predict(rows) == -1).mean():.0%}"
    )

# %%
# A density gives too high scores to the rows that it was fitted to. A threshold from
# such scores flags more new rows than it should.

naive = DensityOutlierDetector(density, contamination=0.05).fit(X_train)
print(f"Threshold from the scores on their own fit: {naive.offset_:.1f} nats")
flagged = naive.predict(X_benign) == -1
print(f"  flagged of the unseen benign tumours: {flagged.mean():.0%}")

# %%
# These are the most anomalous benign tumours, and what is surprising about them: how
# improbable each measurement is, given all others, in nats above the usual value.

log_density = detector.score_samples(X_benign)
scores = detector.feature_scores(X_benign)
most_anomalous = log_density.argsort()[:5]
for row in most_anomalous:
    blamed = scores[row].argsort()[:-4:-1]
    names = ", ".join(f"{data.feature_names[j]} ({scores[row, j]:.0f})" for j in blamed)
    print(f"{log_density[row]:7.1f} nats   {names}")

# %%
# Are the right values blamed? We record one measurement of each new benign tumour three
# times as large as it is. The value by itself need not be improbable, but it is
# improbable given the others.

rng = np.random.RandomState(0)
slips = rng.randint(X_benign.shape[1], size=len(X_benign))
spoiled = X_benign.copy()
spoiled[np.arange(len(slips)), slips] *= 3
blamed = detector.feature_scores(spoiled).argmax(1)
furthest = np.abs((spoiled - X_train.mean(0)) / X_train.std(0)).argmax(1)
print("The spoiled measurement")
print(f"  has the largest feature score: {(blamed == slips).mean():.0%}")
print(f"  is furthest from its mean:     {(furthest == slips).mean():.0%}")

# %%
# Where the rows lie, and which measurements are to blame.

figure, (left, right) = plt.subplots(
    1, 2, figsize=(13, 4.8), layout="constrained", width_ratios=[2, 3]
)
bins = np.linspace(-150, log_density.max(), 50)
for rows, label, colour in (
    (X_benign, "benign", "C0"),
    (X_malignant, "malignant", "C1"),
):
    values = np.clip(detector.score_samples(rows), bins[0], None)
    left.hist(values, bins, alpha=0.6, label=f"{label}, unseen", color=colour)
left.axvline(detector.offset_, color="k", linestyle="--", label="threshold")
left.set(
    xlabel=f"log density, nats ({bins[0]:.0f} and below in one bar)",
    ylabel="tumours",
    title="Unseen tumours, and the threshold",
)
left.legend(loc="upper center")
FeatureScoreDisplay.from_estimator(
    detector, X_benign, rows=most_anomalous, feature_names=data.feature_names, ax=right
)
right.set(title="Feature scores of the five most anomalous benign ones")
plt.show()
