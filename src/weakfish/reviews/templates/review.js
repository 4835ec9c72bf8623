"use strict";
const about = JSON.parse(document.getElementById("about").textContent);
const token = new URLSearchParams(location.search).get("token") || "";
const by = (id) => document.getElementById(id);
const many = about.classes.length > 9;
let asked = null, busy = false, shown = about.classes;

function made(name, text, attributes) {
  const element = document.createElement(name);
  if (text !== undefined && text !== null) element.textContent = text;
  Object.assign(element, attributes || {});
  return element;
}

async function ask(path, content) {
  const how = { headers: { "X-Weakfish-Token": token } };
  if (content !== undefined) Object.assign(how, { method: "POST", body: JSON.stringify(content) });
  let answer;
  try {
    answer = await fetch(path, how);
  } catch (error) {
    throw new Error("`weakfish review` does not answer: what it acknowledged is kept. Start it again and open its new address.");
  }
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
}

function say(text, kind) {
  by("said").textContent = text;
  by("said").className = kind || "";
}

function percent(share) { return (100 * share).toFixed(1) + " %"; }

function drawClasses() {
  const wanted = by("filter").value.trim().toLowerCase();
  const words = wanted.split(/\s+/).filter(Boolean);
  const fits = (item) => words.every((word) => (item.name + " " + (item.meaning || "")).toLowerCase().includes(word));
  shown = about.classes.filter(fits);
  const starts = (item) => item.name.toLowerCase().startsWith(wanted) ? 0 : 1;
  if (wanted) shown.sort((one, other) => starts(one) - starts(other));
  by("classes").replaceChildren(...shown.map((item, place) => {
    const button = made("button", null, { type: "button", disabled: !asked });
    if (place < 9) button.append(made("kbd", String(place + 1))); else button.append(made("span", ""));
    button.append(made("span", item.name));
    if (item.meaning) button.append(made("small", item.meaning));
    if (many && wanted && place === 0) button.className = "first";
    button.addEventListener("click", () => answer("class", item.name));
    const line = made("li");
    line.append(button);
    return line;
  }));
  if (!shown.length) by("classes").replaceChildren(made("li", "No class fits.", { className: "quiet" }));
}

function drawRow(state) {
  asked = state.asked;
  const of = state.questions === null ? "" : " of " + state.questions;
  by("progress").textContent = state.given + of + " answered; kept in " + state.file;
  for (const id of ["unsure", "skip"]) by(id).disabled = !asked;
  by("filter").value = "";
  by("note").value = "";
  drawClasses();
  by("texts").replaceChildren();
  by("values").replaceChildren();
  by("why").hidden = by("like").hidden = !asked;
  if (!asked) {
    by("which").textContent = "No row is left.";
    by("asked-why").textContent = "Run `weakfish run`: it takes the answers in. You may close this page.";
    return;
  }
  by("which").textContent = asked.key;
  const disputed = Object.entries(asked.said).map(([who, what]) => who + " says " + what).join(", ");
  by("asked-why").textContent = "Asked about because: " + asked.why + (disputed ? " (" + disputed + ")" : "") + ".";
  for (const [name, value] of Object.entries(asked.texts)) {
    const text = made("p", value, { tabIndex: 0 });
    text.setAttribute("aria-label", name);
    by("texts").append(made("h3", name), text);
  }
  for (const [name, value] of Object.entries(asked.values)) by("values").append(made("dt", name), made("dd", value));
  by("like").hidden = !asked.like.length;
  by("like-rows").replaceChildren(...asked.like.map((row) => {
    const line = made("li");
    line.append(made("b", row.label), made("span", row.excerpt));
    return line;
  }));
  by("why-body").replaceChildren(made("p", "Loading…", { className: "quiet" }));
  explain(asked.key);
  by("which").focus({ preventScroll: true });
  scrollTo(0, 0);
}

function table(titles, rows) {
  const found = made("table"), head = made("tr");
  for (const title of titles) head.append(made("th", title, { scope: "col" }));
  const top = made("thead"), body = made("tbody");
  top.append(head);
  for (const row of rows) {
    const line = made("tr");
    row.forEach((cell, place) => {
      const box = made("td");
      if (typeof cell === "string") box.textContent = cell; else box.append(...cell);
      if (place === row.length - 1) box.className = "n";
      line.append(box);
    });
    body.append(line);
  }
  found.append(top, body);
  return found;
}

function signed(number) { return number === null ? "–" : (number >= 0 ? "+" : "−") + Math.abs(number).toFixed(2); }

