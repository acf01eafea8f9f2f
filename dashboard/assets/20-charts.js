// Tiles and charts. Colours come from the theme, so they follow dark and light by themselves.
(function () {
  "use strict";
  const { html, ui, clock, changed, clientside } = window.inferlane;

  function tiles(data) {
    if (!data || !data.view || !changed("tiles", data.view.tiles)) return window.dash_clientside.no_update;
    return data.view.tiles.map((tile) =>
      ui("Paper", { withBorder: true, p: "sm", radius: "md", className: "tile" },
        html("Div", { className: "tile-name" }, tile.name),
        html("Div", { className: "tile-value" }, tile.value),
        html("Div", { className: "tile-hint" }, tile.hint)));
  }

  const labelled = (rows) => rows.map(({ at, ...values }) => ({ minute: clock(at, false), ...values }));

  function charts(data, minutes) {
    const none = window.dash_clientside.no_update;
    const all = data && data.view && data.view.charts[minutes];
    if (!all || !changed("charts", all)) return Array(9).fill(none);
    const { throughput, latency, split, outcomes, summaries } = all;
    const total = outcomes.reduce((sum, slice) => sum + slice.value, 0);
    // Recharts draws nothing for an empty pie: a grey ring says "none yet" better than a hole.
    const pie = outcomes.length ? outcomes : [{ name: "No request has ended yet", value: 1, color: "gray.4" }];
    return [
      labelled(throughput), labelled(latency), labelled(split), pie, total.toLocaleString("en"),
      summaries.throughput, summaries.latency, summaries.split, summaries.outcomes,
    ];
  }

  clientside({ tiles, charts });
})();
