// An interactive table: sorts, filters, hides columns, has a baseline and a brush; its figures follow.
"use strict";

/** Row -> colour, and what to say of it; by configuration, or by the values of one key. */
function coloursOf(block, mode) {
  const key = mode === "row" ? null : block.keys[Number(mode)];
  const ticks = key ? key.ticks : block.rows.map((row) => row.name);
  const tick = block.rows.map((_, row) => (key ? tickOf(key, row) : row));
  const isOrdered = key && key.kind !== "choice" && ticks.length > 2;
  const colours = ticks.map((_, index) => (isOrdered ? scaleColour(index / (ticks.length - 1))
    : ticks.length > PALETTE_SIZE ? theme.palette[0] : theme.palette[index]));
  const prefix = key ? `${key.label}=` : "";
  return { of: tick.map((index) => colours[index]),
    legend: ticks.length > PALETTE_SIZE && !isOrdered ? [] : ticks.map((text, index) => [prefix + text, colours[index]]) };
}

function scaleColour(share) {
  const place = share * 3;
  const [low, high] = [Math.floor(place), Math.ceil(place)];
  const parts = (hex) => [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
  const [a, b] = [parts(theme.scale[low][1]), parts(theme.scale[high][1])];
  return `#${a.map((value, index) => Math.round(value + (b[index] - value) * (place - low)).toString(16).padStart(2, "0")).join("")}`;
}

function defaultColourMode(block) {
  if (block.rows.length <= PALETTE_SIZE || !block.keys.length) return "row";
  const few = block.keys.findIndex((key) => key.kind === "choice" && key.ticks.length <= PALETTE_SIZE);
  return String(few >= 0 ? few : 0);
}

class Block {
  constructor(root) {
    this.root = root;
    this.data = CONTENT.blocks[root.dataset.block];
    this.rows = this.data.rows.map((_, index) => index);
    this.state = { filter: "", ranges: [], sort: null, baseline: this.data.baseline, number: this.scores()[0]?.name,
      colour: defaultColourMode(this.data) };
    this.listeners = [];
    this.colours = coloursOf(this.data, this.state.colour);
    this.table = one("table.numbers", root);
    if (this.table) this.equipTable();
    this.equipCharts();
    this.update();
  }

  /** The numbers, the objective first, then those that judge. */
  scores() {
    const rank = (number) => (number.name === this.data.objective ? 0 : number.direction !== "neither" ? 1 : 2);
    return [...this.data.numbers].sort((a, b) => rank(a) - rank(b));
  }

  equipTable() {
    all("thead th", this.table).forEach((head, index) => {
      one("button", head).addEventListener("click", () => this.sortBy(index));
    });
    one(".filter", this.root)?.addEventListener("input", (event) => {
      this.state.filter = event.target.value;
      this.update();
    });
    one(".baseline", this.root)?.addEventListener("change", (event) => {
      this.state.baseline = event.target.value || null;
      this.showDifferences();
    });
    all(".columns input", this.root).forEach((box) => {
      box.addEventListener("change", () => this.showColumn(Number(box.value), box.checked));
      this.showColumn(Number(box.value), box.checked);
    });
    this.showDifferences();
  }

  showColumn(index, isShown) {
    all("tr", this.table).forEach((row) => { row.cells[index].hidden = !isShown; });
  }

  /** Sort by a column; again, the other way round. Numbers begin with the best. */
  sortBy(index) {
    const heads = all("thead th", this.table);
    const number = numberOf(this.data, heads[index].dataset.number);
    const first = number && number.direction === "higher" ? "descending" : "ascending";
    const other = { ascending: "descending", descending: "ascending" };
    const order = heads[index].hasAttribute("aria-sort") ? other[heads[index].getAttribute("aria-sort")] : first;
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[index].setAttribute("aria-sort", order);
    const body = one("tbody", this.table);
    const rows = [...body.rows];
    const values = rows.map((row) => valueOfCell(row.cells[index]));
    body.append(...sortedIndices(values, order === "ascending").map((place) => rows[place]));
  }

  /** What a filter can ask of a row. */
  fields(row) {
    const { keys, numbers, rows } = this.data;
    return { ...Object.fromEntries(keys.map((key) => [key.label, key.ticks[tickOf(key, row)]])),
      ...Object.fromEntries(numbers.map((number) => [number.label, rows[row].cells[number.name]?.value])) };
  }

  update() {
    const conditions = parsedFilter(this.state.filter);
    this.filtered = this.data.rows.map((_, row) => row)
      .filter((row) => matchesFilter(conditions, this.data.rows[row].name, this.fields(row)));
    const brushed = new Set(this.state.ranges.some(Boolean) ? brushedRows(this.data, this.dimensions, this.state.ranges)
      : this.filtered);
    this.rows = this.filtered.filter((row) => brushed.has(row));
    if (this.table) {
      const shown = new Set(this.rows);
      all("tbody tr", this.table).forEach((row) => { row.hidden = !shown.has(Number(row.dataset.row)); });
      one(".shown", this.root).textContent = this.rows.length === this.data.rows.length ? ""
        : `${this.rows.length} of ${this.data.rows.length} shown`;
    }
    this.showColours();
    refresh(this.figures.filter((target) => target.dataset.chart !== "parallel" || !this.state.ranges.some(Boolean)));
    this.listeners.forEach((listener) => listener());
  }

  showColours() {
    all("tbody tr", this.table ?? document.createElement("table")).forEach((row) => {
      one(".swatch", row).style.background = this.colours.of[Number(row.dataset.row)];
    });
    fillLegends(this.root, this.colours.legend);
  }

  showDifferences() {
    const { baseline } = this.state;
    all("tbody tr", this.table).forEach((line) => {
      const row = this.data.rows[Number(line.dataset.row)];
      line.classList.toggle("is-baseline", row.name === baseline);
      all("td[data-number]", line).forEach((cell) => {
        one(".difference", cell)?.remove();
        const found = this.difference(row, baseline, cell.dataset.number);
        if (found) cell.append(differenceElement(found, numberOf(this.data, cell.dataset.number)));
      });
    });
    const note = one(".baseline-note", this.root);
    if (note) note.hidden = baseline === null;
  }

  /** As it was tested; without a test the mean difference over common seeds. */
  difference(row, baseline, number) {
    if (baseline === null || row.name === baseline) return null;
    const tested = this.data.tests[baseline]?.[row.name]?.[number];
    if (tested) return tested;
    const [own, other] = [row, this.data.rows.find((each) => each.name === baseline)].map((each) => each.cells[number]);
    if (!own || !other) return null;
    const paired = pairedDifference(own.points, other.points);
    return paired ?? { difference: own.value - other.value };
  }

  // Charts

  view() {
    return { rows: this.rows, brushable: this.filtered, number: this.state.number, colours: this.colours, theme, isNarrow: isNarrow() };
  }

  equipCharts() {
    this.figures = all("[data-chart]", this.root).filter((target) => target.dataset.chart !== "curve");
    this.numbers = this.chosenNumbers();
    this.dimensions = [...this.data.keys.map((_, key) => ({ key })), ...this.numbers.map((number) => ({ number }))];
    const select = (name, act) => all(`.choose-${name}`, this.root).forEach((each) => {
      each.addEventListener("change", () => { act(each.value); this.update(); });
    });
    const score = one(".choose-number", this.root);
    if (score) score.value = this.state.number;
    const colour = one(".choose-colour", this.root);
    if (colour) colour.value = this.state.colour;
    select("number", (value) => { this.state.number = value; });
    select("colour", (value) => { this.state.colour = value; this.colours = coloursOf(this.data, value); });
    all("figure select", this.root).forEach((each) => each.addEventListener("change", () => this.update()));
    this.suggestTradeOff();
    one(".unbrush", this.root)?.addEventListener("click", () => {
      this.state.ranges = [];
      this.update();
    });
    this.figures.forEach((target) => addFigure(target, () => this.draw(target)));
  }

  /** At most five numbers stand in parallel coordinates: the objective last, beside its rivals. */
  chosenNumbers() {
    const judging = this.scores().filter((number) => number.direction !== "neither").slice(0, 5);
    return judging.map((number) => number.name).reverse();
  }

  /** The second axis of a trade-off: the second objective, else the number that gets worst when the first gets better. */
  suggestTradeOff() {
    const [x, y] = ["x", "y"].map((axis) => one(`.pareto-${axis}`, this.root));
    if (!x) return;
    x.value = this.state.number;
    if (x.value === "") x.selectedIndex = 0;
    const goodness = (name) => this.data.rows.map((row) => (row.cells[name]?.value ?? NaN)
      * (numberOf(this.data, name).direction === "higher" ? 1 : -1));
    const own = goodness(x.value);
    const others = [...y.options].map((option) => option.value).filter((name) => name !== x.value);
    const agreement = (name) => rankCorrelation(own, goodness(name));
    const second = this.data.objectives.find((name) => others.includes(name));
    y.value = second ?? others.reduce((a, b) => (agreement(b) < agreement(a) ? b : a), others[0]);
  }

  draw(target) {
    const chart = target.dataset.chart;
    const figure = target.closest("figure");
    const choice = (name) => one(`.${name}`, figure)?.value;
    const number = numberOf(this.data, this.state.number);
    const drawn = {
      dots: () => dotsFigure(this.data, this.view()),
      axis: () => axisFigure(this.data, this.view(), Number(target.dataset.key)),
      heat: () => heatFigure(this.data, this.view(), Number(choice("heat-x")), Number(choice("heat-y"))),
      parallel: () => parallelFigure(this.data, this.view(), this.numbers, this.state.ranges),
      pareto: () => paretoFigure(this.data, this.view(), ["pareto-x", "pareto-y", "pareto-z"].map(choice).filter(Boolean)),
    }[chart]();
    const words = one(".about-number", figure);
    if (words) words.textContent = aboutNumber(number);
    if (drawn.legend) fillLegend(one(".legend", figure), drawn.legend);
    if (chart === "pareto") {
      one(".front", figure).textContent = drawn.front.map((row) => this.data.rows[row].name).join("; ") || "none";
      one(".axes", figure).textContent = ["pareto-x", "pareto-y", "pareto-z"].map(choice).filter(Boolean)
        .map((name) => aboutNumber(numberOf(this.data, name))).join(" ");
    }
    plot(target, drawn);
    if (chart === "parallel" && !target.isWired) this.wireBrush(target);
  }

  wireBrush(target) {
    target.isWired = true;
    target.on("plotly_restyle", () => {
      this.state.ranges = target.data[0].dimensions.map((dimension) => dimension.constraintrange ?? null);
      this.update();
    });
  }
}

const valueOfCell = (cell) => (cell.dataset.value === undefined ? cell.textContent.trim()
  : cell.dataset.value === "" ? null : Number(cell.dataset.value));

function aboutNumber(number) {
  const better = number.direction === "neither" ? "" : ` ${number.direction === "higher" ? "Higher" : "Lower"} is better.`;
  return `${number.label}${number.unit ? ` (${number.unit})` : ""}: ${number.meaning}${better}`;
}

function differenceElement(found, number) {
  const bounds = found.low === undefined || found.low === null ? ""
    : ` (${formatted(found.low, true)} to ${formatted(found.high, true)})`;
  const p = found.p === undefined || found.p === null ? "" : `, p = ${Number(found.p.toPrecision(1))}`;
  const isClear = found.p !== undefined && found.p !== null && found.p < 0.05;
  const sign = { higher: 1, lower: -1 }[number.direction] ?? 0;
  const verdict = isClear && sign ? (sign * found.difference > 0 ? "better" : "worse") : "";
  const text = `Δ ${formatted(found.difference, true)}${bounds}${p}${verdict ? `, ${verdict}` : ""}`;
  return element("small", { className: `difference ${verdict}` }, text);
}
