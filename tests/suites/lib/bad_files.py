"""What can be wrong with a configuration, case by case: each is a valid one with one mistake, or no file at all."""

import copy
import json
import os
import re
import socket
from dataclasses import dataclass, field
from typing import Any

from good_file import MORE, Raw, at, spelled, walk, written

NAME = "bascule.yaml"
CHOICES = ("proxy_protocol", "redirect", "min_version", "format", "kind", "residency", "http", "mode", "sensitivity",
           "serve", "grpc", "sticky")
"""Keys whose value is one of a few words."""
CUTS = 40
"""Places where the half-written file ends."""


@dataclass
class Case:
    """A bad file: what is put in place of `NAME`, and what a refusal of it has to say."""

    kind: str
    name: str
    put: Any
    """The file's bytes, or who is called with its path; nothing stands there then."""
    says: str
    """A pattern that the reason fits."""
    line: int | None = None
    """`None`: none, or any."""
    file: str = NAME
    """Whose line it is."""
    code: int = 1
    """What `bascule check` exits with: 1 with mistakes, 2 where the file cannot be read, 0 where only who is to
    serve by it can know."""
    beside: dict = field(default_factory=dict)
    """Files that are changed with it: bytes, or `None` for none."""
    silent: bool = False
    """Nobody asks for a reload."""
    beyond: bool = False
    """Known to need more memory or time than a refusal should: it is printed how much, and no more."""


