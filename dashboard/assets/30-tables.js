// Lanes, workers and models: plain tables, whose buttons say what they do in data-act.
(function () {
  "use strict";
  const { html, ui, clock, changed, clientside } = window.inferlane;
  const orders = () => window.inferlane.orders;

  const STATES = {
    idle: ["○ idle", "gray"], busy: ["● busy", "blue"], draining: ["◐ draining", "yellow"], late: ["! late", "orange"],
  };

  const cell = (content, props) => html("Td", props || {}, content);
  const number = (content) => html("Td", { className: "number" }, `${content}`);
  const badge = (text, color) => ui("Badge", { color, variant: "light", tt: "none" }, text);
  const button = (text, props) => ui("Button", { size: "compact-xs", variant: "default", ...props }, text);

  function table(label, heads, lines) {
    const head = html("Thead", {}, html("Tr", {}, heads.map((text) => html("Th", { scope: "col" }, text))));
    return html("Div", { className: "scroll", tabIndex: "0", role: "region", "aria-label": label },
      html("Table", { className: "rows" }, head, html("Tbody", {}, lines)));
  }

  const live = (data) => data && data.view && data.state === "ok";

  // -- lanes

  function lanes(data, all) {
    if (!data || !data.view) return window.dash_clientside.no_update;
    const shown = data.view.lanes.filter((lane) => all || !lane.quiet);
    const hidden = data.view.lanes.length - shown.length;
    if (!changed("lanes", [shown, hidden, live(data), orders().pending()])) return window.dash_clientside.no_update;
    const heads = ["Lane", "Priority", "Waiting", "Running", "Oldest", "In", "Out", "Wait expected", "State", ""];
    const note = hidden ? html("Div", { className: "note" },
      `${hidden} empty lanes of models without workers are not shown.`) : null;
    return [table("Lanes", heads, shown.map((lane) => laneLine(lane, live(data)))), note];
  }

  function laneLine(lane, enabled) {
    const verb = lane.paused ? "resume" : "pause";
    const waiting = orders().waits(`lane ${lane.lane}`, verb, lane.paused === (verb === "pause"));
    return html("Tr", { "data-lane-row": lane.lane, className: lane.paused ? "paused-row" : "" },
      cell(html("Code", {}, lane.lane)), cell(lane.priority), html("Td", { className: "number depth" }, `${lane.depth}`),
      number(lane.running), number(lane.oldest), number(lane.rate_in), number(lane.rate_out), number(lane.eta),
      cell(lane.paused ? badge("⏸ paused", "yellow") : badge("▶ open", "teal")),
      cell(button(waiting ? "Requested…" : lane.paused ? "Resume" : "Pause", {
        "data-act": "order", "data-verb": verb, "data-lane": lane.lane, disabled: !enabled || waiting,
        "aria-label": `${lane.paused ? "Resume" : "Pause"} lane ${lane.lane}`,
      })));
  }

  // -- workers

  function workers(data) {
    if (!data || !data.view) return window.dash_clientside.no_update;
    const { workers: rows, chaos_enabled: chaos } = data.view;
    if (!changed("workers", [rows, chaos, data.state, orders().pending()])) return window.dash_clientside.no_update;
    if (!rows.length) return noWorkers(data);
    const heads = ["Worker", "Model", "State", "Heartbeat", "In flight", "Done", "Failed", "Per image", "Memory", "Runtime", "Weights", ""];
    return table("Workers", heads, rows.map((worker) => workerLine(worker, live(data), chaos, data.state)));
  }

  function noWorkers(data) {
    const queued = data.view.ledger.queued || 0;
    return ui("Alert", { color: "red", variant: "light", title: "No workers online" },
      html("Div", {}, `${queued} waiting. Start everything with `, html("Code", {}, "make start"), ", or one worker with"),
      html("Pre", { className: "command" }, "celery -A tasks worker --model efficientnet_lite0 -P threads"));
  }

  function workerLine(worker, enabled, chaos, state) {
    const [text, color] = state === "ok" ? STATES[worker.state] || [worker.state, "gray"] : ["? unknown", "gray"];
    return html("Tr", { "data-worker-row": worker.id },
      cell(html("Code", {}, worker.id)), cell(worker.model),
      cell([badge(text, color), worker.chaos !== "off" ? badge(`☠ ${worker.chaos}`, "grape") : null].filter(Boolean)),
      number(worker.heartbeat), number(worker.in_flight), number(worker.processed), number(worker.failed),
      number(worker.service), number(worker.rss), cell(worker.runtime),
      cell(worker.random ? badge("✕ random", "red") : html("Span", { title: worker.weights, className: "weights" }, worker.weights)),
      cell(html("Div", { className: "buttons" }, drainButton(worker, enabled), chaosButton(worker, enabled, chaos))));
  }

  function drainButton(worker, enabled) {
    const verb = worker.draining ? "undrain" : "drain";
    const waiting = orders().waits(`worker ${worker.id}`, verb, worker.draining === (verb === "drain"));
    return button(waiting ? "Requested…" : worker.draining ? "Take work" : "Drain", {
      "data-act": "order", "data-verb": verb, "data-worker": worker.id, disabled: !enabled || waiting,
      "data-confirm": verb === "drain" ? `${worker.id} finishes what it has and takes nothing more.` : "",
      "aria-label": `${worker.draining ? "Let" : "Drain"} ${worker.id}${worker.draining ? " take work again" : ""}`,
    });
  }

  const chaosButton = (worker, enabled, chaos) => button("Chaos", {
    "data-act": "chaos-tab", "data-worker": worker.id, disabled: !enabled || !chaos,
    title: chaos ? "Choose a fault" : "Faults are off: start with CHAOS_ENABLED=1",
    "aria-label": `Cause a fault in ${worker.id}`,
  });

  // -- models and activity

  function models(data) {
    if (!data || !data.view || !changed("models", data.view.models)) return window.dash_clientside.no_update;
    const heads = ["Model", "Served", "Workers", "Version", "Architecture", "Input", "Classes", "Runtime", "Weights"];
    return table("Models", heads, data.view.models.map((model) => html("Tr", {},
      cell(html("Code", {}, model.name)), cell(model.available ? badge("✓ yes", "teal") : badge("✕ no worker", "gray")),
      number(model.workers), cell(model.version), cell(model.architecture), number(model.input), number(model.labels),
      cell(model.runtimes), cell(model.random ? badge("✕ random", "red") : model.weights))));
  }

  function activity(data) {
    if (!data || !data.view || !changed("activity", data.view.activity)) return window.dash_clientside.no_update;
    const lines = data.view.activity;
    if (!lines.length) return html("Div", { className: "note" }, "Nobody has ordered anything yet.");
    return table("Activity", ["When", "What", "From"], lines.map((line) => html("Tr", {},
      cell(new Date(line.at * 1000).toLocaleString()), cell(html("Code", {}, line.what)), cell(line.who))));
  }

  function counters(data) {
    if (!data || !data.view || !changed("counters", [data.view.counters, data.view.ledger])) return window.dash_clientside.no_update;
    const all = { ...data.view.ledger, ...data.view.counters };
    return Object.entries(all).map(([name, value]) =>
      badge(`${name.replaceAll("_", " ")}: ${Number(value).toLocaleString("en")}`, value ? "blue" : "gray"));
  }

  window.inferlane.table = table;
  clientside({ lanes, workers, models, activity, counters });
})();
