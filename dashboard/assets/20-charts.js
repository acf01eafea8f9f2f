// Tiles and charts. Colours come from the theme, so they follow dark and light by themselves.
(function () {
  "use strict";
  const { html, show, ask, clock, count, panel, draw, changed, set } = window.inferlane;

  const LINES = ["throughput", "latency", "split"];
  const COLORS = { none: "gray.6", ok: "teal.7", warn: "orange.7", bad: "red.7" };
  const LEVELS = Object.keys(COLORS);
  // Pixels of a sign, and of the axis and margins beside the plot.
  const SIGN = 14;
  const AXIS = 100;
  const SHOWN = 12;
  // A window longer than the snapshot's is fetched separately, no more often than its points change.
  const EVERY = 15000;
  const asked = {};
  const past = {};

  panel(({ view }) => {
    if (!view || !changed("tiles", view.tiles)) return;
    show("tiles", view.tiles.map((tile) => html("Div", { className: "tile" },
      html("Div", { className: "tile-name" }, tile.name), html("Div", { className: "tile-value" }, tile.value),
      html("Div", { className: "tile-hint" }, tile.hint))));
  });

  const labelled = (rows) => rows.map(({ at, ...values }) => ({ minute: clock(at, false), ...values }));

  panel(({ view, state }, { minutes }) => {
    if (!view || !minutes) return;
    const all = view.charts[minutes] || longer(minutes, state === "ok");
    for (const name of LINES) {
      if (changed(`chart ${name}`, all[name])) set(`${name}-chart`, { data: labelled(all[name]) });
      if (name === "throughput") failures(all[name].some((row) => row.failed));
    }
    const width = plotWidth();
    if (changed("marks", [all.marks, all.throughput.length, width])) mark(all.marks, all.throughput, width);
    if (all.outcomes && changed("chart outcomes", all.outcomes)) pie(all.outcomes);
    for (const [name, text] of Object.entries(all.summaries)) {
      if (changed(`text ${name}`, text)) show(`${name}-text`, text);
    }
  });

  // A red line along zero would look like trouble.
  const DONE = [{ name: "in", color: "teal.6" }, { name: "answered", color: "indigo.5" }];

  function failures(some) {
    if (changed("failures", some)) set("throughput-chart", { series: some ? [...DONE, { name: "failed", color: "red.7" }] : DONE });
  }

  function longer(minutes, live) {
    if (live && Date.now() - (asked[minutes] || 0) > EVERY) {
      asked[minutes] = Date.now();
      ask("GET", `charts?minutes=${minutes}`).then((found) => { past[minutes] = found; }, ({ message }) => {
        past[minutes] = past[minutes] || nothing(`Not available: ${message}`);
      }).finally(draw);
    }
    return past[minutes] || nothing("Loading…");
  }

  // Better no line than that of another time.
  const nothing = (text) => ({
    ...Object.fromEntries(LINES.map((name) => [name, []])), marks: [],
    summaries: Object.fromEntries(LINES.map((name) => [name, text])),
  });

  // Orders and the coming and going of workers, as upright lines in the charts and as a list that says the same.
  function mark(marks, rows, width) {
    const lines = apart(marks, rows, width).map(({ at, x, label, level }) => ({ x: clock(at, false), label, color: COLORS[level],
      labelPosition: x < wide(label) ? "insideTopLeft" : "insideTopRight" }));
    for (const name of LINES) set(`${name}-chart`, { referenceLines: lines });
    const newest = marks.slice(-SHOWN).reverse();
    show("marks", marks.length ? html("Details", { className: "marks" },
      html("Summary", {}, `${count(marks.length, "mark")} on the charts; the newest: ${newest[0].label} ${clock(newest[0].at, false)} ${shortened(newest[0].text)}`),
      html("Ul", {}, newest.map((one) => html("Li", {}, `${one.label} ${clock(one.at, false)} ${one.text}`)))) : null);
  }

  const plotWidth = () => ((document.getElementById("throughput-chart") || {}).clientWidth || 400) - AXIS;
  const wide = (label) => SIGN * label.length + 8;

  // From the newest on: a mark under the signs of the one on its right, or too near the axis for its own, joins that one.
  function apart(marks, rows, width) {
    const kept = [];
    const crowded = ([next, one]) => one.x >= next.x - wide(next.label) || one.x < wide(one.label);
    for (const one of marks.toReversed()) {
      kept.push({ ...one, x: (rows.findIndex((row) => row.at === one.at) * width) / Math.max(1, rows.length - 1) });
      while (kept.length > 1 && crowded(kept.slice(-2))) {
        const { label, level } = kept.pop();
        const next = kept.at(-1);
        Object.assign(next, { label: [...new Set(label + next.label)].join(""), level: LEVELS[Math.max(LEVELS.indexOf(level), LEVELS.indexOf(next.level))] });
      }
    }
    return kept;
  }

  const shortened = (text) => (text.length > 90 ? `${text.slice(0, 89)}…` : text);

  // Recharts draws nothing for an empty pie: a grey ring says "none yet" better than a hole.
  function pie(slices) {
    const total = slices.reduce((sum, slice) => sum + slice.value, 0);
    const shown = slices.length ? slices : [{ name: "No request has ended yet", value: 1, color: "var(--mantine-color-default-border)" }];
    set("outcomes-chart", { data: shown, chartLabel: total.toLocaleString("en") });
  }
})();
