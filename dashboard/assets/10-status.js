// Asks for the snapshot once a second, never twice at a time, not while the page is hidden, and says how old it is.
// The timer is not Dash's interval, which tells every component of each tick and cost more than all drawing.
(function () {
  "use strict";
  const { html, ui, show, ask, ago, clock, panel, draw, live, state, changed, set, clientside } = window.inferlane;
  const COLORS = { ok: "teal", warn: "yellow", bad: "red", none: "gray" };
  const SIGNS = { ok: "✓", warn: "!", bad: "✕", none: "…" };
  const DOWN = {
    level: "bad", word: "Dashboard down", sentence: "The dashboard's server does not answer. This page keeps trying.",
  };
  const STALE = 5;
  let asking = false;

  let timer = 0;

  async function tick() {
    if (!asking && !document.hidden && state.rate !== "paused") await poll();
    clockwork(state.rate);
  }

  function pace(rate) {
    state.rate = rate;
    clearInterval(timer);
    timer = setInterval(tick, rate === "5" ? 5000 : 1000);
    tick();
    return window.dash_clientside.no_update;
  }

  async function poll() {
    asking = true;
    try {
      state.data = merged(await ask("GET", "snapshot"), state.data);
    } catch {
      state.data = { ...(state.data || {}), state: "dashboard_down", verdict: DOWN };
    } finally {
      asking = false;
    }
    draw();
  }

  // The last good view stays until a new one comes; `received` is its time by this page's clock.
  function merged(answer, kept) {
    if (!answer.view) return { ...answer, view: kept ? kept.view : null, received: kept ? kept.received : null };
    return { ...answer, received: Date.now() - (answer.age || 0) * 1000 };
  }

  function clockwork(rate) {
    const { data } = state;
    if (!data || !data.view) return;
    const old = (Date.now() - data.received) / 1000;
    const stale = old > STALE && rate !== "paused";
    const text = `as of ${clock(data.view.as_of)}, updated ${ago(old)}`;
    const said = rate === "paused" ? `${text} (updates are paused)` : stale ? `Data ${Math.round(old)} s old: ${text}` : text;
    show("as-of", html("Span", { className: stale ? "warning" : "" }, said[0].toUpperCase() + said.slice(1)));
    document.body.classList.toggle("stale", stale || data.state !== "ok");
  }

  // -- the status strip

  panel((data) => {
    if (!changed("status", [data.verdict, data.state, data.view && data.view.chips, data.logged_in])) return;
    show("verdict", verdict(data.verdict));
    show("chips", chips(data));
    show("banner", banner(data));
    set("login-button", { style: data.logged_in ? { display: "none" } : {} });
    set("logout-button", { style: data.logged_in ? {} : { display: "none" } });
  });

  const verdict = ({ level, word, sentence }) => [
    ui("Badge", { color: COLORS[level], filled: true, large: true }, `${SIGNS[level]} ${word}`),
    html("Span", { className: "sentence" }, sentence),
  ];

  // When the API or Redis is down, the state of the rest is unknown, not "offline".
  function chips(data) {
    const known = (data.view && data.view.chips) || [];
    const broken = { redis_down: "Redis", login: "", ok: "" }[data.state] ?? "API";
    return known.map(({ label, text, level }) => {
      const sure = data.state === "ok" || (label === "API" && broken !== "API");
      const color = label === broken ? "red" : sure ? COLORS[level] : "gray";
      return ui("Badge", { color }, `${label}: ${label === broken ? "down" : sure ? text : "unknown"}`);
    });
  }

  function banner(data) {
    if (data.state === "ok") return null;
    const login = data.state === "login" ? ui("Button", { "data-act": "open-login" }, "Log in") : null;
    return ui("Alert", { color: COLORS[data.verdict.level], title: data.verdict.word, id: "down-banner" },
      html("Span", {}, data.verdict.sentence), login);
  }

  // -- other warnings

  panel((data) => {
    const lanes = (data.view && data.view.paused) || [];
    if (!changed("paused", [lanes, live(data)])) return;
    const lines = lanes.map((lane) => pausedLine(lane, !live(data)));
    show("paused-banner", lanes.length ? ui("Alert", { color: "yellow", title: "Paused" }, lines) : null);
  });

  const pausedLine = (lane, disabled) => html("Div", { className: "line" },
    html("Span", {}, `Lane ${lane.lane}, by ${lane.by}${lane.at ? ` at ${clock(lane.at)}` : ""}: it accepts requests, workers take none.`),
    ui("Button", { "data-act": "order", "data-verb": "resume", "data-lane": lane.lane, disabled, "aria-label": `Resume lane ${lane.lane} now` }, "Resume"));

  panel(({ view }) => {
    const models = (view && view.random) || [];
    if (!changed("random", models)) return;
    show("random-banner", models.length ? ui("Alert", { color: "red", filled: true, title: "Random weights" },
      `${models.join(", ")}: random weights (ALLOW_RANDOM_WEIGHTS=1), the answers mean nothing.`) : null);
  });

  // -- choices

  // Parameter in the address -> its component, so that a link opens the page as it was.
  const KEPT = { tab: "tabs", window: "window", state: "filter-state", model: "filter-model", worker: "filter-worker", time: "filter-time", owner: "filter-owner", find: "find-id" };
  const USUAL = { tab: "overview", window: "15" };
  const kept = () => new URLSearchParams(window.location.hash.slice(1));
  let restored = false;

  function restore() {
    restored = true;
    const wanted = kept();
    for (const [name, id] of Object.entries(KEPT)) if (wanted.has(name)) set(id, { value: wanted.get(name) });
    if (wanted.has("request")) window.inferlane.openRequest(wanted.get("request"));
  }

  function choose(allLanes, minutes, tab, status, model, worker, time, owner, find, drawer) {
    const contains = (find || "").trim();
    state.choices = { allLanes, minutes, tab, search: { status, model_type: model, worker, time, owner: (owner || "").trim(), contains } };
    if (!restored) restore();
    else {
      const request = drawer ? window.inferlane.openedRequest() : null;
      const chosen = Object.entries({ tab, window: minutes, state: status, model, worker, time, owner, find: contains, request });
      const told = new URLSearchParams(chosen.filter(([name, value]) => value && value !== USUAL[name])).toString();
      window.history.replaceState(null, "", told ? `#${told}` : window.location.pathname);
    }
    draw();
    return window.dash_clientside.no_update;
  }

  window.addEventListener("hashchange", restore);

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) tick();
  });

  window.inferlane.tick = tick;
  clientside({ pace, choices: choose });
})();
