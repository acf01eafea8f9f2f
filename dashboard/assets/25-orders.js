// Orders to the API: confirmed where they cannot be undone, shown as requested until the snapshot shows their effect.
(function () {
  "use strict";
  const { ask, notify, on, set, clientside } = window.inferlane;
  const PATIENCE = 10000;
  const DONE = {
    pause: "Lane paused", resume: "Lane resumed", purge: "Lane purged", drain: "Worker draining", undrain: "Worker resumed",
    restart: "Worker restarting", chaos: "Fault requested",
    cancel: "Canceled", requeue: "Requeued", delete: "Deleted",
  };
  const requested = new Map();
  let unconfirmed = null;

  const subject = (order) => (order.lane ? `lane ${order.lane}` : order.worker ? `worker ${order.worker}` : order.id);

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
      const { canceled } = await ask("POST", "actions", { json: order, timeout: 30000 });
      const many = canceled === undefined || canceled === null ? "" : `: ${canceled} canceled`;
      notify(DONE[order.verb] || "Done", `${subject(order)}${many}`, "teal");
      return true;
    } catch (failure) {
      requested.delete(subject(order));
      refused(failure);
      return false;
    }
  }

  function refused(failure) {
    notify("Failed", failure.message, "red");
    if (failure.state === "login") set("login-modal", { opened: true });
  }

  const orderOf = ({ verb, lane, worker, id, mode, seconds, rate }) =>
    Object.fromEntries(Object.entries({ verb, lane, worker, id, mode, seconds, rate }).filter(([, value]) => value));

  on("order", (dataset) => {
    const order = orderOf(dataset);
    return dataset.confirm ? confirm(dataset.confirm, () => send(order)) : send(order);
  });

  // Asks before what cannot be undone; with `typed`, that text must be typed.
  function confirm(text, act, typed) {
    unconfirmed = { act, typed };
    set("confirm-text", { children: text });
    set("confirm-typed", { value: "", error: null, label: typed ? `Type ${typed} to confirm` : "", style: typed ? {} : { display: "none" } });
    set("confirm-modal", { opened: true });
  }

  on("purge", ({ lane, depth }) => confirm(`This cancels the ${depth} requests waiting in lane ${lane} for good. Running requests continue.`,
    () => send({ verb: "purge", lane, typed: lane }), lane));
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

  on("logout", () => ask("POST", "logout").then(() => notify("Logged out", "The key has been removed.", "gray"), refused));

  async function login(clicks, submits, key) {
    if (!clicks && !submits) return window.dash_clientside.no_update;
    try {
      await ask("POST", "login", { json: { key } });
    } catch (failure) {
      return [true, key, failure.state === "login" ? "The API does not accept this key." : failure.message];
    }
    notify("Logged in", "Your orders now use this key.", "teal");
    return [false, "", null];
  }

  window.inferlane.orders = { waits, pending, send, confirm, refused };
  clientside({ login });
})();
