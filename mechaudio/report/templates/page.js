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

function fitted(layout, width) {
  const fitting = { ...layout, autosize: true };
  delete fitting.width;
  if (width < NARROW) fitting.margin = { ...layout.margin, l: 44, r: 8 };
  return fitting;
}

function draw(section) {
  for (const panel of section.querySelectorAll("figure.panel")) {
    const plot = panel.querySelector(".plot");
    if (plot.dataset.drawn) continue;
    plot.dataset.drawn = "yes";
    const figure = JSON.parse(panel.querySelector("script[type='application/json']").textContent);
    const narrow = plot.clientWidth < NARROW;
    for (const trace of narrow ? figure.data : []) {
      if (trace.colorbar) Object.assign(trace.colorbar, { thickness: 8, title: { text: "" } });
    }
    const config = narrow ? { ...CONFIG, displayModeBar: false } : CONFIG;
    Plotly.newPlot(plot, figure.data, fitted(figure.layout, plot.clientWidth), config).then(() => {
      if (panel.classList.contains("timeline")) follow(section.querySelector("audio"), plot);
    });
  }
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
