// Lanes, workers and models: plain tables, whose buttons say what they do in data-act.
(function () {
  "use strict";
  const { html, ui, show, clock, count, live, panel, changed, set, on } = window.inferlane;
  const orders = () => window.inferlane.orders;

  const STATES = {
    idle: ["○ idle", "gray"], busy: ["● busy", "blue"], draining: ["◐ draining", "yellow"], stale: ["! stale", "orange"],
  };
  const GONE = { stale: ["! stale", "orange"], left: ["− left", "gray"], lost: ["✕ lost", "red"] };

  const cell = (content, props) => html("Td", props || {}, content);
  const number = (content) => html("Td", { className: "number" }, `${content}`);
  const badge = (text, color) => ui("Badge", { color }, text);
  const button = (text, props) => ui("Button", props, text);

  // On a phone each line is a card, whose cells say their head themselves.
  const headed = (line, heads) => window.React.cloneElement(line, {},
    ...line.props.children.map((each, at) => window.React.cloneElement(each, { "data-head": heads[at] })));

  function table(label, heads, lines, kind = "") {
    const head = html("Thead", {}, html("Tr", {}, heads.map((text) => html("Th", { scope: "col" }, text))));
    return html("Div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": label },
      html("Table", { className: `rows ${kind}` }, head, html("Tbody", {}, lines.map((line) => headed(line, heads)))));
  }

  // -- lanes: a row per model, a column per priority; waiting requests and paused lanes stand out

  const PRIORITIES = ["high", "normal", "low"];

  panel((data, { allLanes }) => {
    if (!data.view) return;
    const { lanes } = data.view;
    const models = [...new Set(lanes.filter((lane) => allLanes || !lane.quiet).map((lane) => lane.model))];
    const hidden = new Set(lanes.map((lane) => lane.model)).size - models.length;
    if (!changed("lanes", [lanes.filter((lane) => models.includes(lane.model)), hidden, live(data), orders().pending()])) return;
    const lines = models.map((model) => html("Tr", {},
      html("Th", { scope: "row" }, model === "any" ? "any model" : html("Code", {}, model)),
      PRIORITIES.map((priority) => laneCell(lanes.find((lane) => lane.model === model && lane.priority === priority), live(data)))));
    const note = hidden ? html("Div", { className: "note" }, `Not shown: ${count(hidden, "model")} without workers and requests.`) : null;
    show("lanes", [table("Lanes", ["Model", ...PRIORITIES], lines, "matrix"), note]);
  });

  function laneCell(lane, enabled) {
    if (!lane) return html("Td", {});
    const verb = lane.paused ? "resume" : "pause";
    const waiting = orders().waits(`lane ${lane.lane}`, verb, lane.paused === (verb === "pause"));
    const busy = lane.depth || lane.running;
    const facts = [lane.running ? `${lane.running} running` : "", lane.depth ? `oldest ${lane.oldest}` : "",
      busy && !lane.paused ? `wait ${lane.eta}` : "", lane.rate_in === "none" ? "" : `${lane.rate_in} in`, lane.rate_out === "none" ? "" : `${lane.rate_out} out`];
    return html("Td", { "data-lane-cell": lane.lane, className: lane.paused ? "paused" : busy ? "busy" : "quiet" },
      html("Div", { className: "line" }, html("Span", {}, html("Span", { className: "depth" }, `${lane.depth}`), " waiting"),
        lane.paused ? badge("‖ paused", "yellow") : null,
        html("Div", { className: "buttons" }, button(waiting ? "Requested…" : lane.paused ? "Resume" : "Pause", {
          "data-act": "order", "data-verb": verb, "data-lane": lane.lane, disabled: !enabled || waiting,
          "aria-label": `${lane.paused ? "Resume" : "Pause"} lane ${lane.lane}`,
        }), lane.depth ? purgeButton(lane, enabled) : null)),
      html("Div", { className: "note" }, facts.filter(Boolean).join(", ")));
  }

  const purgeButton = (lane, enabled) => button("Purge", {
    "data-act": "purge", "data-lane": lane.lane, "data-depth": lane.depth, color: "red", disabled: !enabled,
    title: "Cancel all waiting requests", "aria-label": `Purge lane ${lane.lane}`,
  });

  // -- workers

  panel((data) => {
    if (!data.view) return;
    const { workers: rows, chaos_enabled: chaos, departed } = data.view;
    if (!changed("workers", [rows, departed, chaos, data.state, orders().pending(), rows.length || data.view.ledger.queued])) return;
    const heads = ["Worker", "Model", "State", "Heartbeat", "In flight", "Done", "Failed", "Per image", "Memory", "Runtime and weights", ""];
    const lines = rows.map((worker) => workerLine(worker, live(data), chaos, data.state));
    show("workers", [rows.length ? table("Workers", heads, lines, "workers") : noWorkers(data), departed.map(goneLine)]);
  });

  const goneLine = (gone) => html("Div", { className: "note gone", "data-gone-row": gone.id }, badge(...GONE[gone.state]),
    ` ${gone.id} (${gone.model}) ${gone.text}, ${gone.state === "stale" ? "last seen" : "noticed"} at ${clock(gone.at)}`);

  function noWorkers(data) {
    const queued = data.view.ledger.queued || 0;
    return ui("Alert", { color: "red", title: "No workers online" },
      html("Div", {}, `${queued} waiting. Start everything with `, html("Code", {}, "make start"), ", or one worker with"),
      html("Pre", { className: "command" }, "celery -A tasks worker --model efficientnet_lite0 -P threads"));
  }

  function workerLine(worker, enabled, chaos, state) {
    const [text, color] = state === "ok" ? STATES[worker.state] || [worker.state, "gray"] : ["? unknown", "gray"];
    return html("Tr", { "data-worker-row": worker.id },
      cell(html("Code", {}, worker.id)), cell(worker.model),
      cell([badge(text, color), worker.chaos !== "off" ? badge(`☠ ${worker.chaos}`, "grape") : null].filter(Boolean)),
      number(worker.heartbeat), number(worker.in_flight), number(worker.processed), number(worker.failed),
      number(worker.service), number(worker.rss),
      html("Td", { className: "long" }, html("Div", {}, worker.runtime), worker.random ? badge("✕ random", "red")
        : html("Div", { title: worker.weights, className: "weights note" }, worker.weights)),
      cell(html("Div", { className: "buttons" }, drainButton(worker, enabled), restartButton(worker, enabled), chaosButton(worker, enabled, chaos))));
  }

  function drainButton(worker, enabled) {
    const verb = worker.draining ? "undrain" : "drain";
    const waiting = orders().waits(`worker ${worker.id}`, verb, worker.draining === (verb === "drain"));
    return button(waiting ? "Requested…" : worker.draining ? "Resume" : "Drain", {
      "data-act": "order", "data-verb": verb, "data-worker": worker.id, disabled: !enabled || waiting,
      "data-confirm": verb === "drain" ? `${worker.id} finishes its requests and takes no more.` : "",
      "aria-label": `${worker.draining ? "Resume" : "Drain"} ${worker.id}`,
    });
  }

  function restartButton(worker, enabled) {
    const waiting = orders().waits(`worker ${worker.id}`, "restart", false);
    return button(waiting ? "Requested…" : "Restart", {
      "data-act": "order", "data-verb": "restart", "data-worker": worker.id, disabled: !enabled || waiting,
      "data-confirm": `${worker.id} finishes its requests and exits; its supervisor starts it again.`,
      "aria-label": `Restart ${worker.id}`,
    });
  }

  const chaosButton = (worker, enabled, chaos) => button("Fault", {
    "data-act": "chaos-tab", "data-worker": worker.id, disabled: !enabled || !chaos,
    title: chaos ? "Choose a fault" : "Faults are off: set CHAOS_ENABLED=1",
    "aria-label": `Inject a fault into ${worker.id}`,
  });

  // -- owners

  panel(({ view }) => {
    if (!view || !changed("owners", view.owners)) return;
    set("owners-card", { display: view.owners.length ? "block" : "none" });
    const limited = view.owners.some((row) => row.left);
    const heads = ["Owner", "Weight", "Rate", "Waiting", "Share of computing", "Errors", "Ended today", limited && "Left this month", ""].filter((head) => head !== false);
    show("owners", table("Owners", heads, view.owners.map((row) => html("Tr", { "data-owner-row": row.owner }, cell(row.owner),
      number(row.weight), number(row.rate), number(row.queued), number(row.share), number(row.errors), number(row.today.toLocaleString("en")),
      limited && number(row.left || "no quota"), cell(html("Div", { className: "buttons" }, button("Requests", { "data-act": "owner-requests", "data-owner": row.owner, "aria-label": `Requests of ${row.owner}` }),
        button("Usage", { "data-act": "usage", "data-owner": row.owner, "aria-label": `Usage of ${row.owner}` }))))), "owners"));
  });

  on("owner-requests", ({ owner }) => {
    set("filter-owner", { value: owner });
    set("tabs", { value: "requests" });
  });

  // -- models and activity

  // Orders name the number itself, so that one sent twice does no more. `here` is missing where our supervisor does not run them.
  function workersOf(model, enabled) {
    if (model.here === null) return number(model.workers);
    const order = (text, workers, label) => button(text, { "data-act": "order", "data-verb": "scale", "data-model": model.name,
      "data-workers": workers, disabled: !enabled || workers < 0, "aria-label": `${label} ${model.name}`,
      "data-confirm": workers ? "" : `No worker on the API's host serves ${model.name} then; its requests wait.` });
    return cell(html("Div", { className: "buttons" }, order("−", model.here - 1, "One worker less of"),
      html("Span", {}, model.workers === model.here ? `${model.here}` : `${model.workers} live, ${model.here} here`), order("+", model.here + 1, "One worker more of")));
  }

  panel((data) => {
    const { view } = data;
    if (!view || !changed("models", [view.models, live(data)])) return;
    const heads = ["Model", "Served", "Workers", "Version", "Architecture", "Input", "Classes", "Runtime", "Weights"];
    show("models", table("Models", heads, view.models.map((model) => html("Tr", {},
      cell(html("Code", {}, model.name)), cell(model.available ? badge("✓ yes", "teal") : badge("✕ no worker", "gray")),
      workersOf(model, live(data)), cell(model.version), cell(model.architecture), number(model.input), number(model.labels),
      cell(model.runtimes), cell(model.random ? badge("✕ random", "red") : model.weights, { className: "long" })))));
  });

  panel(({ view }) => {
    if (!view || !changed("activity", view.activity)) return;
    const lines = view.activity.map((line) => html("Tr", {}, cell(clock(line.at)), cell(line.what, { className: "wrap" })));
    show("activity", lines.length ? table("Activity", ["When", "What"], lines) : html("Div", { className: "note" }, "No activity yet."));
  });

  panel(({ view }) => { if (view && changed("counters", view.counters)) show("counters", view.counters); });

  window.inferlane.table = table;
})();
