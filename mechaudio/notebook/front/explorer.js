// The explorer: a clip, its prompt and the attention over both, in a notebook (anywidget) and on a page.
//
// Conventions: positions count in the prompt; seconds from the start of the first clip; a row is the attention of one
// position (the query) in every layer and head. Texts from outside only ever become text nodes.

// ---------------------------------------------------------------------------------------------------------------------
// Pure functions
// ---------------------------------------------------------------------------------------------------------------------

const STEPS = 255;

/** The bytes that a base64 text stands for. */
export function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

/** The bytes that a deflated (zlib) base64 text stands for. */
export async function inflated(base64) {
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** A row as it was sent, ready to be read: `cells` by layer, head and key, and `largest` by layer and head. */
export async function unpacked({ cells, largest }) {
  return { cells: await inflated(cells), largest: new Float32Array(bytesOf(largest).buffer) };
}

/**
 * The attention weights of a row, the mean over layers or heads where none is named (null). Layers without attention
 * count for nothing; null if there is no other.
 */
export function weightsOf({ cells, largest }, { layers, heads }, layer, head) {
  const n = cells.length / (layers * heads);
  const sum = new Float64Array(n);
  let count = 0;
  for (let index = 0; index < layers * heads; index++) {
    const other = (layer !== null && layer !== Math.floor(index / heads)) || (head !== null && head !== index % heads);
    if (other || Number.isNaN(largest[index])) continue;
    count += 1;
    const factor = largest[index] / (STEPS * STEPS);
    for (let key = 0, at = index * n; key < n; key++, at++) sum[key] += cells[at] * cells[at] * factor;
  }
  return count ? sum.map((weight) => weight / count) : null;
}

/** Stretches of time and, for each, the audio tokens that hear it, with the share of their own time that it takes. */
export function segmentsOf(tokens) {
  const ends = [...new Set(tokens.flatMap(({ heard }) => heard.flat()))].sort((a, b) => a - b);
  const place = new Map(ends.map((end, index) => [end, index]));
  const segments = ends.slice(1).map((offset, index) => ({ onset: ends[index], offset, tokens: [] }));
  for (const [position, { heard }] of tokens.entries()) {
    const total = heard.reduce((sum, [onset, offset]) => sum + offset - onset, 0);
    for (const [onset, offset] of heard) {
      for (let index = place.get(onset); index < place.get(offset); index++) {
        const segment = segments[index];
        segment.tokens.push([position, (segment.offset - segment.onset) / total]);
      }
    }
  }
  return segments.filter((segment) => segment.tokens.length);
}

/** Attention per second in each segment. */
export function densitiesOf(segments, weights) {
  return segments.map(({ onset, offset, tokens }) => {
    const sum = tokens.reduce((total, [position, share]) => total + weights[position] * share, 0);
    return sum / (offset - onset);
  });
}

/** Positions of the audio tokens that hear any part of [onset, offset). */
export function hearing(tokens, onset, offset) {
  const meets = ([on, off]) => on < offset && off > onset;
  return tokens.flatMap(({ heard }, position) => (heard.some(meets) ? [position] : []));
}

/** The sum of weights at some positions. */
export function shareOf(weights, positions) {
  return positions.reduce((sum, position) => sum + weights[position], 0);
}

/** The largest weight in each of some bins of the keys from `first` to `last`. */
export function binned(weightAt, keys, bins) {
  const largest = new Float64Array(Math.min(bins, keys.length));
  keys.forEach((key, index) => {
    const bin = Math.floor((index * largest.length) / keys.length);
    largest[bin] = Math.max(largest[bin], weightAt(key));
  });
  return largest;
}

/** Round numbers of seconds to label an axis with, at most about `most` of them. */
export function ticksOf(seconds, most) {
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600];
  const step = steps.find((each) => seconds / each <= most) ?? 1200;
  return Array.from({ length: Math.floor(seconds / step + 1e-6) + 1 }, (_, index) => +(index * step).toFixed(3));
}

/** A share in percent: two digits where it is small. */
export function percent(share) {
  const value = 100 * share;
  return `${value >= 9.95 ? value.toFixed(0) : value >= 0.095 ? value.toFixed(1) : value.toPrecision(1)} %`;
}

/** Seconds with two decimals. */
export function inSeconds(time) {
  return `${time.toFixed(2)} s`;
}

/** True where letters of this CSS colour are light, so that what is behind them is dark. */
export function isLight(colour) {
  const [red, green, blue] = (colour.match(/[\d.]+/g) ?? [0, 0, 0]).map(Number);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 128;
}

// ---------------------------------------------------------------------------------------------------------------------
// Elements
// ---------------------------------------------------------------------------------------------------------------------

/** An element with attributes (a function is a listener, of the event that it is named after) and children. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function options(select, texts, value) {
  select.replaceChildren(...texts.map(([key, text]) => make("option", { value: key }, text)));
  select.value = value;
}

/** A canvas as large as its box, in the pixels of the screen; what is drawn counts in CSS pixels. */
function prepared(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  return { context, width, height };
}

// ---------------------------------------------------------------------------------------------------------------------
// The explorer
// ---------------------------------------------------------------------------------------------------------------------

const LANE = 22;
const GUTTER = 34;
const HOW = {
  knock_out: { name: "Knock out" },
  scale: { name: "Scale", by: { min: 0, max: 4, step: 0.05, start: 2, none: 1 }, written: (by) => `× ${by.toFixed(2)}` },
  upweight: {
    name: "Upweight",
    by: { min: -5, max: 5, step: 0.1, start: 2, none: 0 },
    written: (by) => `${by < 0 ? "−" : "+"} ${Math.abs(by).toFixed(1)}`,
  },
};

