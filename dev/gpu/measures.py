"""Figures from what clients saw: speed at a load, and the step-time model beside the simulator's default. Pure."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from slipstream_runtime.evaluate import records
from slipstream_runtime.simulator import calibration, model

LATENCIES: Final = ("ttft_p50", "ttft_p95", "tpot_p50", "tpot_p95")
_UNITS: Final = (
    ("alpha", "ms", 1e3),
    ("beta", "us", 1e6),
    ("gamma", "ns", 1e9),
    ("delta", "us", 1e6),
)


def speed(found: Sequence[records.Record]) -> dict[str, Any]:
    """Return tokens a second and latencies in ms; failed requests are counted, and in no latency."""
    summary = records.summarize(found)
    figures: dict[str, Any] = {
        "requests": summary.succeeded,
        "failed": summary.failed,
        "tokens_per_second": round(summary.output_tokens_per_second, 1),
    }
    if summary.errors:
        figures["errors"] = dict(summary.errors)
    for name in ("ttft", "tpot"):
        latency: records.Latency = getattr(summary, name)
        for part in ("p50", "p95"):
            value = getattr(latency, part)
            figures[f"{name}_{part}_ms"] = None if value is None else round(1e3 * value, 2)
    return figures


def observations(found: Iterable[records.Record]) -> list[calibration.Observation]:
    """Return what the fit takes: whole answers alone."""
    return [
        calibration.Observation(
            model.Request(key, one.start, one.prompt_tokens, one.output_tokens),
            ttft=one.ttft,
            tpot=one.tpot,
        )
        for key, one in enumerate(found)
        if one.succeeded and one.ttft is not None
    ]


def step_time(
    fitted: Sequence[Sequence[records.Record]],
    predicted: Sequence[records.Record],
    *,
    limits: model.Parameters,
) -> dict[str, Any]:
    """Fit the model to some loads, and compare it and the simulator's default with another load."""
    fit = calibration.fit([observations(one) for one in fitted], limits=limits)
    measured = observations(predicted)
    requests = [one.request for one in measured]
    default = model.Parameters()
    plain = calibration.Fit(
        dataclasses.replace(
            limits,
            alpha=default.alpha,
            beta=default.beta,
            gamma=default.gamma,
            delta=default.delta,
        ),
        overhead=0.0,
        residual=0.0,
    )
    return {
        "fitted": _coefficients(fit.parameters) | {"overhead_ms": round(1e3 * fit.overhead, 3)},
        "default": _coefficients(default),
        "residual": round(fit.residual, 3),
        "requests": sum(map(len, fitted)),
        "measured_ms": _milliseconds(measured),
        "predicted_ms": _milliseconds(fit.predict(requests)),
        "predicted_by_default_ms": _milliseconds(plain.predict(requests)),
    }


def _coefficients(parameters: model.Parameters) -> dict[str, float]:
    return {
        f"{name}_{unit}": float(f"{scale * getattr(parameters, name):.4g}")
        for name, unit, scale in _UNITS
    }


def _milliseconds(found: Sequence[calibration.Observation]) -> Mapping[str, float]:
    ttfts = sorted(one.ttft for one in found)
    tpots = sorted(one.tpot for one in found if one.tpot is not None)
    values = [records.quantile(each, share) for each in (ttfts, tpots) for share in (0.5, 0.95)]
    return {name: round(1e3 * value, 2) for name, value in zip(LATENCIES, values, strict=True)}
