"""Charts as SVG, drawn on the server. Colours come from the style sheet by class: nothing inline, so that the strict
content policy holds. Every chart has its numbers in a table under it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import pygal
from markupsafe import Markup
from pygal.style import Style

# The library adds an importer of an old kind for plug-ins that we have none of; every later import would warn of it.
sys.meta_path[:] = [each for each in sys.meta_path if type(each).__name__ != "PluginImportFixer"]

_PLAIN: Final = Style(background="transparent", plot_background="transparent", font_family="inherit")


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
) -> Markup:
    """Args:
    every: Only each nth label is written.
    show: A value as text.
    """
    chart = pygal.Line(
        **_options(title, height, width),
        show_dots=False,
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