class Explorer {
  /** Build it inside `host`; `ask(request)` reaches the live model, null on a page; `audio` plays the sound. */
  constructor(host, data, audio, ask) {
    Object.assign(this, { host, data, audio, ask });
    this.rows = new Map();
    this.segments = segmentsOf(data.tokens);
    this.text = data.tokens.flatMap(({ role, heard }, at) => (role === "padding" || heard.length ? [] : [at]));
    this.timed = data.tokens.flatMap(({ heard }, at) => (heard.length ? [at] : []));
    this.sounding = data.tokens.flatMap(({ role }, at) => (role === "audio" ? [at] : []));
    const queries = Object.keys(data.rows).map(Number);
    this.state = { query: Math.max(...queries), layer: null, head: null, selection: null };
    this.hovered = {};
    this.kept = [];
    this.draft = { how: "knock_out", by: 2, where: "every", queries: this.sounding.length ? "behind" : "every" };
    this.edited = null;
    this.waiting = null;
    this.busy = false;
    this.number = 0;
    this.build();
    this.listen();
    this.choose(this.state.query);
  }

  // -- what is looked at ----------------------------------------------------------------------------------------------

  get query() {
    return this.hovered.query ?? this.state.query;
  }

  get cell() {
    return this.hovered.cell ?? this.state;
  }

  label(position) {
    const { text, heard } = this.data.tokens[position];
    return heard.length ? `♪ ${inSeconds(heard[0][0])}` : text.trim() || "␣";
  }

  /** The row of a query in the model as it is or as it is edited: null until it has come. */
  row(position) {
    const known = this.rows.get(position);
    if (known === undefined) this.fetch(position);
    return known ?? null;
  }

  async fetch(position) {
    const sent = this.edits.length ? undefined : this.data.rows[position];
    if (!sent && !this.ask) return;
    this.rows.set(position, null);
    if (sent) {
      const row = await unpacked(sent);
      if (this.rows.get(position) === null && !this.edits.length) this.rows.set(position, row);
      this.draw();
    } else this.send({ kind: "row", query: position });
  }

  has(position) {
    return Boolean(this.ask) || position in this.data.rows;
  }

  choose(position) {
    if (!this.has(position)) {
      this.say(`The row of “${this.label(position)}” is not on this page: there is room for the last ones only.`);
      return;
    }
    this.state.query = position;
    this.draw();
    this.say(this.summary());
  }

  look(layer, head) {
    Object.assign(this.state, { layer, head });
    this.layerBox.value = layer ?? "";
    this.headBox.value = head ?? "";
    if (this.state.selection && this.draft.where !== "every") this.changed();
    this.draw();
    this.say(this.summary());
  }

  get weights() {
    const row = this.row(this.query);
    return row && weightsOf(row, this.data, this.cell.layer, this.cell.head);
  }

  cellName({ layer, head }) {
    if (layer === null && head === null) return "mean of all heads";
    if (head === null) return `layer ${layer}, mean of its heads`;
    return layer === null ? `head ${head}, mean of all layers` : `layer ${layer}, head ${head}`;
  }

  summary() {
    const weights = this.weights;
    const from = `From “${this.label(this.query)}”, ${this.cellName(this.cell)}`;
    if (!weights) return `${from}: no attention to show`;
    const peak = this.peak(weights);
    const when = peak === null ? "" : `, most at ${inSeconds(peak)}`;
    return `${from}: ${percent(shareOf(weights, this.sounding))} of its attention on the sound${when}`;
  }

  peak(weights) {
    if (!this.segments.length) return null;
    const densities = densitiesOf(this.segments, weights);
    const { onset, offset } = this.segments[densities.indexOf(Math.max(...densities))];
    return (onset + offset) / 2;
  }

  say(words) {
    this.status.textContent = words;
  }

  // -- building -------------------------------------------------------------------------------------------------------

  build() {
    const { data } = this;
    this.status = make("p", { class: "mx-status", role: "status", "aria-live": "polite" });
    this.problem = make("p", { class: "mx-problem", role: "alert", hidden: true });
    this.root = make("section", { class: "mx", "aria-label": `Explorer: ${data.text}`, tabindex: -1 });
    this.root.append(
      this.buildBar(),
      make("div", { class: "mx-columns" }, this.buildStage(), this.buildSide()),
      this.status,
      this.problem,
      this.buildWords(),
      this.buildHeads(),
    );
    this.host.replaceChildren(this.root);
  }

  buildBar() {
    const { layers, heads, seconds } = this.data;
    this.playButton = make("button", { type: "button", class: "mx-play", "aria-label": "Play", click: () => this.play() });
    this.clock = make("span", { class: "mx-clock" });
    const change = () => this.look(...[this.layerBox, this.headBox].map(({ value }) => (value === "" ? null : +value)));
    this.layerBox = make("select", { change });
    this.headBox = make("select", { change });
    const numbered = (n, what) => Array.from({ length: n }, (_, index) => [index, `${what} ${index}`]);
    options(this.layerBox, [["", "all layers"], ...numbered(layers, "layer")], "");
    options(this.headBox, [["", "all heads"], ...numbered(heads, "head")], "");
    return make(
      "div",
      { class: "mx-bar" },
      ...(seconds ? [this.playButton, this.clock] : []),
      make("label", {}, make("span", { class: "mx-hidden" }, "Layer"), this.layerBox),
      make("label", {}, make("span", { class: "mx-hidden" }, "Head"), this.headBox),
    );
  }

