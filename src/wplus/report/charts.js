// Input for plotly: pure functions from a block and a view to { data, layout }.
// A block is made by wplus/report/blocks.py. A view: { rows, members, number, colours, theme }, where rows and
// members are the indices that are shown and colours has { of: row -> colour, legend: [[label, colour]] }.
"use strict";

const MAX_TICKS = 10;
const numberOf = (block, name) => block.numbers.find((number) => number.name === name);
const cellOf = (block, row, name) => block.rows[row].cells[name] ?? null;
const titled = (number) => `${number.label}${number.unit ? `, ${number.unit}` : ""}${number.arrow ? ` ${number.arrow}` : ""}`;

/** Names are shown as they are: plotly reads a little HTML, which users' labels must not be. */
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

/** Words in lines of at most `most` characters, a longer word cut. */
function wrapped(text, most) {
  const lines = [];
  for (const word of text.split(" ").map((each) => (each.length <= most ? each : `${each.slice(0, most - 1)}…`))) {
    const last = lines.length - 1;
    if (last >= 0 && lines[last].length + 1 + word.length <= most) lines[last] += ` ${word}`; else lines.push(word);
  }
  return lines;
}
const faded = (colour, alpha) => colour + Math.round(alpha * 255).toString(16).padStart(2, "0");

function layoutOf(theme, changes = {}) {
  const { xaxis, yaxis, ...rest } = changes;
  const lines = { gridcolor: theme.rule, zeroline: false, linecolor: theme.rule, automargin: true };
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest", showlegend: false,
    font: { family: "system-ui, sans-serif", size: 12, color: theme.soft },
    margin: { l: 12, r: 12, t: 10, b: 36 },
    hoverlabel: { bgcolor: theme.card, bordercolor: theme.rule, font: { color: theme.ink } },
    ...rest, xaxis: { ...lines, ...xaxis }, yaxis: { ...lines, ...yaxis },
  };
}

/** A row for each configuration or method: dots are seeds, the large one their mean, the line its interval. */
function dotsFigure(block, view) {
  const number = numberOf(block, view.number);
  const rows = view.rows.filter((row) => cellOf(block, row, view.number) !== null).reverse();
  const names = rows.map((row) => wrapped(block.rows[row].name, view.isNarrow ? 18 : 40));
  const numLines = Math.max(1, ...names.map((lines) => lines.length));
  const cells = rows.map((row) => cellOf(block, row, view.number));
  const colours = rows.map((row) => view.colours.of[row]);
  const places = rows.map((_, index) => index);
  const points = cells.flatMap((cell, index) => (cell.points.length > 1 ? cell.points : []).map(([seed, value]) =>
    ({ x: value, y: index, text: `${block.rows[rows[index]].name}, seed ${seed}: ${formatted(value)}` })));
  const hover = cells.map((cell, index) => `${plain(block.rows[rows[index]].name)}<br>${plain(cellText(cell, number))}`);
  const data = [
    ...cells.map((cell, index) => ({ x: [cell.low, cell.high], y: [index, index], mode: "lines", hoverinfo: "skip",
      line: { color: colours[index], width: 3 }, cell })).filter((trace) => trace.cell.low !== null)
      .map(({ cell, ...trace }) => trace),
    { x: points.map((p) => p.x), y: points.map((p) => p.y), text: points.map((p) => plain(p.text)), mode: "markers",
      hoverinfo: "text", marker: { symbol: "line-ns-open", size: 11, color: points.map((p) => colours[p.y]) } },
    { x: cells.map((cell) => cell.value), y: places, text: hover, mode: "markers", hoverinfo: "text",
      marker: { size: 10, color: colours, line: { color: view.theme.card, width: 1.5 } } },
  ];
  const layout = layoutOf(view.theme, {
    height: 76 + (10 + 15 * numLines) * Math.max(rows.length, 2),
    xaxis: { title: { text: plain(titled(number)) } },
    yaxis: { tickvals: places, ticktext: names.map((lines) => lines.map(plain).join("<br>")), range: [-0.6, rows.length - 0.4], showgrid: false },
  });
  return { data, layout };
}

