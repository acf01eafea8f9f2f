// The last minute, second by second: a bar per snapshot, as wide as the time it covers, and a dot for its latency.
(function () {
  "use strict";
  const { html, show, panel, changed, duration, rate } = window.inferlane;
  const WIDTH = 600;
  const HEIGHT = 120;
  const SECONDS = 60;

  panel(({ view }) => {
    if (!view) return;
    const points = view.live.points.filter((point) => point.answered || point.failed || point.latency !== null);
    // Without a point, nothing moves.
    if (!changed("live", [points, view.live.rate, view.live.latency, points.length && view.as_of])) return;
    const x = (at) => WIDTH - ((view.as_of - at) * WIDTH) / SECONDS;
    show("live-rate-chart", chart(bars(points, x)));
    show("live-latency-chart", chart(dots(points, x)));
    show("live-rate-text", view.live.rate);
    show("live-latency-text", view.live.latency);
  });

  const chart = (content) => html("Svg", { viewBox: `0 -18 ${WIDTH} ${HEIGHT + 20}`, className: "live-chart", "aria-hidden": true },
    html("Line", { x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT, className: "live-axis" }), content);

  const label = (text) => html("Text", { x: 0, y: 0, className: "live-peak" }, text);

  function bars(points, x) {
    const peak = Math.max(1, ...points.map((point) => (point.answered + point.failed) / point.span));
    const bar = (point, number, below, color) => {
      const height = (number / point.span / peak) * HEIGHT;
      return number ? html("Rect", { x: x(point.at - point.span) + 1, width: Math.max(1, (point.span * WIDTH) / SECONDS - 2),
        y: HEIGHT - (below / point.span / peak) * HEIGHT - height, height, className: color }) : null;
    };
    return [points.length ? label(rate(peak)) : null, points.map((point) => [bar(point, point.answered, 0, "live-answered"), bar(point, point.failed, point.answered, "live-failed")])];
  }

  function dots(points, x) {
    const timed = points.filter((point) => point.latency !== null);
    if (!timed.length) return null;
    const peak = Math.max(...timed.map((point) => point.latency)) || 1;
    const places = timed.map((point) => [x(point.at - point.span / 2), HEIGHT - (point.latency / peak) * HEIGHT]);
    return [label(duration(peak / 1000)), html("Polyline", { points: places.map((place) => place.join()).join(" "), className: "live-line" }),
      places.map(([cx, cy]) => html("Circle", { cx, cy, r: 2.5, className: "live-dot" }))];
  }
})();
