import os
from pathlib import Path

Path(os.environ["MLOPS_ENV_RUN_DIR"], "rmse").write_text(os.environ["PARAM_RMSE"])
print("prepared")
