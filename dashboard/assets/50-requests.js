// The grid of requests, and the drawer with everything about one of them.
(function () {
  "use strict";
  const { html, ui, show, ask, clock, milliseconds, panel, changed, on, set, clientside } = window.inferlane;
  const TERMINAL = new Set(["succeeded", "failed", "canceled", "expired"]);
  const EVERY = 3000;
  let asked = { filter: "", at: 0, rows: null };
  let opened = null;

  // -- the grid: what the snapshot has, or what the API lists for a filter

  panel(async ({ view }, { status, model, tab }) => {
    if (!view || tab !== "requests") return;
    const narrowed = status || model;
    const rows = narrowed ? await filtered(status, model) : view.requests;
    if (rows === null || !changed("requests", rows)) return;
    set("grid", { rowData: rows });
    show("listing-text", rows.length ? `${rows.length} newest requests`
      : narrowed ? "No requests match. Clear the filters to see all." : "No requests yet. Send the cat on the first page.");
  });

  async function filtered(state, model) {
    const filter = `${state || ""}|${model || ""}`;
    if (asked.filter === filter && Date.now() - asked.at < EVERY) return asked.rows;
    asked = { filter, at: Date.now(), rows: asked.filter === filter ? asked.rows : null };
    const query = new URLSearchParams({ limit: 200, ...(state && { status: state }), ...(model && { model_type: model }) });
    try {
      const answer = await ask("GET", `requests?${query}`);
      if (asked.filter === filter) asked.rows = answer.rows;
      return answer.rows;
    } catch {
      return asked.rows;
    }
  }

  // -- the drawer

  function selected(rows) {
    if (rows && rows.length) open(rows[0].id);
    return window.dash_clientside.no_update;
  }

  async function open(id) {
    opened = id;
    set("drawer", { opened: true, title: `Request ${id}` });
    show("drawer-body", "Looking…");
    let shown = "";
    while (opened === id) {
      const request = await ask("GET", `requests/${encodeURIComponent(id)}`).catch((failure) => failure);
      if (opened !== id) return;
      const text = JSON.stringify(request) + (request.message || "");
      if (text !== shown) show("drawer-body", request instanceof Error ? missing(request) : detail(request));
      shown = text;
      if (TERMINAL.has(request.state) || request.status === 404 || request.status === 410) return;
      await new Promise((resume) => setTimeout(resume, 1000));
    }
  }

  function closed(isOpen) {
    if (!isOpen) opened = null;
    return window.dash_clientside.no_update;
  }

  const missing = (failure) => ui("Alert", { color: "red", title: "Cannot be shown" }, failure.message);

  function detail(request) {
    const error = request.error ? ui("Alert", { color: "red", title: request.error.code }, request.error.message) : null;
    return html("Div", { id: "request-detail" }, ui("Badge", { large: true, color: request.state === "failed" ? "red" : "blue" }, request.state), error,
      guesses(request), facts(request), html("H3", {}, "Timeline"), timeline(request), buttons(request));
  }

  const guesses = (request) => html("Ul", { className: "guesses" }, request.predictions.map((guess) =>
    html("Li", {}, `${(guess.confidence * 100).toFixed(1)} %  ${guess.class}`)));

  function facts(request) {
    const pairs = [
      ["Asked for", request.model_type], ["Answered by", request.model || "–"], ["Weights", request.weights || "–"],
      ["Lane", request.lane], ["Worker", request.worker_id || "–"], ["Attempts", `${request.attempts}`],
      ...Object.entries(request.timings).map(([name, value]) => [`${name[0].toUpperCase()}${name.slice(1)}`, milliseconds(value)]),
      ["Trace", request.trace_id || "–"],
    ];
    return html("Dl", { className: "facts" }, pairs.map(([name, value]) => html("Div", {}, html("Dt", {}, name), html("Dd", {}, value))));
  }

  function timeline(request) {
    const events = request.timeline;
    const start = Date.parse(events[0].at);
    return ui("Timeline", {}, events.map((event) => {
      const { at, event: what, ...more } = event;
      const said = Object.entries(more).map(([name, value]) => `${name}: ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ");
      return ui("Event", { title: what.replaceAll("_", " ") },
        html("Div", { className: "note" }, `${clock(Date.parse(at) / 1000)}, +${milliseconds((Date.parse(at) - start) / 1000)}${said ? `: ${said}` : ""}`));
    }));
  }

  function buttons(request) {
    if (TERMINAL.has(request.state)) return null;
    return ui("Button", { color: "red", "data-act": "order", "data-verb": "cancel", "data-id": request.request_id }, "Cancel this request");
  }

  // -- dead letters

  let letters = { at: 0, count: -1 };

  panel(async ({ view, state }, { tab }) => {
    if (tab !== "dead" || !view || state !== "ok") return;
    if (view.dead_letters === letters.count && Date.now() - letters.at < EVERY) return;
    letters = { at: Date.now(), count: view.dead_letters };
    try {
      const rows = (await ask("GET", "dead_letters")).dead_letters;
      if (changed("dead", rows)) show("dead-letters", drawLetters(rows));
    } catch (failure) {
      if (changed("dead", failure.message)) show("dead-letters", missing(failure));
    }
  });

  function drawLetters(rows) {
    if (!rows.length) return ui("Alert", { color: "teal", title: "No dead letters" }, "Nothing was given up on.");
    const groups = Object.groupBy(rows, (row) => (row.error || {}).code || "unknown");
    const heads = ["Request", "Error", "What happened", "Model", "Attempts", "Given up", ""];
    return html("Div", {}, Object.entries(groups).map(([code, members]) => group(code, members)),
      window.inferlane.table("Dead letters", heads, rows.map(letterLine)));
  }

  const group = (code, members) => html("Div", { className: "line" },
    ui("Badge", { color: "red" }, `${code}: ${members.length}`),
    ui("Button", { "data-act": "requeue-all", "data-ids": members.map((row) => row.request_id).join() }, `Requeue all ${members.length}`));

  function letterLine(row) {
    const act = (verb, text, more) => ui("Button", { "data-act": "order", "data-verb": verb,
      "data-id": row.request_id, "aria-label": `${text} ${row.request_id}`, ...more }, text);
    return html("Tr", { "data-letter-row": row.request_id },
      html("Td", {}, ui("Button", { quiet: true, "data-act": "open-request", "data-id": row.request_id }, row.request_id.slice(-12))),
      html("Td", {}, (row.error || {}).code || "–"), html("Td", {}, (row.error || {}).message || "–"), html("Td", {}, row.model_type),
      html("Td", { className: "number" }, `${row.attempts}`), html("Td", {}, clock(Date.parse(row.timestamp) / 1000)),
      html("Td", {}, html("Div", { className: "buttons" }, act("requeue", "Requeue"),
        act("delete", "Delete", { color: "red", "data-confirm": `${row.request_id} is taken off the list for good; the request stays failed.` }))));
  }

  on("open-request", ({ id }) => open(id));
  on("find-request", () => {
    const id = document.getElementById("find-id").value.trim();
    if (id) open(id);
  });
  on("requeue-all", async ({ ids }) => {
    for (const id of ids.split(",")) if (!(await window.inferlane.orders.send({ verb: "requeue", id }))) return;
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.id === "find-id" && event.target.value.trim()) open(event.target.value.trim());
  });

  window.dashAgGridFunctions = { ...(window.dashAgGridFunctions || {}), inferlaneClock: (epoch) => clock(epoch) };
  clientside({ selected, closed });
})();
