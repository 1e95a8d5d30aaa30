"""Each alert in the scenario made for it, with a real Prometheus and a real Alertmanager.

First a provider fails that twenty services use, alone: one page, and nothing else but what it explains.
Then everything else breaks at once, each in a service or a process of its own, and is mended again.
"""

import pathlib
import sys
import tempfile
import time

import proxy as running_proxy
import watched

sys.path.insert(0, str(watched.ROOT / "tests/bench"))
import names  # noqa: E402

TOP = """
workers: 1
trusted_proxies: [127.0.0.1/32]
control_targets: ["127.0.0.1:{control}"]
defaults:
  probe: {{ path: /probe, interval: 1s, timeout: 900ms }}
  failover: {{ hold: 1s, max_hold: 2s, min_stay: 1s, ramp: 2s }}
"""
SERVICES = 20
RATE = 3
"""Requests a second of each service: within `retry.min_per_second`, so that no client sees the outage."""

# What live traffic cannot show in minutes, and why. promtool shows each of them.
NOT_LIVE = {
    "BasculeOrderForgotten": "takes a day, 24 minutes here",
    "BasculeGrayFailure": "takes thousands of requests of which a few per cent fail",
    "BasculeAbsent": "is about Prometheus's own configuration",
}
# Live, but these end with a window of hours: minutes here.
NOT_ENDED = {"BasculeErrorBudgetBurnsSlowly"}


def service(name, upstreams, more=""):
    lines = [f"  {name}:", f"    routes: [{{ host: {name}.example }}]"]
    lines += [f"    {line}" for line in more.splitlines()]
    lines.append("    upstreams:")
    lines += [f'      - {{ provider: {provider}, url: "http://{where}" }}' for provider, where in upstreams]
    return "\n".join(lines) + "\n"


def providers(**seats):
    return "providers:\n" + "".join(f"  {name.replace('_', '-')}: {{ seat: {seat} }}\n" for name, seat in seats.items())


class Watch:
    """Looks at Prometheus all the time it is given; knows when each alert fired first and last."""

    def __init__(self, prometheus):
        self.prometheus, self.first, self.last = prometheus, {}, {}
        self.labels = {}

    def look(self):
        now = time.monotonic()
        seen = self.prometheus.firing()
        for labels in seen:
            self.first.setdefault(labels["alertname"], now)
            self.last[labels["alertname"]] = now
            self.labels.setdefault(labels["alertname"], []).append(labels)
        return {labels["alertname"] for labels in seen}

    def until(self, what, holds, patience):
        end = time.monotonic() + patience
        while time.monotonic() < end:
            seen = self.look()
            if holds(seen):
                return True
            time.sleep(0.5)
        print("still waiting for", what, "; firing:", sorted(seen))
        return False

    def for_seconds(self, seconds):
        seen, end = set(), time.monotonic() + seconds
        while time.monotonic() < end:
            seen |= self.look()
            time.sleep(0.5)
        return seen


def many(stage):
    """Twenty services that prefer one provider."""
    stage.us, stage.eu = watched.StandIn(stage.loop), watched.StandIn(stage.loop)
    text = TOP.format(control=stage.control.port) + providers(us="US", eu="SI") + "services:\n"
    both = [("us", f"127.0.0.1:{stage.us.port}"), ("eu", f"127.0.0.1:{stage.eu.port}")]
    stage.hosts = [f"page-{number}" for number in range(SERVICES)]
    return text + "".join(service(host, both) for host in stage.hosts)


# Name, residency and the like, and what its upstreams are called with their seats.
ODD = {
    "outside": ("residency: prefer-eu", {"out-first": "US", "out-eu": "SI", "out-far": "US"}),
    "open": ("", {"open-first": "US", "open-next": "SI"}),
    "origin": ("origin_marker: { header: X-Origin-Id, value: spoken }", {"or-first": "US", "or-next": "SI"}),
    "flap": ("", {"flap-first": "US", "flap-next": "SI"}),
    "burn": (
        "failover: { mode: observe }\nretry: { attempts: 1, budget: 0%, min_per_second: 0 }",
        {"burn-first": "US", "burn-next": "SI"},
    ),
    "standby": ("", {"st-first": "US", "st-next": "SI"}),
    "away": ("", {"away-first": "US", "away-next": "SI"}),
    "parity": ("", {"pa-first": "US", "pa-next": "SI"}),
    "full": ("", {"full-only": "SI"}),
}


def odd(stage, closed="any"):
    text = TOP.format(control=stage.control.port)
    text += "state_dir: state\naccess_log: { target: access.log }\n"
    seats = {name: seat for _, made in ODD.values() for name, seat in made.items()}
    text += "providers:\n" + "".join(f"  {name}: {{ seat: {seat} }}\n" for name, seat in seats.items())
    text += "  loop-only: { seat: SI }\n  us-only: { seat: US }\nservices:\n"
    for name, (more, made) in ODD.items():
        text += service(name, [(each, f"127.0.0.1:{stage.at[each].port}") for each in made], more)
    text = text.replace(
        f'{{ provider: full-only, url: "http://127.0.0.1:{stage.at["full-only"].port}" }}',
        f'{{ provider: full-only, url: "http://127.0.0.1:{stage.at["full-only"].port}", max_in_flight: 1 }}',
    )
    text += service("closed", [("us-only", f"127.0.0.1:{stage.control.port}")], f"residency: {closed}")
    return text


