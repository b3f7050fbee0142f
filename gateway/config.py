"""Envoy's whole configuration, from the API and the settings. A new RPC changes it without a line here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.api import Api
from gateway.filters import http_filters, key_filters
from gateway.replies import local_reply_config
from gateway.routes import virtual_host
from gateway.settings import GatewaySettings

Json = dict[str, Any]

ADMIN, KEYS = "admin", "keys"
MAX_CONNECTIONS = 5_000
MAX_REQUESTS = 4_096  # an open stream counts

_EXTENSIONS = "type.googleapis.com/envoy.extensions"


@dataclass(frozen=True)
class Files:
    """What the configuration names by its path."""

    directory: Path

    @property
    def bootstrap(self) -> Path:
        """The configuration itself."""
        return self.directory / "envoy.json"

    @property
    def descriptors(self) -> Path:
        """What the transcoder knows the RPCs from."""
        return self.directory / "api.binpb"

    @property
    def openapi(self) -> Path:
        """The OpenAPI document."""
        return self.directory / "openapi.json"

    @property
    def certificate(self) -> Path:
        """Which certificate to serve with."""
        return self.directory / "certificate.json"


def bootstrap(api: Api, settings: GatewaySettings, files: Files, sockets: Path) -> Json:
    """The configuration; in the folder `sockets` Envoy takes orders, and fetches the keys of tokens."""
    keys = {"pipe": {"path": str(sockets / KEYS), "mode": 0o600}}
    return {
        "node": {"id": "gateway", "cluster": "portolan"},
        "admin": {"address": {"pipe": {"path": str(sockets / ADMIN), "mode": 0o600}}},
        "application_log_config": {
            "log_format": {
                "json_format": {"time": "%Y-%m-%dT%T.%eZ", "level": "%l", "logger": "%n", "event": "%j"}
            }
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": f"{_EXTENSIONS}.resource_monitors.downstream_connections.v3"
                        ".DownstreamConnectionsConfig",
                        "max_active_downstream_connections": MAX_CONNECTIONS,
                    },
                }
            ]
        },
        "static_resources": {
            "listeners": [_listener(api, settings, files), _key_listener(api, files, keys)],
            "clusters": [
                *(_cluster(name, settings.address(name)) for name in api.services),
                _key_cluster(keys),
            ],
        },
    }


def certificate(chain: Path, key: Path) -> Json:
    """The certificate as a resource of its own, so that Envoy takes up a new one without a restart."""
    return {
        "resources": [
            {
                "@type": f"{_EXTENSIONS}.transport_sockets.tls.v3.Secret",
                "name": "certificate",
                "tls_certificate": {
                    "certificate_chain": {"filename": str(chain)},
                    "private_key": {"filename": str(key)},
                    "watched_directory": {"path": str(chain.parent)},
                },
            }
        ]
    }


def security_headers(settings: GatewaySettings) -> dict[str, str]:
    """The headers of every answer: what is served is data, never a page."""
    headers = {
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    }
    if settings.tls_certificate:
        headers["strict-transport-security"] = "max-age=31536000; includeSubDomains"
    return headers


def _listener(api: Api, settings: GatewaySettings, files: Files) -> Json:
    host, port = settings.endpoint
    headers = security_headers(settings)
    manager = {
        "@type": f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "use_remote_address": True,
        "xff_num_trusted_hops": settings.trusted_hops,
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "always_set_request_id_in_response": True,
        "preserve_external_request_id": True,
        "request_id_extension": {
            "typed_config": {
                "@type": f"{_EXTENSIONS}.request_id.uuid.v3.UuidRequestIdConfig",
                "pack_trace_reason": False,  # which changes a digit of a client's id
            }
        },
        "server_header_transformation": "PASS_THROUGH",
        "max_request_headers_kb": 8,  # what gRPC servers take
        "request_headers_timeout": "10s",
        "stream_idle_timeout": f"{settings.idle_timeout}s",
        "common_http_protocol_options": {
            "idle_timeout": "600s",
            "headers_with_underscores_action": "REJECT_REQUEST",
            "max_headers_count": 100,
        },
        "http2_protocol_options": {
            "max_concurrent_streams": 100,
            "initial_stream_window_size": 65_536,
            "initial_connection_window_size": 1_048_576,
        },
        "access_log": [_access_log()],
        "local_reply_config": local_reply_config(headers),
        "route_config": {
            "name": "main",
            "max_direct_response_body_size_bytes": files.openapi.stat().st_size,
            "virtual_hosts": [virtual_host(api, settings, str(files.openapi))],
        },
        "http_filters": http_filters(api, settings, str(files.descriptors), headers),
    }
    chain: Json = {
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    }
    if settings.tls_certificate:
        chain["transport_socket"] = _tls(files)
    return {
        "name": "api",
        "address": {"socket_address": {"address": host, "port_value": port}},
        "filter_chains": [chain],
    }


def _key_listener(api: Api, files: Files, address: Json) -> Json:
    """Where Envoy itself fetches the public keys of tokens: by HTTP, from the auth service, without TLS."""
    manager = {
        "@type": f"{_EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": KEYS,
        "route_config": {
            "virtual_hosts": [
                {
                    "name": KEYS,
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "auth"}}],
                }
            ]
        },
        "http_filters": key_filters(api, str(files.descriptors)),
    }
    return {
        "name": KEYS,
        "address": address,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _tls(files: Files) -> Json:
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "tls_certificate_sds_secret_configs": [
                    {
                        "name": "certificate",
                        "sds_config": {
                            "resource_api_version": "V3",
                            "path_config_source": {"path": str(files.certificate)},
                        },
                    }
                ],
            },
        },
    }


def _cluster(name: str, address: str) -> Json:
    host, _, port = address.rpartition(":")
    return {
        "name": name,
        "type": "STRICT_DNS",
        "dns_lookup_family": "V4_PREFERRED",
        "lb_policy": "LEAST_REQUEST",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_EXTENSIONS}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {
                    "http2_protocol_options": {"connection_keepalive": {"interval": "15s", "timeout": "5s"}}
                },
            }
        },
        "health_checks": [
            {
                # Patient, since a machine may be busy; who is dead is known at once, when connecting fails.
                "timeout": "3s",
                "interval": "2s",
                "unhealthy_edge_interval": "1s",
                "unhealthy_interval": "0.25s",
                # Until it has been called, one that starts is as one that is away.
                "no_traffic_interval": "0.25s",
                "no_traffic_healthy_interval": "2s",
                "unhealthy_threshold": 3,
                "healthy_threshold": 1,
                "grpc_health_check": {},
            }
        ],
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},  # never call what is known to be down
        "circuit_breakers": {
            "thresholds": [{"max_requests": MAX_REQUESTS, "max_pending_requests": 1_024, "max_retries": 50}]
        },
        "load_assignment": _endpoint(
            name, {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}
        ),
    }


def _key_cluster(address: Json) -> Json:
    return {
        "name": KEYS,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": _endpoint(KEYS, address),
    }


def _endpoint(cluster: str, address: Json) -> Json:
    return {
        "cluster_name": cluster,
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
    }


def _access_log() -> Json:
    path = "REQ_WITHOUT_QUERY(X-ENVOY-ORIGINAL-PATH?:PATH)"  # a query may carry what nobody should read
    return {
        "name": "envoy.access_loggers.stdout",
        "typed_config": {
            "@type": f"{_EXTENSIONS}.access_loggers.stream.v3.StdoutAccessLog",
            "log_format": {
                "json_format": {
                    "time": "%START_TIME%",
                    "method": "%REQ(X-ENVOY-ORIGINAL-METHOD?:METHOD)%",
                    "path": f"%{path}%",
                    "rpc": "%REQ_WITHOUT_QUERY(:PATH)%",
                    "status": "%RESPONSE_CODE%",
                    "grpc_status": "%GRPC_STATUS%",
                    "milliseconds": "%DURATION%",
                    "received": "%BYTES_RECEIVED%",
                    "sent": "%BYTES_SENT%",
                    "flags": "%RESPONSE_FLAGS%",
                    "details": "%RESPONSE_CODE_DETAILS%",
                    "request_id": "%REQ(X-REQUEST-ID)%",
                    "upstream": "%UPSTREAM_HOST%",
                    "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
                    "user": "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:claims:sub)%",
                },
                "formatters": [
                    {
                        "name": "envoy.formatter.req_without_query",
                        "typed_config": {
                            "@type": f"{_EXTENSIONS}.formatter.req_without_query.v3.ReqWithoutQuery"
                        },
                    }
                ],
            },
        },
    }