function cellText(cell, number) {
  const unit = number.unit ? ` ${number.unit}` : "";
  const over = cell.over === "seeds" ? "seeds" : "items of one run";
  const bounds = cell.low === null ? "" : ` (95 % over ${over}: ${formatted(cell.low)} to ${formatted(cell.high)})`;
  return `${number.label} ${formatted(cell.value)}${unit}${bounds}`;
}

/** Score over one swept number: a line for each combination of the other keys, with its band. */
function axisFigure(block, view, keyIndex) {
  const key = block.keys[keyIndex];
  const others = block.keys.filter((_, index) => index !== keyIndex);
  const lines = new Map();
  for (const row of view.rows.filter((each) => cellOf(block, each, view.number) !== null)) {
    const name = others.map((each) => `${each.label}=${each.ticks[tickOf(each, row)]}`).join(" ");
    lines.set(name, [...(lines.get(name) ?? []), row]);
  }
  const { palette } = view.theme;
  const colours = [...lines.values()].map((rows, index) => (lines.size <= palette.length ? palette[index] : view.colours.of[rows[0]]));
  const data = [...lines].flatMap(([name, rows], index) => lineWithBand(block, view, key, name, rows, colours[index]));
  const isDense = key.kind !== "choice" && key.ticks.length > MAX_TICKS; // as of a search, whose values are all different
  const ticks = isDense ? {} : { tickvals: key.tick_at, ticktext: key.ticks.map(plain) };
  const layout = layoutOf(view.theme, {
    height: 320,
    xaxis: { title: { text: plain(key.label) }, type: key.kind === "log" ? "log" : "linear", ...ticks },
    yaxis: { title: { text: plain(titled(numberOf(block, view.number))) } },
  });
  const legend = lines.size > 1 ? [...lines.keys()].map((name, index) => [name, colours[index]]) : [];
  return { data, layout, legend };
}

const tickOf = (key, row) => key.tick_at.indexOf(key.at[row]);

function lineWithBand(block, view, key, name, rows, colour) {
  const order = [...rows].sort((a, b) => key.at[a] - key.at[b]);
  const cells = order.map((row) => cellOf(block, row, view.number));
  const bounds = cells.map(boundsOf);
  const x = order.map((row) => key.at[row]);
  const points = cells.flatMap((cell, index) => cell.points.map(([seed, value]) => ({ x: x[index], y: value, seed })));
  const shown = name || block.noun;
  return [
    { x: [...x, ...[...x].reverse()], y: [...bounds.map((b) => b[1]), ...bounds.map((b) => b[0]).reverse()],
      fill: "toself", fillcolor: faded(colour, 0.16), line: { width: 0 }, mode: "lines", hoverinfo: "skip", name: "band" },
    { x: points.map((p) => p.x), y: points.map((p) => p.y), mode: "markers", hoverinfo: "text", name: "seeds",
      text: points.map((p) => plain(`${shown}, seed ${p.seed}: ${formatted(p.y)}`)),
      marker: { size: 5, color: faded(colour, 0.55) } },
    { x, y: cells.map((cell) => cell.value), mode: "lines+markers", line: { color: colour, width: 2 }, name: plain(shown),
      marker: { size: 7, color: colour }, hoverinfo: "text",
      text: cells.map((cell) => plain(`${shown}: ${cellText(cell, numberOf(block, view.number))}`)) },
  ];
}

/** The interval; below five seeds the range of the points. */
function boundsOf(cell) {
  if (cell.low !== null) return [cell.low, cell.high];
  const values = cell.points.map((point) => point[1]);
  return values.length ? [Math.min(...values), Math.max(...values)] : [cell.value, cell.value];
}

