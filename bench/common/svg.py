"""Line charts as SVG, of which nothing but a browser is asked."""

import math

COLOURS = ("#1b6ca8", "#c0392b", "#2e8b57", "#8e5ea2", "#d08700", "#555555")
LEFT, TOP, WIDTH, HEIGHT = 70, 40, 560, 280


def ticks(low, high, log):
    if log:
        return [10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) if low <= 10.0**e <= high]
    step = 10 ** math.floor(math.log10((high - low) / 4 or 1))
    while (high - low) / step > 6:
        step *= 2 if (high - low) / step <= 12 else 5
    first = math.ceil(low / step)
    return [i * step for i in range(first, math.floor(high / step) + 1)]


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def chart(path, title, x_label, y_label, series, marks=(), log_x=False, log_y=False):
    """series: (name, [(x, y)]); marks: x of vertical lines. A logarithmic axis leaves out what is not above 0."""
    series = [(name, [(x, y) for x, y in points if (x > 0 or not log_x) and (y > 0 or not log_y)]) for name, points in series]
    xs = [x for _, points in series for x, _ in points]
    ys = [y for _, points in series for _, y in points]
    x_low, x_high = min(xs), max(xs)
    y_low, y_high = (min(ys), max(ys)) if log_y else (min(0, min(ys)), max(ys) * 1.08 or 1)
    x_high = x_high if x_high > x_low else x_low + 1
    y_high = y_high if y_high > y_low else y_low + 1

    def place(value, low, high, log):
        if log:
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        return (value - low) / (high - low)

    def at(x, y):
        return (LEFT + WIDTH * place(x, x_low, x_high, log_x), TOP + HEIGHT * (1 - place(y, y_low, y_high, log_y)))

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 190}" height="{TOP + HEIGHT + 60}" '
           'font-family="sans-serif" font-size="12">', '<rect width="100%" height="100%" fill="white"/>',
           f'<text x="{LEFT}" y="22" font-size="15">{escape(title)}</text>']
    for x in marks:
        place_x, _ = at(x, y_high)
        out.append(f'<line x1="{place_x:.1f}" y1="{TOP}" x2="{place_x:.1f}" y2="{TOP + HEIGHT}" stroke="#c0392b" '
                   'stroke-width="0.5" opacity="0.35"/>')
    for x in ticks(x_low, x_high, log_x):
        place_x, _ = at(x, y_high)
        out.append(f'<line x1="{place_x:.1f}" y1="{TOP + HEIGHT}" x2="{place_x:.1f}" y2="{TOP + HEIGHT + 5}" stroke="black"/>'
                   f'<text x="{place_x:.1f}" y="{TOP + HEIGHT + 19}" text-anchor="middle">{x:g}</text>')
    for y in ticks(y_low, y_high, log_y):
        _, place_y = at(x_low, y)
        out.append(f'<line x1="{LEFT}" y1="{place_y:.1f}" x2="{LEFT + WIDTH}" y2="{place_y:.1f}" stroke="#dddddd"/>'
                   f'<text x="{LEFT - 6}" y="{place_y + 4:.1f}" text-anchor="end">{y:g}</text>')
    out.append(f'<rect x="{LEFT}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="black"/>')
    for i, (name, points) in enumerate(series):
        colour = COLOURS[i % len(COLOURS)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in points))
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        y = TOP + 14 + 18 * i
        out.append(f'<line x1="{LEFT + WIDTH + 10}" y1="{y - 4}" x2="{LEFT + WIDTH + 28}" y2="{y - 4}" stroke="{colour}" '
                   f'stroke-width="2"/><text x="{LEFT + WIDTH + 33}" y="{y}">{escape(name)}</text>')
    out.append(f'<text x="{LEFT + WIDTH / 2}" y="{TOP + HEIGHT + 42}" text-anchor="middle">{escape(x_label)}</text>'
               f'<text transform="translate(16 {TOP + HEIGHT / 2}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
               '</svg>')
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(out) + "\n")
