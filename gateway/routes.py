"""Where requests go: first by their HTTP path to the transcoder, then, as RPCs, to their service."""

from typing import Any

from gateway.api import Api, Rpc
from gateway.replies import header_options
from gateway.settings import GatewaySettings

Json = dict[str, Any]

HEALTH_PATH = "/api/health"
OPENAPI_PATH = "/api/openapi.json"
HEALTH_SCRIPT = "health"
BEARER, BEARER_OR_COOKIE = "bearer", "bearer_or_cookie"

_FILTERS = "type.googleapis.com/envoy.extensions.filters.http"
_OFF = {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": True}
_READS = {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|HEAD"}}}
_NO_TOKEN = {"@type": f"{_FILTERS}.jwt_authn.v3.PerRouteConfig", "disabled": True}
_ALWAYS = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}


def virtual_host(api: Api, settings: GatewaySettings, openapi: str) -> Json:
    """All routes. A path that none of them names is not served."""
    host: Json = {
        "name": "portolan",
        "domains": ["*"],
        "routes": [
            _health_route(api),
            _openapi_route(openapi),
            *(_rpc_route(rpc, settings) for rpc in api.exposed),
            _rest_route(api, settings),
            {
                "match": {"prefix": "/"},
                "direct_response": {"status": 404},
                "typed_per_filter_config": {**_script({"disabled": True}), **_open()},
            },
        ],
    }
    if settings.cors_origins:
        host["typed_per_filter_config"] = {"envoy.filters.http.cors": _cors(settings)}
    return host


def _health_route(api: Api) -> Json:
    """The script answers; the cluster stands here because CORS works on such routes only."""
    return {
        "match": {"path": HEALTH_PATH, "headers": [_READS]},
        "route": {"cluster": api.services[0]},
        "typed_per_filter_config": {**_script({"name": HEALTH_SCRIPT}), **_open()},
    }


def _openapi_route(openapi: str) -> Json:
    return {
        "match": {"path": OPENAPI_PATH, "headers": [_READS]},
        "direct_response": {"status": 200, "body": {"filename": openapi}},
        "response_headers_to_add": header_options(
            {
                "content-type": "application/json",
                "cache-control": "no-cache",
                "access-control-allow-origin": "*",
            }
        ),
        "typed_per_filter_config": {
            **_script({"disabled": True}),
            **_open(),
            "envoy.filters.http.grpc_json_transcoder": _OFF,
        },
    }


def _rest_route(api: Api, settings: GatewaySettings) -> Json:
    """What REST requests match before they are transcoded: none goes there, it is an RPC then or refused."""
    return {
        "match": {"prefix": "/api/"},
        "route": {"cluster": api.services[0]},
        "request_body_buffer_limit": settings.max_body,
    }


def _rpc_route(rpc: Rpc, settings: GatewaySettings) -> Json:
    route: Json = {"cluster": rpc.service}
    if rpc.streaming:
        route["timeout"] = "0s"
    else:
        limit = f"{settings.unary_timeout}s"
        route["max_stream_duration"] = {"max_stream_duration": limit, "grpc_timeout_header_max": limit}
    if rpc.safe and not rpc.descriptor.client_streaming:
        route["retry_policy"] = {
            "retry_on": "connect-failure,refused-stream,reset",
            "num_retries": 2,
            "retry_back_off": {"base_interval": "0.05s", "max_interval": "0.5s"},
        }
    per_filter = _script({"disabled": True})
    if rpc.public:
        per_filter |= _open()
        if not rpc.safe:
            per_filter["envoy.filters.http.local_ratelimit"] = _rate_limit(rpc, settings)
    elif rpc.safe:
        per_filter["envoy.filters.http.jwt_authn"] = {
            "@type": f"{_FILTERS}.jwt_authn.v3.PerRouteConfig",
            "requirement_name": BEARER_OR_COOKIE,
        }
    return {"match": {"path": rpc.path}, "route": route, "typed_per_filter_config": per_filter}


def _open() -> Json:
    """Lets a route be called without a token; all others need one."""
    return {
        "envoy.filters.http.jwt_authn": _NO_TOKEN,
        "envoy.filters.http.rbac": {"@type": f"{_FILTERS}.rbac.v3.RBACPerRoute"},
    }


def _script(choice: Json) -> Json:
    return {"envoy.filters.http.lua": {"@type": f"{_FILTERS}.lua.v3.LuaPerRoute", **choice}}


def _rate_limit(rpc: Rpc, settings: GatewaySettings) -> Json:
    """A bucket for each client address; a whole /64 of IPv6 is one client."""
    rate = settings.sign_ins_per_minute
    bucket = {"max_tokens": rate, "tokens_per_fill": rate, "fill_interval": "60s"}
    mask = {"v4_prefix_mask_len": 32, "v6_prefix_mask_len": 64}
    return {
        "@type": f"{_FILTERS}.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": rpc.descriptor.name.lower(),
        "token_bucket": {"max_tokens": 1_000, "tokens_per_fill": 1_000, "fill_interval": "1s"},
        "filter_enabled": _ALWAYS,
        "filter_enforced": _ALWAYS,
        "rate_limited_as_resource_exhausted": True,
        "enable_retry_after_header": True,
        "rate_limits": [{"actions": [{"masked_remote_address": mask}]}],
        "max_dynamic_descriptors": 10_000,
        "descriptors": [{"entries": [{"key": "masked_remote_address"}], "token_bucket": bucket}],
    }


def _cors(settings: GatewaySettings) -> Json:
    return {
        "@type": f"{_FILTERS}.cors.v3.CorsPolicy",
        "allow_origin_string_match": [{"exact": origin} for origin in settings.cors_origins],
        "allow_methods": "GET, POST, PUT, PATCH, DELETE",
        "allow_headers": "authorization, content-type, last-event-id, x-request-id",
        "expose_headers": "content-disposition, retry-after, x-request-id",
        "max_age": "600",
        "allow_credentials": True,
    }