/** Two keys against each other; a field is the mean of the configurations that have both values. */
function heatFigure(block, view, xIndex, yIndex) {
  const [x, y] = [block.keys[xIndex], block.keys[yIndex]];
  const fields = y.ticks.map(() => x.ticks.map(() => []));
  for (const row of view.rows) {
    const cell = cellOf(block, row, view.number);
    if (cell !== null) fields[tickOf(y, row)][tickOf(x, row)].push(cell.value);
  }
  const z = fields.map((row) => row.map((values) => (values.length ? values.reduce((a, b) => a + b) / values.length : null)));
  const axis = (key) => ({ title: { text: plain(key.label) }, type: "category", showgrid: false });
  return {
    data: [{ type: "heatmap", z, x: x.ticks.map(plain), y: y.ticks.map(plain), colorscale: view.theme.scale, xgap: 2, ygap: 2,
      text: z.map((row) => row.map((value) => (value === null ? "" : formatted(value)))), texttemplate: "%{text}",
      hovertemplate: `${plain(y.label)} %{y}, ${plain(x.label)} %{x}: %{z:.4g}<extra></extra>`,
      colorbar: { title: { text: plain(titled(numberOf(block, view.number))), side: "right" }, thickness: 12, outlinewidth: 0 } }],
    layout: layoutOf(view.theme, { height: 140 + 44 * y.ticks.length, xaxis: axis(x), yaxis: axis(y) }),
  };
}

/** The lines of parallel coordinates: every run (or method), its keys and the chosen numbers. */
function parallelFigure(block, view, numbers, ranges) {
  const lines = linesOf(block).filter((line) => view.brushable.includes(line.row));
  const keys = block.keys.map((key) => ({ label: plain(key.label), values: lines.map((line) => tickOf(key, line.row)),
    tickvals: key.ticks.map((_, index) => index), ticktext: key.ticks.map(plain), range: [-0.2, key.ticks.length - 0.8] }));
  const scores = numbers.map((name) => numberOf(block, name)).map((number) => ({
    label: plain(titled(number)), values: lines.map((line) => line.values[number.name] ?? null), tickformat: ".3~g" }));
  const dimensions = [...keys, ...scores].map((dimension, index) => (
    ranges[index] ? { ...dimension, constraintrange: ranges[index] } : dimension));
  const last = scores[scores.length - 1] ?? keys[0];
  return {
    data: [{ type: "parcoords", dimensions, labelangle: view.isNarrow ? -25 : 0, labelside: "top",
      line: { color: last.values, colorscale: view.theme.scale },
      unselected: { line: { color: view.theme.rule, opacity: 0.35 } },
      labelfont: { color: view.theme.ink, size: 12 }, tickfont: { color: view.theme.soft, size: 11 },
      rangefont: { color: "rgba(0,0,0,0)", size: 1 } }],
    layout: layoutOf(view.theme, { height: 380, margin: { l: 56, r: 60, t: view.isNarrow ? 96 : 48, b: 24 } }),
  };
}

/** What parallel coordinates have a line for: each run, or each row where there are no runs. */
function linesOf(block) {
  if (block.members.length) return block.members;
  return block.rows.map((row, index) => ({ label: row.name, row: index, seed: 0,
    values: Object.fromEntries(Object.entries(row.cells).map(([name, cell]) => [name, cell.value])) }));
}

/** The rows of which a line lies within all brushed ranges; ranges: per dimension null, [low, high] or a list of them. */
function brushedRows(block, dimensions, ranges) {
  const lines = linesOf(block);
  const slack = ([a, b]) => 1e-9 * Math.max(Math.abs(a), Math.abs(b)); // plotly rounds the ends of its ranges
  const isIn = (value, range) => (Array.isArray(range[0]) ? range : [range])
    .some((ends) => value >= ends[0] - slack(ends) && value <= ends[1] + slack(ends));
  const valueOf = (line, dimension) => (dimension.key === undefined ? line.values[dimension.number] ?? null
    : tickOf(block.keys[dimension.key], line.row));
  const kept = lines.filter((line) => dimensions.every((dimension, index) => {
    const value = valueOf(line, dimension);
    return !ranges[index] || (value !== null && isIn(value, ranges[index]));
  }));
  return [...new Set(kept.map((line) => line.row))];
}

