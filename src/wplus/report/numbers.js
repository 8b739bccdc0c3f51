// The page's computations: filters, orders, smoothing, bands, fronts. No document, no state; tests run it on its own.
"use strict";

/** Four significant digits, as the tables have them; a sign in front where `signed`. */
function formatted(value, signed = false) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  let text = size !== 0 && (size < 1e-4 || size >= 1e5) ? value.toExponential(3) : String(Number(value.toPrecision(4)));
  text = text.replace(/\.?0+e/, "e").replace("-", "−");
  return signed && value >= 0 ? `+${text}` : text;
}

/** "space=w+ psnr_db>20 cats" as conditions; a word without an operator is looked for in the name. */
function parsedFilter(text) {
  return text.trim().split(/\s+/).filter(Boolean).map((word) => {
    const found = /^([^<>=!]+)(<=|>=|!=|=|<|>)(.+)$/.exec(word);
    return found ? { key: found[1], operator: found[2], value: found[3] } : { word: word.toLowerCase() };
  });
}

/** The field that a key of a filter means: its own name, or else the only one that ends or begins with it. */
function fieldNamed(fields, key) {
  const names = Object.keys(fields);
  if (names.includes(key)) return key;
  const alike = names.filter((name) => name.endsWith(key) || name.startsWith(key));
  return alike.length === 1 ? alike[0] : undefined;
}

/** Whether a row, with `fields` by name, meets all conditions. A field that there is not is never met. */
function matchesFilter(conditions, name, fields) {
  return conditions.every((condition) => {
    if (condition.word !== undefined) return name.toLowerCase().includes(condition.word);
    const value = fields[fieldNamed(fields, condition.key)];
    if (value === undefined || value === null) return false;
    const [a, b] = [Number(value), Number(condition.value)];
    const areNumbers = String(value) !== "" && Number.isFinite(a) && Number.isFinite(b);
    const [left, right] = areNumbers ? [a, b] : [String(value), condition.value];
    switch (condition.operator) {
      case "=": return left === right;
      case "!=": return left !== right;
      case "<": return left < right;
      case "<=": return left <= right;
      case ">": return left > right;
      default: return left >= right;
    }
  });
}

/** The indices of values in order; what is missing comes last either way, equal ones keep their order. */
function sortedIndices(values, ascending) {
  const isMissing = (value) => value === null || value === undefined || Number.isNaN(value);
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
  return values.map((_, index) => index).sort((i, j) => {
    const [a, b] = [values[i], values[j]];
    if (isMissing(a) || isMissing(b)) return isMissing(a) - isMissing(b) || i - j;
    return (ascending ? compare(a, b) : compare(b, a)) || i - j;
  });
}

/** Exponential moving average with the bias of its start taken out (Adam's); weight 0 changes nothing, gaps stay. */
function smoothed(values, weight) {
  let [mean, share] = [0, 0];
  return values.map((value) => {
    if (value === null) return null;
    mean = weight * mean + (1 - weight) * value;
    share = weight * share + (1 - weight);
    return mean / share;
  });
}

/** The value of a curve at x by straight lines between its points; null outside and beside gaps. */
function valueAt(xs, ys, x) {
  if (x < xs[0] || x > xs[xs.length - 1]) return null;
  let [low, high] = [0, xs.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] <= x) low = middle; else high = middle;
  }
  if (x === xs[high]) return ys[high];
  if (x === xs[low] || high === low) return ys[low];
  if (ys[low] === null || ys[high] === null) return null;
  return ys[low] + ((ys[high] - ys[low]) * (x - xs[low])) / (xs[high] - xs[low]);
}

/** Mean, lowest and highest of several curves, at the places of the longest, as far as all of them reach. */
function band(lines) {
  const first = lines.reduce((a, b) => (b.x.length > a.x.length ? b : a));
  const end = Math.min(...lines.map((line) => line.x[line.x.length - 1]));
  const start = Math.max(...lines.map((line) => line.x[0]));
  const x = first.x.filter((place) => place >= start && place <= end);
  const columns = x.map((place) => lines.map((line) => valueAt(line.x, line.y, place)).filter((y) => y !== null));
  const of = (reduce) => columns.map((column) => (column.length ? reduce(column) : null));
  return {
    x,
    mean: of((column) => column.reduce((a, b) => a + b, 0) / column.length),
    low: of((column) => Math.min(...column)),
    high: of((column) => Math.max(...column)),
  };
}

/** Indices of the points that no other point beats: none is at least as good in all and better in one.
 * directions: "higher" or "lower" for each coordinate. A point with a missing coordinate is not among them. */
function paretoFront(points, directions) {
  const signs = directions.map((direction) => (direction === "higher" ? 1 : -1));
  const isWhole = (point) => point.every((value) => value !== null && value !== undefined && Number.isFinite(value));
  const beats = (a, b) => {
    const gains = signs.map((sign, axis) => sign * (a[axis] - b[axis]));
    return gains.every((gain) => gain >= 0) && gains.some((gain) => gain > 0);
  };
  const indices = points.map((_, index) => index).filter((index) => isWhole(points[index]));
  return indices.filter((index) => !indices.some((other) => beats(points[other], points[index])));
}

/** Mean difference of two lists of [seed, value] over the seeds that both have; null without any. */
function pairedDifference(points, baseline) {
  const own = new Map(baseline);
  const found = points.filter(([seed]) => own.has(seed)).map(([seed, value]) => value - own.get(seed));
  if (!found.length) return null;
  return { difference: found.reduce((a, b) => a + b, 0) / found.length, num: found.length };
}

/** How well two lists agree in their order, from -1 to 1 (Spearman's correlation, ties by their mean rank). */
function rankCorrelation(a, b) {
  const both = a.map((value, index) => [value, b[index]]).filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y));
  const ranks = (values) => values.map((value) => {
    const below = values.filter((other) => other < value).length;
    return below + (values.filter((other) => other === value).length - 1) / 2;
  });
  const [x, y] = [ranks(both.map((pair) => pair[0])), ranks(both.map((pair) => pair[1]))];
  const mean = (both.length - 1) / 2;
  const product = (u, v) => u.reduce((sum, value, index) => sum + (value - mean) * (v[index] - mean), 0);
  const size = Math.sqrt(product(x, x) * product(y, y));
  return size > 0 ? product(x, y) / size : 0;
}

if (typeof module !== "undefined") {
  module.exports = {
    band, fieldNamed, formatted, matchesFilter, pairedDifference, paretoFront, parsedFilter, rankCorrelation,
    smoothed, sortedIndices, valueAt,
  };
}
