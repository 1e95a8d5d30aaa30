"""The requests of src/telemetry/otlp/tests.rs, as OpenTelemetry's own Python package writes them.

With --write: to tests/golden/traces.pb. Without: that file has to be the same, byte for byte.
"""

import pathlib
import sys

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, SpanFlags, Status

ROOT = pathlib.Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests/golden/traces.pb"
VERSION = "0.0.0"

TRACE = bytes.fromhex("0af7651916cd43dd8448eb211c80319c")
OTHER = (9).to_bytes(16, "big")
PARENT = bytes.fromhex("b7ad6b7169203331")
REQUEST = (0x11).to_bytes(8, "big")
BEGAN = 1_790_000_000 * 10**9
KNOWS, REMOTE = SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK, SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK


def attributes(**pairs):
    def value(it):
        return AnyValue(int_value=it) if isinstance(it, int) else AnyValue(string_value=it)

    return [KeyValue(key=key.replace("__", "."), value=value(it)) for key, it in pairs.items()]


def attempt(number, provider, jurisdiction, address, port, outcome, rest, **more):
    began = BEGAN + number * 1_000
    return Span(
        trace_id=TRACE,
        span_id=number.to_bytes(8, "big"),
        trace_state="a=1,b=2",
        parent_span_id=REQUEST,
        name="GET",
        kind=Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=began,
        end_time_unix_nano=began + number * 10**6,
        attributes=attributes(
            http__request__method="GET",
            server__address=address,
            server__port=port,
            bascule__provider=provider,
            bascule__jurisdiction=jurisdiction,
            bascule__outcome=outcome,
            bascule__service="portal",
            **rest,
        ),
        flags=1 | KNOWS,
        **more,
    )


def spans():
    yield Span(
        trace_id=TRACE,
        span_id=REQUEST,
        trace_state="a=1,b=2",
        parent_span_id=PARENT,
        name="GET",
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=BEGAN,
        end_time_unix_nano=BEGAN + 250 * 10**6,
        attributes=attributes(
            http__request__method="GET",
            url__scheme="https",
            url__path="/page",
            network__protocol__version="2",
            bascule__outcome="success",
            server__address="www.portal.example",
            bascule__service="portal",
            bascule__generation=7,
            http__response__status_code=200,
        ),
        flags=1 | KNOWS | REMOTE,
    )
    failed = Status(code=Status.STATUS_CODE_ERROR)
    error = {"error__type": "broke_off"}
    yield attempt(0x21, "us", "non_eu", "us.example", 8443, "broke_off", error, status=failed)
    again = {"http__response__status_code": 200, "http__request__resend_count": 1}
    yield attempt(0x22, "eu", "eu", "2001:db8::1", 80, "success", again)
    yield Span(
        trace_id=OTHER,
        span_id=REQUEST,
        name="HTTP",
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=BEGAN,
        end_time_unix_nano=BEGAN + 250 * 10**6,
        attributes=attributes(
            http__request__method="_OTHER",
            url__scheme="https",
            url__path="/page",
            network__protocol__version="1.1",
            bascule__outcome="connect",
            http__response__status_code=502,
            error__type="502",
        ),
        links=[Span.Link(trace_id=TRACE, span_id=REQUEST, flags=1 | KNOWS | REMOTE)],
        status=failed,
        flags=3 | KNOWS,
    )


def request():
    who = attributes(service__name="bascule", service__version=VERSION, service__instance__id="instance")
    scope = ScopeSpans(scope=InstrumentationScope(name="bascule", version=VERSION), spans=spans())
    resource = ResourceSpans(resource=Resource(attributes=who), scope_spans=[scope])
    return ExportTraceServiceRequest(resource_spans=[resource]).SerializeToString(deterministic=True)


if __name__ == "__main__":
    if "--write" in sys.argv:
        GOLDEN.write_bytes(request())
    if GOLDEN.read_bytes() != request():
        sys.exit(f"{GOLDEN} is not what opentelemetry-proto writes")
    print(f"{GOLDEN.name}: {len(request())} bytes, as opentelemetry-proto writes them")
