"use strict";
// Everything can be read without this: it only helps to find and to look closer.
(() => {
  const plain = (text) => text.toLocaleLowerCase().normalize("NFKD");
  for (const box of document.querySelectorAll(".search")) {
    const table = document.getElementById(box.dataset.of);
    const input = box.querySelector("input");
    const status = box.querySelector("output");
    const rows = [...table.tBodies[0].rows].map((row) => [row, plain(row.textContent)]);
    const search = () => {
      const words = plain(input.value).split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const [row, text] of rows) {
        row.hidden = !words.every((word) => text.includes(word));
        shown += row.hidden ? 0 : 1;
      }
      status.value = words.length ? `${shown} of ${rows.length} rows` : `${rows.length} rows`;
    };
    input.addEventListener("input", search);
    input.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        input.value = "";
        search();
      }
    });
    box.hidden = false;
    search();
  }
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select");
    const first = document.querySelector(".search input");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey && first) {
      event.preventDefault();
      first.focus();
    }
  });

  const zoom = document.querySelector(".zoom");
  const scale = document.querySelector(".scale");
  if (zoom && scale) {
    const from = Number(scale.dataset.from);
    const to = Number(scale.dataset.to);
    const drawn = [];
    for (const part of document.querySelectorAll(".tl svg > [x], .tl svg > [x1]")) {
      const at = parseFloat(part.getAttribute("x") ?? part.getAttribute("x1"));
      drawn.push([part, at, part.tagName === "rect" ? parseFloat(part.getAttribute("width")) : null]);
    }
    const look = (days) => {
      const begin = days ? Math.max(from, to - days * 86400) : from;
      const first = (100 * (begin - from)) / (to - from);
      const factor = 100 / (100 - first || 1);
      for (const [part, at, width] of drawn) {
        const x = `${((at - first) * factor).toFixed(2)}%`;
        if (part.tagName === "line") {
          part.setAttribute("x1", x);
          part.setAttribute("x2", x);
        } else {
          part.setAttribute("x", x);
        }
        if (width !== null) {
          part.setAttribute("width", `${(width * factor).toFixed(2)}%`);
        } else {
          part.setAttribute("visibility", at < first ? "hidden" : "visible");
        }
      }
    };
    zoom.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) {
        zoom.querySelectorAll("button").forEach((b) => b.setAttribute("aria-pressed", String(b === button)));
        look(Number(button.dataset.days));
      }
    });
    zoom.hidden = false;
  }

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((details) => (details.open = true));
  });
  addEventListener("afterprint", () => closed.forEach((details) => (details.open = false)));
  // A link to a row in something folded opens it.
  const unfold = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let at = target; at; at = at.parentElement) {
      if (at.tagName === "DETAILS") at.open = true;
    }
    target?.scrollIntoView();
  };
  addEventListener("hashchange", unfold);
  if (location.hash) unfold();
})();
