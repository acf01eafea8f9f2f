// What every script of the page uses: components as data, requests to our own routes, times, and one click listener.
// The Dash renderer turns {namespace, type, props} into components, so nothing here builds markup from text.
window.inferlane = (function () {
  "use strict";

  const html = (type, props, ...children) => spec("dash_html_components", type, props, children);
  const ui = (type, props, ...children) => spec("dash_mantine_components", type, props, children);

  function spec(namespace, type, props, children) {
    const kept = children.flat().filter((child) => child !== null && child !== undefined && child !== false);
    const shown = kept.length ? { children: kept.length === 1 ? kept[0] : kept } : {};
    return { namespace, type, props: { ...props, ...shown } };
  }

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
      throw new Failure("The dashboard itself does not answer.", 0, "dashboard_down");
    }
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) throw new Failure(answer.detail || `Error ${response.status}`, response.status, answer.state);
    return answer;
  }

  // -- times

  const clock = (epoch, seconds = true) =>
    new Date(epoch * 1000).toLocaleTimeString([], {
      hour: "2-digit", minute: "2-digit", hour12: false, ...(seconds ? { second: "2-digit" } : {}),
    });

  function ago(seconds) {
    if (seconds < 1.5) return "1 s ago";
    return seconds < 90 ? `${Math.round(seconds)} s ago` : `${Math.round(seconds / 60)} min ago`;
  }

  const milliseconds = (seconds) =>
    seconds === undefined || seconds === null ? "–"
      : seconds < 1 ? `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms` : `${seconds.toFixed(1)} s`;

  // -- not drawing what has not changed

  const drawn = {};

  function changed(name, value) {
    const text = JSON.stringify(value);
    if (drawn[name] === text) return false;
    drawn[name] = text;
    return true;
  }

  // -- messages

  function notify(title, message, color, id) {
    window.dash_clientside.set_props("notifications", {
      sendNotifications: [{
        id: id || `note-${Date.now()}-${Math.random()}`, action: "show", title, message, color,
        autoClose: color === "red" ? 9000 : 4000,
      }],
    });
  }

  // -- clicks: a button says what it does in data-act; scripts say how in inferlane.on

  const acts = {};
  const on = (name, act) => { acts[name] = act; };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-act]");
    if (button && !button.disabled && acts[button.dataset.act]) acts[button.dataset.act](button.dataset, button);
  });

  const set = (id, props) => window.dash_clientside.set_props(id, props);
  const clientside = (functions) => {
    window.dash_clientside = window.dash_clientside || {};
    window.dash_clientside.inferlane = { ...(window.dash_clientside.inferlane || {}), ...functions };
  };

  return { html, ui, ask, clock, ago, milliseconds, changed, notify, on, set, clientside, Failure };
})();
