"use strict";

// Whatever goes wrong is said on the page: a figure that is missing without a word would be worse.
window.addEventListener("error", (event) => fail(event.message));
window.addEventListener("unhandledrejection", (event) => fail(String(event.reason)));

function fail(message) {
  const place = document.getElementById("failure");
  place.textContent = "A part of this page could not be drawn: " + message;
  place.hidden = false;
}

const CONFIG = {
  responsive: true,
  displaylogo: false,
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
};
const NARROW = 560;
const TWO_COLUMNS = 860;

// Columns of a figure one below the other, each as wide as the page, where side by side they would overlap.
function stacked(layout) {
  const axes = (letter) => Object.keys(layout).filter((name) => new RegExp(`^${letter}axis\\d*$`).test(name) && !layout[name].overlaying);
  const pairs = axes("x").map((x) => [x, (layout[x].anchor || "y").replace("y", "yaxis")]).filter(([, y]) => layout[y]);
  const domain = (axis) => layout[axis].domain || [0, 1];
  const starts = [...new Set(pairs.map(([x]) => domain(x)[0]))].sort((a, b) => a - b);
  if (starts.length !== 2) return layout;
  const cells = pairs.toSorted(([x, y], [u, v]) => domain(v)[1] - domain(y)[1] || domain(x)[0] - domain(u)[0]);
  const rows = new Set(pairs.map(([, y]) => domain(y)[0])).size;
  // What one axis of a row or column says for all of them, each has to say by itself.
  const said = (axis, beside) => axis.title?.text ? axis.title : beside.find((other) => other.title?.text)?.title;
  const titles = new Map(cells.map(([x, y]) => [x, {
    x: said(layout[x], cells.filter(([u]) => domain(u)[0] === domain(x)[0]).map(([u]) => layout[u])),
    y: said(layout[y], cells.filter(([, v]) => domain(v)[1] === domain(y)[1]).map(([, v]) => layout[v])),
  }]));
  const gap = 0.24 / rows;
  const tall = (1 - gap * (cells.length - 1)) / cells.length;
  const moved = { ...layout, height: (layout.height || 450) * 1.8 };
  moved.annotations = (layout.annotations || []).map((note) => ({ ...note }));
  for (const [index, [x, y]] of cells.entries()) {
    const top = 1 - index * (tall + gap);
    for (const note of moved.annotations) {
      const [left, right] = domain(x);
      if (note.xref !== "paper" || note.moved || note.x < left || note.x > right || Math.abs(note.y - domain(y)[1]) > 0.02) continue;
      Object.assign(note, { x: (note.x - left) / (right - left), y: top, moved: true });
    }
    moved[x] = { ...layout[x], domain: [0, 1], showticklabels: true, title: titles.get(x).x };
    moved[y] = { ...layout[y], domain: [Math.max(0, top - tall), top], showticklabels: true, title: titles.get(x).y };
  }
  for (const note of moved.annotations) delete note.moved;
  return moved;
}

function fitted(drawn, width) {
  const layout = width < TWO_COLUMNS ? stacked(drawn) : drawn;
  const fitting = { ...layout, autosize: true };
  delete fitting.width;
  return width < NARROW ? narrowed(fitting, width) : fitting;
}

// Lines of so many letters, where a title would be cut off.
function wrapped(text, letters) {
  const lines = [""];
  for (const word of text.split(" ")) {
    if (lines.at(-1) && (lines.at(-1) + word).length > letters) lines.push("");
    lines.push([lines.pop(), word].filter(Boolean).join(" "));
  }
  return lines.join("<br>");
}

const LETTER = 6.6;

function narrowed(layout, width) {
  const letters = Math.floor(width / 8.5);
  const narrow = { ...layout, margin: { ...layout.margin, l: 44, r: 8 } };
  for (const name of Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key))) {
    const title = layout[name].title;
    if (title?.text?.length > letters - 14) narrow[name] = { ...layout[name], title: { ...title, text: wrapped(title.text, letters - 14) } };
    const ticks = (layout[name].ticktext || []).join("").replace(/<[^>]*>/g, "").length;
    if (layout[name].tickangle === 0 && ticks * LETTER > width - 150) narrow[name] = { ...layout[name], tickangle: -40 };
  }
  if (layout.legend?.title?.text) narrow.legend = { ...layout.legend, title: { ...layout.legend.title, side: "top" } };
  const notes = layout.annotations || [];
  const numbers = notes.filter((note) => note.name === "number");
  const longest = Math.max(0, ...numbers.flatMap((note) => note.text.split("<br>").map((line) => line.replace(/<[^>]*>/g, "").length)));
  const crowded = new Set(numbers.map((note) => `${note.xref} ${note.x}`)).size * longest * LETTER > width - 110;
  narrow.annotations = notes.filter((note) => !(crowded && note.name === "number")).map((note) =>
    note.xref === "paper" && note.yanchor === "bottom" ? { ...note, text: wrapped(note.text, letters) } : note);
  if (narrow.annotations.some((note) => note.xref === "paper" && note.text.includes("<br>"))) narrow.margin.t = (narrow.margin.t || 0) + 18;
  return narrow;
}

function draw(section) {
  for (const panel of section.querySelectorAll("figure.panel")) {
    try {
      picture(panel, section);
    } catch (error) {  // the others are drawn all the same
      fail(String(error));
    }
  }
}