class Cases:
    """All of them, made from one valid tree."""

    def __init__(self, tree):
        self.tree = tree
        self.text, self.places = written(tree)
        self.list = []

    def add(self, kind, name, put, says, **more):
        put = put.encode() if isinstance(put, str) else put
        self.list.append(Case(kind, name, put, says, **more))

    def changed(self, kind, path, value, says, name=None, **more):
        """The valid file with another value at this path, which is refused there."""
        tree = copy.deepcopy(self.tree)
        at(tree, path[:-1])[path[-1]] = value
        text, places = written(tree)
        more.setdefault("line", places[path])
        self.add(kind, name or f"{spelled(path)}: {value}"[:60], text, says, **more)

    def replaced(self, kind, line, text, says, name, **more):
        """The valid file with another text in this line (from 1)."""
        lines = self.text.splitlines()
        lines[line - 1] = text
        self.add(kind, name, "\n".join(lines) + "\n", says, **more)

    def scalars(self):
        return [(path, value) for path, value in walk(self.tree) if not isinstance(value, (dict, list))]

    def mappings(self):
        """Those whose keys are ours."""
        named = {("providers",), ("services",)}
        tables = [(path, value) for path, value in walk(self.tree) if isinstance(value, dict)]
        fields = [path for path, _ in tables if path[-1:] == ("set",) or path[-2:] == ("expect", "headers")]
        return [(path, value) for path, value in tables if path not in named and path not in fields]

    # The kinds.

    def unknown_fields(self):
        for path, table in self.mappings():
            name = "quite_unknown"
            self.changed("unknown field", path + (name,), "x", f"unknown key `{name}`", f"in {spelled(path)}")
            known = max(table, key=len)
            near = known[:len(known) // 2] + known[len(known) // 2 + 1:]
            says = f"unknown key `{near}`.*nearest known key is `{known}`"
            self.changed("misspelt field", path + (near,), "x", says, f"{spelled(path)}.{near}")

    def wrong_types(self):
        for number, (path, _) in enumerate(self.scalars()):
            if number % 2:
                self.changed("list for a scalar", path, Raw("[x]"), "expected, found a list", spelled(path))
            else:
                says = "expected, found a mapping|unknown key `x`"
                self.changed("mapping for a scalar", path, Raw("{ x: y }"), says, spelled(path))
        for path, value in walk(self.tree):
            if isinstance(value, (dict, list)) and path:
                self.changed("scalar for a block", path, Raw("x"), "expected, found text", spelled(path))

    def numbers(self):
        huge = Raw("99999999999999999999")
        for path, value in self.scalars():
            if isinstance(value, int):
                for bad in (Raw("-1"), huge, Raw("1.5"), Raw(f"{value}s")):
                    self.changed("number", path, bad, "expected, found|does not fit")
            elif unit := re.fullmatch(r"\d+(ms|s|m|h|B|KiB|MiB|GiB|B/s|%|/s)", value):
                for bad in ("-" + value, huge + unit[1], value[:-len(unit[1])], value.replace(unit[1], "x")):
                    self.changed("duration, size, share", path, bad, "cannot be used")

    def words(self):
        for path, value in self.scalars():
            if path[-1] in CHOICES:
                self.changed("unknown word", path, "sideways", "one of .* is expected, found text, `sideways`")
                self.changed("unknown word", path, value.upper() + "-", "one of .* is expected")
            elif path[-1] == "seat" or path[-2:-1] and path[-2] in ("territory", "subject_to", "eu_also", "methods"):
                self.changed("unknown word", path, "sideways", "sideways` cannot be used")

    def values(self):
        """What only has a wrong meaning."""
        service = ("services", "portal")
        route, upstream = service + ("routes", 0), service + ("upstreams", 1)
        for bad in ("*.*.example", "www.*.example", "https://a.example/", "a.example/x", "a.example:80",
                    "straße.example", "", "-.example", "a..example", "a b.example", "a" * 64 + ".example"):
            self.changed("pattern", route + ("host",), bad, "`host: .* cannot be used")
        for bad in ("page", "/page/*", "/page?x", "/../page", "//page", "/pa ge", "/pagé"):
            self.changed("pattern", route + ("prefix",), bad, "`prefix: .* cannot be used")
        for bad in ("192.0.2.1/24", "192.0.2.0/33", "everybody", ""):
            self.changed("pattern", service + ("access", "deny", 0), bad, "`deny: .* cannot be used")
        for bad in ("399-200", "2xx", "99", "200-", "1000"):
            self.changed("pattern", service + ("probe", "expect", "status", 0), bad, "`status: .* cannot be used")
        for bad in ("127.0.0.1", ":80", "localhost:80", "127.0.0.1:65536", "127.0.0.1:-1", "[::1:80"):
            self.changed("address", ("listeners", 0, "address"), bad, "`address: .* cannot be used")
        here = self.tree["listeners"][0]["address"]
        self.changed("address", ("listeners", 1, "address"), here, "is taken")
        self.changed("address", ("admin", "address"), here, "is taken")
        for listener in (0, 2):
            own = "http://" + self.tree["listeners"][listener]["address"]
            self.changed("our own listener", upstream + ("url",), own, "where we listen ourselves")
        for bad in ("127.0.0.1:1", "ftp://127.0.0.1", "http://", "http://a.example/base", "http://u:p@a.example",
                    "http://a.example:0", "http://a.example:65536", "http://a_b..example", "http://[::1"):
            self.changed("address", upstream + ("url",), bad, "`url: .*cannot be used")
        for bad in ("udp://ns.example", "quic://192.0.2.53", "tls://192.0.2.53:x#name"):
            self.changed("address", ("resolver", "servers", 0), bad, "`servers: .* cannot be used")
        for bad in ("192.0.2.53", "0.0.0.0:53", "https://www.example/"):
            self.changed("address", ("control_targets", 0), bad, "`control_targets: .* cannot be used")
        for bad in ("edg", "nobody"):
            self.changed("nobody", upstream + ("provider",), bad, f"there is no provider `{bad}`")
        self.changed("nobody", ("providers",), {}, "there is no provider", "no provider at all", line=None)
        self.changed("nobody", service + ("upstreams",), [], "`upstreams` holds 0")
        self.changed("nobody", service + ("routes",), [], "`routes` is empty")
        self.changed("nobody", ("listeners",), [], "`listeners` is empty")
        self.changed("nobody", ("listeners", 1, "tls", "certificates"), [], "`certificates` holds 0")
        for key in ("listeners", "providers", "services"):
            tree = copy.deepcopy(self.tree)
            del tree["include"], tree[key]
            self.add("nobody", f"without {key}", written(tree)[0], f"`{key}` is missing|there is no provider")
        for path in (route + ("host",), upstream + ("provider",), upstream + ("url",), ("admin", "address"),
                     ("listeners", 0, "address"), ("listeners", 1, "tls", "certificates", 0, "key"),
                     service + ("origin_marker", "header")):
            tree = copy.deepcopy(self.tree)
            del at(tree, path[:-1])[path[-1]]
            text, places = written(tree)
            # A mapping stands where its first key does.
            line = places[path[:-1] + (next(iter(at(tree, path[:-1]))),)]
            self.add("nobody", f"without {spelled(path)}", text, f"`{path[-1]}` is missing", line=line)
        says = r"cannot read what|nothing stands behind|is not known|without its `\}`"
        for bad in ("${file:missing}", "${env:BASCULE_TEST_UNSET}", "${HOME}", "${file:edge.key", "${file:}",
                    "${file:pipe}"):
            path = upstream + ("headers", "set", "X-Edge-Key")
            self.changed("reference", path, bad, says, beside={"pipe": os.mkfifo})

    def spoilt(self, kind, name, bad, path, says=None, what=None):
        """The valid file with another one in place of a file that it names at this path."""
        what = what or f"{name} is {told(bad)}"
        says = says or f"`{path[-1]}: {name}` "
        self.add(kind, what, self.text, says, line=self.places[path], beside={name: bad})

    def beside(self, other_key):
        """Files that the valid one names."""
        pair, service = ("listeners", 1, "tls", "certificates", 0), ("services", "portal")
        certificate, key = pair + ("certificate",), pair + ("key",)
        self.spoilt("certificate", "key.pem", other_key, key, "another certificate's key", "a key of another one")
        for bad in (b"", b"no PEM\n", pem("PRIVATE KEY"), other_key[:60], None, os.mkdir, os.mkfifo):
            self.spoilt("certificate", "key.pem", bad, key)
        for bad in (b"", b"no PEM\n", pem("CERTIFICATE"), None, os.mkdir, os.mkfifo):
            self.spoilt("certificate", "cert.pem", bad, certificate)
        named = {
            "admin.token": ("admin", "token_file"), "marker.keys": service + ("origin_marker", "key_file"),
            "page.html": service + ("all_down", "page", "body_file"),
            "edge.key": service + ("upstreams", 1, "headers", "set", "X-Edge-Key"),
        }
        for name, path in named.items():
            for bad in (None, os.mkdir, os.mkfifo, b"x" * (2 << 20)):
                self.spoilt("named file", name, bad, path, re.escape(name))
        for bad in (b"", b"\n"):
            self.spoilt("named file", "admin.token", bad, named["admin.token"])
        self.spoilt("named file", "marker.keys", b"short\n", named["marker.keys"])
        path = service + ("upstreams", 0, "ca_file")
        self.changed("named file", path, "edge.key", "`ca_file: edge.key` cannot be used")

    def included(self):
        line = self.places["include", 0]
        self.changed("include", ("include", 0), NAME, "read already", "of the file itself")
        self.changed("include", ("include", 0), "*.yaml", "read already", "of the file itself by a pattern")
        twice = ["more.yaml", "./more.yaml"]
        self.changed("include", ("include",), twice, "read already", "of one file twice", line=line + 1)
        self.changed("include", ("include", 0), "missing.yaml", "No such file")
        self.changed("include", ("include", 0), "missing-*.yaml", "matches no file")
        self.changed("include", ("include", 0), "*/more.yaml", "not of a folder")
        self.changed("include", ("include", 0), "nowhere/*.yaml", "No such file")
        for bad in (os.mkdir, os.mkfifo, b"\xff\xfe", b" " * (5 << 20)):
            self.spoilt("include", "more.yaml", bad, ("include", 0), "cannot include more.yaml")
        same_route = MORE.decode().replace("others.portal.example }", "www.portal.example, prefix: /page }")
        for name, text, says, line in (
            ("a cycle", f"include: [{NAME}]\n", "unknown key `include`", 1),
            ("empty", "", "the file is empty", 1),
            ("half-written", "services:\n  others:\n    routes: [{ host: oth", "nothing behind it can be read", 3),
            ("a service of the same name", "services:\n  portal:\n    routes: []\n", "a second time", 2),
            ("a provider of the same name", "providers:\n  edge: { seat: IE }\n", "a second time", 2),
            ("a route of the same host", same_route, "is taken", 5),
            ("a reference to nothing", "providers: *nothing\n", "reference to unknown value", 1),
        ):
            beside = {"more.yaml": text.encode()}
            self.add("include", f"more.yaml is {name}", self.text, says, line=line, file="more.yaml", beside=beside)

    def repeated_keys(self):
        lines = self.text.splitlines()
        tables = [(path, value) for path, value in walk(self.tree) if isinstance(value, dict)]
        for path, table in tables:
            key = next((key for key, value in table.items() if not isinstance(value, (dict, list))), None)
            if not key:
                continue
            line = self.places[path + (key,)]
            again = " " * lines[line - 1].index(key) + f"{key}: x"
            text = "\n".join(lines[:line] + [again] + lines[line:]) + "\n"
            self.add("duplicate key", spelled(path + (key,)), text, f"`{key}` is here a second time", line=line + 1)
        for key in ("listeners", "providers", "services"):
            text, says = f"{self.text}{key}:\n", f"`{key}` is here a second time"
            self.add("duplicate key", key, text, says, line=len(lines) + 1)

    def bytes_of_no_text(self):
        whole = self.text.encode()
        places = [0, whole.index(b"limits"), whole.index(b"portal.example"), whole.index(b"edge.key"), len(whole)]
        for place in places:
            line = whole[:place].count(b"\n") + 1
            for kind, bad in (("NUL", b"\0"), ("control character", b"\x07")):
                text = whole[:place] + bad + whole[place:]
                self.add(kind, f"at byte {place}", text, "unexpected character", line=line)
            for bad in (b"\xff", b"\xc3\x28", b"\xed\xa0\x80"):
                says = rf"not UTF-8 text \(first at byte {place}\)"
                self.add("not UTF-8", f"{bad.hex()} at byte {place}", whole[:place] + bad + whole[place:], says, code=2)
        self.add("not UTF-8", "UTF-16", self.text.encode("utf-16"), "not UTF-8", code=2)
        latin = self.text.replace("portal.example", "pörtal.example").encode("latin-1")
        self.add("not UTF-8", "Latin-1", latin, "not UTF-8", code=2)

    def tabs(self):
        for path in (("admin", "address"), ("limits", "drain"), ("providers", "edge", "seat"),
                     ("listeners", 0, "proxy_protocol"), ("services", "portal", "routes", 0, "host"),
                     ("services", "portal", "upstreams", 1, "url")):
            line = self.places[path]
            text = self.text.splitlines()[line - 1]
            self.replaced("tab", line, "\t" + text.lstrip(), "tab", f"before {spelled(path)}")
        self.add("tab", "for every indent", re.sub("^ +", "\t", self.text, flags=re.M), "tab")

    def half_written(self):
        """The file without its end. Its last text, in quotes, is what the only route needs."""
        # Without its includes, which may hold services enough.
        alone = copy.deepcopy(self.tree)
        del alone["include"]
        whole = written(alone)[0].encode()
        last = len(whole) - 3
        for number in range(1, CUTS + 1):
            end = last * number // CUTS
            # A cut at the very beginning leaves an empty file, another kind.
            self.add("half-written", f"{end} of {len(whole)} bytes", whole[:end], "", code=1)
        line = self.places["limits",]
        lines = self.text.splitlines()
        merged = lines[:line] + ["<<<<<<< HEAD", "=======", ">>>>>>> theirs"] + lines[line:]
        self.add("half-written", "a merge conflict", "\n".join(merged), "nothing behind it can be read", line=line + 1)
        zeros = whole[:1000] + b"\0" * 3096
        self.add("half-written", "a block of zeros at its end", zeros, "nothing behind it can be read")
        twice = self.text + "---\n" + self.text
        self.add("half-written", "twice in one", twice, "a second document", line=len(lines) + 1)
        self.add("half-written", "twice in one, without a border", self.text * 2, "a second time")

    def bombs(self):
        bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        for level in range(1, 10):
            bomb += f"a{level}: &a{level} [" + f"*a{level - 1}, " * 10 + "]\n"
        much = "this is too much"
        self.add("bomb", "10^9 values by references", bomb + self.text, much)
        self.add("bomb", "1,001 references to 1,000 values", f"x: &a [{'x, ' * 1000}]\ny: [{'*a, ' * 1001}]\n", much)
        self.add("bomb", "a mapping that holds itself", "services: &a { portal: *a }\n", "Recursive reference", line=1)
        self.add("bomb", "merge keys", "a: &a { x: y }\nb: { <<: *a }\n" + self.text, "unknown key `b`", line=2)
        deep = "this is too much|recursion limit exceeded"
        steps = "".join(f"{' ' * level}a:\n" for level in range(2_500))
        for name, text in (("[", "[" * 10_000), ("{", "{a: " * 10_000), ("- ", "- " * 10_000), ("? ", "? " * 10_000),
                           ("steps, of which 4 MiB hold 2,500", steps),
                           ("closed [", "x: " + "[" * 10_000 + "]" * 10_000 + "\n")):
            self.add("deep", f"10,000 levels of {name}", text, deep)
        large = "too large: at most 4 MiB"
        self.add("10 MB", "comments", self.text + "# more\n" * (10_000_000 // 7), large, code=2)
        self.add("10 MB", "one scalar", self.text + 'x: "' + "x" * 10_000_000 + '"\n', large, code=2)
        self.add("10 MB", "blanks", " " * 10_000_000, large, code=2)
        self.add("10 MB", "holes", lambda path: sparse(path, 10_000_000), large, code=2)
        self.add("10 MB", "100 GB of holes", lambda path: sparse(path, 100_000_000_000), large, code=2)
        keys = "".join(f"k{n}: 1\n" for n in range(330_000))
        self.add("10 MB", "just within 4 MiB, one line", "x: [" + "1," * 2_000_000 + "]\n", much, beyond=True)
        self.add("10 MB", "just within 4 MiB, unknown keys", keys, much, beyond=True)

    def many(self):
        routes = "".join(f"      - host: h{n}.portal.example\n" for n in range(100_000))
        start = self.text.index("    routes:\n") + len("    routes:\n")
        text = self.text[:start] + routes + self.text[start:]
        self.add("100,000 routes", "of one service", text, "there are 1000.. routes", line=1, beyond=True)
        services = "".join(f"  s{n}: {{ routes: [{{ host: s{n}.example }}] }}\n" for n in range(60_000))
        name = "60,000 services without upstreams"
        self.add("100,000 routes", name, self.text + services, "`upstreams` is missing", beyond=True)
        listeners = "".join(f'  - {{ address: "127.0.0.2:{port}" }}\n' for port in range(1000, 1100))
        start = self.text.index("trusted_proxies")
        text = self.text[:start] + listeners + self.text[start:]
        self.add("100,000 routes", "100 listeners", text, "too many listeners", line=2)

    def not_the_file(self):
        self.add("empty", "no byte", "", "the file is empty", line=1)
        self.add("empty", "blanks", " \n\n  \n", "the file is empty", line=1)
        self.add("empty", "a comment", "# nothing\n", "the file is empty", line=1)
        self.add("empty", "---", "---\n", "the file is empty", line=1)
        for text, says in (("~", "the file is empty"), ("[]", "found a list"), ("a word", "found text"),
                           ("5", "found a number"), ("true", "found a boolean"), ("- listeners", "found a list"),
                           ("{}", "`listeners` is missing"), ("*nothing", "unknown value"),
                           ("&a", "the file is empty"), ("%YAML 9.9", "unsupported YAML"),
                           ("!!python/object/apply:os.system [ls]", "unsupported tag")):
            self.add("another thing", text, text + "\n", says, line=1)
        self.add("another thing", "JSON that was cut", json.dumps(self.tree)[:-20], "nothing behind it can be read")
        self.add("another thing", "a PNG", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "not UTF-8", code=2)
        self.add("another thing", "an executable", b"\x7fELF\x02\x01\x01" + bytes(100), "unexpected character", line=1)
        page = "<!DOCTYPE html>\n<html><body>404: not found</body></html>\n"
        self.add("another thing", "a web page", page, "nothing behind it can be read", line=2)

    def in_use(self, held):
        """Only who binds an address can know whether it is free."""
        for number, name in enumerate(("a listener", "a listener with TLS", "a redirect")):
            path = ("listeners", number, "address")
            self.changed("in use", path, held, f"{held}.* in use", f"the address of {name}", code=0)

    def unasked(self):
        """What is noticed without a word."""
        text = self.text.replace("workers: 2", "workers: 2s")
        line, key = self.places["workers",], self.places["listeners", 1, "tls", "certificates", 0, "key"]
        self.add("unasked", "renamed over", text, "`2s`", line=line, silent=True)
        self.add("unasked", "cut in place", lambda path: path.write_text(self.text[:-3]), "unclosed quote", silent=True)
        self.add("unasked", "deleted", lambda _: None, "No such file", code=2, silent=True)
        self.add("unasked", "a folder in its place", os.mkdir, "it is a folder", code=2, silent=True)
        says = "`key: key.pem` cannot be used"
        self.add("unasked", "a key of nothing", self.text, says, line=key, silent=True, beside={"key.pem": b""})

    def no_regular_file(self):
        self.add("no file", "deleted", lambda _: None, "No such file", code=2)
        self.add("no file", "a folder", os.mkdir, "it is a folder", code=2)
        self.add("no file", "a pipe", os.mkfifo, "it is a pipe", code=2)
        self.add("no file", "a socket", unix_socket, "it is a socket", code=2)
        self.add("no file", "a device", lambda path: path.symlink_to("/dev/zero"), "it is a device", code=2)
        self.add("no file", "a symlink to itself", lambda path: path.symlink_to(path.name), "[Ss]ymbolic links", code=2)
        self.add("no file", "symlinks in a circle", circle, "[Ss]ymbolic links", code=2, beside={"round": None})
        self.add("no file", "a symlink to nothing", lambda path: path.symlink_to("missing"), "No such file", code=2)
        self.add("no file", "a symlink to a folder", lambda path: path.symlink_to("."), "it is a folder", code=2)
        if os.geteuid() != 0:
            self.add("no file", "not readable", unreadable, "Permission denied", code=2)


def told(bad):
    if bad is None:
        return "missing"
    if callable(bad):
        return {"mkdir": "a folder", "mkfifo": "a pipe"}[bad.__name__]
    return f"{len(bad)} bytes {bad[:16]!r}"


def pem(what):
    return f"-----BEGIN {what}-----\nAAAA\n-----END {what}-----\n".encode()


def unreadable(path):
    path.write_bytes(b"")
    path.chmod(0)


def sparse(path, size):
    with path.open("wb") as file:
        file.truncate(size)


def circle(path):
    path.symlink_to("round")
    (path.parent / "round").symlink_to(path.name)


def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(path))


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def all_cases(tree, other_key, held):
    cases = Cases(tree)
    cases.unknown_fields()
    cases.wrong_types()
    cases.numbers()
    cases.words()
    cases.values()
    cases.beside(other_key)
    cases.included()
    cases.repeated_keys()
    cases.bytes_of_no_text()
    cases.tabs()
    cases.half_written()
    cases.bombs()
    cases.many()
    cases.not_the_file()
    cases.no_regular_file()
    cases.in_use(held)
    cases.unasked()
    return cases