class Stage:
    def __init__(self):
        self.loop = watched.Loop()
        self.control = watched.StandIn(self.loop)
        self.at = {name: watched.StandIn(self.loop) for _, made in ODD.values() for name in made}
        for name in ("or-first", "or-next"):
            self.at[name].marker = "spoken"


def live(folder, score):
    stage = Stage()

    def instance(name, text):
        (folder / name).mkdir()
        return watched.Instance(folder / name, text)

    one = instance("one", many(stage))
    two = instance("two", odd(stage))
    # A name server that will fall silent, and a network that will be cut off.
    resolver = names.Names("127.0.0.1")
    resolver.start()
    cut = [watched.StandIn(stage.loop) for _ in range(2)]
    text = TOP.format(control=stage.control.port)
    text += f'resolver: {{ servers: ["udp://127.0.0.1:{resolver.port}"] }}\n' + providers(named="SI") + "services:\n"
    three = instance("three", text + service("named", [("named", f"edge.example:{stage.control.port}")]))
    reach = watched.StandIn(stage.loop)
    text = TOP.format(control=reach.port) + providers(cut_a="US", cut_b="SI") + "services:\n"
    four = instance("four", text + service("cut", [("cut-a", f"127.0.0.1:{cut[0].port}"), ("cut-b", f"127.0.0.1:{cut[1].port}")]))
    stage.relay = watched.Relay(stage.loop, stage.control.port)
    text = TOP.format(control=stage.control.port) + providers(loop_only="SI") + "services:\n"
    five = instance("five", text + service("loop", [("loop-only", f"127.0.0.1:{stage.relay.port}")]))
    instances = [one, two, three, four, five]
    add_certificate(two, stage, 90)
    for each in instances:
        each.start()
    hook = watched.Hook()
    alertmanager = watched.Alertmanager(folder, hook.server_port)
    targets = [f"127.0.0.1:{each.admin}" for each in instances]
    prometheus = watched.Prometheus(folder, targets, alertmanager.address)
    with watched.stopping(*instances, prometheus, alertmanager):
        load = [watched.Load(stage.loop, one.clients, f"{host}.example", RATE) for host in stage.hosts]
        load += [watched.Load(stage.loop, two.clients, f"{name}.example", RATE) for name in ODD if name != "full"]
        # Its score comes down with good answers.
        load.append(watched.Load(stage.loop, two.clients, "origin.example", 20))
        load.append(watched.Load(stage.loop, five.clients, "loop.example", RATE))
        load.append(watched.Load(stage.loop, four.clients, "cut.example", RATE))
        watch = Watch(prometheus)
        # Before the first scrapes there is nothing to watch, and that is an alert.
        up = f"count(up == 1) == {len(instances)}"
        watched.until("every instance is scraped", lambda: prometheus.query(up) and not prometheus.firing())
        # On a machine that is busy with other things a scrape may be late: then there is another stretch.
        calm = any(not watch.for_seconds(12) for _ in range(4))
        score.check("nothing fires for twelve minutes while all is well", calm, sorted(watch.first))
        watch.first.clear()
        outage(stage, watch, hook, load, score)
        others(stage, watch, hook, score, instances, resolver, cut, reach)


def outage(stage, watch, hook, load, score):
    """The provider of twenty services fails, and comes back."""
    before = len(hook.sent)
    lost = sum(each.failed for each in load)
    stage.us.close()
    wanted = {"BasculeProviderDemoted", "BasculeFailover"}
    score.check("it fires", watch.until("both", wanted.issubset, 30))
    # Longer than a service may be on its fallback without a ticket, where nothing else says why.
    watch.for_seconds(18)
    moved = {labels["service"] for labels in watch.labels.get("BasculeFailover", [])}
    score.check(f"all {SERVICES} services have left", len(moved) == SERVICES, moved)
    # Twice the group's interval: what would be sent is sent.
    watch.for_seconds(10)
    stage.us.open()
    score.check("all of it ends", watch.until("its end", lambda seen: not seen, 60), watch.look())
    watch.for_seconds(8)
    sent = hook.sent[before:]
    pages = [(status, labels) for receiver, status, labels in sent if receiver == "page"]
    raised = [labels for status, labels in pages if status == "firing"]
    ended = [labels for status, labels in pages if status == "resolved"]
    score.check("exactly one page", len(raised) == 1, pages)
    names_of = {label["alertname"] for labels in raised for label in labels}
    score.check("it names the provider", names_of == {"BasculeProviderDemoted"}, names_of)
    score.check("it is ended once", len(ended) == 1, pages)
    tickets = [labels for receiver, status, labels in sent if receiver == "ticket" and status == "firing"]
    score.check("no ticket for any of the twenty services", not tickets, tickets)
    failed = sum(each.failed for each in load) - lost
    score.check("no client saw the outage", failed == 0, failed)
    print(f"     {SERVICES} services, {sum(each.sent for each in load)} requests, {failed} failed, notifications: {len(sent)}")


