"use strict";
(() => {
  const form = document.getElementById("search");
  if (!form) return;
  const main = document.getElementById("details"), said = document.getElementById("found"), fields = [...form.elements].filter(one => one.name);
  const items = [...main.querySelectorAll("[data-item]")].map(element => ({ element, kind: element.dataset.item, text: element.textContent.toLowerCase() }));
  const boxes = [...main.querySelectorAll("section, .group, .scroll, details:not(.more)")];
  const opened = new Map();
  const marks = "highlights" in CSS && new Highlight();
  if (marks) CSS.highlights.set("found", marks);

  const wanted = () => Object.fromEntries(fields.map(field => [field.name, field.value.trim()]).filter(([, value]) => value));

  function matches(item, words, filters) {
    return words.every(word => item.text.includes(word)) && filters.every(([name, value]) => item.element.dataset[name] === value);
  }

  function open(details) {
    if (!opened.has(details)) opened.set(details, details.open);
    details.open = true;
  }

  function restore() {
    for (const [details, was] of opened) details.open = was;
    opened.clear();
  }

  // Names hold breaks, so that a word may begin in one text and end in the next.
  function highlight(element, words) {
    const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT), parts = [];
    let whole = "";
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      parts.push({ node, start: whole.length });
      whole += node.data;
    }
    const text = whole.toLowerCase();
    if (text.length !== whole.length) return;
    const place = at => parts.findLast(part => part.start <= at);
    for (const word of words) {
      for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + word.length)) {
        const first = place(at), last = place(at + word.length - 1), range = new Range();
        range.setStart(first.node, at - first.start);
        range.setEnd(last.node, at + word.length - last.start);
        marks.add(range);
      }
    }
  }

  function filter() {
    const { q = "", ...rest } = wanted(), filters = Object.entries(rest);
    const words = q.toLowerCase().split(/\s+/).filter(Boolean), active = words.length + filters.length > 0;
    const counts = new Map(), hits = new Set();
    restore();
    if (marks) marks.clear();
    for (const item of items) {
      const hit = matches(item, words, filters), count = counts.get(item.kind) || [0, 0];
      counts.set(item.kind, [count[0] + hit, count[1] + 1]);
      item.element.classList.toggle("miss", !hit);
      if (!hit || !active) continue;
      for (let box = item.element; box !== main; box = box.parentElement) hits.add(box);
      for (const more of item.element.querySelectorAll("details.more")) {
        if (words.some(word => more.textContent.toLowerCase().includes(word))) open(more);
      }
      if (marks) highlight(item.element, words);
    }
    for (const box of boxes) {
      box.classList.toggle("miss", active && !hits.has(box));
      if (active && hits.has(box) && box.tagName === "DETAILS") open(box);
    }
    main.classList.toggle("searching", active);
    tell(active, counts);
  }

  function tell(active, counts) {
    const shown = [...counts].filter(([, [hit]]) => hit).map(([kind, [hit, all]]) => `${hit} of ${all} ${kind}${all === 1 ? "" : "s"}`);
    said.textContent = !active ? "" : shown.length ? shown.join(", ") : "Nothing on this page matches.";
  }

  function remember() {
    const state = new URLSearchParams(wanted()).toString();
    history.replaceState(null, "", state ? `#${state}` : location.pathname + location.search);
  }

  function recall() {
    if (!location.hash.includes("=")) return reveal();
    const state = new URLSearchParams(location.hash.slice(1));
    for (const field of fields) field.value = state.get(field.name) || "";
    filter();
  }

  // A link to what the filter hides, or to what is folded, shows it.
  function reveal() {
    const target = document.getElementById(location.hash.slice(1));
    if (!target || !main.contains(target)) return;
    if (target.closest(".miss")) clear();
    for (let box = target.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
    target.scrollIntoView();
  }

  function clear() {
    for (const field of fields) field.value = "";
    filter();
  }

  form.addEventListener("input", () => { filter(); remember(); });
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("reset", event => { event.preventDefault(); clear(); remember(); form.elements.q.focus(); });
  addEventListener("hashchange", recall);
  addEventListener("keydown", event => {
    const typing = event.target.closest("input, select, textarea");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      form.elements.q.focus();
      form.elements.q.select();
    } else if (event.key === "Escape" && event.target === form.elements.q) {
      clear();
      remember();
    }
  });
  form.hidden = false;
  if (location.hash) recall();
})();