function picture(panel, section) {
  const plot = panel.querySelector(".plot");
  if (plot.dataset.drawn) return;
  plot.dataset.drawn = "yes";
  const figure = JSON.parse(panel.querySelector("script[type='application/json']").textContent);
  const narrow = plot.clientWidth < NARROW;
  for (const trace of narrow ? figure.data : []) {
    if (trace.name) trace.name = wrapped(trace.name, Math.floor(plot.clientWidth / 8.5));
    const unit = trace.colorbar?.title?.text;
    if (trace.colorbar) Object.assign(trace.colorbar, { thickness: 8, title: { text: unit && wrapped(unit, 7), font: { size: 11 } } });
  }
  const config = narrow ? { ...CONFIG, displayModeBar: false } : CONFIG;
  Plotly.newPlot(plot, figure.data, fitted(figure.layout, plot.clientWidth), config).then(() => {
    if (panel.classList.contains("timeline")) follow(panel.querySelector("audio") || section.querySelector("audio"), plot);
  });
}

// The line that moves through the picture while the recording plays, and playing from where one clicks.
function follow(audio, plot) {
  const line = document.createElement("div");
  line.className = "cursor";
  line.hidden = true;
  plot.append(line);
  plot.classList.add("seekable");

  function place() {
    const { xaxis, _size: size, height } = plot._fullLayout;
    const x = xaxis.d2p(audio.currentTime);
    line.hidden = audio.currentTime === 0 || x < 0 || x > xaxis._length;
    line.style.left = xaxis._offset + x + "px";
    line.style.top = size.t + "px";
    line.style.height = height - size.t - size.b + "px";
  }

  function step() {
    place();
    if (!audio.paused) requestAnimationFrame(step);
  }

  audio.addEventListener("play", step);
  audio.addEventListener("seeked", place);
  audio.addEventListener("timeupdate", place);
  plot.on("plotly_relayout", place);
  plot.on("plotly_click", ({ event }) => {
    const { xaxis } = plot._fullLayout;
    audio.currentTime = Math.max(0, xaxis.p2d(event.clientX - plot.getBoundingClientRect().left - xaxis._offset));
    audio.play();
  });
}

function show(name) {
  for (const tab of tabs) {
    const chosen = tab.getAttribute("aria-controls") === name;
    const section = document.getElementById(tab.getAttribute("aria-controls"));
    tab.setAttribute("aria-selected", chosen);
    tab.tabIndex = chosen ? 0 : -1;
    section.hidden = !chosen;
    if (chosen) draw(section);
    else section.querySelectorAll("audio").forEach((audio) => audio.pause());
  }
}

function fromAddress() {
  const name = location.hash.slice(1);
  show(tabs.some((tab) => tab.getAttribute("aria-controls") === name) ? name : tabs[0].getAttribute("aria-controls"));
}

// Tables sort by a column and show only the rows with some words: what a row says is all that they know.
const FILTERED_FROM = 8;

function sortable(table) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const headings = [...table.querySelectorAll("thead th")];
  for (const [column, heading] of headings.entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...heading.childNodes);
    heading.append(button);
    heading.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" }[heading.getAttribute("aria-sort")];
      for (const other of headings) other.setAttribute("aria-sort", other === heading ? next : "none");
      body.append(...(next === "none" ? rows : sorted(rows, column, next === "ascending" ? 1 : -1)));
    });
  }
  if (rows.length > FILTERED_FROM) filterable(table, rows);
}

function sorted(rows, column, way) {
  const cells = new Map(rows.map((row) => [row, value(row.cells[column].textContent.trim())]));
  return rows.toSorted((left, right) => {
    const [a, b] = [cells.get(left), cells.get(right)];
    if (a.missing || b.missing) return a.missing - b.missing;
    return way * (a.number !== null && b.number !== null ? a.number - b.number : a.text.localeCompare(b.text, "en", { numeric: true }));
  });
}

// A cell's first number, of an interval its lower end; what there is not stands last, whichever way.
function value(text) {
  const number = /^(<\s*)?\[?([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?=[\s,\]%]|$)/.exec(text);
  return { text, missing: text === "–" || text === "", number: number && Number(number[2]) - (number[1] ? 1e-12 : 0) };
}

function filterable(table, rows) {
  const title = table.getAttribute("aria-label") || table.parentElement.getAttribute("aria-label") || "this table";
  const filter = document.createElement("p");
  filter.className = "filter";
  const field = Object.assign(document.createElement("input"), { type: "search", placeholder: "Only rows with …" });
  field.setAttribute("aria-label", "Only rows with these words, of: " + title);
  const count = document.createElement("output");
  filter.append(field, count);
  (table.closest(".scroll") || table).before(filter);
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    count.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
  });
}

document.querySelectorAll("table.data").forEach(sortable);

// One recording at a time.
document.addEventListener("play", ({ target }) => {
  for (const audio of document.querySelectorAll("audio")) if (audio !== target) audio.pause();
}, true);

const tabs = [...document.querySelectorAll("[role='tab']")];
if (tabs.length) {
  for (const [index, tab] of tabs.entries()) {
    tab.addEventListener("click", () => history.replaceState(null, "", "#" + tab.getAttribute("aria-controls")));
    tab.addEventListener("click", () => show(tab.getAttribute("aria-controls")));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(index + step + tabs.length) % tabs.length];
      next.focus();
      next.click();
    });
  }
  window.addEventListener("hashchange", fromAddress);
  fromAddress();
} else {
  document.querySelectorAll("section").forEach(draw);
}
