"""Every metric of `build/report/pki.prom`: its name, its labels and its help text."""

from __future__ import annotations

from typing import NamedTuple

PREFIX = "doit_pki_"  # of every name


class MetricSpec(NamedTuple):
    """The labels of a metric, after `project`, and its help text. Names in `_total` are counters, all others gauges."""

    labels: tuple[str, ...]
    doc: str


LEAF, AUTHORITY = ("name", "profile", "host"), ("name", "authority")
SERVICE = ("host", "service", "name")
METRICS: dict[str, MetricSpec] = {
    "build_info": MetricSpec(("version",), "The version of doit-pki that wrote this."),
    "metrics_timestamp_seconds": MetricSpec((), "Start of the run that wrote this file, whatever was requested."),
    "inventory_valid": MetricSpec((), "1 if pki.yaml was valid when doit was last started; 0: nothing was done."),
    "last_run_timestamp_seconds": MetricSpec((), "Start of the last full run."),
    "last_success_timestamp_seconds": MetricSpec((), "Start of the last full run in which nothing failed."),
    "last_run_success": MetricSpec((), "1 if nothing failed in the last full run."),
    "last_run_duration_seconds": MetricSpec((), "Duration of the last full run."),
    "last_run_tasks": MetricSpec(
        ("group", "result"), "Tasks of the last full run by result: changed, failed, blocked or up_to_date."
    ),
    "certificate_not_before_timestamp_seconds": MetricSpec(LEAF, "Start of validity of a certificate."),
    "certificate_not_after_timestamp_seconds": MetricSpec(LEAF, "End of validity of a certificate."),
    "profile_renew_before_seconds": MetricSpec(("profile",), "How long before it expires a certificate is renewed."),
    "authority_not_before_timestamp_seconds": MetricSpec(AUTHORITY, "Start of validity of a live authority."),
    "authority_not_after_timestamp_seconds": MetricSpec(AUTHORITY, "End of validity of a live authority."),
    "authority_signs_until_timestamp_seconds": MetricSpec(
        AUTHORITY, "The end of the signing period of an authority that signs now: then its successor is needed."
    ),
    "ceremony_by_timestamp_seconds": MetricSpec(
        ("what",), "Last day of a root ceremony that is due, by what it provides."
    ),
    "crl_this_update_timestamp_seconds": MetricSpec(AUTHORITY, "thisUpdate of a CRL."),
    "crl_next_update_timestamp_seconds": MetricSpec(AUTHORITY, "nextUpdate of a CRL."),
    "crl_number": MetricSpec(AUTHORITY, "The number of a CRL."),
    "crl_refresh_seconds": MetricSpec(AUTHORITY, "Interval after which a CRL is issued again."),
    "presigned_crl_end_timestamp_seconds": MetricSpec(AUTHORITY, "nextUpdate of the last pre-signed CRL of a root."),
    "deployments": MetricSpec(("state",), "Number of hosts that are well, and in each of the other states."),
    "deployment_state": MetricSpec(("host", "state"), "1 for each state, other than well, of a host."),
    "deployment_failing_since_timestamp_seconds": MetricSpec(("host",), "Since when deployments to a host fail."),
    "deployment_expires_timestamp_seconds": MetricSpec(
        ("host",), "When the first certificate or CRL on a failing host expires."
    ),
    "probe_success": MetricSpec(SERVICE, "1 if a service serves what was deployed and refuses whom it should."),
    "probe_unverifiable_info": MetricSpec(
        (*SERVICE, "reason"), "A service that does not show whom it lets in, which has no probe_success, and why."
    ),
    "probe_reached": MetricSpec(SERVICE, "1 if a service answered at all."),
    "probe_duration_seconds": MetricSpec(SERVICE, "Duration of the probe of a service."),
    "probe_not_after_timestamp_seconds": MetricSpec(
        SERVICE, "End of validity of the certificate that a service serves."
    ),
    "probe_tls_info": MetricSpec((*SERVICE, "version"), "The TLS version that a service spoke."),
    "probe_wrong_info": MetricSpec((*SERVICE, "fault", "wrong"), "The fault of a service: its kind and a description."),
    "ledger_certificates_total": MetricSpec((), "Certificates in the ledger."),
    "ledger_revocations_total": MetricSpec((), "Revocations in the ledger."),
    "checks": MetricSpec(("level",), "Number of findings at each level."),
    "check_level": MetricSpec(
        ("subject", "topic", "remedy"),
        "Level of a finding: 1 notice, 2 warning, 3 critical; `remedy` is the command to type.",
    ),
    "alerts_channel_failing": MetricSpec(("channel",), "1 if messages cannot be sent through a channel."),
    "alerts_channel_failing_since_timestamp_seconds": MetricSpec(
        ("channel",), "Since when messages cannot be sent through a channel."
    ),
}