async function explain(key) {
  try {
    const why = await ask("/why");
    if (!asked || asked.key !== key) return;
    const likely = why.probabilities.slice(0, 3).map((each) => each.name + " " + percent(each.share)).join(", ");
    const body = [made("p", (why.label === null ? "No label" : "Label now: " + why.label) + " (" + likely + ").")];
    if (why.votes.length) {
      const weighed = why.votes.some((vote) => vote.adds !== null);
      body.push(table(["Labeling function", "Vote", ...(weighed ? ["Log odds of " + why.about] : [])], why.votes.map((vote) => {
        const name = [made("code", vote.name)];
        if (vote.doc) name.push(made("small", vote.doc));
        return [name, vote.vote, ...(weighed ? [signed(vote.adds)] : [])];
      })));
    }
    body.push(made("p", why.silent + " labeling functions abstain.", { className: "quiet" }));
    if (why.words.length) {
      body.push(table(["Words that the reader weighs", "Log odds of " + why.about],
        why.words.slice(0, 6).map((each) => [each.word + " (" + each.column + ")", signed(each.adds)])));
    }
    by("why-body").replaceChildren(...body);
  } catch (error) {
    by("why-body").replaceChildren(made("p", error.message));
  }
}

let counting = false, again = false;
async function drawBought() {
  if (counting) { again = true; return; }
  counting = true;
  try {
    const bought = await ask("/bought"), lines = [];
    const found = bought.estimates;
    if (found && found.accuracy) {
      const line = made("p", "Accuracy of the labels: ");
      line.append(made("b", percent(found.accuracy.value)), made("span", ", between " + percent(found.accuracy.low) + " and " + percent(found.accuracy.high) + " (95 %), from " + found.answers + " answers."));
      lines.push(line);
      const shares = Object.entries(found.classes).filter(([, each]) => each.share).sort((one, other) => other[1].share.value - one[1].share.value);
      if (shares.length) {
        lines.push(table(["Class", "Share of rows", "between"], shares.slice(0, 9).map(([name, each]) => [name, percent(each.share.value), percent(each.share.low) + " – " + percent(each.share.high)])));
      }
    }
    const taught = bought.changing;
    if (taught.answered) {
      lines.push(made("p", "Answers that teach: " + taught.answered + ". Other than the label now: " + taught.other + "."));
      lines.push(made("p", "Rows whose label would change by the votes, with these answers: " + taught.moved.toLocaleString("en") + "."
        + (bought.teaches ? "" : " The label model learns of answers where params.yaml says known: dev.")));
    }
    by("bought-body").replaceChildren(...(lines.length ? lines : [made("p", "Nothing yet.", { className: "quiet" })]));
  } catch (error) {
    by("bought-body").replaceChildren(made("p", error.message));
  }
  counting = false;
  if (again) { again = false; drawBought(); }
}

async function send(path, content, done) {
  if (busy) return;
  busy = true;
  try {
    drawRow(await ask(path, content));
    say(done, "good");
    drawBought();
  } catch (error) {
    say(error.message, "bad");
  }
  busy = false;
}

function answer(said, label) {
  if (!asked) return;
  const note = by("note").value.trim();
  const what = said === "class" ? label : said === "unsure" ? "unsure" : "skipped";
  send("/answer", { key: asked.key, said, label, note: note || null }, "Kept: " + what + ".");
}

by("unsure").addEventListener("click", () => answer("unsure"));
by("skip").addEventListener("click", () => answer("skip"));
by("undo").addEventListener("click", () => send("/undo", {}, "Taken back."));
by("filter").addEventListener("input", drawClasses);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const within = event.target;
  if (within === by("note")) {
    if (event.key === "Escape") { event.preventDefault(); by("which").focus(); }
    return;
  }
  const narrowing = within === by("filter");
  if (narrowing && event.key === "Escape") { by("filter").value = ""; drawClasses(); by("which").focus(); return; }
  if (narrowing && event.key === "Enter" && shown.length) { event.preventDefault(); answer("class", shown[0].name); return; }
  if (/^[1-9]$/.test(event.key) && shown[event.key - 1]) { event.preventDefault(); answer("class", shown[event.key - 1].name); return; }
  if (event.key === "?") { event.preventDefault(); answer("unsure"); return; }
  if (narrowing || within.tagName === "BUTTON" && (event.key === "Enter" || event.key === " ")) return;
  if (event.key === "s") { event.preventDefault(); answer("skip"); }
  else if (event.key === "u") { event.preventDefault(); send("/undo", {}, "Taken back."); }
  else if (event.key === "n") { event.preventDefault(); by("note").focus(); }
  else if (many && event.key === "/") { event.preventDefault(); by("filter").focus(); }
  else if (many && /^[\p{L}\p{N}]$/u.test(event.key)) by("filter").focus();
});

by("search").hidden = !many;
ask("/state").then((state) => { drawRow(state); drawBought(); }).catch((error) => say(error.message, "bad"));
