"""Ratios as an SVG: a group of bars for each workload, shorter is cheaper, a line where the base stands."""

from xml.sax.saxutils import escape

WIDTH, LABELS, BAR, GAP, MOST = 860, 230, 16, 34, 3.0


def chart(workloads, base):
    """`workloads`: name to (what it is, {contestant: ratio to the base, or None})."""
    scale = (WIDTH - LABELS - 60) / MOST
    parts, y = [], 40
    for name, (about, found) in workloads.items():
        parts.append(f'<text x="8" y="{y}" class="w">{escape(name)}: {escape(about)}</text>')
        y += 8
        for who, ratio in sorted(found.items(), key=lambda pair: pair[1] or 0):
            if ratio is None:
                continue
            kind = "us" if who.startswith("bascule") else "them"
            shown = min(ratio, MOST)
            parts.append(f'<text x="{LABELS - 8}" y="{y + 12}" class="n">{escape(who)}</text>')
            parts.append(f'<rect x="{LABELS}" y="{y}" width="{shown * scale:.1f}" height="{BAR - 3}" class="{kind}"/>')
            parts.append(f'<text x="{LABELS + shown * scale + 6:.1f}" y="{y + 12}">{ratio:.2f}</text>')
            y += BAR
        y += GAP
    line = LABELS + scale
    parts.append(f'<line x1="{line:.1f}" y1="30" x2="{line:.1f}" y2="{y - GAP}" class="one"/>')
    style = (
        "text{font:12px sans-serif;fill:#222}.w{font-weight:bold}.n{text-anchor:end}.us{fill:#0b6b8f}.them{fill:#b9c2c9}"
        ".one{stroke:#c0392b;stroke-dasharray:4 3}"
        "@media(prefers-color-scheme:dark){text{fill:#ddd}.them{fill:#55606a}.us{fill:#49b3d8}}"
    )
    title = f"CPU per request (w7: memory per connection), as a ratio to {base}: shorter is cheaper"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img" aria-label="{escape(title)}">'
        f"<style>{style}</style><text x=\"8\" y=\"18\">{escape(title)}</text>{''.join(parts)}</svg>\n"
    )
