"use strict";
// Narrows the page to what does not hold and to what is searched for, and opens what is collapsed.
const only = document.getElementById("failed-only");
const search = document.getElementById("search");
const sections = [...document.querySelectorAll(".ge-section")];
const rowsOf = (section) => [...section.querySelectorAll("table[data-search] > tbody > tr")];
const holds = (row) => row.querySelector("td .text-success") !== null;

function narrow() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of sections) {
    const rows = rowsOf(section);
    const title = (section.querySelector("h5")?.textContent ?? "").toLowerCase();
    for (const row of rows) {
      const text = title + " " + row.textContent.toLowerCase();
      row.hidden = (only.checked && holds(row)) || !words.every((word) => text.includes(word));
    }
    section.hidden = rows.length > 0 && rows.every((row) => row.hidden);
    for (const link of document.querySelectorAll(`#navigation a[href="#${section.id}"]`)) {
      link.closest("li").hidden = section.hidden;
    }
  }
}

only.addEventListener("change", narrow);
search.addEventListener("input", narrow);
document.addEventListener("click", (event) => {
  const link = event.target.closest('[data-toggle="collapse"]');
  if (link) {
    event.preventDefault();
    document.getElementById(link.getAttribute("href").slice(1))?.classList.toggle("show");
  }
});
narrow(); // a browser may have kept what was chosen before
