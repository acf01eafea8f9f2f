// Keyboard shortcuts; the sheet that lists them is in shell.py. Not while something is typed or a dialog is open.
(function () {
  "use strict";
  const { set, on, state } = window.inferlane;
  const sheet = () => set("keys-modal", { opened: true });

  function find() {
    set("tabs", { value: "requests" });
    const focus = (tries) => {
      const field = document.getElementById("find-id");
      if (field) field.focus();
      // A hidden tab takes no focus.
      if (tries && (!field || document.activeElement !== field)) requestAnimationFrame(() => focus(tries - 1));
    };
    focus(60);
  }

  const KEYS = {
    "?": sheet, "/": find, l: () => window.inferlane.orders.askLogin(),
    p: () => set("rate", { value: state.rate === "paused" ? "1" : "paused" }),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, textarea, select, [contenteditable], [role=dialog], .ag-root")) return;
    const tab = document.querySelectorAll("#tabs [role=tab]")[event.key - 1];
    if (!tab && !Object.hasOwn(KEYS, event.key)) return;
    event.preventDefault();
    if (tab) tab.click();
    else KEYS[event.key]();
  });
  on("open-keys", sheet);
})();
