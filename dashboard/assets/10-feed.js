// Asks for the snapshot once a second, never twice at a time, not while the page is hidden, and says how old it is.
(function () {
  "use strict";
  const { html, ui, ask, ago, clock, changed, clientside, set, on } = window.inferlane;
  const COLORS = { ok: "teal", warn: "yellow", bad: "red", none: "gray" };
  const SIGNS = { ok: "✓", warn: "!", bad: "✕", none: "…" };
  const DOWN = {
    level: "bad", word: "Dashboard down", sentence: "the dashboard itself does not answer; this page tries again.",
  };
  const STALE = 5;
  let asking = false;

  async function poll(ticks, rate, kept) {
    const none = window.dash_clientside.no_update;
    if (asking || document.hidden || rate === "paused") return none;
    asking = true;
    try {
      return merged(await ask("GET", "snapshot"), kept);
    } catch (failure) {
      return { ...(kept || {}), state: "dashboard_down", verdict: DOWN };
    } finally {
      asking = false;
    }
  }

  // The last good view stays when there is no new one; received is when it was true, by this page's clock.
  function merged(answer, kept) {
    if (!answer.view) return { ...answer, view: kept ? kept.view : null, received: kept ? kept.received : null };
    return { ...answer, received: Date.now() - (answer.age || 0) * 1000 };
  }

  const age = (data) => (data && data.received ? (Date.now() - data.received) / 1000 : null);

  function asOf(ticks, data, rate) {
    if (!data || !data.view) return ["No data yet", false];
    const old = age(data);
    const text = `As of ${clock(data.view.as_of)}, updated ${ago(old)}`;
    const stale = old > STALE && rate !== "paused";
    if (rate === "paused") return [`${text} (updates are paused)`, false];
    return [stale ? `Data ${Math.round(old)} s old: ${text.toLowerCase()}` : text, stale];
  }

  function clockwork(ticks, data, rate) {
    const [text, stale] = asOf(ticks, data, rate);
    document.body.classList.toggle("stale", stale || (data && data.state !== "ok" && data.state !== undefined));
    return [text, stale ? "orange" : "dimmed"];
  }

  function status(data) {
    const none = window.dash_clientside.no_update;
    if (!data || !data.verdict) return [none, none, none];
    if (!changed("status", [data.verdict, data.state, data.view && data.view.chips])) return [none, none, none];
    return [verdict(data.verdict), chips(data), banner(data)];
  }

  const verdict = ({ level, word, sentence }) => [
    ui("Badge", { color: COLORS[level], size: "lg", variant: "filled", autoContrast: true }, `${SIGNS[level]} ${word}`),
    html("Span", { className: "sentence" }, sentence),
  ];

  // When the API or Redis is down, what we knew about the rest is unknown now, not "offline".
  function chips(data) {
    const ok = data.state === "ok";
    const known = (data.view && data.view.chips) || [];
    return known.map(({ label, text, level }) => {
      const down = !ok && ((label === "API" && data.state !== "redis_down") || (label === "Redis" && data.state === "redis_down"));
      const shown = ok ? text : down ? "down" : label === "API" && data.state === "redis_down" ? text : "unknown";
      const color = ok ? COLORS[level] : down ? "red" : "gray";
      return ui("Badge", { color, variant: "light", size: "md", tt: "none" }, `${label}: ${shown}`);
    });
  }

  function banner(data) {
    if (data.state === "ok" || data.state === undefined) return null;
    const login = data.state === "login"
      ? ui("Button", { "data-act": "open-login", size: "xs", mt: "xs" }, "Log in") : null;
    return ui("Alert", { color: data.verdict.level === "warn" ? "yellow" : "red", title: data.verdict.word,
      variant: "light", mb: "md", id: "down-banner" }, html("Span", {}, data.verdict.sentence), login);
  }

  function paused(data) {
    const none = window.dash_clientside.no_update;
    const lanes = (data && data.view && data.view.paused) || [];
    if (!changed("paused", lanes)) return none;
    if (!lanes.length) return null;
    return ui("Alert", { color: "yellow", variant: "light", mb: "md", title: "Paused" },
      lanes.map((lane) => html("Div", { className: "paused-line" },
        html("Span", {}, `Lane ${lane.lane}, by ${lane.by}${lane.at ? ` at ${clock(lane.at)}` : ""}: it accepts, nothing is taken. `),
        ui("Button", { size: "compact-xs", variant: "outline", color: "yellow", "data-act": "order", "data-verb": "resume",
          "data-lane": lane.lane, "aria-label": `Resume lane ${lane.lane}` }, "Resume"))));
  }

  function random(data) {
    const models = (data && data.view && data.view.random) || [];
    if (!changed("random", models)) return window.dash_clientside.no_update;
    if (!models.length) return null;
    return ui("Alert", { color: "red", variant: "filled", mb: "md", title: "Random weights" },
      `${models.join(", ")} runs with random weights (ALLOW_RANDOM_WEIGHTS=1): its answers mean nothing.`);
  }

  // The interval is one second for all rates: what is asked for less often is counted by the clock, not in ticks.
  const rateOf = (value) => (value === "5" ? 5000 : 1000);

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) set("tick", { n_intervals: Date.now() });
  });
  on("open-login", () => set("login-modal", { opened: true }));

  clientside({ poll, clockwork, status, paused, random, rateOf });
})();
