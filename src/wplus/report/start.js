// Curves, and the page's start.
"use strict";

function equipCurves(root, blocks) {
  const part = CONTENT.curves[root.dataset.curves];
  const block = blocks.get(root.dataset.of);
  const state = { smoothing: 0, asMeans: part.has_seeds };
  const rowOf = new Map(block.data.rows.map((row, index) => [row.name, index]));
  const view = () => ({ theme, isAlone: part.is_alone, ...state,
    isShown: (group) => part.is_alone || !rowOf.has(group) || block.rows.includes(rowOf.get(group)),
    colourOf: (group) => block.colours.of[rowOf.get(group)] ?? theme.palette[0] });
  const figures = all("[data-chart=curve]", root);
  figures.forEach((target) => addFigure(target, () => plot(target, curveFigure(part.charts[Number(target.dataset.curve)], view()))));
  const update = () => {
    refresh(figures);
    fillLegends(root, part.is_alone ? [] : block.colours.legend);
  };
  update();
  one(".smoothing", root).addEventListener("input", (event) => {
    state.smoothing = Number(event.target.value);
    one(".smoothing-text", root).textContent = state.smoothing.toFixed(2);
    update();
  });
  one(".means", root)?.addEventListener("change", (event) => { state.asMeans = event.target.checked; update(); });
  block.listeners.push(update);
}

// Start

function start() {
  all("[data-same]").forEach((each) => { each.src = document.getElementById(each.dataset.same).src; });
  const blocks = new Map(all("[data-block]").map((root) => [root.dataset.block, new Block(root)]));
  all("[data-curves]").forEach((root) => equipCurves(root, blocks));
  all(".grid").forEach((root) => equipGrid(root, blocks.get(root.dataset.of)));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    theme = readTheme();
    for (const block of blocks.values()) {
      block.colours = coloursOf(block.data, block.state.colour);
      block.showColours();
      block.listeners.forEach((listener) => listener());
    }
    refresh([...drawers.keys()]);
  });
  all("details").forEach((each) => each.addEventListener("toggle", () => refresh(all("[data-chart]", each))));
  document.documentElement.dataset.ready = "yes";
}

start();
