"""A person's view: the pages that `up` prints, in a real browser, with the password that `credentials` shows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 60.0  # seconds for a page of a busy machine
CLI = str(Path(sys.executable).with_name("mlops-env"))


def mlops_env(home: Path, *words: str) -> dict[str, Any]:
    variables = {key: value for key, value in os.environ.items() if not key.startswith("MLOPS_ENV_")}
    done = subprocess.run(
        [CLI, *words, "--json"], env={**variables, "HOME": str(home)}, capture_output=True, text=True, check=False
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, result
    return result


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mlops-env browser ") as directory:
        try:
            yield Path(directory)
        finally:
            mlops_env(Path(directory), "down")


@pytest.fixture(scope="module", params=["mage", "prefect"])
def up(request: pytest.FixtureRequest, home: Path) -> dict[str, Any]:
    return mlops_env(home, "up", "--orchestrator", request.param)


@pytest.fixture
def browser() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    quiet = ("background-networking", "component-update", "sync", "gpu", "quic")
    with tempfile.TemporaryDirectory() as profile:
        flags = ("headless", "no-sandbox", "no-first-run", "window-size=1400,900", f"user-data-dir={profile}")
        for flag in (*flags, *(f"disable-{what}" for what in quiet)):
            options.add_argument(f"--{flag}")
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        driver.set_page_load_timeout(PATIENCE)
        try:
            yield driver
        finally:
            driver.quit()


def text_of(browser: webdriver.Chrome) -> str:
    return browser.find_element(By.TAG_NAME, "body").text


def wait_for(browser: webdriver.Chrome, *wanted: str) -> None:
    def all_there(_: webdriver.Chrome) -> bool:
        return all(word in text_of(browser) for word in wanted)

    WebDriverWait(browser, PATIENCE, ignored_exceptions=None).until(all_there, f"{wanted} not on {browser.current_url}")


def log_in(browser: webdriver.Chrome, home: Path) -> None:
    """Type what `credentials` shows: mail and password, or both in the only field."""
    credentials = mlops_env(home, "credentials")
    WebDriverWait(browser, PATIENCE).until(lambda found: found.find_elements(By.CSS_SELECTOR, "input[type=password]"))
    fields = browser.find_elements(By.TAG_NAME, "input")
    values = [credentials["user"], credentials["password"]] if len(fields) > 1 else [credentials["prompt"]]
    for field, value in zip(fields, values, strict=True):
        field.send_keys(value)
    buttons = [button for button in browser.find_elements(By.TAG_NAME, "button") if button.text.strip()]
    next(button for button in buttons if "sign in" in button.text.lower() or "login" in button.text.lower()).click()


def test_the_page_of_the_run_asks_for_the_password_and_shows_every_step_completed(
    browser: webdriver.Chrome, home: Path, up: dict[str, Any]
) -> None:
    browser.get(up["run"]["page"])
    log_in(browser, home)
    WebDriverWait(browser, PATIENCE).until(
        lambda found: not found.find_elements(By.CSS_SELECTOR, "input[type=password]")
    )
    browser.get(up["run"]["page"])
    WebDriverWait(browser, PATIENCE).until(lambda found: "completed" in text_of(found).lower())
    for tab in browser.find_elements(By.XPATH, "//*[@role='tab'][contains(., 'Task Runs')]"):
        tab.click()
    wait_for(browser, "ingest", "transform", "features", "train", "evaluate")
    assert "failed" not in text_of(browser).lower()


def test_mlflow_shows_the_finished_run_with_its_metrics_and_parameters(
    browser: webdriver.Chrome, up: dict[str, Any]
) -> None:
    browser.get(f"{up['urls']['mlflow']}/#/experiments/1/runs/{up['run']['mlflow_run_id']}")
    wait_for(browser, "Finished", "train_rmse", "7.0399374", "validation_rmse", "7.3561703", "2023-02")


def test_the_report_of_the_run_renders_its_plots_in_mlflow(browser: webdriver.Chrome, up: dict[str, Any]) -> None:
    browser.get(f"{up['urls']['mlflow']}/#/experiments/1/runs/{up['run']['mlflow_run_id']}/artifacts/report.html")
    frame = WebDriverWait(browser, PATIENCE).until(lambda found: found.find_elements(By.TAG_NAME, "iframe"))[0]
    browser.switch_to.frame(frame)
    wait_for(browser, "How long does a taxi trip take?", "7.3562")
    plots = browser.find_elements(By.TAG_NAME, "svg")
    assert plots
    assert all(plot.size["height"] > 100 for plot in plots)
