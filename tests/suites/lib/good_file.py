"""A valid configuration with every key of the file, as a tree and as text whose lines are known by path."""

import json


class Raw(str):
    """Stands in the file as it is."""


def valid(clients, tls, redirect, admin, origin, secure_origin):
    """Needs what `files` makes beside it. The last text is the only route's host, without which none is valid."""
    address = "127.0.0.1:{}".format
    certificate = {"certificate": "cert.pem", "key": "key.pem"}
    here = f"http://{address(origin)}"
    upstream = {
        "provider": "edge", "host": "public", "preference": 1, "weight": 100, "http": "auto",
        "max_in_flight": 500, "idle_timeout": "60s",
        "headers": {"set": {"X-Edge-Key": "${file:edge.key}"}, "remove": ["X-Debug"]},
        "path": {"strip": "/page", "add": "/page"}, "url": here,
    }
    second = {
        "provider": "direct", "host": "upstream", "ca_file": "cert.pem", "client_certificate": certificate,
        "preference": 2, "url": f"https://{address(secure_origin)}",
    }
    return {
        "listeners": [
            {"address": address(clients), "proxy_protocol": "off"},
            {"address": address(tls), "tls": {"certificates": [certificate], "min_version": "1.2"}},
            {"address": address(redirect), "redirect": "https"},
        ],
        "trusted_proxies": ["192.0.2.0/24"],
        "admin": {"address": address(admin), "token_file": "admin.token"},
        "state_dir": "state",
        "include": ["more.yaml"],
        "resolver": {"servers": ["system"], "ca_file": "cert.pem", "stale": "24h"},
        "control_targets": [address(origin)],
        "limits": {
            "max_connections": 20000, "max_connections_per_client": 200, "header_read_timeout": "10s",
            "max_header_bytes": "64KiB", "max_request_body": "1GiB", "idle_timeout": "75s", "drain": "20s",
        },
        "access_log": {"target": "state/access.log", "format": "json", "sample": "100%"},
        "workers": 2,
        "providers": {
            "edge": {
                "seat": "SI", "territory": ["SI"], "subject_to": ["SI"], "qualifications": ["SecNumCloud"],
                "kind": "edge", "substrate": ["a-network"],
            },
            "direct": {"seat": "FR", "kind": "origin", "qualifications": ["SecNumCloud"]},
        },
        "eu_also": ["NO"],
        "defaults": {"residency": "any", "timeouts": {"connect": "1s"}},
        "services": {"portal": {
            "residency": "any", "require": [],
            "origin_marker": {"header": "X-Origin-Id", "key_file": "marker.keys", "host": "public", "max_age": "5m"},
            "sticky": "none",
            "access": {
                "allow": ["127.0.0.0/8"], "deny": ["192.0.2.0/24"],
                "rate": {"per_client": "10000/s", "burst": 10000},
            },
            "probe": {
                "path": "/page", "grpc": "off", "interval": "5s", "timeout": "2s",
                "expect": {"status": ["200-399"], "body_contains": "page", "headers": {"Content-Length": "7"}},
                "origin": f"{here}/page",
            },
            "timeouts": {
                "connect": "1s", "head": "10s", "body_stall": "15s", "body_min_rate": "240B/s", "request": "60s",
            },
            "retry": {
                "attempts": 1, "budget": "20%", "min_per_second": 3, "replay_body": "64KiB", "methods": ["GET"],
            },
            "failover": {
                "mode": "enforce", "sensitivity": "balanced", "hold": "30s", "max_hold": "15m", "min_stay": "10m",
                "ramp": "120s", "standby_trickle": "1%",
            },
            "all_down": {
                "serve": "least-bad", "page": {"status": 503, "body_file": "page.html", "retry_after": "60s"},
            },
            "upstreams": [second, upstream],
            "routes": [
                {"prefix": "/page", "residency": "any", "require": ["SecNumCloud"], "host": "www.portal.example"},
            ],
        }},
    }


MORE = b"""providers:
  another: { seat: IE }
services:
  others:
    routes: [{ host: others.portal.example }]
    upstreams: [{ provider: another, url: "http://127.0.0.1:9" }]
"""
"""What is included."""


def files(certificate, key):
    """What the valid file names."""
    return {
        "cert.pem": certificate, "key.pem": key, "more.yaml": MORE, "page.html": b"<p>later\n",
        "admin.token": b"a-token-of-this-run-only-0123456789\n", "edge.key": b"a-key-of-this-run-only\n",
        "marker.keys": b"0123456789abcdef" * 4 + b"\n",
    }


def written(tree):
    """As YAML, a value a line, and the line of every path; texts in quotes, so that no half of one is a whole."""
    lines, places = [], {}

    def scalar(value):
        return value if isinstance(value, Raw) else json.dumps(value)

    def block(value, path, pad):
        if isinstance(value, dict):
            entries = [(f"{key}:", key, inner) for key, inner in value.items()]
        else:
            entries = [("-", number, inner) for number, inner in enumerate(value)]
        for start, key, inner in entries:
            places[path + (key,)] = len(lines) + 1
            if isinstance(inner, (dict, list)) and inner and start == "-":
                first = len(lines)
                block(inner, path + (key,), pad + "  ")
                lines[first] = pad + "- " + lines[first][len(pad) + 2:]
            elif isinstance(inner, (dict, list)) and inner:
                lines.append(pad + start)
                block(inner, path + (key,), pad + "  ")
            else:
                lines.append(f"{pad}{start} {scalar(inner)}")

    block(tree, (), "")
    return "\n".join(lines) + "\n", places


def walk(tree, path=()):
    """Every value with its path, lists and mappings before what is in them."""
    yield path, tree
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, inner in entries:
        yield from walk(inner, path + (key,))


def at(tree, path):
    for key in path:
        tree = tree[key]
    return tree


def spelled(path):
    return ".".join(map(str, path)) or "the file"
