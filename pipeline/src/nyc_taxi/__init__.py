"""How long a New York taxi trip takes: five steps from TLC's files to a model in MLflow."""
