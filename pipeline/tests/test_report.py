import re
from xml.etree import ElementTree as ET

from nyc_taxi.evaluate import Errors
from nyc_taxi.ingest import Role, Source
from nyc_taxi.report import render

HOSTILE = "<script>alert('1')</script>&$title"


def page() -> str:
    sources: dict[Role, Source] = {
        "train": Source(HOSTILE, f"/tmp/{HOSTILE}", "green", None, 1, 2, "ab"),  # noqa: S108
        "validate": Source("2023-02", "/data/b.parquet", "green", "2023-02", 1, 2, "cd"),
    }
    metrics = {"train_rmse": 7.0399, "validation_rmse": 7.3562, "intercept": 22.7668, "feature_count": 467}
    errors = Errors(density={(5, 5): 9, (6, 5): 1}, histogram={-30: 1, 0: 8, 29: 1}, rmse_by_hour={0: 5.5, 23: 7.25})
    result = {"metrics": metrics, "rows": {"train": 65946, "validation": 62574}}
    return render({"train": HOSTILE}, sources, result, errors)


def test_text_is_escaped() -> None:
    html = page()
    assert "<script" not in html
    assert "&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt;&amp;$title" in html


def test_the_page_needs_nothing_else() -> None:
    html = page()
    assert not re.findall(r"""(?:src|href)=|url\(|@import|https?://""", html)
    assert "prefers-color-scheme: dark" in html


def test_plots_are_well_formed_and_labelled() -> None:
    plots = [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page(), re.DOTALL)]  # noqa: S314 - our own
    assert [plot.get("aria-label") for plot in plots] == [
        "Density of predicted against actual duration",
        "Histogram of errors",
        "RMSE by hour of pickup",
    ]
    assert [len(plot.findall("rect")) for plot in plots] == [2, 60, 24]
    for rectangle in (rectangle for plot in plots for rectangle in plot.findall("rect")):
        x, y, width, height = (float(rectangle.attrib[name]) for name in ("x", "y", "width", "height"))
        assert 0 <= x <= x + width <= 560
        assert 0 <= y <= y + height <= 320


def test_the_figures_are_those_of_the_run() -> None:
    html = page()
    for figure in ("7.3562", "7.0399", "22.7668", "467", "65,946", "62,574"):
        assert f"<dd>{figure}</dd>" in html