def others(stage, watch, hook, score, instances, resolver, cut, reach):
    """Everything else at once, then mended."""
    one, two, three, four, five = instances
    before = len(hook.sent)
    all_of_it = set(watched_alerts()) - set(NOT_LIVE) - {"BasculeProviderDemoted", "BasculeFailover"}
    began = time.monotonic()
    resolver.says = "nothing"
    for name in ("out-first", "out-eu", "open-first", "open-next", "st-next", "away-first"):
        stage.at[name].close()
    for name in ("or-first", "or-next"):
        stage.at[name].status = 500
    stage.at["burn-first"].failing = 0.5
    stage.at["pa-next"].media_type = "text/plain"
    stage.at["full-only"].delay = 0.6
    crowd = [watched.Load(stage.loop, two.clients, "full.example", 5) for _ in range(3)]
    stage.relay.lead_to(five.clients)
    add_certificate(two, stage, 10, closed="eu-only")
    flap(stage, watch, two)
    # Disk trouble, and an invalid file after the last valid one was taken.
    state = two.folder / "state"
    state.rename(two.folder / "away")
    state.touch()
    add_certificate(two, stage, 2, closed="eu-only", target="/dev/full")
    watch.for_seconds(3)
    with two.file.open("a") as file:
        file.write("nonsense: true\n")
    one.kill()
    here = all_of_it - {"BasculeCommonCause"}
    watch.until("every alert to fire", lambda seen: here <= set(watch.first), 90)
    # Until the slowest group was told of. Being cut off explains nearly all of the others: it comes last.
    watch.for_seconds(6)
    reach.close()
    for each in cut:
        each.close()
    watch.until("the alert of being cut off", {"BasculeCommonCause"}.issubset, 30)
    watch.for_seconds(3)
    print(f"     all there after {time.monotonic() - began:.0f} s")
    for name in sorted(all_of_it):
        score.check(f"{name} fires", name in watch.first)
    told = {label["alertname"] for receiver, status, labels in hook.sent[before:] for label in labels}
    explained = {"BasculeErrorBudgetBurnsSlowly", "BasculeCertificateExpiring"}
    score.check("Alertmanager tells of all that nothing else explains", all_of_it - told <= explained, all_of_it - told)

    for each in crowd:
        each.task.cancel()
    one.start()
    resolver.says = "127.0.0.1"
    reach.open()
    for each in cut:
        each.open()
    for name, each in stage.at.items():
        each.well()
        if name.startswith("or-"):
            each.marker = "spoken"
        if name in ("out-first", "out-eu", "open-first", "open-next", "st-next", "away-first"):
            each.open()
    state.unlink()
    (two.folder / "away").rename(state)
    stage.relay.lead_to(stage.control.port)
    add_certificate(two, stage, 90)
    watch.until("every alert to end", lambda seen: seen <= NOT_ENDED, 90)
    left = watch.look()
    for name in sorted(all_of_it - NOT_ENDED):
        score.check(f"{name} ends", name not in left)


def watched_alerts():
    text = (watched.RULES / "alerts.yml").read_text()
    return [line.split()[2] for line in text.splitlines() if line.strip().startswith("- alert:")]


def flap(stage, watch, two):
    """Two take turns: whoever serves fails, and the other one is well again. The first choice is left five
    times; the ways back to it are no failovers."""

    def served(provider):
        for service in (watched.fetch(f"http://127.0.0.1:{two.admin}/v1/status") or {}).get("services", []):
            if service["name"] == "flap":
                return service["first"] == provider
        return False

    serves, other = "flap-first", "flap-next"
    for _ in range(9):
        stage.at[other].well()
        stage.at[serves].status = 500
        watch.until(f"{other} serves", lambda _, other=other: served(other), 20)
        serves, other = other, serves
    stage.at[other].well()


def add_certificate(two, stage, days, closed="any", target="access.log"):
    """The odd proxy's file, with a TLS listener whose certificate ends so soon."""
    running_proxy.certificate(two.folder, "www.portal.example", days)
    text = odd(stage, closed).replace("target: access.log", f"target: {target}")
    two.write(f'  - {{ address: "127.0.0.1:0", tls: {{ certificates: [{{ certificate: cert.pem, key: key.pem }}] }} }}\n' + text)


if __name__ == "__main__":
    score = running_proxy.Score()
    for name, why in NOT_LIVE.items():
        print(f"not live: {name} {why}")
    with tempfile.TemporaryDirectory() as place:
        live(pathlib.Path(place), score)
    score.end()
