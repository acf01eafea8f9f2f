// Try it: a photo, a model, a priority; then every step of the request as it happens, and the answer.
(function () {
  "use strict";
  const { html, ui, show, ask, requestPath, keyOf, duration, state, panel, changed, notify, set, on, clientside } = window.inferlane;
  const TERMINAL = new Set(["succeeded", "failed", "canceled", "expired"]);
  const SAMPLE = { name: "cat.jpg", url: "assets/cat.jpg", sample: true };
  let followed = null;
  let sent = SAMPLE;
  let killing = false;
  let commands = () => ({});

  // -- the photo

  const size = (count) => `${(count / 1024 / 1024).toFixed(1)} MiB`;

  // What is wrong with a file, before anything is sent.
  function flaw(name, type, length, largest) {
    if (!type.startsWith("image/")) return `${name} is no picture. Choose a JPEG, PNG or WebP file.`;
    return length > largest ? `${name} has ${size(length)}; a picture may have ${size(largest)}.` : null;
  }

  const complain = (text) => show("result", ui("Alert", { color: "red", title: "Not this file", id: "photo-flaw" }, text));

  function choosePhoto(contents, pasted, name, config) {
    const what = window.dash_clientside.callback_context.triggered.map((one) => one.prop_id).join();
    if (what.startsWith("photo.") && contents) {
      const [head, data] = contents.split(",", 2);
      const wrong = flaw(name, head.slice(5), (data || "").length * 0.75, config.largest);
      rest();
      if (!wrong) return { name: name || "photo", url: contents };
      complain(wrong);
      return window.dash_clientside.no_update;
    }
    if (what.startsWith("pasted.") && pasted) return pasted;
    return SAMPLE;
  }

  const preview = (photo) => [photo.url, photo.sample ? "Sample photo" : photo.name];

  // The upload component silently drops files that are no images.
  document.addEventListener("drop", ({ target, dataTransfer: { files: [file] } }) => {
    if (file && target.closest("#photo") && !file.type.startsWith("image/")) complain(flaw(file.name, file.type, 0, 0));
  }, true);

  document.addEventListener("error", ({ target }) => {
    if (target.id === "preview") complain("This browser cannot read the file as a picture: it is damaged or of a rare type.");
  }, true);

  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData ? event.clipboardData.files : [])].find((one) => one.type.startsWith("image/"));
    if (!file) return;
    const reader = new FileReader();
    reader.onload = () => set("pasted", { data: { name: file.name || "pasted image", url: reader.result } });
    reader.readAsDataURL(file);
  });

  async function bytes(photo) {
    if (!photo.url.startsWith("data:")) {
      const answer = await fetch(photo.url);
      return [await answer.blob(), "image/jpeg"];
    }
    const [head, data] = photo.url.split(",", 2);
    const raw = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    return [new Blob([raw]), head.slice(5).split(";")[0] || "application/octet-stream"];
  }

  // -- the request

  async function post(route, photo, model, priority) {
    const [body, type] = await bytes(photo);
    return ask("POST", `${route}?${new URLSearchParams({ model_type: model, priority, top_k: 5 })}`, { body, type, timeout: 15000 });
  }

  async function submit(clicks, photo, model, priority) {
    if (!clicks) return window.dash_clientside.no_update;
    killing = false;
    sent = photo;
    try {
      const accepted = await post("infer", photo, model, priority);
      drawSteps(accepted);
      follow(accepted.request_id);
    } catch (failure) {
      refuse(failure, () => submit(clicks, photo, model, priority));
    }
    return window.dash_clientside.no_update;
  }

  function refuse(failure, again) {
    followed = null;
    if (failure.state === "login") window.inferlane.orders.refused(failure, again);
    drawSteps({ state: "refused", error: { code: "refused", message: failure.message } });
  }

  // -- the same, and its worker is killed: the server slows the workers down, so that one can be seen with the photo

  async function killHolder(clicks, photo, model, priority) {
    if (!clicks) return window.dash_clientside.no_update;
    sent = photo;
    followed = null;
    try {
      await post("kill", photo, model, priority);
      killing = true;
      travel({});
      rest();
      show("step-text", "Slowing the workers down, so that one can be seen with the photo…");
    } catch (failure) {
      refuse(failure, () => killHolder(clicks, photo, model, priority));
    }
    return window.dash_clientside.no_update;
  }

  panel(({ view, runs, read_only: looking }) => {
    const allowed = Boolean(view && view.chaos_enabled && !looking);
    if (changed("kill", allowed)) set("kill", { display: allowed ? "block" : "none" });
    const run = killing && runs && runs.drill;
    if (!run) return;
    if (run.id && followed !== run.id) follow(run.id);
    if (run.running) return;
    killing = false;
    if (!run.id) drawSteps({ state: "refused", error: { code: "refused", message: run.verdict } });
    else if (run.level !== "ok") notify("The kill", run.verdict, "yellow");
  });

  // Looks often at first, because most requests end within a tenth of a second; a newer request ends the following.
  async function follow(id) {
    followed = id;
    for (let pause = 80; followed === id; pause = Math.min(pause * 1.3, 1000)) {
      try {
        const request = await ask("GET", requestPath(id));
        if (followed !== id) return;
        drawSteps(request);
        if (TERMINAL.has(request.state)) return;
      } catch (failure) {
        if (failure.status === 404 || failure.status === 410) return notify("Gone", failure.message, "red");
      }
      await new Promise((resume) => setTimeout(resume, pause));
    }
  }

  // -- the drawing

  // The stations of a request: its lane, every worker that took it, its answer. The photo is where the request is.
  function stations(request) {
    const workers = [];
    for (const event of request.timeline || []) {
      if (event.event === "started") workers.push({ kind: "Worker", name: event.worker });
      if (event.event === "worker_died" && workers.length) Object.assign(workers.at(-1), { dead: true, note: "✕ died" });
    }
    const next = workers.every((one) => one.dead) ? [{ kind: "Worker", name: workers.length ? "another" : "", ahead: true }] : [];
    const answer = TERMINAL.has(request.state) ? (request.predictions[0] || {}).class || request.state : "";
    return [{ kind: "Lane", name: request.lane || "" }, ...workers, ...(TERMINAL.has(request.state) ? [] : next), { kind: "Answer", name: answer }];
  }

  function travel(request) {
    const all = stations(request);
    const held = all.findLastIndex((one) => one.kind === "Worker" && !one.ahead && !one.dead);
    const place = TERMINAL.has(request.state) ? all.length - 1 : request.state === "running" && held > 0 ? held : 0;
    const started = Boolean(request.state);
    show("journey", html("Div", { className: started ? "journey" : "journey resting" },
      html("Img", { className: "traveller", src: sent.url, alt: "", style: { left: `${(100 * (place + 0.5)) / all.length}%` } }),
      html("Ol", {}, all.map((one, at) => html("Li", { key: at, "data-station": one.kind, "data-at": started && at === place ? "here" : undefined,
        className: one.dead ? "dead" : "" }, html("Span", {}, one.kind), html("Strong", { title: one.name }, one.name || "–"), html("Span", {}, one.note || ""))))));
  }

  panel(() => {
    if (!changed("journey", true)) return;
    travel({});
    rest();
    show("step-text", "The answer appears here.");
  });

  // The room of an answer, so that nothing moves when it comes.
  const rest = () => show("result", html("Div", { className: "ghost", "aria-hidden": true },
    Array.from({ length: 5 }, () => html("Div", { className: "guess" }, html("Div", { className: "guess-label" }, "–"), ui("Progress", { value: 0 }))),
    facts({ weights: "–" })));

  function drawSteps(request) {
    const refused = request.state === "refused";
    travel(refused ? {} : request);
    show("step-text", refused ? "Not accepted." : told(request));
    if (refused) show("result", [refusal(request), html("Div", { className: "ghost" }, facts({}))]);
    else if (TERMINAL.has(request.state)) show("result", outcome(request));
    else rest();
  }

  function told(request) {
    const timings = request.timings || {};
    if (request.state === "queued") {
      const place = request.queue_position ? `, number ${request.queue_position} in its lane` : "";
      const eta = typeof request.eta === "number" ? `, starts in about ${duration(request.eta)}` : "";
      return `Queued in ${request.lane || request.priority}${place}${eta}`;
    }
    if (request.state === "running") return `Running on ${request.worker_id}, waited ${duration(timings.queue)}`;
    return `${request.state[0].toUpperCase()}${request.state.slice(1)} after ${duration(timings.total)}`;
  }

  const refusal = (request) => ui("Alert", { color: "red", title: request.error.code }, request.error.message);

  function outcome(request) {
    const body = request.state === "succeeded"
      ? request.predictions.map(bar) : request.error ? [refusal(request)] : [];
    return html("Div", { className: "outcome", id: "outcome" }, body, facts(request),
      ui("Button", { quiet: true, "data-act": "open-request", "data-id": keyOf(request) },
        "Timeline of this request"));
  }

  function bar(guess, place) {
    const share = guess.confidence * 100;
    return html("Div", { className: place ? "guess" : "guess best" },
      html("Div", { className: "guess-label" }, html("Span", { className: "guess-class" }, guess.class), html("Span", {}, `${share.toFixed(1)} %`)),
      ui("Progress", { value: share, label: `${guess.class}: ${share.toFixed(1)} percent` }));
  }

  function facts(request) {
    const timings = request.timings || {};
    const random = request.weights === "random";
    const pairs = [
      ["Model", request.model || request.model_type || "–"], ["Worker", request.worker_id || "–"], ["Waited", duration(timings.queue)],
      ["Decoded in", duration(timings.decode)], ["Inferred in", duration(timings.infer)], ["Attempts", `${request.attempts || "–"}`],
    ];
    return html("Div", {}, weights(request, random),
      html("Dl", { className: "facts" }, pairs.map(([name, value]) => html("Div", {}, html("Dt", {}, name), html("Dd", {}, value)))));
  }

  function weights(request, random) {
    if (random) return ui("Alert", { color: "red", filled: true, title: "weights: random" }, "This model is not trained: the answer means nothing.");
    return request.weights ? html("Div", { className: "note" }, `weights: ${request.weights}`) : null;
  }

  // -- the same from a shell and from Python

  function snippets(model, priority, photo, config) {
    const name = photo.name.replaceAll(/[^\w.-]/g, "_");
    commands = (key) => ({
      curl: `curl ${key ? '-H "Authorization: Bearer $INFERLANE_API_KEY" ' : ""}-F image=@${name} -F model_type=${model} -F priority=${priority} \\\n  ${config.api}/inference`,
      python: `${key ? "import os\n\n" : ""}import httpx

with open("${name}", "rb") as photo:
    answer = httpx.post(
        "${config.api}/inference",
        files={"image": photo},
        data={"model_type": "${model}", "priority": "${priority}"},${key ? '\n        headers={"Authorization": f"Bearer {os.environ[\'INFERLANE_API_KEY\']}"},' : ""}
        timeout=40,
    )
for guess in answer.raise_for_status().json()["predictions"]:
    print(f"{guess['confidence']:6.1%}  {guess['class']}")`,
    });
    return window.dash_clientside.no_update;
  }

  const command = (name, title, code) => html("Section", {}, html("H3", {}, title),
    html("Pre", { className: "command", id: `${name}-code`, tabIndex: 0 }, code), ui("Button", { "data-act": "copy", "data-text": code }, "Copy"));

  on("snippets", () => {
    const { curl, python } = commands((state.data || {}).logged_in);
    window.inferlane.showInDrawer("The same from a program", [command("curl", "With curl", curl), command("python", "In Python", python)]);
  });

  // The list of models follows the served ones; a person's choice stays.
  panel(({ view }) => {
    if (!view) return;
    const all = view.models.map((model) => model.name);
    const served = view.models.filter((model) => model.available).map((model) => model.name);
    if (!changed("offer", [all, served])) return;
    const option = (name) => ({ value: name, label: served.includes(name) ? name : `${name} (no worker)` });
    set("model", { data: [{ value: "any", label: "any model" }, ...all.map(option)] });
    set("filter-model", { data: ["any", ...all] });
    set("load-models", { data: ["any", ...served] });
  });

  panel(({ view }) => {
    const known = view && [...new Set([...view.workers, ...view.departed].map((worker) => worker.id))].sort();
    if (known && changed("known workers", known)) set("filter-worker", { data: known });
  });

  on("use-cat", () => set("pasted", { data: { ...SAMPLE, at: Date.now() } }));
  clientside({ choosePhoto, preview, submit, snippets, killHolder });
})();
