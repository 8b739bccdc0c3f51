// The page's document: elements, colours of the style sheet, and figures that are drawn when they become visible.
"use strict";

const CONTENT = JSON.parse(document.getElementById("content").textContent);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = (selector, root = document) => root.querySelector(selector);
const isNarrow = () => window.innerWidth < 600;
const PALETTE_SIZE = 8;
const PLOT = { displaylogo: false, responsive: true, displayModeBar: false };

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in made && name !== "style") made[name] = value; else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// Colours: the style sheet distinguishes dark from light.

function readTheme() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const palette = Array.from({ length: PALETTE_SIZE }, (_, index) => colour(`--c${index}`));
  const scale = [0, 1, 2, 3].map((index) => [index / 3, colour(`--s${index}`)]);
  return { ink: colour("--ink"), soft: colour("--soft"), rule: colour("--rule"), card: colour("--card"), palette, scale };
}

let theme = readTheme();

// Figures are drawn when they become visible, and again when their content changes.

const drawers = new Map();
const inSight = new IntersectionObserver((entries) => entries.forEach((entry) => {
  const figure = drawers.get(entry.target);
  figure.isInSight = entry.isIntersecting;
  if (entry.isIntersecting) drawIfStale(entry.target);
}), { rootMargin: "300px" });

function addFigure(target, draw) {
  drawers.set(target, { draw, isStale: true, isInSight: false });
  inSight.observe(target);
}

// One per frame, so that scrolling stays smooth; figures scrolled out of view are left for later.
const waiting = new Set();

function drawIfStale(target) {
  if (!drawers.get(target).isInSight) return;
  if (!waiting.size) requestAnimationFrame(drawNext);
  waiting.add(target);
}

function drawNext() {
  const [target] = waiting;
  waiting.delete(target);
  if (waiting.size) requestAnimationFrame(drawNext);
  const figure = drawers.get(target);
  if (!figure.isStale || !figure.isInSight) return;
  figure.isStale = false;
  figure.draw(target);
}

function refresh(targets) {
  for (const target of targets) {
    drawers.get(target).isStale = true;
    drawIfStale(target);
  }
}

/** Plotly is large: it is read when the first figure comes into sight, after the words and tables are there. */
function loadPlotly() {
  if (typeof Plotly === "undefined") document.head.append(element("script", { textContent: one("#plotly").textContent }));
}

function plot(target, { data, layout }) {
  loadPlotly();
  return Plotly.react(target, data, layout, PLOT);
}

function fillLegends(root, entries) {
  all(".legend:not(.own)", root).forEach((legend) => fillLegend(legend, entries));
}

function fillLegend(legend, entries) {
  legend.replaceChildren(...entries.map(([label, colour]) =>
    element("li", {}, element("span", { className: "swatch", style: `background:${colour}` }), label)));
}
