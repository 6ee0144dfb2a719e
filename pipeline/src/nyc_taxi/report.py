"""The run as one HTML page that needs nothing else: no scripts, no fonts, no network."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from nyc_taxi.evaluate import CELL, LONGEST, WIDEST, Errors
from nyc_taxi.ingest import Role, Source
from nyc_taxi.svg import bars, heatmap
from nyc_taxi.versions import versions

_TEMPLATE = Path(__file__).with_name("report.html")


def render(params: Mapping[str, str], sources: Mapping[Role, Source], result: Mapping[str, Any], errors: Errors) -> str:
    metrics, rows = result["metrics"], result["rows"]
    names = {role: f"{source.kind} {source.month or Path(source.path).name}" for role, source in sources.items()}
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title="How long does a taxi trip take?",
        subtitle=escape(
            f"Linear regression on {names['train']}, checked on {names['validate']}; trips of 1 to 60 minutes."
        ),
        figures=_figures(
            {
                "validation RMSE, minutes": f"{metrics['validation_rmse']:.4f}",
                "training RMSE, minutes": f"{metrics['train_rmse']:.4f}",
                "intercept, minutes": f"{metrics['intercept']:.4f}",
                "features": f"{metrics['feature_count']:,}",
                "trips, training": f"{rows['train']:,}",
                "trips, validation": f"{rows['validation']:,}",
            }
        ),
        plots="".join(_plots(errors)),
        tables="".join(
            [
                _table("Parameters", params),
                *(_table(f"Data: {role}", _facts(source)) for role, source in sources.items()),
                _table("Versions", versions()),
            ]
        ),
    )


def _plots(errors: Errors) -> list[str]:
    return [
        _figure(
            "Predicted against actual",
            "Validation trips; the stronger the colour, the more. On the dashed line a prediction is right.",
            heatmap(
                errors.density,
                LONGEST // CELL,
                CELL,
                label="Density of predicted against actual duration",
                x_label="predicted minutes",
                y_label="actual minutes",
            ),
        ),
        _figure(
            "Errors",
            f"Actual less predicted minutes; the outermost bars hold all beyond {WIDEST} minutes.",
            bars(
                errors.histogram,
                range(-WIDEST, WIDEST),
                label="Histogram of errors",
                x_label="minutes longer than predicted",
                y_label="trips",
                unit="trips",
                tick=10,
            ),
        ),
        _figure(
            "Error by hour",
            "RMSE of the trips that began in each hour of the day.",
            bars(
                errors.rmse_by_hour,
                range(24),
                label="RMSE by hour of pickup",
                x_label="hour of pickup",
                y_label="RMSE, minutes",
                unit="minutes",
                tick=3,
            ),
        ),
    ]


def _figures(figures: Mapping[str, str]) -> str:
    return "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in figures.items())


def _figure(title: str, text: str, svg: str) -> str:
    return f"<figure><figcaption><h2>{escape(title)}</h2><p>{escape(text)}</p></figcaption>{svg}</figure>"


def _table(title: str, rows: Mapping[str, str]) -> str:
    body = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows.items())
    return f"<section><h2>{escape(title)}</h2><table>{body}</table></section>"


def _facts(source: Source) -> dict[str, str]:
    return {
        "file": source.path,
        "kind": source.kind,
        "month": source.month or "not named",
        "rows read": f"{source.rows:,}",
        "bytes": f"{source.bytes:,}",
        "sha256": source.sha256,
    }
