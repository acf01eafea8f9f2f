// Tiles and charts. Colours come from the theme, so they follow dark and light by themselves.
(function () {
  "use strict";
  const { html, show, clock, panel, changed, set } = window.inferlane;

  panel(({ view }) => {
    if (!view || !changed("tiles", view.tiles)) return;
    show("tiles", view.tiles.map((tile) => html("Div", { className: "tile" },
      html("Div", { className: "tile-name" }, tile.name), html("Div", { className: "tile-value" }, tile.value),
      html("Div", { className: "tile-hint" }, tile.hint))));
  });

  const labelled = (rows) => rows.map(({ at, ...values }) => ({ minute: clock(at, false), ...values }));

  panel(({ view }, { minutes }) => {
    const all = view && view.charts[minutes];
    if (!all) return;
    for (const name of ["throughput", "latency", "split"]) {
      if (changed(`chart ${name}`, all[name])) set(`${name}-chart`, { data: labelled(all[name]) });
    }
    if (changed("chart outcomes", all.outcomes)) pie(all.outcomes);
    for (const [name, text] of Object.entries(all.summaries)) {
      if (changed(`text ${name}`, text)) show(`${name}-text`, text);
    }
  });

  // Recharts draws nothing for an empty pie: a grey ring says "none yet" better than a hole.
  function pie(slices) {
    const total = slices.reduce((sum, slice) => sum + slice.value, 0);
    const shown = slices.length ? slices : [{ name: "No request has ended yet", value: 1, color: "gray.4" }];
    set("outcomes-chart", { data: shown, chartLabel: total.toLocaleString("en") });
  }
})();