  buildStage() {
    const { data } = this;
    const lanes = Math.max(0, ...data.events.map(({ lane }) => lane + 1));
    const events = data.events.map(({ label, onset, offset, lane, colour }) => {
      const bar = make("li", { class: "mx-event", title: `${label}, ${inSeconds(onset)} to ${inSeconds(offset)}` }, label);
      bar.style.cssText = `left:${this.left(onset)};width:calc(${this.left(offset)} - ${this.left(onset)});top:${lane * LANE}px`;
      bar.style.setProperty("--event", colour);
      return bar;
    });
    const list = make("ul", { class: "mx-events", "aria-label": "Events" }, ...events);
    list.style.height = `${lanes * LANE}px`;
    list.style.flexShrink = 0;
    this.picture = make("canvas", { class: "mx-picture", "aria-hidden": "true" });
    this.track = make("canvas", { class: "mx-track", "aria-hidden": "true" });
    this.axis = make("canvas", { class: "mx-axis", "aria-hidden": "true" });
    this.marks = make("div", { class: "mx-marks", "aria-hidden": "true" });
    this.marks.style.top = `${lanes * LANE}px`;
    this.cursor = make("div", { class: "mx-cursor", "aria-hidden": "true" });
    this.stage = make(
      "div",
      {
        class: "mx-stage",
        tabindex: 0,
        role: "slider",
        "aria-label": "Moment in the clip; with shift the arrows select seconds",
        "aria-valuemin": 0,
        "aria-valuemax": data.seconds.toFixed(2),
        "aria-valuenow": 0,
      },
      list,
      this.picture,
      this.track,
      this.axis,
      this.marks,
      this.cursor,
    );
    this.reading = make("p", { class: "mx-reading" });
    const hint = this.ask
      ? "Click to seek, drag to select seconds or words and change how they are seen."
      : "Click to seek, drag to select seconds; click a word to see where it looks.";
    const timeless = this.sounding.length - this.sounding.filter((at) => data.tokens[at].heard.length).length;
    const note = timeless ? ` ${timeless} audio tokens have no time of their own: they stand among the words.` : "";
    return make(
      "div",
      { class: "mx-main" },
      ...(data.seconds ? [this.stage] : []),
      this.reading,
      make("p", { class: "mx-hint" }, hint + note),
    );
  }

  buildSide() {
    this.answer = make("div", { class: "mx-answer" });
    this.selected = make("p", { class: "mx-selected" });
    const side = make("aside", { class: "mx-side" }, make("h4", {}, "Its answer"), this.answer);
    if (this.ask) side.append(this.buildEditor());
    else side.append(this.selected);
    return side;
  }

  buildEditor() {
    const { draft } = this;
    const group = `mx-how-${Math.random()}`; // radios of other explorers are not of this group
    const radios = Object.entries(HOW).map(([how, { name }]) =>
      make(
        "label",
        {},
        make("input", {
          type: "radio",
          name: group,
          value: how,
          checked: how === draft.how,
          change: () => this.redraft({ how, by: HOW[how].by?.start ?? 0 }),
        }),
        make("span", {}, name),
      ),
    );
    this.slider = make("input", { type: "range", "aria-label": "Strength", input: () => this.redraft({ by: +this.slider.value }) });
    this.strength = make("output", {});
    this.whereBox = make("select", { "aria-label": "In which heads", change: () => this.redraft({ where: this.whereBox.value }) });
    this.queriesBox = make("select", { "aria-label": "For which positions", change: () => this.redraft({ queries: this.queriesBox.value }) });
    options(
      this.queriesBox,
      [["behind", "for all that stands behind the sound"], ["last", "for the last position"], ["every", "for every position"]].filter(
        ([key]) => key !== "behind" || this.sounding.length,
      ),
      draft.queries,
    );
    this.keptList = make("ul", { class: "mx-kept", "aria-label": "Changes that are kept" });
    this.code = make("pre", { class: "mx-code", tabindex: 0, "aria-label": "These changes as interventions" });
    const button = (name, click) => make("button", { type: "button", click }, name);
    this.keepButton = button("Keep", () => this.keep());
    this.fields = make(
      "fieldset",
      {},
      make("legend", {}, "Change what it sees"),
      this.selected,
      make("div", { class: "mx-how", role: "radiogroup", "aria-label": "How" }, ...radios),
      make("div", { class: "mx-strength" }, this.slider, this.strength),
      this.whereBox,
      this.queriesBox,
      make(
        "div",
        { class: "mx-buttons" },
        ...(this.sounding.length ? [button("All the sound", () => this.select({ kind: "sound" }))] : []),
        this.keepButton,
        button("Start over", () => this.reset()),
      ),
      this.keptList,
      make("details", {}, make("summary", {}, "As code"), this.code),
    );
    return this.fields;
  }

  buildWords() {
    const { data } = this;
    this.wordOf = new Map();
    const box = make("div", { class: "mx-words", role: "listbox", "aria-label": "The prompt", "aria-multiselectable": "true" });
    let gap = null;
    for (const [position, { text, role, heard }] of data.tokens.entries()) {
      if (role === "padding") continue;
      if (heard.length) {
        if (gap?.dataset.last !== String(position - 1)) {
          gap = make("span", { class: "mx-sound", role: "presentation" });
          box.append(gap);
          gap.dataset.first = position;
        }
        gap.dataset.last = position;
        continue;
      }
      const word = make("span", { class: "mx-word", role: "option", tabindex: -1, "aria-selected": "false" }, text);
      word.classList.toggle("mx-apart", data.apart);
      word.style.setProperty("--role", data.colours[role]);
      word.dataset.position = position;
      word.dataset.role = role;
      this.wordOf.set(position, word);
      box.append(word);
      if (/⏎/.test(text)) box.append(make("br"));
    }
    this.words = box;
    this.gaps = [...box.querySelectorAll(".mx-sound")];
    const roles = [...new Set(data.tokens.map(({ role }) => role))].filter((role) => role !== "padding");
    const legend = roles.map((role) => {
      const chip = make("span", { class: "mx-role" }, role.replace("_", " "));
      chip.style.setProperty("--role", data.colours[role]);
      return chip;
    });
    return make("div", { class: "mx-part" }, make("h4", {}, "The prompt", ...legend), box);
  }

