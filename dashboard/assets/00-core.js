// What every script of the page uses: requests to our own routes, times, panels, and one click listener.
window.inferlane = (function () {
  "use strict";

  // -- requests

  class Failure extends Error {
    constructor(detail, status, state) {
      super(detail);
      this.status = status;
      this.state = state;
    }
  }

  async function ask(method, path, { json, body, type, timeout = 6000 } = {}) {
    const headers = method === "GET" ? {} : { "X-Inferlane-Ui": "1" };
    if (json !== undefined) headers["Content-Type"] = "application/json";
    if (type) headers["Content-Type"] = type;
    let response;
    try {
      response = await fetch(`ui/${path}`, {
        method, headers, body: json === undefined ? body : JSON.stringify(json), signal: AbortSignal.timeout(timeout),
      });
    } catch {
      throw new Failure("The dashboard's server does not answer.", 0, "dashboard_down");
    }
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Failure(answer.detail || `Error ${response.status}`, response.status, answer.state);
    return answer;
  }

  // The row of a request is owner/id: two owners may have the same id. A person may type the id alone.
  const requestPath = (key, tail = "") => {
    const cut = key.lastIndexOf("/");
    return `requests/${encodeURIComponent(key.slice(cut + 1))}${tail}${cut > 0 ? `?${new URLSearchParams({ owner: key.slice(0, cut) })}` : ""}`;
  };
  const keyOf = ({ owner, request_id: id }) => `${owner}/${id}`;

  // -- times

  // 14:05:09, with the date before it on another day.
  function clock(epoch, seconds = true) {
    const at = new Date(epoch * 1000);
    const time = at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", ...(seconds ? { second: "2-digit" } : {}) });
    const today = !seconds || at.toDateString() === new Date().toDateString();
    return today ? time : `${at.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${time}`;
  }

  function ago(seconds) {
    if (seconds < 1.5) return "1 s ago";
    return seconds < 90 ? `${Math.round(seconds)} s ago` : `${Math.round(seconds / 60)} min ago`;
  }

  // The same as count, duration and rate of formatting.py.
  const count = (number, thing) => `${number.toLocaleString("en")} ${thing}${number === 1 ? "" : "s"}`;

  function duration(seconds) {
    if (seconds === undefined || seconds === null) return "–";
    if (seconds > 0 && seconds < 0.9995) return `${(seconds * 1000).toFixed(seconds < 0.0095 ? 1 : 0)} ms`;
    if (seconds < 59.5) return `${seconds.toFixed(seconds > 0 && seconds < 9.95 ? 1 : 0)} s`;
    const all = Math.round(seconds);
    return all < 3600 ? `${Math.floor(all / 60)} min ${all % 60} s` : `${Math.floor(all / 3600)} h ${Math.floor(all / 60) % 60} min`;
  }

  function rate(perSecond) {
    if (!perSecond) return perSecond === 0 ? "none" : "–";
    if (perSecond >= 0.95) return `${perSecond >= 9.95 ? Math.round(perSecond) : Number(perSecond.toFixed(1))}/s`;
    return perSecond * 60 < 0.5 ? "< 1 a minute" : `${Math.round(perSecond * 60)} a minute`;
  }

  // For components that name a function.
  window.dashMantineFunctions = { ...(window.dashMantineFunctions || {}), inferlaneRate: (value) => rate(value).replace(" a minute", "/min"),
    inferlaneDuration: (value) => duration(value === null ? value : value / 1000) };

  // -- panels: each draws itself from the latest snapshot and the choices made on the page

  const panels = [];
  const state = { data: undefined, choices: {} };
  const panel = (draw) => panels.push(draw);
  const draw = () => { if (state.data) panels.forEach((one) => one(state.data, state.choices)); };

  // Whether orders can be given: the view is current, and this dashboard is not read-only.
  const live = (data) => data.state === "ok" && !data.read_only;

  // Whether a panel has to draw: its content has changed since it drew last.
  const drawn = {};

  function changed(name, value) {
    const text = JSON.stringify(value);
    if (drawn[name] === text) return false;
    drawn[name] = text;
    return true;
  }

  // -- Dash: functions that its callbacks call, and properties of its components

  const set = (id, props) => window.dash_clientside.set_props(id, props);
  const clientside = (functions) => {
    window.dash_clientside = window.dash_clientside || {};
    window.dash_clientside.inferlane = { ...(window.dash_clientside.inferlane || {}), ...functions };
  };

  function notify(title, message, color) {
    const id = `note-${Date.now()}-${Math.random()}`;
    const autoClose = color === "red" ? 9000 : 4000;
    set("notifications", { sendNotifications: [{ id, action: "show", title, message, color, autoClose }] });
  }

  // -- clicks: a button says what it does in data-act; scripts say how in inferlane.on

  const acts = {};
  const on = (name, act) => { acts[name] = act; };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-act]");
    if (button && !button.disabled && acts[button.dataset.act]) acts[button.dataset.act](button.dataset, button);
  });

  return { ask, requestPath, keyOf, clock, ago, count, duration, rate, panel, draw, live, state, changed, set, clientside, notify, on };
})();
