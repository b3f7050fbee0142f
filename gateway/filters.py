"""The HTTP filters that every request passes, in the order in which their places matter."""

from typing import Any

from gateway import guard, health
from gateway.api import Api
from gateway.replies import header_options
from gateway.routes import BEARER, BEARER_OR_COOKIE, HEALTH_SCRIPT
from gateway.settings import GatewaySettings
from kernel.auth import ACCESS_TYPE, AUDIENCE, ISSUER, LEEWAY_SECONDS

Json = dict[str, Any]

GET_JWKS = "/portolan.auth.v1.AuthService/GetJwks"
COOKIE = "portolan_access"
MAX_RESPONSE = 32 * 1024 * 1024

_FILTERS = "type.googleapis.com/envoy.extensions.filters.http"
_COMPRESSED = ("application/json",)  # events are not: each must arrive at once


def http_filters(
    api: Api, settings: GatewaySettings, descriptors: str, headers: dict[str, str]
) -> list[Json]:
    """The filters of the API's listener; `headers` go on every answer."""
    return [
        _headers(headers),  # first in, and so the last to touch an answer, whoever made it
        _filter("cors", "cors.v3.Cors"),
        _compressor(),
        _filter(
            "lua",
            "lua.v3.Lua",
            default_source_code={"inline_string": guard.script(api)},
            source_codes={HEALTH_SCRIPT: {"inline_string": health.script(api)}},
        ),
        _transcoder(api, descriptors, settings.max_body),
        _jwt_authn(api, settings),  # behind the transcoder, where a path is an RPC
        _token_type(),
        _filter("local_ratelimit", "local_ratelimit.v3.LocalRateLimit", stat_prefix="none"),
        _filter("router", "router.v3.Router"),
    ]


def key_filters(api: Api, descriptors: str) -> list[Json]:
    """The filters of the listener that Envoy fetches the keys of tokens from."""
    return [_transcoder(api, descriptors, 1024), _filter("router", "router.v3.Router")]


def _filter(name: str, kind: str, **config: Any) -> Json:
    return {"name": f"envoy.filters.http.{name}", "typed_config": {"@type": f"{_FILTERS}.{kind}", **config}}


def _headers(headers: dict[str, str]) -> Json:
    always = [{"append": option} for option in header_options(headers)]
    uncached = {"header": {"key": "cache-control", "value": "no-store"}, "append_action": "ADD_IF_ABSENT"}
    removed = ("grpc-accept-encoding", "x-envoy-upstream-service-time")
    return _filter(
        "header_mutation",
        "header_mutation.v3.HeaderMutation",
        mutations={
            "request_mutations": [{"remove": "x-envoy-original-path"}, {"remove": "x-envoy-original-method"}],
            "response_mutations": [*always, {"append": uncached}, *({"remove": name} for name in removed)],
        },
    )


def _compressor() -> Json:
    return _filter(
        "compressor",
        "compressor.v3.Compressor",
        response_direction_config={
            "common_config": {
                "min_content_length": 1024,
                "content_type_matcher": [{"exact": kind} for kind in _COMPRESSED],
            }
        },
        compressor_library={
            "name": "gzip",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.compression.gzip.compressor.v3.Gzip"
            },
        },
    )


def _transcoder(api: Api, descriptors: str, max_body: int) -> Json:
    return _filter(
        "grpc_json_transcoder",
        "grpc_json_transcoder.v3.GrpcJsonTranscoder",
        proto_descriptor=descriptors,
        services=api.grpc_services,
        convert_grpc_status=True,
        print_options={
            "preserve_proto_field_names": True,
            "always_print_primitive_fields": True,
            "stream_newline_delimited": True,
        },
        request_validation_options={
            "reject_unknown_method": True,
            "reject_unknown_query_parameters": True,
            "reject_binding_body_field_collisions": True,
        },
        url_unescape_spec="ALL_CHARACTERS",
        query_param_unescape_plus=True,
        max_request_body_size=max_body,
        max_response_body_size=MAX_RESPONSE,
    )


def _jwt_authn(api: Api, settings: GatewaySettings) -> Json:
    """A token for every RPC that its route does not open. A cookie counts only where nothing is changed."""
    path = api.rpc(GET_JWKS).bindings[0].template
    provider = {
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "require_expiration": True,
        "clock_skew_seconds": LEEWAY_SECONDS,
        "forward": True,  # the services look again
        "payload_in_metadata": "claims",
        "header_in_metadata": "header",
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "remote_jwks": {
            "http_uri": {"uri": f"http://keys{path}", "cluster": "keys", "timeout": "2s"},
            "cache_duration": f"{settings.keys_refresh}s",
            "async_fetch": {"fast_listener": True, "failed_refetch_duration": "1s"},
        },
    }
    return _filter(
        "jwt_authn",
        "jwt_authn.v3.JwtAuthentication",
        providers={BEARER: provider, BEARER_OR_COOKIE: {**provider, "from_cookies": [COOKIE]}},
        requirement_map={BEARER_OR_COOKIE: {"provider_name": BEARER_OR_COOKIE}},
        rules=[{"match": {"prefix": "/"}, "requires": {"provider_name": BEARER}}],
        bypass_cors_preflight=True,
    )


def _token_type() -> Json:
    """Refuses tokens of ours that are no access tokens."""
    kind = {
        "filter": "envoy.filters.http.jwt_authn",
        "path": [{"key": "header"}, {"key": "typ"}],
        "value": {"string_match": {"exact": ACCESS_TYPE}},
    }
    return _filter(
        "rbac",
        "rbac.v3.RBAC",
        rules={
            "action": "ALLOW",
            "policies": {
                "access token": {
                    "permissions": [{"any": True}],
                    "principals": [{"sourced_metadata": {"metadata_matcher": kind}}],
                }
            },
        },
    )