/** Two numbers against each other, a third as colour; the configurations that no other beats in all are ringed. */
function paretoFigure(block, view, names) {
  const numbers = names.map((name) => numberOf(block, name));
  const rows = view.rows.filter((row) => names.every((name) => cellOf(block, row, name) !== null));
  const points = rows.map((row) => names.map((name) => cellOf(block, row, name).value));
  const front = new Set(paretoFront(points, numbers.map((number) => number.direction)));
  const third = names.length > 2;
  const text = rows.map((row, index) => [block.rows[row].name, ...names.map((name, axis) =>
    `${numbers[axis].label} ${formatted(points[index][axis])}`)].map(plain).join("<br>"));
  const line = [...front].sort((a, b) => points[a][0] - points[b][0]);
  const marker = { size: rows.map((_, index) => (front.has(index) ? 13 : 8)),
    symbol: rows.map((_, index) => (front.has(index) ? "circle" : "circle-open")),
    color: third ? points.map((point) => point[2]) : rows.map((row) => view.colours.of[row]),
    ...(third ? { colorscale: view.theme.scale, showscale: true, colorbar: { title: { text: plain(titled(numbers[2])), side: "right" },
      thickness: 12, outlinewidth: 0 } } : {}) };
  const steps = third ? [] : [{ x: line.map((index) => points[index][0]), y: line.map((index) => points[index][1]),
    mode: "lines", line: { color: view.theme.soft, width: 1.5, dash: "dot" }, hoverinfo: "skip" }];
  const data = [...steps, { x: points.map((p) => p[0]), y: points.map((p) => p[1]), text, mode: "markers", hoverinfo: "text", marker }];
  const axis = (number) => ({ title: { text: plain(titled(number)) } });
  return { data, layout: layoutOf(view.theme, { height: 380, xaxis: axis(numbers[0]), yaxis: axis(numbers[1]) }),
    front: [...front].map((index) => rows[index]) };
}

/** Curves of runs, or of configurations: the mean over their seeds with the range of the seeds as a band. */
function curveFigure(chart, view) {
  const lines = chart.lines.filter((line) => view.isShown(line.group));
  const groups = new Map();
  const nameOf = (line) => (view.asMeans ? line.group : line.run) + (view.isAlone ? line.name : "");
  for (const line of lines) groups.set(nameOf(line), [...(groups.get(nameOf(line)) ?? []), line]);
  const names = [...new Set(lines.map((line) => line.name))];
  const data = [...groups.values()].flatMap((group) => curveTraces(group, names, view));
  const legend = view.isAlone && names.length > 1;
  return { data, layout: layoutOf(view.theme, { height: 280, showlegend: legend,
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, margin: { l: 12, r: 12, t: legend ? 34 : 10, b: 36 },
    xaxis: { title: { text: chart.axis } }, yaxis: { type: chart.is_log ? "log" : "linear" } }) };
}

function curveTraces(group, names, view) {
  const lines = group.map((line) => ({ ...line, y: smoothed(line.y, view.smoothing) }));
  const colour = view.isAlone ? view.theme.palette[names.indexOf(group[0].name) % view.theme.palette.length]
    : view.colourOf(group[0].group);
  const label = view.isAlone ? names.length > 1 ? group[0].name.replace(/^train\//, "") : "" : view.asMeans ? group[0].group : group[0].run;
  const trace = { mode: lines[0].x.length < 2 ? "markers" : "lines", line: { color: colour, width: 1.8 }, name: plain(label) };
  const hover = { hovertemplate: `${plain(label)} %{x:.4~g}: %{y:.4~g}<extra></extra>` };
  if (lines.length === 1 || !view.asMeans) return lines.map((line) => ({ x: line.x, y: line.y, ...trace, ...hover }));
  const { x, mean, low, high } = band(lines);
  const edge = { x, mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
  return [{ ...edge, y: low }, { ...edge, y: high, fill: "tonexty", fillcolor: faded(colour, 0.18) }, { x, y: mean, ...trace, ...hover }];
}

if (typeof module !== "undefined") {
  Object.assign(globalThis, require("./numbers.js"));
  module.exports = { axisFigure, boundsOf, brushedRows, curveFigure, dotsFigure, heatFigure, linesOf, paretoFigure, parallelFigure, wrapped };
}
