"""Plots as SVG, with nothing but text: grouped bars, and lines over a logarithmic or linear axis."""

from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 680, 380, 70, 20, 40, 90
COLOURS = ["#0b6fa4", "#d1495b", "#6a994e", "#b5838d", "#8d6a9f", "#444444"]


class Plot:
    def __init__(self, title, x_label, y_label, y_max, y_min=0.0):
        self.y_min, self.y_max = y_min, y_max or 1.0
        self.x_label = x_label
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
            f'font-size="12"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
            f'<text x="{WIDTH / 2}" y="22" text-anchor="middle" font-size="15">{escape(title)}</text>',
            f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - BOTTOM + 40}" text-anchor="middle">{escape(x_label)}</text>',
            f'<text transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
            f'{escape(y_label)}</text>']
        for step in range(6):
            value = self.y_min + (self.y_max - self.y_min) * step / 5
            y = self.y(value)
            self.parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#ddd"/>'
                              f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')

    def y(self, value):
        share = (min(max(value, self.y_min), self.y_max) - self.y_min) / (self.y_max - self.y_min)
        return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)

    def x_tick(self, x, text):
        self.parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{escape(text)}</text>')

    def legend(self, names):
        x = LEFT
        for i, name in enumerate(names):
            self.parts.append(f'<rect x="{x}" y="{HEIGHT - 28}" width="12" height="12" fill="{COLOURS[i % len(COLOURS)]}"/>'
                              f'<text x="{x + 16}" y="{HEIGHT - 18}">{escape(name)}</text>')
            x += 30 + 7 * len(name)

    def write(self, file):
        with open(file, "w", encoding="utf-8") as out:
            out.write("\n".join(self.parts) + "\n</svg>\n")


def bars(file, title, x_label, y_label, groups, series):
    """groups: names; series: {name: one value for each group}."""
    plot = Plot(title, x_label, y_label, max(max(values) for values in series.values()) * 1.1)
    width = (WIDTH - LEFT - RIGHT) / len(groups)
    bar = width * 0.8 / len(series)
    for g, group in enumerate(groups):
        plot.x_tick(LEFT + width * (g + 0.5), group)
        for s, values in enumerate(series.values()):
            x, y = LEFT + width * (g + 0.1) + bar * s, plot.y(values[g])
            plot.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{bar * 0.92:.1f}" height="{plot.y(0) - y:.1f}" '
                              f'fill="{COLOURS[s % len(COLOURS)]}"/>'
                              f'<text x="{x + bar / 2:.1f}" y="{y - 3:.1f}" text-anchor="middle" font-size="9">'
                              f'{values[g]:.3g}</text>')
    plot.legend(list(series))
    plot.write(file)


def lines(file, title, x_label, y_label, xs, series, x_texts=None, mark=None):
    """series: {name: one value for each x}; mark: an x to draw a line at."""
    high = max(max(values) for values in series.values())
    plot = Plot(title, x_label, y_label, high * 1.1)
    low_x, high_x = min(xs), max(xs)

    def at(x):
        return LEFT + (x - low_x) / ((high_x - low_x) or 1) * (WIDTH - LEFT - RIGHT)

    for i, x in enumerate(xs):
        if x_texts is not None or len(xs) < 16 or i % (len(xs) // 10) == 0:
            plot.x_tick(at(x), x_texts[i] if x_texts else f"{x:g}")
    if mark is not None:
        plot.parts.append(f'<line x1="{at(mark):.1f}" y1="{TOP}" x2="{at(mark):.1f}" y2="{HEIGHT - BOTTOM}" '
                          f'stroke="#888" stroke-dasharray="4 3"/>')
    for s, values in enumerate(series.values()):
        points = " ".join(f"{at(x):.1f},{plot.y(v):.1f}" for x, v in zip(xs, values))
        plot.parts.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[s % len(COLOURS)]}" stroke-width="2"/>')
    plot.legend(list(series))
    plot.write(file)