  buildHeads() {
    this.grid = make("canvas", { class: "mx-grid", role: "img" });
    this.gridNote = make("p", { class: "mx-hint" });
    const title = this.timed.length ? "All heads: where each looks in the sound" : "All heads: how much each looks at the sound";
    return make("div", { class: "mx-part" }, make("h4", {}, title), this.grid, this.gridNote);
  }

  // -- listening to people --------------------------------------------------------------------------------------------

  listen() {
    this.listenToStage();
    this.listenToWords();
    this.listenToHeads();
    const { audio } = this;
    const step = () => {
      this.drawCursor();
      if (!audio.paused) requestAnimationFrame(step);
    };
    audio?.addEventListener("play", step);
    for (const event of ["pause", "ended", "seeked", "timeupdate", "loadedmetadata"]) {
      audio?.addEventListener(event, () => this.drawCursor());
    }
    const resized = new ResizeObserver(() => this.draw());
    resized.observe(this.root);
    const themed = new MutationObserver(() => this.draw());
    for (const each of [document.documentElement, document.body]) themed.observe(each, { attributes: true });
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    const repaint = () => this.draw();
    scheme.addEventListener("change", repaint);
    this.remove = () => {
      resized.disconnect();
      themed.disconnect();
      scheme.removeEventListener("change", repaint);
      audio?.pause();
    };
  }

