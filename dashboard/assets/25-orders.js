// Orders to the API: confirmed where they cannot be undone, shown as requested until the snapshot shows their effect.
(function () {
  "use strict";
  const { ask, count, notify, on, set, clientside } = window.inferlane;
  const PATIENCE = 10000;
  const DONE = {
    pause: "Lane paused", resume: "Lane resumed", purge: "Lane purged", drain: "Worker draining", undrain: "Worker resumed",
    restart: "Worker restarting", scale: "Workers scaled", chaos: "Fault requested",
    cancel: "Canceled", requeue: "Requeued", delete: "Deleted",
  };
  const requested = new Map();
  let unconfirmed = null;

  const subject = (order) => (order.lane ? `lane ${order.lane}` : order.worker ? `worker ${order.worker}` : order.model || order.id);

  // Whether a button stays "requested": its order was sent and the snapshot does not show its effect yet.
  function waits(name, verb, arrived) {
    const sent = requested.get(name);
    if (!sent) return false;
    if (arrived || sent.verb !== verb || Date.now() - sent.at > PATIENCE) requested.delete(name);
    return requested.has(name);
  }

  const pending = () => [...requested.keys()].join();

  async function send(order) {
    requested.set(subject(order), { verb: order.verb, at: Date.now() });
    try {
      const { canceled } = await ask("POST", "actions", { json: order, timeout: 35000 });
      const many = canceled === undefined || canceled === null ? "" : `: ${canceled} canceled`;
      notify(DONE[order.verb] || "Done", `${subject(order)}${many}`, "teal");
      return true;
    } catch (failure) {
      requested.delete(subject(order));
      refused(failure, () => send(order));
      return false;
    }
  }

  // The same order for a list of requests; MOST is that of the server.
  const MOST = 500;

  async function sendAll(verb, all) {
    const ids = all.slice(0, MOST);
    try {
      const { done, refused: passed } = await ask("POST", "actions", { json: { verb, ids }, timeout: 60000 });
      const rest = Object.entries(passed).map(([why, number]) => `${number} not: ${why}`);
      if (all.length > MOST) rest.push(`${all.length - MOST} left, order again`);
      notify(DONE[verb], [`${done} of ${count(ids.length, "request")}`, ...rest].join("; "), done === ids.length ? "teal" : "yellow");
    } catch (failure) {
      refused(failure, () => sendAll(verb, all));
    }
  }

  // Asks for a login if the API requires one, then goes on with `again`.
  function refused(failure, again) {
    if (failure.state === "login") askLogin(again, failure.message);
    else notify("Failed", failure.message, "red");
  }

  const orderOf = ({ verb, lane, worker, id, model, workers }) =>
    Object.fromEntries(Object.entries({ verb, lane, worker, id, model, workers }).filter(([, value]) => value));

  on("order", (dataset, button) => {
    const order = orderOf(dataset);
    return dataset.confirm ? confirm(dataset.confirm, button.textContent, () => send(order)) : send(order);
  });

  // Asks before an order that cannot be undone; the button says `verb`. With `typed`, that text must be typed.
  function confirm(text, verb, act, typed) {
    unconfirmed = { act, typed };
    set("confirm-modal", { title: `${verb}?` });
    set("confirm-act", { children: verb });
    set("confirm-text", { children: text });
    set("confirm-typed", { value: "", error: null, label: typed ? `Type ${typed} to confirm` : "", style: typed ? {} : { display: "none" } });
    set("confirm-modal", { opened: true });
  }

  on("purge", ({ lane, depth }) => confirm(`This cancels ${count(Number(depth), "waiting request")} of lane ${lane} for good. Running requests continue.`,
    "Purge", () => send({ verb: "purge", lane, typed: lane }), lane));
  on("confirm", () => {
    const { act, typed } = unconfirmed || {};
    const said = (document.getElementById("confirm-typed") || {}).value;
    if (typed && said !== typed) return set("confirm-typed", { error: `This is not ${typed}.` });
    set("confirm-modal", { opened: false });
    unconfirmed = null;
    return act && act();
  });
  on("refuse", () => {
    unconfirmed = null;
    set("confirm-modal", { opened: false });
  });

  // -- login

  let afterLogin = null;

  function askLogin(again, why) {
    afterLogin = again || null;
    set("login-error", { children: again ? `${why} Log in, and your order goes on.` : null });
    set("login-modal", { opened: true });
  }

  on("open-login", () => askLogin());
  on("logout", () => ask("POST", "logout").then(() => notify("Logged out", "The key has been removed.", "gray"), refused));

  async function login(clicks, submits, key) {
    if (!clicks && !submits) return window.dash_clientside.no_update;
    try {
      await ask("POST", "login", { json: { key } });
    } catch (failure) {
      return [true, key, failure.state === "login" ? "The API does not accept this key." : failure.message];
    }
    notify("Logged in", "Your orders now use this key.", "teal");
    const again = afterLogin;
    afterLogin = null;
    if (again) again();
    return [false, "", null];
  }

  window.inferlane.orders = { waits, pending, send, sendAll, confirm, refused, askLogin };
  clientside({ login });
})();
