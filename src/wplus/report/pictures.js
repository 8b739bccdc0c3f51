// Picture grids: zoom, a viewer with keyboard navigation, videos that play in sync.
"use strict";

const FRAME_SECONDS = 0.5; // per picture of an animation

function equipGrid(root, block) {
  const table = one("table", root);
  one(".zoom", root).addEventListener("input", (event) => table.style.setProperty("--cell", `${event.target.value}px`));
  all("button.open", table).forEach((button) => button.addEventListener("click", () => viewer.open(button)));
  if (block) {
    const rows = new Map(block.data.rows.map((row, index) => [row.name, index]));
    const update = () => all("[data-group]", table).forEach((cell) => {
      const row = rows.get(cell.dataset.group);
      cell.hidden = row !== undefined && !block.rows.includes(row);
    });
    block.listeners.push(update);
  }
  if (one(".play", root)) new Film(root);
}

// Videos are loaded when they become visible: a page may have many.
const films = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => {
  target.preload = "auto";
  films.unobserve(target);
}), { rootMargin: "200px" });

/** All films and picture series of a grid, at one position between 0 and 1. */
class Film {
  constructor(root) {
    this.videos = all("video", root);
    this.series = all("[data-frames]", root);
    [this.button, this.slider] = [one(".play", root), one(".position", root)];
    [this.position, this.isPlaying] = [Number(this.slider.value) / 1000, false];
    this.button.addEventListener("click", () => (this.isPlaying ? this.pause() : this.play()));
    this.slider.addEventListener("input", () => { this.pause(); this.show(Number(this.slider.value) / 1000); });
    this.videos.forEach((video) => {
      video.addEventListener("loadedmetadata", () => { video.currentTime = this.position * video.duration; });
      films.observe(video);
    });
  }

  /** Seconds that the longest takes; the others are slowed down to it. */
  get seconds() {
    const films = this.videos.map((video) => (Number.isFinite(video.duration) ? video.duration : 0));
    const series = this.series.map((each) => each.children.length * FRAME_SECONDS);
    return Math.max(1, ...films, ...series);
  }

  play() {
    this.isPlaying = true;
    this.button.textContent = "Pause";
    if (this.position >= 1) this.position = 0;
    this.began = performance.now() - this.position * this.seconds * 1000;
    this.videos.forEach((video) => {
      video.playbackRate = Math.min(16, Math.max(0.0625, (video.duration || this.seconds) / this.seconds));
      video.play().catch(() => {});
    });
    requestAnimationFrame(() => this.step());
  }

  step() {
    if (!this.isPlaying) return;
    const share = (performance.now() - this.began) / 1000 / this.seconds;
    if (share >= 1) this.began = performance.now();
    this.show(share % 1, 0.2);
    requestAnimationFrame(() => this.step());
  }

  pause() {
    this.isPlaying = false;
    this.button.textContent = "Play";
    this.videos.forEach((video) => video.pause());
  }

  /** Films that are within `tolerance` seconds of their place are left alone. */
  show(position, tolerance = 0) {
    this.position = position;
    this.slider.value = Math.round(position * 1000);
    this.videos.forEach((video) => {
      const wanted = position * (video.duration || 0);
      if (Math.abs(video.currentTime - wanted) > tolerance) video.currentTime = wanted;
    });
    this.series.forEach((each) => {
      const frames = [...each.children];
      const shown = Math.min(frames.length - 1, Math.floor(position * frames.length));
      frames.forEach((frame, index) => { frame.hidden = index !== shown; });
    });
  }
}

/** One picture or film large; arrow keys lead through the grid. */
const viewer = {
  dialog: one("#viewer"),

  open(button) {
    this.button = button;
    const shown = one("img:not([hidden]), video", button);
    const copy = shown.cloneNode();
    if (copy.tagName === "VIDEO") Object.assign(copy, { controls: true, loop: true, muted: true });
    one(".large", this.dialog).replaceChildren(copy);
    one("p", this.dialog).textContent = [shown.alt || shown.title, button.dataset.note].filter(Boolean).join(" · ");
    if (!this.dialog.open) this.dialog.showModal();
  },

  /** The next picture in a direction, in a row or a column of the table. */
  step(rows, columns) {
    const cell = this.button.closest("td");
    const table = cell.closest("table");
    let [row, column] = [cell.parentElement.rowIndex + rows, cell.cellIndex + columns];
    while (table.rows[row]?.cells[column]) {
      const next = table.rows[row].cells[column];
      if (!next.hidden && one("button.open", next)) return this.open(one("button.open", next));
      [row, column] = [row + rows, column + columns];
    }
  },
};

viewer.dialog.addEventListener("keydown", (event) => {
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  if (event.key in steps && event.target.tagName !== "VIDEO") {
    event.preventDefault();
    viewer.step(...steps[event.key]);
  }
});
all("#viewer [data-step]").forEach((button) => button.addEventListener("click", () => {
  viewer.step(0, Number(button.dataset.step));
}));
one("#viewer .close").addEventListener("click", () => viewer.dialog.close());
viewer.dialog.addEventListener("click", (event) => { if (event.target === viewer.dialog) viewer.dialog.close(); });
