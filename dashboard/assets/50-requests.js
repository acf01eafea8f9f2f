// The grid of requests, and the drawer with everything about one of them.
(function () {
  "use strict";
  const { html, ui, ask, clock, milliseconds, changed, on, set, clientside } = window.inferlane;
  const TERMINAL = new Set(["succeeded", "failed", "canceled", "expired"]);
  const EVERY = 3000;
  let asked = { filter: "", at: 0, rows: null };
  let opened = null;

  // -- the grid: what the snapshot has, or what the API lists for a filter

  async function listing(data, state, model) {
    const none = window.dash_clientside.no_update;
    if (!data || !data.view) return [none, none];
    const rows = state || model ? await filtered(state, model) : data.view.requests;
    if (rows === null || !changed("requests", rows)) return [none, none];
    const text = rows.length ? `${rows.length} newest requests`
      : state || model ? "No requests match. Clear the filters to see all." : "No requests yet. Send the cat on the first page.";
    return [rows, text];
  }

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
    set("drawer-body", { children: ui("Skeleton", { height: 200 }) });
    let shown = "";
    while (opened === id) {
      const request = await ask("GET", `requests/${encodeURIComponent(id)}`).catch((failure) => failure);
      if (opened !== id) return;
      const text = JSON.stringify(request) + (request.message || "");
      if (text !== shown) set("drawer-body", { children: request instanceof Error ? missing(request) : detail(request) });
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
    const error = request.error ? ui("Alert", { color: "red", variant: "light", title: request.error.code, my: "sm" }, request.error.message) : null;
    return html("Div", { id: "request-detail" }, ui("Badge", { size: "lg", tt: "none" }, request.state), error,
      guesses(request), facts(request), ui("Title", { order: 4, mt: "md", mb: "sm" }, "Timeline"), timeline(request), buttons(request));
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
    return ui("Timeline", { bulletSize: 14, lineWidth: 2, active: events.length }, events.map((event) => {
      const { at, event: what, ...more } = event;
      const said = Object.entries(more).map(([name, value]) => `${name}: ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ");
      return ui("TimelineItem", { title: what.replaceAll("_", " ") },
        html("Div", { className: "note" }, `${clock(Date.parse(at) / 1000)}, +${milliseconds((Date.parse(at) - start) / 1000)}${said ? `: ${said}` : ""}`));
    }));
  }

  function buttons(request) {
    if (TERMINAL.has(request.state)) return null;
    return ui("Button", { color: "red", variant: "light", mt: "md", "data-act": "order", "data-verb": "cancel", "data-id": request.request_id }, "Cancel this request");
  }

  // -- dead letters

  let letters = { at: 0, count: -1 };

  async function deadLetters(data, tab) {
    const none = window.dash_clientside.no_update;
    if (tab !== "dead" || !data || !data.view || data.state !== "ok") return none;
    if (data.view.dead_letters === letters.count && Date.now() - letters.at < EVERY) return none;
    letters = { at: Date.now(), count: data.view.dead_letters };
    try {
      const rows = (await ask("GET", "dead_letters")).dead_letters;
      return changed("dead", rows) ? drawLetters(rows) : none;
    } catch (failure) {
      return changed("dead", failure.message) ? missing(failure) : none;
    }
  }

  function drawLetters(rows) {
    if (!rows.length) return ui("Alert", { color: "teal", variant: "light", title: "No dead letters" }, "Nothing was given up on.");
    const groups = Object.groupBy(rows, (row) => (row.error || {}).code || "unknown");
    const heads = ["Request", "Error", "What happened", "Model", "Attempts", "Given up", ""];
    return html("Div", {}, Object.entries(groups).map(([code, members]) => group(code, members)),
      window.inferlane.table("Dead letters", heads, rows.map(letterLine)));
  }

  const group = (code, members) => html("Div", { className: "paused-line" },
    ui("Badge", { color: "red", variant: "light", tt: "none" }, `${code}: ${members.length}`),
    ui("Button", { size: "compact-xs", variant: "default", "data-act": "requeue-all", "data-ids": members.map((row) => row.request_id).join() }, `Requeue all ${members.length}`));

  function letterLine(row) {
    const act = (verb, text, more) => ui("Button", { size: "compact-xs", variant: "default", "data-act": "order", "data-verb": verb,
      "data-id": row.request_id, "aria-label": `${text} ${row.request_id}`, ...more }, text);
    return html("Tr", { "data-letter-row": row.request_id },
      html("Td", {}, ui("Button", { size: "compact-xs", variant: "subtle", "data-act": "open-request", "data-id": row.request_id }, row.request_id.slice(-12))),
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
  clientside({ listing, selected, closed, deadLetters });
})();
