"""
A yes-or-no survey
==================

1,500 people answer 20 questions with yes or no, and two attitudes determine their
answers. A factor model with Bernoulli columns (the logistic model of item-response
theory) finds the attitudes, and the sheets that somebody filled in by tossing a coin.
The survey is simulated, so we can check what the model finds.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import expit
from sklearn.model_selection import GridSearchCV, train_test_split

from skemvae import VariationalEM
from skemvae.models import FactorModel

# %%
# There are ten questions for each attitude. Some of them are rarely answered with yes.

rng = np.random.RandomState(0)
attitudes = rng.normal(size=(1500, 2))
loadings = np.kron(np.eye(2), rng.uniform(0.8, 2.0, (10, 1)))
difficulty = rng.normal(size=20)
answers = (
    rng.uniform(size=(1500, 20)) < expit(attitudes @ loadings.T - difficulty)
).astype(float)
train, test = train_test_split(answers, test_size=0.3, random_state=0)

# %%
# How many attitudes? We choose by the held-out log probability of a whole sheet of
# answers.

em = VariationalEM(FactorModel(likelihood="bernoulli"), random_state=0)
search = GridSearchCV(em, {"model__n_factors": [1, 2, 3]}, cv=3).fit(train)
for parameters, score in zip(
    search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
):
    n_factors = parameters["model__n_factors"]
    print(f"{n_factors} factors: {score:.3f} held-out nats per person")
em = search.best_estimator_
frequency = train.mean(0)
independent = test * np.log(frequency) + (1 - test) * np.log1p(-frequency)
print(f"Unseen people: {em.score(test):.3f}")
print(f"If no question told of another: {independent.sum(1).mean():.3f}")

# %%
# What does a person think, and how certain is that? Factors are only determined up to a
# rotation.

scores = em.transform(answers)
rotation, *_ = np.linalg.lstsq(scores, attitudes, rcond=None)
found = scores @ rotation
for j in range(2):
    correlation = np.corrcoef(found[:, j], attitudes[:, j])[0, 1]
    print(f"Attitude {j + 1}: correlation {correlation:.2f} with what was found")
uncertainty = np.sqrt(em.model_.posterior_covariance(answers)[:, 0, 0])
print("Standard deviation of the first factor, prior: 1, ", end="")
print(f"posterior: {uncertainty.mean():.2f}")

# %%
# Which sheets are odd? Fifty were filled in by tossing a coin.

coins = rng.randint(0, 2, (50, 20)).astype(float)
log_probability = em.score_samples(np.concatenate([test, coins]))
threshold = np.quantile(log_probability[: len(test)], 0.05)
caught = (log_probability[len(test) :] < threshold).mean()
print(f"At 5 % false alarms, {caught:.0%} of the sheets filled in by a coin are found")

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
left.scatter(attitudes[:, 0], found[:, 0], s=4)
left.set(
    xlabel="attitude (simulated)",
    ylabel="attitude (found)",
    title="The first attitude of each person",
)
bins = np.linspace(log_probability.min(), log_probability.max(), 40)
right.hist(log_probability[: len(test)], bins, density=True, alpha=0.6, label="people")
right.hist(log_probability[len(test) :], bins, density=True, alpha=0.6, label="coins")
right.axvline(threshold, color="k", lw=1, label="5 % false alarms")
right.set(
    xlabel="log probability of a sheet, nats",
    yticks=[],
    title="Sheets filled in by people and by coins",
)
right.legend()
plt.show()
