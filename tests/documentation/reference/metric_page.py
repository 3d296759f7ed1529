"""The page of the metrics, from the table of the exporter."""

from __future__ import annotations

from pki.monitor.report.metric_definitions import METRICS, PREFIX
from tests.documentation.reference.markdown import code, prose, table

GROUPS = {  # title → beginnings of the names
    "Runs": ("build", "metrics", "inventory", "last_run", "last_success"),
    "Certificates": ("certificate", "profile"),
    "Authorities and CRLs": ("authority", "ceremony", "crl", "presigned"),
    "Deployments": ("deployment",),
    "Services": ("probe",),
    "Ledger": ("ledger",),
    "Findings and alerts": ("check", "alerts"),
}


def text() -> str:
    """Return the page."""
    parts = [
        (
            "# Metrics\n\n"
            "Each full run writes these metrics in the text format of Prometheus into `build/report/pki.prom`, and into the file\n"
            "`metrics: {textfile: …}` of pki.yaml. [Monitor with Prometheus](../how-to/prometheus.md) shows the scrape configuration,\n"
            "alert rules and dashboard. Each metric also has the label `project`, the folder of the project. Names in `_total` are\n"
            "counters, all others gauges. Times are seconds since 1970.\n"
        )
    ]
    for title, beginnings in GROUPS.items():
        rows = [
            (code(PREFIX + name), ", ".join(map(code, spec.labels)), prose(spec.doc))
            for name, spec in METRICS.items()
            if name.startswith(beginnings)
        ]
        parts.append(f"## {title}\n\n" + table(("metric", "labels", "meaning"), rows))
    parts.append(
        "## Example\n\nThe days until each certificate expires, in PromQL:\n\n"
        "```text\n"
        f"({PREFIX}certificate_not_after_timestamp_seconds - time()) / 86400\n"
        "```\n"
    )
    return "\n".join(parts)
