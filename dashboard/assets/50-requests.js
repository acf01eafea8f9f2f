// The grid of requests, and the drawer with everything about one of them.
(function () {
  "use strict";
  const { html, ui, show, ask, requestPath, keyOf, clock, count, duration, live, state, panel, changed, on, set, notify } = window.inferlane;
  const TERMINAL = new Set(["succeeded", "failed", "canceled", "expired"]);
  const EVERY = 3000;
  const MOST = 2000;
  // Pixels of a row and of the head of the grid.
  const ROW = 32;
  const HEAD = 46;
  let listed = listing("");
  let opened = null;
  let selected = [];
  const SELECTION = "ag-Grid-SelectionColumn";
  const short = (key) => key.replace(/^anonymous\//, "");

  // -- the grid: the snapshot's requests or the API's finds, above the pages read before

  function listing(wanted) {
    return { wanted, at: 0, rows: new Map(), cursor: null, end: false };
  }

  panel(async ({ view }, { search, tab }) => {
    if (!view || tab !== "requests") return;
    const wanted = JSON.stringify(search);
    if (listed.wanted !== wanted) listed = listing(wanted);
    const mine = listed;
    if (!Object.values(search).some(Boolean)) keep(mine, view.requests);
    else if (Date.now() - mine.at > EVERY) await refresh(mine, search);
    if (mine === listed) list(search);
  });

  function list(search) {
    const rows = [...listed.rows.values()].sort((one, other) => other.at - one.at);
    if (!changed("requests", [rows, listed.end, listed.cursor])) return;
    set("grid", { rowData: rows, style: { height: `min(max(62vh, 300px), ${rows.length * ROW + HEAD}px)` } });
    set("older", { disabled: listed.end });
    orderable();
    columns(new Set(rows.map((row) => row.owner)).size > 1 || Boolean(search.owner));
    const narrowed = Object.values(search).some(Boolean);
    show("listing-text", rows.length ? `${count(rows.length, "newest request")}${listed.end ? ", and there are no more" : ""}`
      : narrowed ? "No requests match. Clear the filters to see all." : "No requests yet. Classify the sample on the Overview tab.");
  }

  // What an order is about: the selected rows, or all that are listed; and which of these have a state that allows it.
  const chosen = () => (selected.length ? selected.map((key) => listed.rows.get(key)).filter(Boolean) : [...listed.rows.values()]);
  const ALLOWED = { cancel: (row) => row.open, requeue: (row) => row.letter };
  const allowed = (verb) => chosen().filter(ALLOWED[verb]);

  function orderable() {
    const counts = Object.keys(ALLOWED).map((verb) => allowed(verb).length);
    if (!changed("orderable", [counts, selected.length])) return;
    const what = selected.length ? "selected" : "all";
    ["Cancel", "Requeue"].forEach((word, at) => set(`${word.toLowerCase()}-listed`, {
      children: counts[at] ? `${word} ${what} ${counts[at]}` : `${word} ${what}`, disabled: !counts[at] }));
  }

  // Whose a request is matters where there are several. The drawer has what a phone has no room for.
  const PHONE = window.matchMedia("(max-width: 700px)");
  const WIDE = ["model", "priority", "worker", "attempts", "queue", "total", "id"];

  function columns(several) {
    if (!changed("columns", [several, PHONE.matches])) return;
    set("filter-owner", { display: several ? "block" : "none" });
    window.dash_ag_grid.getApiAsync("grid").then((grid) => {
      grid.setColumnsVisible(WIDE, !PHONE.matches);
      grid.setColumnsVisible(["owner"], several && !PHONE.matches);
    });
  }

  on("order-listed", ({ verb }) => {
    const keys = allowed(verb).map((row) => row.key);
    const others = chosen().length - keys.length;
    const [word, text, why] = verb === "cancel" ? ["Cancel", `This cancels ${count(keys.length, "request")}.`, "ended before"]
      : ["Requeue", `This gives ${count(keys.length, "dead letter")} another life.`, "not among the dead letters"];
    window.inferlane.orders.confirm(others ? `${text} Left out: ${others} ${why}.` : text, `${word} ${count(keys.length, "request")}`,
      () => window.inferlane.orders.sendAll(verb, keys));
  });

  // Newer rows of a request replace older ones.
  function keep(mine, rows) {
    for (const row of rows) mine.rows.set(row.key, row);
    while (mine.rows.size > MOST) mine.rows.delete(mine.rows.keys().next().value);
  }

  const query = ({ time, ...search }, more) => new URLSearchParams(Object.fromEntries(Object.entries({
    ...search, since: time ? new Date(Date.now() - time * 60000).toISOString() : "", ...more }).filter(([, value]) => value)));

  async function refresh(mine, search) {
    mine.at = Date.now();
    const answer = await ask("GET", `requests?${query(search, { limit: 100 })}`).catch(() => null);
    if (!answer) return;
    keep(mine, answer.rows);
    mine.cursor = mine.cursor || answer.next_cursor;
    if (!answer.next_cursor) mine.end = true;
  }

  async function older() {
    const mine = listed;
    const search = JSON.parse(mine.wanted || "{}");
    const last = Math.min(...[...mine.rows.values()].map((row) => row.at));
    const from = mine.cursor ? { cursor: mine.cursor }
      : Number.isFinite(last) ? { until: new Date(Math.ceil(last * 1000) + 1).toISOString() } : {};
    try {
      const answer = await ask("GET", `requests?${query(search, { limit: 200, ...from })}`);
      keep(mine, answer.rows);
      Object.assign(mine, { cursor: answer.next_cursor, end: !answer.next_cursor });
      if (mine === listed) list(search);
    } catch (failure) {
      window.inferlane.orders.refused(failure);
    }
  }

  // -- the drawer

  // Follows the request until it ends, another is opened, or the drawer has gone. Whether it has gone is asked of the page:
  // Dash tells late that it was closed, on a busy page after the next one was opened.
  async function open(id) {
    const mine = { id };
    opened = mine;
    set("drawer", { opened: true, title: `Request ${short(id)}`, children: body("Loading…") });
    let shown = "";
    while (true) {
      const request = await ask("GET", requestPath(id)).catch((failure) => failure);
      if (opened !== mine) return;
      const text = JSON.stringify(request) + (request.message || "");
      if (text !== shown) set("drawer", { children: body(request instanceof Error ? missing(request) : detail(request)) });
      shown = text;
      if (TERMINAL.has(request.state) || request.status === 404 || request.status === 410) return;
      await new Promise((resume) => setTimeout(resume, 1000));
      if (opened !== mine || !document.getElementById("drawer-details")) return;
    }
  }

  async function openUsage(owner) {
    const mine = {};
    opened = mine;
    set("drawer", { opened: true, title: `Usage of ${owner}`, children: body("Loading…") });
    const heads = ["", "Succeeded", "Failed", "Expired", "Canceled", "Refused", "Images", "Computed"];
    const cells = (line) => html("Tr", {}, line.map((text, at) => html(at ? "Td" : "Th", { scope: at ? undefined : "row", className: "number" }, text)));
    const content = await ask("GET", `usage?${new URLSearchParams({ owner })}`)
      .then(({ lines, quota }) => [quota && monthly(quota), window.inferlane.table(`Usage of ${owner}`, heads, lines.map(cells))], missing);
    if (opened === mine) set("drawer", { children: body(content) });
  }

  const monthly = ({ used, text }) => html("Div", { className: "quota" }, html("Div", {}, `This month's quota: ${text}`),
    ui("Progress", { value: used * 100, label: "Used of the quota, percent" }));

  function showInDrawer(title, content) {
    opened = {};
    set("drawer", { opened: true, title, children: body(content) });
  }

  // As the drawer's own children: Dash drops changes to a component inside it while the drawer is opening.
  const body = (content) => html("Div", { id: "drawer-details" }, content);

  const missing = (failure) => ui("Alert", { color: "red", title: "Not available" }, failure.message);

  function detail(request) {
    const error = request.error ? ui("Alert", { color: "red", title: request.error.code }, request.error.message) : null;
    const link = `${window.location.origin}${window.location.pathname}#request=${encodeURIComponent(short(keyOf(request)))}`;
    const copy = (text, what) => ui("Button", { "data-act": "copy", "data-text": text }, what);
    return html("Div", { id: "request-detail" },
      html("Div", { className: "line" }, copy(request.request_id, "Copy id"), copy(link, "Copy link")), ui("Badge", { large: true, color: request.state === "failed" ? "red" : "blue" }, request.state), error,
      picture(request), guesses(request), facts(request), html("H3", {}, "Timeline"), timeline(request), buttons(request));
  }

  // The photo is kept until the request ends, and for a dead letter; only operators who have logged in may see it.
  const letter = (request) => request.state === "failed" && request.timeline.at(-1).event === "dead_lettered";

  function picture(request) {
    if (TERMINAL.has(request.state) && !letter(request)) return null;
    if (!(state.data || {}).logged_in) return html("Div", { className: "note" }, "Log in to see its photo.");
    return html("Img", { className: "thumbnail", src: `ui/${requestPath(keyOf(request), "/image")}`,
      alt: "The photo of this request", onError: (event) => { event.target.style.display = "none"; } });
  }

  const guesses = (request) => html("Ul", { className: "guesses" }, request.predictions.map((guess) =>
    html("Li", {}, `${(guess.confidence * 100).toFixed(1)} %  ${guess.class}`)));

  function facts(request) {
    const pairs = [
      ["Requested", request.model_type], ["Answered by", request.model || "–"], ["Weights", request.weights || "–"],
      ["Lane", request.lane], ["Worker", request.worker_id || "–"], ["Attempts", `${request.attempts}`],
      ...Object.entries(request.timings).map(([name, value]) => [`${name[0].toUpperCase()}${name.slice(1)}`, duration(value)]),
      ["custom_id", request.custom_id || "–"], ["Trace", request.trace_id || "–"],
    ];
    return html("Dl", { className: "facts" }, pairs.map(([name, value]) => html("Div", {}, html("Dt", {}, name), html("Dd", {}, value))));
  }

  const TITLES = {
    accepted: () => "Accepted", started: (event) => `Taken by ${event.worker}, attempt ${event.attempt}`,
    retry: (event) => `Attempt ${event.attempt} failed, retrying`, worker_died: (event) => `Worker ${event.worker} died`,
    rescued: () => "Rescued: redelivered", republished: () => "Republished: its message was lost", given_back: (event) => `Returned by ${event.worker}`,
    succeeded: (event) => `Succeeded${event.batch > 1 ? `, in a batch of ${event.batch}` : ""}`, failed: () => "Failed",
    dead_lettered: () => "Dead letter", requeued: () => "Requeued by an operator", expired: () => "Expired: its deadline passed",
    canceled: (event) => (event.purged_by ? `Canceled: its lane was purged by ${event.purged_by}` : "Canceled"),
    webhook: (event) => (event.status ? `Webhook answered ${event.status}` : `Webhook ${event.refused ? "refused" : "abandoned"}`),
  };
  const PLAIN = new Set(["at", "event", "worker", "attempt", "batch", "purged_by", "status"]);

  function timeline(request) {
    const events = request.timeline;
    const start = Date.parse(events[0].at);
    return ui("Timeline", {}, events.map((event) => {
      const title = (TITLES[event.event] || (() => event.event.replaceAll("_", " ")))(event);
      const rest = Object.entries(event).filter(([name]) => !PLAIN.has(name));
      const said = rest.map(([name, value]) => (value && value.message ? `${value.code}: ${value.message}` : `${name}: ${value}`)).join(", ");
      const after = `${clock(Date.parse(event.at) / 1000)}, +${duration((Date.parse(event.at) - start) / 1000)}`;
      return ui("Event", { title }, html("Div", { className: "note", "data-event": event.event }, said ? `${after}: ${said}` : after));
    }));
  }

  function buttons(request) {
    const order = (verb, text, more) => ui("Button", { "data-act": "order", "data-verb": verb, "data-id": keyOf(request),
      disabled: !live(state.data || {}), ...more }, text);
    if (!TERMINAL.has(request.state)) return order("cancel", "Cancel request", { color: "red" });
    if (letter(request)) return order("requeue", "Requeue");
    return request.state === "succeeded" ? null : html("Div", { className: "note" }, why(request));
  }

  // Only a request that a second attempt could help keeps its image, as a dead letter.
  const why = (request) => (request.state === "failed"
    ? "Cannot be requeued: its image caused the failure and is deleted."
    : "Cannot be requeued: its image is deleted. Send it again.");

  // -- dead letters

  let letters = { at: 0, count: -1 };

  panel(async ({ view, state: how }, { tab }) => {
    if (tab !== "dead" || !view || how !== "ok") return;
    if (view.dead_letters === letters.count && Date.now() - letters.at < EVERY) return;
    letters = { at: Date.now(), count: view.dead_letters };
    try {
      const rows = (await ask("GET", "dead_letters")).dead_letters;
      if (changed("dead", [rows, live(state.data)])) show("dead-letters", drawLetters(rows));
    } catch (failure) {
      if (changed("dead", failure.message)) show("dead-letters", missing(failure));
    }
  });

  function drawLetters(rows) {
    if (!rows.length) return ui("Alert", { color: "teal", title: "No dead letters" }, "No request has failed for good.");
    const groups = Object.groupBy(rows, (row) => (row.error || {}).code || "unknown");
    return Object.entries(groups).map(([code, members]) => group(code, members));
  }

  // The API lists the newest first.
  function group(code, members) {
    const times = [members.at(-1), members[0]].map((row) => clock(Date.parse(row.timestamp) / 1000));
    const span = members.length > 1 ? `first ${times[0]}, last ${times[1]}` : `at ${times[0]}`;
    const all = (verb, text, more) => members.length > 1 && ui("Button", { "data-act": "all-letters", "data-verb": verb, "data-code": code,
      "data-ids": members.map(keyOf).join(), disabled: !live(state.data || {}), ...more }, `${text} all ${members.length}`);
    const heads = ["Request", "Error", "Model", "Attempts", "Failed at", ""];
    return html("Section", { className: "group", "data-letter-group": code },
      html("Div", { className: "line" }, ui("Badge", { color: "red" }, `✕ ${code}: ${members.length}`),
        html("Span", { className: "note" }, span), all("requeue", "Requeue"), all("delete", "Delete", { color: "red" })),
      window.inferlane.table(`Dead letters: ${code}`, heads, members.map(letterLine)));
  }

  function letterLine(row) {
    const act = (verb, text, more) => ui("Button", { "data-act": "order", "data-verb": verb, disabled: !live(state.data || {}),
      "data-id": keyOf(row), "aria-label": `${text} ${row.request_id}`, ...more }, text);
    return html("Tr", { "data-letter-row": row.request_id },
      html("Td", {}, ui("Button", { quiet: true, "data-act": "open-request", "data-id": keyOf(row) }, row.request_id)),
      html("Td", { className: "wrap" }, (row.error || {}).message || "–"), html("Td", {}, row.model_type),
      html("Td", { className: "number" }, `${row.attempts}`), html("Td", {}, clock(Date.parse(row.timestamp) / 1000)),
      html("Td", {}, html("Div", { className: "buttons" }, act("requeue", "Requeue"),
        act("delete", "Delete", { color: "red", "data-confirm": `This removes dead letter ${row.request_id} for good. The request stays failed.` }))));
  }

  on("all-letters", ({ verb, ids, code }) => {
    const all = ids.split(",");
    const go = () => window.inferlane.orders.sendAll(verb, all);
    return verb === "requeue" ? go() : window.inferlane.orders.confirm(
      `This removes all ${all.length} dead letters of ${code} for good.`, "Delete", go);
  });
  on("copy", ({ text }) => (navigator.clipboard ? navigator.clipboard.writeText(text) : Promise.reject()).then(
    () => notify("Copied", text, "teal"), () => notify("Not copied: the browser allows it on https and localhost only", text, "red")));
  on("older-requests", older);
  on("open-request", ({ id }) => open(id));
  on("usage", ({ owner }) => openUsage(owner));
  on("find-request", () => {
    const id = document.getElementById("find-id").value.trim();
    if (id) open(id);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.id === "find-id" && event.target.value.trim()) open(event.target.value.trim());
  });

  Object.assign(window.inferlane, { openRequest: open, showInDrawer, openedRequest: () => opened && opened.id && short(opened.id) });
  const pressed = ({ event, data }) => { if (event.key === "Enter") open(data.key); };
  window.dashAgGridFunctions = { ...(window.dashAgGridFunctions || {}), inferlaneClock: (epoch) => clock(epoch),
    inferlaneDuration: (value) => (value === null ? "" : duration(value / 1000)),
    inferlaneOpen: ({ data, column }) => { if (column.getColId() !== SELECTION) open(data.key); }, inferlaneKey: pressed,
    inferlaneSelected: ({ api }) => { selected = api.getSelectedRows().map((row) => row.key); orderable(); } };
})();
