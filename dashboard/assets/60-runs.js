// Load tests and fault drills: started here, run by the dashboard's server, told by every snapshot.
(function () {
  "use strict";
  const { html, ui, show, ask, panel, changed, notify, on, set, clientside, count, duration } = window.inferlane;
  const orders = () => window.inferlane.orders;
  const none = () => window.dash_clientside.no_update;

  // The text beside a button is an error; progress is shown below it.
  function started(what, plan) {
    notify(`${what} started`, plan, "teal");
    window.inferlane.tick();
    return "";
  }

  // -- load test

  const time = (ms) => duration(ms === null ? ms : ms / 1000);

  async function startLoad(clicks, requests, concurrency, models, priority) {
    if (!clicks) return none();
    try {
      await ask("POST", "load", { json: { requests, concurrency, models: models && models.length ? models : ["any"], priority } });
      return started("Load test", `${count(requests, "request")}, ${concurrency} concurrent`);
    } catch (failure) {
      if (failure.state === "login") orders().refused(failure, () => startLoad(clicks, requests, concurrency, models, priority));
      return failure.message;
    }
  }

  panel(({ runs }) => {
    if (!runs || !changed("load", runs.load)) return;
    const [now] = runs.load;
    show("load-text", now ? sentence(now) : "No load test yet.");
    if (!now) return;
    set("load-run", { display: "block" });
    set("load-progress", { value: (100 * now.done) / now.plan.requests });
    set("load-chart", { data: now.histogram });
    set("load-stop", { disabled: now.state !== "running" });
    show("load-results", results(runs.load));
  });

  function sentence(run) {
    const errors = Object.entries(run.codes).filter(([code]) => code !== "ok").map(([code, number]) => `${number} ${code}`);
    const word = { running: "Running", done: "Done", stopped: "Stopped" }[run.state];
    return `${word}: ${run.done} of ${run.plan.requests} answered, ${run.rate}/s, p50 ${time(run.p50)}, p95 ${time(run.p95)}`
      + `, p99 ${time(run.p99)}, ${errors.length ? errors.join(", ") : "no errors"}.`;
  }

  function results(runs) {
    const heads = ["Run", "Requests", "Concurrency", "Models", "Answered", "Rate", "p50", "p95", "p99", "Errors"];
    const line = (run, place) => html("Tr", {}, [place ? `${place} earlier` : "newest", run.plan.requests, run.plan.concurrency,
      run.plan.models.join(", "), run.ok, `${run.rate}/s`, time(run.p50), time(run.p95), time(run.p99), run.done - run.ok]
      .map((value) => html("Td", {}, `${value ?? "–"}`)));
    return window.inferlane.table("Load tests", heads, runs.map(line));
  }

  on("stop-load", () => ask("DELETE", "load").then(() => notify("Stopping", "Waiting for the requests already sent.", "gray"), orders().refused));

  // -- faults

  panel(({ view, read_only: looking }) => {
    if (!view || !changed("victims", [view.workers.map((worker) => worker.id), view.chaos_enabled, looking])) return;
    // Two processes started under one name are one name here, as they are for the API.
    const names = new Map(view.workers.map((worker) => [worker.id, `${worker.id} (${worker.model})`]));
    set("victim", { data: [...names].map(([value, label]) => ({ value, label })) });
    for (const button of ["drill-start", "fault-start"]) set(button, { disabled: !view.chaos_enabled || looking });
    show("chaos-note", view.chaos_enabled ? null
      : ui("Alert", { color: "gray", title: "Faults are off" }, "Start workers and API with CHAOS_ENABLED=1."));
  });

  async function startDrill(clicks, worker, requests) {
    if (!clicks) return none();
    if (!worker) return "Choose a worker.";
    try {
      await ask("POST", "drill", { json: { worker, requests } });
      return started("Recovery drill", `${count(requests, "request")} for ${worker}`);
    } catch (failure) {
      if (failure.state !== "login") return failure.message;
      orders().refused(failure, () => startDrill(clicks, worker, requests));
      return "";
    }
  }

  panel(({ runs }) => {
    if (!runs || !changed("drill", runs.drill)) return;
    show("drill", runs.drill ? recovery(runs.drill)
      : html("Div", { className: "note" }, "No drill yet."));
  });

  function recovery(run) {
    const color = { ok: "teal", warn: "yellow", bad: "red" }[run.level] || "blue";
    const verdict = run.verdict ? ui("Alert", { color, title: "Verdict", id: "drill-verdict" }, run.verdict)
      : ui("Badge", { color: "blue" }, "running");
    return [verdict, ui("Timeline", {}, run.events.map((event) =>
      ui("Event", { title: event.text }, html("Div", { className: "note" }, `+${event.after.toFixed(1)} s`))))];
  }

  function fault(clicks, worker, mode, seconds) {
    if (!clicks) return none();
    if (!worker) return notify("Failed", "Choose a worker.", "red") || none();
    const order = { verb: "chaos", worker, mode, seconds: mode === "slow" || mode === "freeze" ? seconds : undefined };
    orders().send(Object.fromEntries(Object.entries(order).filter(([, value]) => value !== undefined)));
    return none();
  }

  on("chaos-tab", ({ worker }) => {
    set("tabs", { value: "chaos" });
    set("victim", { value: worker });
  });

  clientside({ startLoad, startDrill, fault });
})();