  listenToStage() {
    let start = null;
    const at = (event) => this.timeAt(event.clientX);
    this.stage.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      start = { time: at(event), x: event.clientX, moved: false };
      this.stage.setPointerCapture(event.pointerId);
    });
    this.stage.addEventListener("pointermove", (event) => {
      const overTrack = event.target === this.track || this.track.getBoundingClientRect().top <= event.clientY;
      this.hovered.time = at(event);
      this.hovered.query = !start && overTrack ? hearing(this.data.tokens, at(event), at(event) + 1e-6).find((p) => this.has(p)) : undefined;
      if (start && (start.moved ||= Math.abs(event.clientX - start.x) > 4)) this.selectSeconds(start.time, at(event));
      else this.draw();
    });
    this.stage.addEventListener("pointerup", (event) => {
      if (start && !start.moved) {
        this.seek(at(event));
        if (this.hovered.query !== undefined) this.choose(this.hovered.query);
        else if (event.clientY >= this.track.getBoundingClientRect().top) this.pickSound(at(event));
      } else if (start) this.say(this.selectionName());
      start = null;
    });
    this.stage.addEventListener("pointercancel", () => (start = null));
    this.stage.addEventListener("pointerleave", () => {
      delete this.hovered.time;
      delete this.hovered.query;
      this.draw();
    });
    this.stage.addEventListener("keydown", (event) => this.stageKey(event));
  }

  pickSound(time) {
    const [position] = hearing(this.data.tokens, time, time + 1e-6);
    if (position !== undefined) this.choose(position);
  }

  stageKey(event) {
    const { seconds } = this.data;
    const now = this.audio?.currentTime ?? 0;
    const steps = { ArrowLeft: -0.1, ArrowRight: 0.1, PageDown: -1, PageUp: 1, Home: -now, End: seconds - now };
    if (event.key in steps) {
      const then = Math.min(seconds, Math.max(0, now + steps[event.key]));
      if (event.shiftKey) {
        this.anchor ??= now;
        this.selectSeconds(this.anchor, then);
        this.say(this.selectionName());
      } else this.anchor = null;
      this.seek(then);
    } else if (event.key === " ") this.play();
    else if (event.key === "Enter") this.pickSound(now);
    else if (event.key === "Escape") this.select(null);
    else return;
    event.preventDefault();
  }

  listenToWords() {
    let start = null;
    const wordAt = (event) => {
      const element = this.root.getRootNode().elementFromPoint(event.clientX, event.clientY)?.closest?.(".mx-word, .mx-sound");
      if (!element || !this.words.contains(element)) return null;
      return element.dataset.position === undefined ? element : +element.dataset.position;
    };
    this.words.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      start = { at: wordAt(event), moved: false };
      event.preventDefault();
      if (typeof start.at === "number") this.focusWord(start.at);
    });
    this.words.addEventListener("pointermove", (event) => {
      const at = wordAt(event);
      this.hovered.query = !start && typeof at === "number" && this.has(at) ? at : undefined;
      this.hovered.word = typeof at === "number" ? at : undefined;
      if (start && typeof start.at === "number" && typeof at === "number" && (start.moved ||= at !== start.at)) {
        this.selectWords(start.at, at);
      } else this.draw();
    });
    this.words.addEventListener("pointerup", (event) => {
      const at = wordAt(event);
      if (start && !start.moved && at === start.at) {
        if (typeof at === "number") this.choose(at);
        else if (at) this.select({ kind: "sound" });
      } else if (start?.moved) this.say(this.selectionName());
      start = null;
    });
    this.words.addEventListener("pointerleave", () => {
      this.hovered = { cell: this.hovered.cell };
      this.draw();
    });
    this.words.addEventListener("keydown", (event) => this.wordKey(event));
    this.words.addEventListener("focusin", () => (this.anchorWord = this.focused));
    this.wordOf.get(this.state.query)?.setAttribute("tabindex", 0);
    this.focused = this.state.query;
  }

  wordKey(event) {
    const places = [...this.wordOf.keys()];
    const index = places.indexOf(this.focused);
    const steps = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: places.length - 1 };
    if (event.key in steps) {
      const next = places[Math.min(places.length - 1, Math.max(0, steps[event.key]))];
      const anchor = this.anchorWord ?? this.focused;
      this.focusWord(next);
      this.anchorWord = event.shiftKey ? anchor : next;
      if (event.shiftKey) {
        this.selectWords(anchor, next);
        this.say(this.selectionName());
      }
    } else if (event.key === "Enter" || event.key === " ") this.choose(this.focused);
    else if (event.key === "Escape") this.select(null);
    else return;
    event.preventDefault();
  }

  focusWord(position) {
    this.wordOf.get(this.focused)?.setAttribute("tabindex", -1);
    this.focused = position;
    const word = this.wordOf.get(position);
    word.setAttribute("tabindex", 0);
    word.focus({ preventScroll: true });
  }

  listenToHeads() {
    const cellAt = ({ offsetX, offsetY }) => {
      const { layers, heads } = this.data;
      const { clientWidth, clientHeight } = this.grid;
      const layer = layers - 1 - Math.floor((offsetY * layers) / (clientHeight - 16));
      if (layer < 0 || layer >= layers) return { layer: null, head: null };
      if (offsetX < GUTTER) return { layer, head: null };
      return { layer, head: Math.min(heads - 1, Math.floor(((offsetX - GUTTER) * heads) / (clientWidth - GUTTER))) };
    };
    this.grid.addEventListener("pointermove", (event) => {
      this.hovered.cell = cellAt(event);
      this.draw();
    });
    this.grid.addEventListener("pointerleave", () => {
      delete this.hovered.cell;
      this.draw();
    });
    this.grid.addEventListener("click", (event) => {
      const { layer, head } = cellAt(event);
      const again = layer === this.state.layer && head === this.state.head;
      this.look(again ? null : layer, again ? null : head);
    });
  }

  play() {
    if (!this.audio) return;
    if (this.audio.paused) this.audio.play();
    else this.audio.pause();
  }

  seek(time) {
    if (this.audio) this.audio.currentTime = time;
    this.drawCursor();
  }

  left(time) {
    return `${(100 * time) / this.data.seconds}%`;
  }

  timeAt(clientX) {
    const { left, width } = this.picture.getBoundingClientRect();
    return Math.min(1, Math.max(0, (clientX - left) / width)) * this.data.seconds;
  }

  // -- selecting and changing -----------------------------------------------------------------------------------------

  selectSeconds(one, other) {
    const round = (time) => Math.round(time * 100) / 100;
    const [onset, offset] = [Math.min(one, other), Math.max(one, other)].map(round);
    this.select(offset > onset ? { kind: "seconds", onset, offset } : null);
  }

  selectWords(one, other) {
    const [first, last] = [Math.min(one, other), Math.max(one, other)];
    const positions = [...this.wordOf.keys()].filter((position) => first <= position && position <= last);
    this.select({ kind: "words", positions });
  }

  select(selection) {
    this.state.selection = selection;
    this.changed();
  }

  positionsOf(selection) {
    if (selection.kind === "seconds") return hearing(this.data.tokens, selection.onset, selection.offset);
    return selection.kind === "sound" ? this.sounding : selection.positions;
  }

  selectionName(selection = this.state.selection) {
    if (!selection) return "Nothing is selected.";
    if (selection.kind === "sound") return "all the sound";
    if (selection.kind === "seconds") return `${selection.onset.toFixed(2)} to ${inSeconds(selection.offset)}`;
    const words = selection.positions.map((position) => this.data.tokens[position].text);
    const text = words.join(this.data.apart ? " " : "").trim();
    return `“${text.length > 60 ? `${text.slice(0, 59)}…` : text}”`;
  }

  redraft(change) {
    Object.assign(this.draft, change);
    this.changed();
  }

  /** The changes that are in force, as the library is told them. */
  get edits() {
    const { selection } = this.state;
    return selection && this.ask ? [...this.kept, this.edit()] : this.kept;
  }

  edit() {
    const { how, by, where, queries } = this.draft;
    const { layer, head } = this.state;
    const layers = where !== "every" && layer !== null ? [layer] : null;
    const heads = where === "head" && head !== null ? [head] : null;
    return { ...this.state.selection, how, by, queries, layers, heads };
  }

  keep() {
    if (!this.state.selection) return;
    this.kept.push(this.edit());
    this.select(null);
  }

  reset() {
    this.kept = [];
    this.select(null);
  }

  changed() {
    if (this.ask) {
      this.rows.clear();
      this.send({ kind: "answer" });
    }
    this.draw();
  }

  /** Ask the live model: one request at a time, and of those that come meanwhile the latest of each kind. */
  send(request) {
    this.waiting = { ...this.waiting, [request.kind]: request };
    if (!this.busy) this.next();
  }

  next() {
    const [request] = ["answer", "row"].map((kind) => this.waiting?.[kind]).filter(Boolean);
    if (!request) return;
    delete this.waiting[request.kind];
    this.busy = true;
    this.number += 1;
    this.asked = { ...request, edits: this.edits, number: this.number };
    this.root.setAttribute("aria-busy", "true");
    this.ask(this.asked);
  }

  /** Take what the live model says. */
  async take(reply) {
    if (reply.number !== this.number) return;
    const current = JSON.stringify(this.asked.edits) === JSON.stringify(this.edits);
    this.problem.hidden = reply.kind !== "problem";
    this.problem.textContent = reply.kind === "problem" ? reply.message : "";
    if (reply.kind === "answer") {
      this.edited = this.asked.edits.length ? reply.answer : null;
      this.code.textContent = reply.code;
      this.say(this.answerInWords());
    } else if (reply.kind === "row") {
      const row = await unpacked(reply.row);
      if (current) this.rows.set(this.asked.query, row);
    }
    this.busy = false;
    this.root.removeAttribute("aria-busy");
    this.next();
    this.draw();
  }

  answerInWords() {
    const answer = this.edited ?? this.data.answer;
    if ("written" in answer) return `It writes: ${answer.written}`;
    const best = answer.probabilities.indexOf(Math.max(...answer.probabilities));
    return `Its answer: ${answer.choices[best]}, ${percent(answer.probabilities[best])}`;
  }

  // -- drawing --------------------------------------------------------------------------------------------------------

  /** Draw everything before the next frame. */
  draw() {
    if (this.drawing) return;
    this.drawing = true;
    requestAnimationFrame(() => {
      this.drawing = false;
      if (!this.root.clientWidth) return;
      this.root.toggleAttribute("data-dark", isLight(getComputedStyle(this.host).color));
      const style = getComputedStyle(this.root);
      this.colour = (name) => style.getPropertyValue(`--mx-${name}`).trim();
      const weights = this.weights;
      this.drawCursor();
      if (this.data.seconds) this.drawStage(weights);
      this.drawWords(weights);
      this.drawReading(weights);
      this.drawHeads();
      this.drawAnswer();
      this.drawEditor(weights);
    });
  }

  drawCursor() {
    const { audio, data } = this;
    if (!audio || !data.seconds) return;
    const now = Math.min(audio.currentTime, data.seconds);
    this.cursor.style.left = this.left(now);
    this.clock.textContent = `${now.toFixed(1)} / ${data.seconds.toFixed(1)} s`;
    this.stage.setAttribute("aria-valuenow", now.toFixed(2));
    this.stage.setAttribute("aria-valuetext", inSeconds(now));
    this.playButton.classList.toggle("mx-playing", !audio.paused);
    this.playButton.setAttribute("aria-label", audio.paused ? "Play" : "Pause");
  }

  drawStage(weights) {
    const { seconds } = this.data;
    const densities = weights ? densitiesOf(this.segments, weights) : [];
    const top = Math.max(...densities, 1e-12);
    const glow = this.colour("glow");
    const { context, width, height } = prepared(this.picture);
    const x = (time) => (time / seconds) * width;
    context.fillStyle = glow;
    this.segments.forEach(({ onset, offset }, index) => {
      context.globalAlpha = densities.length ? 0.85 * Math.sqrt(densities[index] / top) ** 1.4 : 0;
      context.fillRect(x(onset), 0, x(offset) - x(onset) + 0.4, height);
    });
    context.globalAlpha = 1;
    if (this.inked) context.drawImage(this.ink(), 0, 0, width, height);
    else this.prepareInk();
    this.drawTrack(densities, top, x);
    this.drawAxis(x);
    this.drawMarks();
  }

  async prepareInk() {
    if (this.inked === false || !this.data.spectrogram) return;
    this.inked = false;
    this.inked = await inflated(this.data.spectrogram.cells);
    this.draw();
  }

  /** The spectrogram in the colour of letters, the more opaque the louder. */
  ink() {
    const ink = this.colour("ink");
    if (this.inkCanvas?.ink === ink) return this.inkCanvas;
    const { bands, frames } = this.data.spectrogram;
    const canvas = make("canvas", { width: frames, height: bands });
    const context = canvas.getContext("2d");
    const image = context.createImageData(frames, bands);
    const quiet = Math.max(0.25, [...this.inked].sort((a, b) => a - b)[this.inked.length >> 1] / STEPS); // noise is faint
    const [red, green, blue] = ink.match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16));
    for (let band = 0; band < bands; band++) {
      for (let frame = 0; frame < frames; frame++) {
        const level = Math.max(0, this.inked[band * frames + frame] / STEPS - quiet) / (1 - quiet);
        image.data.set([red, green, blue, 255 * level ** 1.3], 4 * ((bands - 1 - band) * frames + frame));
      }
    }
    context.putImageData(image, 0, 0);
    canvas.ink = ink;
    return (this.inkCanvas = canvas);
  }

  font(size) {
    return `${size}px ${getComputedStyle(this.root).fontFamily}`;
  }

  drawTrack(densities, top, x) {
    const { context, width, height } = prepared(this.track);
    context.fillStyle = this.colour("glow");
    context.globalAlpha = 0.9;
    this.segments.forEach(({ onset, offset }, index) => {
      const tall = ((height - 14) * (densities[index] ?? 0)) / top;
      context.fillRect(x(onset), height - tall, Math.max(1, x(offset) - x(onset) - 0.3), tall);
    });
    context.globalAlpha = 1;
    context.fillStyle = this.colour("soft");
    context.font = this.font(11);
    if (densities.length) context.fillText(`attention, up to ${percent(top)} per second`, 4, 10);
    const heard = this.data.tokens[this.query].heard;
    context.strokeStyle = this.colour("focus");
    context.lineWidth = 2;
    for (const [onset, offset] of heard) context.strokeRect(x(onset) - 1, 13, Math.max(3, x(offset) - x(onset) + 2), height - 14);
    context.fillStyle = this.colour("line");
    context.fillRect(0, height - 1, width, 1);
  }

  drawAxis(x) {
    const { context, width } = prepared(this.axis);
    context.fillStyle = this.colour("soft");
    context.font = this.font(11);
    for (const tick of ticksOf(this.data.seconds, width / 56)) {
      const text = `${tick}`;
      const half = context.measureText(text).width / 2;
      context.fillRect(x(tick), 0, 1, 4);
      context.fillText(text, Math.min(width - 2 * half - 12, Math.max(0, x(tick) - half)), 15);
    }
    context.fillText("s", width - 7, 15);
    let start = 0;
    for (const clip of this.data.clips.slice(0, -1)) {
      start += clip;
      context.fillRect(x(start), 0, 2, 16);
    }
  }

  /** The seconds that are selected or changed. */
  drawMarks() {
    const mark = ({ onset, offset }, kind, title) => {
      const box = make("div", { class: `mx-mark mx-${kind}`, title });
      box.style.left = this.left(onset);
      box.style.width = this.left(offset - onset);
      return box;
    };
    const spans = ({ kind, onset, offset }) =>
      kind === "seconds" ? [{ onset, offset }] : kind === "sound" && this.timed.length ? [{ onset: 0, offset: this.data.seconds }] : [];
    const marks = this.edits.flatMap((edit) => spans(edit).map((span) => mark(span, edit.how, HOW[edit.how].name)));
    const { selection } = this.state;
    if (selection) marks.push(...spans(selection).map((span) => mark(span, "chosen", "")));
    this.marks.replaceChildren(...marks);
  }

  drawWords(weights) {
    const top = weights ? Math.max(...this.text.map((position) => weights[position]), 1e-12) : 1;
    const chosen = new Set(this.state.selection ? this.positionsOf(this.state.selection) : []);
    const changed = new Map(this.edits.flatMap((edit) => this.positionsOf(edit).map((position) => [position, edit.how])));
    for (const [position, word] of this.wordOf) {
      const weight = weights?.[position] ?? 0;
      word.style.setProperty("--weight", `${(78 * Math.sqrt(weight / top)).toFixed(1)}%`);
      word.classList.toggle("mx-query", position === this.query);
      word.classList.toggle("mx-chosen", chosen.has(position));
      word.classList.toggle("mx-absent", !this.has(position));
      for (const how of Object.keys(HOW)) word.classList.toggle(`mx-${how}`, changed.get(position) === how);
      word.setAttribute("aria-selected", chosen.has(position));
      word.title = weights ? `${this.data.tokens[position].role}: ${percent(weight)}` : "";
    }
    for (const gap of this.gaps) {
      const [first, last] = [+gap.dataset.first, +gap.dataset.last];
      const places = this.timed.filter((position) => first <= position && position <= last);
      const share = weights ? ` · ${percent(shareOf(weights, places))}` : "";
      gap.textContent = `♪ ${places.length} audio tokens${share}`;
    }
  }

  drawReading(weights) {
    const { time, word } = this.hovered;
    const from = ["From ", make("b", {}, this.label(this.query)), `, ${this.cellName(this.cell)}: `];
    if (!weights) {
      this.reading.replaceChildren(...from, this.has(this.query) ? "…" : "not on this page");
      return;
    }
    const said = [`${percent(shareOf(weights, this.sounding))} on the sound`];
    if (time !== undefined) {
      const places = hearing(this.data.tokens, time, time + 1e-6);
      said.push(`${percent(shareOf(weights, places))} on the token at ${inSeconds(time)}`);
    }
    if (word !== undefined && word !== this.query) said.push(`${percent(weights[word])} on “${this.label(word)}”`);
    this.reading.replaceChildren(...from, said.join(", "));
  }

  drawHeads() {
    const { layers, heads } = this.data;
    const row = this.row(this.query);
    const tall = Math.min(26, Math.max(10, Math.round(420 / layers)));
    this.grid.style.height = `${layers * tall + 16}px`;
    const { context, width, height } = prepared(this.grid);
    const keys = this.timed.length ? this.timed : this.sounding;
    const wide = (width - GUTTER) / heads;
    context.font = this.font(10);
    const n = row ? row.cells.length / (layers * heads) : 0;
    const bins = Array.from({ length: layers * heads }, (_, index) => {
      const factor = row ? row.largest[index] / (STEPS * STEPS) : NaN;
      return Number.isNaN(factor) ? null : binned((key) => row.cells[index * n + key] ** 2 * factor, keys, Math.max(1, Math.floor(wide / 2)));
    });
    const top = Math.max(1e-12, ...bins.map((each) => (each ? Math.max(0, ...each) : 0)));
    bins.forEach((each, index) => {
      const left = GUTTER + (index % heads) * wide;
      const upper = (layers - 1 - Math.floor(index / heads)) * tall;
      context.fillStyle = this.colour("cell");
      context.globalAlpha = 1;
      context.fillRect(left + 1, upper + 1, wide - 2, tall - 2);
      if (!each) return;
      context.fillStyle = this.colour("glow");
      each.forEach((weight, bin) => {
        const step = (wide - 2) / each.length;
        context.globalAlpha = Math.sqrt(weight / top);
        context.fillRect(left + 1 + bin * step, upper + 1, step + 0.3, tall - 2);
      });
    });
    context.globalAlpha = 1;
    this.drawGridLabels(context, { width, height, tall, wide });
    const line = (cell, colour) => {
      if (cell.layer === null && cell.head === null) return;
      context.strokeStyle = this.colour(colour);
      context.lineWidth = 2;
      const left = cell.head === null ? GUTTER : GUTTER + cell.head * wide;
      const upper = cell.layer === null ? 0 : (layers - 1 - cell.layer) * tall;
      context.strokeRect(left + 1, upper + 1, (cell.head === null ? width - GUTTER : wide) - 2, (cell.layer === null ? layers * tall : tall) - 2);
    };
    line(this.state, "focus");
    if (this.hovered.cell) line(this.hovered.cell, "ink");
    this.grid.setAttribute("aria-label", `Layers by heads; ${this.summary()}. Choose with the boxes Layer and Head.`);
    this.gridNote.textContent = this.hovered.cell ? this.summary() : "From left to right in each cell: the clip. A click shows a head above; on a layer's number, the mean of its heads.";
  }

  drawGridLabels(context, { width, height, tall, wide }) {
    const { layers, heads } = this.data;
    context.fillStyle = this.colour("soft");
    const every = Math.ceil(13 / tall);
    for (let layer = 0; layer < layers; layer += every) context.fillText(`L${layer}`, 4, (layers - layer - 0.5) * tall + 4);
    const step = Math.ceil(26 / wide);
    for (let head = 0; head < heads; head += step) {
      const text = head ? `${head}` : "head 0";
      const at = GUTTER + (head + 0.5) * wide - context.measureText(text).width / 2;
      context.fillText(text, Math.min(width - 12, Math.max(GUTTER, at)), height - 4);
    }
  }

  drawAnswer() {
    const clean = this.data.answer;
    const now = this.edited ?? clean;
    if ("written" in clean) {
      const texts = [make("blockquote", {}, now.written || "nothing")];
      if (this.edited) texts.push(make("p", { class: "mx-hint" }, "without the change: ", make("q", {}, clean.written)));
      if (clean.right !== null) texts.push(make("p", { class: "mx-hint" }, "the answer: ", make("q", {}, clean.right)));
      this.answer.replaceChildren(...texts);
      return;
    }
    if (!this.bars) {
      this.bars = clean.choices.map((choice, index) => {
        const name = clean.names[index] === choice ? "" : clean.names[index];
        const value = make("span", { class: "mx-value" });
        const right = clean.right[index] ? [make("span", { class: "mx-right", title: "the right answer", "aria-label": "the right answer" }, "✓")] : [];
        const bar = make("div", { class: "mx-choice", role: "listitem" }, make("span", { class: "mx-name" }, name), make("span", { class: "mx-text" }, choice, ...right), value);
        return Object.assign(bar, { value });
      });
      this.answer.setAttribute("role", "list");
      this.answer.replaceChildren(...this.bars);
    }
    const best = now.probabilities.indexOf(Math.max(...now.probabilities));
    this.bars.forEach((bar, index) => {
      const [before, after] = [clean.probabilities[index], now.probabilities[index]];
      bar.style.setProperty("--now", `${100 * after}%`);
      bar.style.setProperty("--clean", `${100 * before}%`);
      bar.classList.toggle("mx-best", index === best);
      bar.classList.toggle("mx-moved", Boolean(this.edited));
      bar.value.textContent = percent(after);
      bar.title = this.edited ? `${percent(before)} without the change` : "";
    });
  }

  drawEditor(weights) {
    const { selection, layer, head } = this.state;
    this.selected.textContent = selection ? this.selectionReading(weights) : this.ask ? "Drag over the sound or the words." : "";
    if (!this.ask) return;
    const { how, where } = this.draft;
    const { by, written } = HOW[how];
    this.slider.parentElement.hidden = !by;
    if (by) {
      Object.assign(this.slider, { min: by.min, max: by.max, step: by.step, value: this.draft.by });
      this.strength.textContent = written(this.draft.by);
      this.slider.setAttribute("aria-valuetext", written(this.draft.by));
    }
    const places = [["every", "in every layer and head"]];
    if (layer !== null) places.push(["layer", `in layer ${layer}`]);
    if (layer !== null && head !== null) places.push(["head", `in layer ${layer}, head ${head}`]);
    const value = places.some(([key]) => key === where) ? where : "every";
    if (value !== where) this.draft.where = value;
    if (this.whereBox.dataset.places !== JSON.stringify(places)) options(this.whereBox, places, value);
    this.whereBox.dataset.places = JSON.stringify(places);
    this.keepButton.disabled = !selection;
    this.keptList.replaceChildren(
      ...this.kept.map((edit, index) => {
        const strength = HOW[edit.how].by ? ` ${HOW[edit.how].written(edit.by)}` : "";
        const name = `${HOW[edit.how].name}${strength}: ${this.selectionName(edit)}`;
        const drop = () => {
          this.kept.splice(index, 1);
          this.changed();
        };
        return make("li", {}, name, make("button", { type: "button", "aria-label": `Remove ${name}`, click: drop }, "×"));
      }),
    );
  }

  selectionReading(weights) {
    const { selection } = this.state;
    const positions = this.positionsOf(selection);
    const share = weights ? `: ${percent(shareOf(weights, positions))} of its attention` : "";
    return `${this.selectionName()}${share}, ${positions.length} token${positions.length === 1 ? "" : "s"}`;
  }
}

/**
 * Show an explorer inside an element.
 *
 * @param host the element.
 * @param data what mechaudio made of a prompt (`mechaudio.notebook.explorer_data`).
 * @param audio an audio element with the sound; one is made of `data.sound` where there is none.
 * @param ask sends a request to the live model, whose replies go to `take`; without it, nothing can be changed.
 */
export function mount(host, data, { audio = null, ask = null } = {}) {
  const player = audio ?? (data.sound ? make("audio", { src: data.sound, preload: "auto" }) : null);
  return new Explorer(host, data, player, ask);
}

/** What anywidget calls: the explorer with its live model. */
function render({ model, el }) {
  const view = `${Math.random()}`; // several views of one widget hear one another's replies
  const explorer = mount(el, model.get("data"), { ask: (request) => model.send({ ...request, view }) });
  const take = (reply) => {
    if (reply.view === view) explorer.take(reply);
  };
  model.on("msg:custom", take);
  return () => {
    model.off("msg:custom", take);
    explorer.remove();
  };
}

export default { render };
