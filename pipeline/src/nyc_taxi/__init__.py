"""How long a New York taxi trip takes: five steps from TLC's files to a model in MLflow."""

import os

# Polars has the cores. The one eigenproblem, a few hundred square, gains nothing from BLAS's own threads, and
# starting them costs a tenth of a second when NumPy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
