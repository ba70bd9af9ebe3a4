"""
Six pictures of fitted models
=============================

How did the bound rise, what are the components, where is the probability, what does z
stand for, how good is the bound, and why is a row anomalous? ``skemvae.displays`` has
one display for each question. This example draws all six from data that scikit-learn
ships. It takes half a minute.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skemvae import EMGaussianMixture, VAEEstimator, VariationalEM
from skemvae.displays import (
    BoundDisplay,
    DensityDisplay,
    FeatureScoreDisplay,
    GapDisplay,
    LatentDisplay,
    MixtureDisplay,
)
from skemvae.models import FactorModel

# %%
# The components of a mixture, on two of its four features. Rows between two components
# get a mixture of both colours.

iris = load_iris(as_frame=True).data
petals = ["petal length (cm)", "petal width (cm)"]
em = EMGaussianMixture(3, random_state=0).fit(iris)
display = MixtureDisplay.from_estimator(em, iris, features=petals)
display.figure_.suptitle("Three components of the irises")

# %%
# The same mixture as a density: the smallest regions that hold 50, 90 and 99 % of the
# probability.

display = DensityDisplay.from_estimator(em, iris, features=petals)
display.figure_.suptitle("The density of the irises")

# %%
# A VAE with two latent dimensions, for counts: the grey levels of handwritten digits go
# from 0 to 16. It has not seen the classes. The right side shows the images that it
# decodes from points of the latent plane.

digits = load_digits()
vae = VAEEstimator(
    2, likelihood="poisson", learning_rate="cosine", max_iter=100, random_state=0
)
vae.fit(digits.data)
display = LatentDisplay.from_estimator(
    vae, digits.data, digits.target, image_shape=(8, 8)
)
display.figure_.suptitle("Latent means of the digits, and what z stands for")

# %%
# The bound of the VAE, epoch by epoch, on the rows that it was trained on and on those
# that were held out.

display = BoundDisplay.from_estimator(vae)
display.figure_.suptitle("The bound of the VAE in each epoch")

# %%
# How far bounds are from :math:`\log p(x)`, on chemical analyses of wines. EM's
# posterior is exact, and the best normal :math:`q` of each row is nearly exact. A VAE
# has one encoder for all rows, which causes most of its gap.

wine = StandardScaler().fit_transform(load_wine().data)
fits = {
    "mixture": EMGaussianMixture(3, covariance_type="diag", random_state=0),
    "factor model, Student's t": VariationalEM(
        FactorModel(2, "student_t"), tol=1e-2, random_state=0
    ),
    "VAE": VAEEstimator(2, hidden_layer_sizes=(32,), random_state=0),
}
display = GapDisplay.from_estimator(
    {name: fit.fit(wine) for name, fit in fits.items()}, wine
)
display.figure_.suptitle("Gaps of the bounds of three models")

# %%
# Which measurements make tumours unlike the benign ones? The display shows those of the
# ten rows with the lowest log density.

cancer = load_breast_cancer(as_frame=True)
pipeline = make_pipeline(
    StandardScaler(), EMGaussianMixture(2, reg_covar=1e-2, random_state=0)
)
pipeline.fit(cancer.data[cancer.target == 1])
display = FeatureScoreDisplay.from_estimator(
    pipeline, cancer.data, feature_names=cancer.feature_names
)
display.figure_.suptitle("Feature scores of ten anomalous tumours")
plt.show()
