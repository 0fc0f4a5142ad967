"""Charts as SVG, drawn on the server. Colours come from the style sheet by class: nothing inline, so that the strict
content policy holds. Every chart has its numbers in a table under it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from unicodedata import east_asian_width

import pygal
from markupsafe import Markup, escape
from pygal.style import Style

# The library adds an importer of an old kind for plug-ins that we have none of; every later import would warn of it.
sys.meta_path[:] = [each for each in sys.meta_path if type(each).__name__ != "PluginImportFixer"]

_NAME_MAX: Final = 32  # of a name, in halves of a Chinese sign
# Sizes as in app.css: the library leaves so much room.
_PLAIN: Final = Style(
    background="transparent",
    plot_background="transparent",
    font_family="inherit",
    label_font_size=12,
    major_label_font_size=12,
    legend_font_size=13,
    title_font_size=14,
)


def line(
    title: str,
    labels: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    *,
    height: int = 220,
    width: int = 900,
    every: int = 1,
    show: Callable[[float], str] | None = None,
    fill: bool = False,
    dots: bool = False,
    zero: bool = False,
) -> Markup:
    """Args:
    every: Only each nth label is written.
    show: A value as text.
    dots: For few values: a line of one point is nothing.
    zero: The axis begins there, as amounts of something should.
    """
    top = max((value for values in series.values() for value in values if value is not None), default=0)
    chart = pygal.Line(
        **_options(title, height, width),
        show_dots=dots,
        dots_size=3,
        range=(0, top) if zero and top > 0 else None,
        fill=fill,
        x_labels_major_every=every,
        show_minor_x_labels=False,
    )
    return _drawn(chart, labels, series, show)


def bars(
    title: str,
    labels: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    *,
    height: int = 220,
    width: int = 900,
    stacked: bool = False,
    show: Callable[[float], str] | None = None,
) -> Markup:
    kind = pygal.StackedBar if stacked else pygal.Bar
    return _drawn(kind(**_options(title, height, width)), labels, series, show)


def _options(title: str, height: int, width: int) -> dict[str, Any]:
    return {
        "css": [],
        "js": [],
        "style": _PLAIN,
        "height": height,
        "width": width,
        "explicit_size": False,
        "disable_xml_declaration": True,
        "legend_at_bottom": True,
        "title": title,
        "margin": 6,
        "truncate_label": -1,
        "no_data_text": "—",
    }


def _drawn(
    chart: Any,
    labels: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    show: Callable[[float], str] | None,
) -> Markup:
    chart.x_labels = list(labels)
    chart.show_legend = len(series) > 1
    if show is not None:
        chart.value_formatter = show
    for name, values in series.items():
        chart.add(name, list(values))
    text: str = chart.render(is_unicode=True)
    # Styles that no policy of ours allows, and a comment that names the library on every page.
    text = re.sub(
        r"<!--.*?-->|<style[^>]*>.*?</style>|<script[^>]*>.*?</script>| style=\"[^\"]*\"", "", text, flags=re.DOTALL
    )
    return Markup(text)  # noqa: S704 drawn by us; the library escapes labels


def ranked(
    title: str,
    rows: Sequence[tuple[str, int, int]],
    *,
    names: Mapping[int, str] | None = None,
    show: Callable[[int], str] = str,
    width: int = 900,
) -> Markup:
    """Bars one under the other, each with its name before and its value behind it; for names too long for an axis.

    Args:
        rows: (name, value, colour 0 to 5), as they stand from the top.
        names: What a colour means, where that says something.
    """
    left, right, step, legend = 220, 120, 24, 26 if names else 0
    top = max((value for _, value, _ in rows), default=0)
    parts = []
    for number, (name, value, colour) in enumerate(rows):
        y = legend + number * step
        long = (width - left - right) * value // top if top > 0 else 0
        shown = _short(name)
        parts.append(
            f'<g class="color-{colour}"><title>{escape(name)}: {escape(show(value))}</title>'
            f'<text x="{left - 10}" y="{y + 16}" text-anchor="end">{escape(shown)}</text>'
            f'<rect x="{left}" y="{y + 3}" width="{max(long, 1)}" height="{step - 7}" rx="2"/>'
            f'<text x="{left + long + 8}" y="{y + 16}">{escape(show(value))}</text></g>'
        )
    for number, (colour, name) in enumerate((names or {}).items()):
        x = left + number * 105
        parts.append(
            f'<g class="color-{colour}"><rect x="{x}" y="4" width="12" height="12"/>'
            f'<text x="{x + 18}" y="15">{escape(name)}</text></g>'
        )
    height = legend + len(rows) * step
    return Markup(  # noqa: S704 every text in it is escaped
        f'<svg class="ranked" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )


def _short(name: str) -> str:
    """As much of a name as there is room for.

    >>> _short("营业厅" * 6), _short("the marketing system did not post in time")
    ('营业厅营业厅营业厅营业厅营业厅…', 'the marketing system did not po…')
    """
    room = _NAME_MAX
    for at, sign in enumerate(name):
        room -= 2 if east_asian_width(sign) in "WF" else 1
        if room < 1 and at + 1 < len(name):
            return f"{name[:at]}…"
    return name


def sparkline(
    values: Sequence[int | None], *, width: int = 120, height: int = 24, band: Sequence[int] | None = None
) -> Markup:
    """A small line without axes; ``band`` is the usual, drawn under it."""
    known = [each for each in (*values, *(band or ())) if each is not None]
    if not known:
        return Markup('<svg class="spark" aria-hidden="true"></svg>')
    top = max(*known, 1)
    parts = [
        f'<polyline class="spark-{name}" points="{_points(each, top, width, height)}"/>'
        for name, each in (("usual", band), ("now", values))
        if each
    ]
    inner = "".join(parts)
    return Markup(f'<svg class="spark" viewBox="0 0 {width} {height}" aria-hidden="true">{inner}</svg>')  # noqa: S704


def _points(values: Sequence[int | None], top: int, width: int, height: int) -> str:
    step = width / max(1, len(values) - 1)
    return " ".join(
        f"{at * step:.1f},{height - 2 - (height - 4) * value / top:.1f}"
        for at, value in enumerate(values)
        if value is not None
    )
