"""spec.prometheus of a ServingProfile: the server that the operator queries, and how it finds the pods."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from slipstream_operator.api import pod
from slipstream_operator.api.base import ApiModel, Duration, bounded, list_map, rule, rules


class OperatorSecretKey(ApiModel):
    """Key of a Secret in the operator's namespace.

    The operator can read the Secret slipstream-prometheus. For another name, add it to the Role slipstream-operator.
    """

    name: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        description="Name of the Secret, such as slipstream-prometheus."
    )
    key: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        description="Key in the Secret."
    )


class Header(ApiModel):
    """HTTP header of the operator's queries."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "has(self.value) != has(self.secret)",
                message="a header needs exactly one of value and secret.",
            )
        )
    )

    name: Annotated[str, Field(min_length=1, max_length=128)] = Field(
        description="Name, such as X-Scope-OrgID."
    )
    value: Annotated[str, Field(min_length=1, max_length=1024)] | None = Field(
        default=None, description="Value, if it is no secret."
    )
    secret: OperatorSecretKey | None = Field(
        default=None, description="Secret with the value, in the operator's namespace."
    )


class Prometheus(ApiModel):
    """Prometheus server with the metrics of engines and routers."""

    model_config = pydantic.ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.url.startsWith('http://') || self.url.startsWith('https://')",
                message_expression="'url: \"' + self.url + '\" has no scheme. Begin it with http:// or https://.'",
            ),
            rule(
                "self.url.startsWith('https://') || !(has(self.tokenSecret) || has(self.caSecret) "
                "|| (has(self.headers) && self.headers.exists(header, has(header.secret))))",
                message="tokenSecret, caSecret and secret headers need a url that begins with https://.",
            ),
            bounded("window", "1s", "1h"),
        )
    )

    url: Annotated[str, Field(min_length=1, max_length=512)] = Field(
        description="Base URL, such as http://prometheus.monitoring.svc:9090."
    )
    token_secret: OperatorSecretKey | None = Field(
        default=None,
        description="Bearer token for the server, in a Secret of the operator's namespace. It is read again each "
        "minute.",
    )
    ca_secret: OperatorSecretKey | None = Field(
        default=None,
        description="Certificates in PEM that sign the server's certificate, in a Secret of the operator's namespace. "
        "Default: the public certificate authorities.",
    )
    headers: (
        Annotated[list[Header], Field(max_length=16, json_schema_extra=list_map("name"))] | None
    ) = Field(default=None, description="Further headers, such as the tenant of Mimir.")
    discovery: Literal["PodMonitor", "Annotations"] | None = Field(
        default=None,
        description="How Prometheus finds the pods of engines and routers. Default: PodMonitor if the cluster has that "
        "kind, otherwise Annotations (prometheus.io/scrape). A change takes effect with the "
        "next revision of a service.",
    )
    pod_monitor_labels: pod.Labels | None = Field(
        default=None,
        description="Labels of the PodMonitors, by which a Prometheus selects them, such as release: "
        "kube-prometheus-stack.",
    )
    scraper_namespaces: pod.LabelSelector | None = Field(
        default=None,
        description="Namespaces that may scrape engines and routers, for the NetworkPolicies. Default: the "
        "namespace in url, or all namespaces if url has none.",
    )
    window: Duration | None = Field(
        default=None,
        description="Range of rates, from 1s to 1h and at least four scrape intervals. Default: 1m.",
    )
