"""Panels of the dashboards as SVG, drawn from what Prometheus answers to their queries.

Not Grafana's own pictures: the data, the queries, titles and legends are those of the dashboards, the
drawing is ours.
"""

import json
import time
from xml.sax.saxutils import escape

# Which panels, by dashboard: enough to tell the outage.
SHOWN = {
    "overview": ["Answers to clients", "What failed, and what clients saw of it", "Who answers", "Providers left by all"],
    "service": ["Who is asked", "Health", "Attempts that failed", "Retries"],
    "provider": ["Attempts", "Failing share by service"],
    "sovereignty": ["Share of requests", "Outside against preference"],
}
WIDTH, HEIGHT, LEFT, TOP, BOTTOM, COLUMNS = 560, 210, 80, 30, 52, 2
COLOURS = ["#3274d9", "#e0752d", "#56a64b", "#a352cc", "#c4162a", "#8f8f8f", "#37872d", "#b877d9"]
UNITS = {"percentunit": lambda v: f"{v * 100:.0f} %", "reqps": lambda v: f"{v:.3g}/s", "s": lambda v: f"{v * 1000:.0f} ms"}
STYLE = (
    "text{font:11px sans-serif;fill:#222}.t{font-weight:bold;font-size:12px}.f{fill:#fff;stroke:#ccc}.g{stroke:#ddd}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.f{fill:#181b1f;stroke:#444}.g{stroke:#333}}"
)


def draw(prometheus, dashboards, filled, began, folder):
    """One file a dashboard."""
    folder.mkdir(parents=True, exist_ok=True)
    end = time.time()
    for name, titles in SHOWN.items():
        board = json.loads((dashboards / f"{name}.json").read_text())
        by_title = {panel["title"]: panel for panel in board["panels"]}
        parts = []
        for place, title in enumerate(titles):
            panel = by_title[title]
            lines = []
            for target in panel["targets"]:
                for found in prometheus.query(filled(target["expr"]), start=began, end=end, step=1):
                    lines.append((legend(target["legendFormat"], found["metric"]), points(found["values"], began)))
            x, y = place % COLUMNS * (WIDTH + 10), place // COLUMNS * (HEIGHT + 10)
            inner = states(lines, end - began) if panel["type"] == "state-timeline" else curves(panel, lines, end - began)
            parts.append(f'<g transform="translate({x},{y})">{frame(title)}{inner}</g>')
        width = COLUMNS * (WIDTH + 10) - 10
        height = -(-len(titles) // COLUMNS) * (HEIGHT + 10) - 10
        about = f"Panels of {board['title']}, drawn from a real outage on loopback"
        svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{about}">'
        (folder / f"{name}.svg").write_text(f"{svg}<style>{STYLE}</style>{''.join(parts)}</svg>\n")


def legend(form, labels):
    for name, value in labels.items():
        form = form.replace("{{" + name + "}}", value)
    return form


def points(values, began):
    return [(at - began, float(value)) for at, value in values if value != "NaN"]


def frame(title):
    return f'<rect width="{WIDTH}" height="{HEIGHT}" class="f"/><text x="10" y="18" class="t">{escape(title)}</text>'


def across(seconds, span):
    return LEFT + seconds / span * (WIDTH - LEFT - 12)


def seconds_below(span):
    marks = range(0, int(span) + 1, 10)
    y = HEIGHT - BOTTOM + 14
    return "".join(f'<text x="{across(s, span):.0f}" y="{y}" text-anchor="middle">{s} s</text>' for s in marks)


def key(names):
    """Below the panel, as many as find room."""
    parts, x = [], LEFT
    for name, colour in names:
        wide = 20 + 6 * len(name)
        if x + wide > WIDTH:
            break
        parts.append(f'<rect x="{x}" y="{HEIGHT - 20}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 14}" y="{HEIGHT - 11}">{escape(name)}</text>')
        x += wide
    return "".join(parts)


def curves(panel, lines, span):
    custom = panel["fieldConfig"]["defaults"]["custom"]
    stacked = custom["stacking"]["mode"] == "normal"
    # Those that are 0 throughout would only crowd the key.
    lines = [each for each in lines if any(value for _, value in each[1])] or lines[:1]
    if stacked:
        lines = piled(lines)
    most = max((value for _, line in lines for _, value in line), default=1) or 1
    say = UNITS.get(panel["fieldConfig"]["defaults"]["unit"], lambda v: f"{v:g}"[:7])

    def up(value):
        return HEIGHT - BOTTOM - value / most * (HEIGHT - BOTTOM - TOP)

    parts = [seconds_below(span)]
    for share in (0, 0.5, 1):
        y = up(share * most)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 12}" y1="{y:.0f}" y2="{y:.0f}" class="g"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{say(share * most)}</text>')
    names = []
    # The tallest pile first, so that the others stand before it.
    for number, (name, line) in reversed(list(enumerate(lines))) if stacked else enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{across(at, span):.1f},{up(value):.1f}" for at, value in line)
        if stacked and line:
            floor = f"{across(line[-1][0], span):.1f},{up(0):.1f} {across(line[0][0], span):.1f},{up(0):.1f}"
            parts.append(f'<polygon points="{path} {floor}" fill="{colour}"/>')
        else:
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        names.append((name, colour))
    return "".join(parts) + key(sorted(names))


def piled(lines):
    """Each on top of those before it."""
    below, piles = {}, []
    moments = sorted({at for _, line in lines for at, _ in line})
    for name, line in lines:
        known = dict(line)
        for at in moments:
            below[at] = below.get(at, 0) + known.get(at, 0)
        piles.append((name, sorted(below.items())))
    return piles


def states(lines, span):
    """A bar for each, dark where it is 1. Those that never are stay out, unless all do."""
    lines = [each for each in lines if any(value for _, value in each[1])] or lines[:1]
    parts, room = [seconds_below(span)], (HEIGHT - BOTTOM - TOP) / len(lines)
    for number, (name, line) in enumerate(lines):
        y, high = TOP + number * room, min(room * 0.7, 26)
        parts.append(f'<text x="{LEFT - 6}" y="{y + high / 2 + 4:.0f}" text-anchor="end">{escape(name[:11])}</text>')
        parts.append(f'<rect x="{LEFT}" y="{y:.0f}" width="{WIDTH - LEFT - 12}" height="{high:.0f}" class="f"/>')
        for begin, end in stretches(line):
            x, wide = across(begin, span), (min(end + 1, span) - begin) / span * (WIDTH - LEFT - 12)
            parts.append(f'<rect x="{x:.1f}" y="{y:.0f}" width="{wide:.1f}" height="{high:.0f}" fill="{COLOURS[4]}"/>')
    return "".join(parts)


def stretches(line):
    """From when to when it is 1."""
    found = []
    for at, value in line:
        if value and found and at - found[-1][1] < 1.5:
            found[-1][1] = at
        elif value:
            found.append([at, at])
    return found
