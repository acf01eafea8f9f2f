// The elements that scripts draw, in React roots beside Dash's. Everything that changes each second is drawn this way,
// because Dash compares every component on each update of the page: a few hundred cells kept a whole core busy.
(function () {
  "use strict";
  const { inferlane } = window;
  const make = (type, props, children) => window.React.createElement(type, props, ...children);
  const kept = (children) => children.flat(3).filter((child) => child !== null && child !== undefined && child !== false && child !== "");

  const html = (type, props, ...children) => make(type.toLowerCase(), props, kept(children));

  const classes = (...names) => names.filter(Boolean).join(" ");
  const plain = (type, base) => ({ className, color, ...props }, children) =>
    make(type, { ...props, className: classes(base, className), ...(color ? { "data-color": color } : {}) }, children);

  const parts = {
    Badge: ({ filled, large, ...props }, children) =>
      plain("span", classes("badge", filled && "filled", large && "large"))(props, children),
    Button: ({ quiet, ...props }, children) => plain("button", classes("button", quiet && "quiet"))({ type: "button", ...props }, children),
    Alert: ({ title, filled, ...props }, children) =>
      plain("div", classes("alert", filled && "filled"))(props, [html("Div", { className: "alert-title" }, title), ...children]),
    Progress: ({ value, label }) => make("div", { className: "bar", role: "progressbar", "aria-label": label,
      "aria-valuenow": Math.round(value), "aria-valuemin": 0, "aria-valuemax": 100 }, [html("Div", { style: { width: `${value}%` } })]),
    Timeline: (props, children) => plain("ol", "timeline")(props, children),
    Event: ({ title }, children) => make("li", {}, [html("Div", { className: "event-title" }, title), ...children]),
  };
  const ui = (name, props, ...children) => parts[name](props || {}, kept(children));

  // -- drawing

  const roots = new Map();

  // Draws into the element of this id; a dialog's body appears a moment after it is opened, so try for a while.
  function show(id, content, tries = 60) {
    const element = document.getElementById(id);
    if (!element) {
      if (tries) requestAnimationFrame(() => show(id, content, tries - 1));
      return;
    }
    if (!roots.has(id) || roots.get(id).element !== element) {
      roots.set(id, { element, root: window.ReactDOM.createRoot(element) });
    }
    roots.get(id).root.render(content === null || content === undefined ? null : make(window.React.Fragment, {}, kept([content])));
  }

  Object.assign(inferlane, { html, ui, show });
})();
