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
  if (value < 0.001) return "0%";
  return `${value >= 9.95 ? value.toFixed(0) : value >= 0.095 ? value.toFixed(1) : value.toPrecision(1)}%`;
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

/** An element with attributes (a function is a listener) and children. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") on(element, { [name]: value });
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

function on(element, listeners) {
  for (const [event, listener] of Object.entries(listeners)) element.addEventListener(event, listener);
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
const FOOT = 16;
const HOW = {
  knock_out: { title: "Knock out" },
  scale: { title: "Scale", by: { min: 0, max: 4, step: 0.05, start: 2 }, written: (by) => `× ${by.toFixed(2)}` },
  upweight: {
    title: "Upweight",
    by: { min: -5, max: 5, step: 0.1, start: 2 },
    written: (by) => `${by < 0 ? "−" : "+"} ${Math.abs(by).toFixed(1)}`,
  },
};

const SKELETON = `
<section class="mx" tabindex="-1">
  <div class="mx-bar">
    <button type="button" class="mx-play" data-part="playButton" aria-label="Play"></button>
    <span class="mx-clock" data-part="clock"></span>
    <label><span class="mx-hidden">Layer</span><select data-part="layerBox"></select></label>
    <label><span class="mx-hidden">Head</span><select data-part="headBox"></select></label>
  </div>
  <div class="mx-columns">
    <div class="mx-main">
      <div class="mx-stage" data-part="stage">
        <ul class="mx-events" data-part="events" aria-label="Events"></ul>
        <div class="mx-moment" data-part="moment" tabindex="0" role="slider" aria-valuemin="0" aria-valuenow="0"
          aria-label="Moment in the clip; space plays, and with shift the arrows select seconds">
          <canvas class="mx-picture" data-part="picture"></canvas>
          <canvas class="mx-track" data-part="track"></canvas>
          <canvas class="mx-axis" data-part="axis"></canvas>
        </div>
        <div class="mx-marks" data-part="marks" aria-hidden="true"></div>
        <div class="mx-cursor" data-part="cursor" aria-hidden="true"></div>
      </div>
      <p class="mx-reading" data-part="reading"></p>
      <p class="mx-hint" data-part="hint"></p>
    </div>
    <aside class="mx-side">
      <h4>Its answer</h4>
      <div class="mx-answer" data-part="answer"></div>
      <fieldset>
        <legend data-part="legend"></legend>
        <p class="mx-selected" data-part="selected"></p>
        <div class="mx-editor" data-part="editor">
          <div class="mx-how" data-part="ways" role="radiogroup" aria-label="How"></div>
          <div class="mx-strength" data-part="strengthRow">
            <input type="range" data-part="slider" aria-label="Strength"><output data-part="strength"></output>
          </div>
          <select data-part="whereBox" aria-label="In which heads"></select>
          <select data-part="queriesBox" aria-label="For which positions"></select>
          <div class="mx-buttons">
            <button type="button" data-part="wholeButton">All sound</button>
            <button type="button" data-part="keepButton">Keep</button>
            <button type="button" data-part="resetButton">Start over</button>
          </div>
          <ul class="mx-kept" data-part="keptList" aria-label="Changes that are kept"></ul>
          <details><summary>As code</summary>
            <pre class="mx-code" data-part="code" tabindex="0" aria-label="These changes as interventions"></pre></details>
        </div>
      </fieldset>
    </aside>
  </div>
  <p class="mx-hidden" data-part="status" role="status" aria-live="polite"></p>
  <p class="mx-problem" data-part="problem" role="alert" hidden></p>
  <div class="mx-part">
    <h4>The prompt <span data-part="roles"></span></h4>
    <div class="mx-words" data-part="words" role="listbox" aria-label="The prompt" aria-multiselectable="true"></div>
  </div>
  <div class="mx-part">
    <h4 data-part="gridTitle"></h4>
    <canvas class="mx-grid" data-part="grid" role="img"></canvas>
    <p class="mx-hint" data-part="gridNote"></p>
  </div>
</section>`;

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
    this.waiting = {};
    this.draft = { how: "knock_out", by: 2, where: "every", queries: this.sounding.length ? "behind" : "every" };
    this.edited = null;
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

  /** The row of a query under the changes in force; the one before until it has come, null where there is none. */
  row(position) {
    if (!this.rows.has(position)) this.fetch(position);
    const row = this.rows.get(position) ?? (this.before?.position === position ? this.before.row : null);
    if (row) this.before = { position, row };
    return row;
  }

  async fetch(position) {
    const sent = this.edits.length ? undefined : this.data.rows[position];
    if (sent) {
      this.rows.set(position, null);
      const row = await unpacked(sent);
      if (!this.edits.length) this.rows.set(position, row);
      this.draw();
    } else if (this.ask && this.asked?.query !== position) this.send({ kind: "row", query: position });
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
    if (head === null) return `layer ${layer}, all heads`;
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
    const { data, host } = this;
    host.innerHTML = SKELETON; // which holds no text from outside
    this.root = host.firstElementChild;
    this.root.setAttribute("aria-label", `Explorer: ${data.text}`);
    for (const part of host.querySelectorAll("[data-part]")) this[part.dataset.part] = part;
    for (const part of [this.playButton, this.clock, this.stage]) part.hidden = !data.seconds;
    const numbered = (n, what) => Array.from({ length: n }, (_, index) => [index, `${what} ${index}`]);
    options(this.layerBox, [["", "all layers"], ...numbered(data.layers, "layer")], "");
    options(this.headBox, [["", "all heads"], ...numbered(data.heads, "head")], "");
    const timeless = this.sounding.length - this.timed.length;
    const usage = this.ask ? "drag over seconds or words to change how they are seen." : "drag to select seconds or words.";
    const note = timeless > 0 ? ` ${timeless} audio tokens have no time of their own: they stand among the words.` : "";
    this.hint.textContent = `Click to seek, or on a word to look from it; ${usage}${note}`;
    this.gridTitle.textContent = `All heads: ${this.timed.length ? "where" : "how much"} each looks in the sound`;
    this.buildEvents();
    this.buildEditor();
    this.buildWords();
  }

  buildEvents() {
    const height = `${Math.max(0, ...this.data.events.map(({ lane }) => lane + 1)) * LANE}px`;
    this.events.style.height = this.marks.style.top = height;
    for (const { label, onset, offset, lane, end, colour } of this.data.events) {
      const bar = make("li", { class: `mx-event${end ? " mx-end" : ""}`, title: `${label}, ${inSeconds(onset)} to ${inSeconds(offset)}` }, label);
      Object.assign(bar.style, { left: this.left(onset), width: this.left(offset - onset), top: `${lane * LANE}px` });
      bar.style.setProperty("--event", colour);
      this.events.append(bar);
    }
  }

  buildEditor() {
    this.editor.hidden = !this.ask;
    this.legend.textContent = this.ask ? "Change what it sees" : "What is selected";
    this.moment.setAttribute("aria-valuemax", this.data.seconds.toFixed(2));
    const name = `mx-how-${Math.random()}`; // radios of other explorers are not of this group
    for (const [how, { title, by }] of Object.entries(HOW)) {
      const change = () => this.redraft({ how, by: by?.start ?? 0 });
      const radio = make("input", { type: "radio", name, value: how, checked: how === this.draft.how, change });
      this.ways.append(make("label", {}, radio, make("span", {}, title)));
    }
    const behind = this.sounding.length ? [["behind", "for all behind the sound"]] : [];
    options(this.queriesBox, [...behind, ["last", "for the last position"], ["every", "for every position"]], this.draft.queries);
    this.wholeButton.hidden = !this.sounding.length;
  }

  buildWords() {
    const { tokens, apart, colours } = this.data;
    const coloured = (element, role) => {
      element.style.setProperty("--role", colours[role]);
      return element;
    };
    const roles = [...new Set(tokens.map(({ role }) => role))].filter((role) => role !== "padding");
    this.roles.append(...roles.map((role) => coloured(make("span", { class: "mx-role" }, role.replace("_", " ")), role)));
    this.wordOf = new Map();
    this.gaps = [];
    for (const [position, { text, role, heard }] of tokens.entries()) {
      if (heard.length && this.gaps.at(-1)?.last === position - 1) this.gaps.at(-1).last = position;
      else if (heard.length) {
        const pill = make("span", { class: "mx-sound", role: "presentation" });
        this.gaps.push({ pill, first: position, last: position });
        this.words.append(pill);
      } else if (role !== "padding") {
        const attributes = { class: `mx-word${apart ? " mx-apart" : ""}`, role: "option", tabindex: -1, "data-position": position };
        const word = coloured(make("span", attributes, text), role);
        this.wordOf.set(position, word);
        this.words.append(word, ...(text.includes("⏎") ? [make("br")] : []));
      }
    }
    this.focused = this.state.query;
    this.wordOf.get(this.focused)?.setAttribute("tabindex", 0);
  }

  // -- listening to people --------------------------------------------------------------------------------------------

  listen() {
    this.listenToControls();
    this.listenToStage();
    this.listenToWords();
    this.listenToHeads();
    const repaint = () => this.draw();
    const resized = new ResizeObserver(repaint);
    resized.observe(this.root);
    const themed = new MutationObserver(repaint);
    for (const each of [document.documentElement, document.body]) themed.observe(each, { attributes: true });
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", repaint);
    this.remove = () => {
      resized.disconnect();
      themed.disconnect();
      scheme.removeEventListener("change", repaint);
      this.audio?.pause();
    };
  }

  listenToControls() {
    const { audio } = this;
    const chosen = ({ value }) => (value === "" ? null : +value);
    for (const box of [this.layerBox, this.headBox]) {
      on(box, { change: () => this.look(chosen(this.layerBox), chosen(this.headBox)) });
    }
    on(this.playButton, { click: () => this.play() });
    on(this.slider, { input: () => this.redraft({ by: +this.slider.value }) });
    on(this.whereBox, { change: () => this.redraft({ where: this.whereBox.value }) });
    on(this.queriesBox, { change: () => this.redraft({ queries: this.queriesBox.value }) });
    on(this.wholeButton, { click: () => this.select({ kind: "sound" }) });
    on(this.keepButton, { click: () => this.keep() });
    on(this.resetButton, { click: () => this.reset() });
    if (!audio) return;
    const follow = () => {
      this.drawCursor();
      if (!audio.paused) requestAnimationFrame(follow);
    };
    const draw = () => this.drawCursor();
    on(audio, { play: follow, pause: draw, ended: draw, seeked: draw, timeupdate: draw, loadedmetadata: draw });
  }

  listenToStage() {
    let start = null;
    const hearingAt = (time) => hearing(this.data.tokens, time, time + 1e-6)[0];
    const end = (event) => {
      if (start?.moved) this.say(this.selectionName());
      else if (start) {
        const time = this.timeAt(event.clientX);
        this.seek(time);
        if (this.isOnTrack(event) && hearingAt(time) !== undefined) this.choose(hearingAt(time));
      }
      start = null;
    };
    on(this.stage, {
      pointerdown: (event) => {
        if (event.button) return;
        start = { time: this.timeAt(event.clientX), x: event.clientX, moved: false };
        this.stage.setPointerCapture(event.pointerId);
      },
      pointermove: (event) => {
        const time = this.timeAt(event.clientX);
        const query = !start && this.isOnTrack(event) ? hearingAt(time) : undefined;
        Object.assign(this.hovered, { time, query: this.has(query) ? query : undefined });
        if (start && (start.moved ||= Math.abs(event.clientX - start.x) > 4)) this.selectSeconds(start.time, time);
        else this.draw();
      },
      pointerup: end,
      pointercancel: () => (start = null),
      pointerleave: () => this.hover({ time: undefined, query: undefined }),
      keydown: (event) => this.stageKey(event, hearingAt),
    });
  }

  isOnTrack({ clientY }) {
    return clientY >= this.track.getBoundingClientRect().top;
  }

  stageKey(event, hearingAt) {
    const { seconds } = this.data;
    const now = this.audio?.currentTime ?? 0;
    const steps = { ArrowLeft: -0.1, ArrowRight: 0.1, PageDown: -1, PageUp: 1, Home: -now, End: seconds - now };
    if (event.key in steps) {
      const then = Math.min(seconds, Math.max(0, now + steps[event.key]));
      this.anchor = event.shiftKey ? (this.anchor ?? now) : null;
      this.seek(then);
      if (event.shiftKey) this.selectSeconds(this.anchor, then);
      if (event.shiftKey) this.say(this.selectionName());
    } else if (event.key === " ") this.play();
    else if (event.key === "Enter" && hearingAt(now) !== undefined) this.choose(hearingAt(now));
    else if (event.key === "Escape") this.select(null);
    else return;
    event.preventDefault();
  }

  listenToWords() {
    let start = null; // a position, or the pill of the audio tokens
    let moved = false;
    const under = ({ clientX, clientY }) => {
      const element = this.root.getRootNode().elementFromPoint(clientX, clientY)?.closest?.(".mx-word, .mx-sound");
      if (!element || !this.words.contains(element)) return null;
      return element.dataset.position === undefined ? element : +element.dataset.position;
    };
    const isWord = (place) => typeof place === "number";
    on(this.words, {
      pointerdown: (event) => {
        if (event.button) return;
        event.preventDefault();
        [start, moved] = [under(event), false];
        if (isWord(start)) this.focusWord(start);
      },
      pointermove: (event) => {
        const place = under(event);
        const word = isWord(place) ? place : undefined;
        Object.assign(this.hovered, { word, query: start === null && this.has(word) ? word : undefined });
        if (isWord(start) && isWord(place) && (moved ||= place !== start)) this.selectWords(start, place);
        else this.draw();
      },
      pointerup: (event) => {
        const place = under(event);
        if (moved) this.say(this.selectionName());
        else if (start !== null && place === start) isWord(place) ? this.choose(place) : this.select({ kind: "sound" });
        start = null;
      },
      pointercancel: () => (start = null),
      pointerleave: () => this.hover({ word: undefined, query: undefined }),
      keydown: (event) => this.wordKey(event),
      focusin: () => (this.anchorWord = this.focused),
    });
  }

  wordKey(event) {
    const places = [...this.wordOf.keys()];
    const index = places.indexOf(this.focused);
    const steps = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: places.length - 1 };
    if (event.key in steps) {
      const next = places[Math.min(places.length - 1, Math.max(0, steps[event.key]))];
      const anchor = this.anchorWord;
      this.focusWord(next);
      this.anchorWord = event.shiftKey ? anchor : next;
      if (event.shiftKey) this.selectWords(anchor, next);
      if (event.shiftKey) this.say(this.selectionName());
    } else if (event.key === "Enter" || event.key === " ") this.choose(this.focused);
    else if (event.key === "Escape") this.select(null);
    else return;
    event.preventDefault();
  }

  focusWord(position) {
    this.wordOf.get(this.focused)?.setAttribute("tabindex", -1);
    this.focused = position;
    this.wordOf.get(position).setAttribute("tabindex", 0);
    this.wordOf.get(position).focus({ preventScroll: true });
  }

  listenToHeads() {
    const under = ({ offsetX, offsetY }) => {
      const { layers, heads } = this.data;
      const { clientWidth, clientHeight } = this.grid;
      const layer = layers - 1 - Math.floor((offsetY * layers) / (clientHeight - FOOT));
      if (layer < 0 || layer >= layers) return { layer: null, head: null };
      if (offsetX < GUTTER) return { layer, head: null };
      return { layer, head: Math.min(heads - 1, Math.floor(((offsetX - GUTTER) * heads) / (clientWidth - GUTTER))) };
    };
    on(this.grid, {
      pointermove: (event) => this.hover({ cell: under(event) }),
      pointerleave: () => this.hover({ cell: undefined }),
      click: (event) => {
        const { layer, head } = under(event);
        const again = layer === this.state.layer && head === this.state.head;
        this.look(again ? null : layer, again ? null : head);
      },
    });
  }

  hover(change) {
    Object.assign(this.hovered, change);
    this.draw();
  }

  play() {
    if (this.audio?.paused) this.audio.play();
    else this.audio?.pause();
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
    const [onset, offset] = [one, other].sort((a, b) => a - b).map((time) => Math.round(time * 100) / 100);
    this.select(offset > onset ? { kind: "seconds", onset, offset } : null);
  }

  selectWords(one, other) {
    const [first, last] = [one, other].sort((a, b) => a - b);
    this.select({ kind: "words", positions: [...this.wordOf.keys()].filter((at) => first <= at && at <= last) });
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
    return `“${text.length > 48 ? `${text.slice(0, 47)}…` : text}”`;
  }

  redraft(change) {
    Object.assign(this.draft, change);
    this.changed();
  }

  /** The changes that are in force, as the library is told them. */
  get edits() {
    return this.state.selection && this.ask ? [...this.kept, this.edit()] : this.kept;
  }

  edit() {
    const { how, by, where, queries } = this.draft;
    const { layer, head, selection } = this.state;
    const layers = where === "every" || layer === null ? null : [layer];
    return { ...selection, how, by, queries, layers, heads: where === "head" && layers && head !== null ? [head] : null };
  }

  keep() {
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
    this.waiting[request.kind] = request;
    if (!this.asked) this.next();
  }

  next() {
    const request = this.waiting.answer ?? this.waiting.row;
    if (!request) return;
    delete this.waiting[request.kind];
    this.asked = { ...request, edits: this.edits, number: ++this.number };
    this.root.setAttribute("aria-busy", "true");
    this.ask(this.asked);
  }

  /** Take what the live model says. */
  async take(reply) {
    if (reply.number !== this.asked?.number) return;
    const { query, edits } = this.asked;
    const row = reply.row ? await unpacked(reply.row) : null; // none where there is a problem: it is not asked again
    if (query !== undefined && JSON.stringify(edits) === JSON.stringify(this.edits)) this.rows.set(query, row);
    if (reply.kind === "problem" || reply.kind === "answer") {
      this.problem.hidden = reply.kind === "answer";
      this.problem.textContent = reply.message ?? "";
    }
    if (query === undefined) {
      this.edited = edits.length && reply.answer ? reply.answer : null;
      this.code.textContent = reply.code ?? "";
      this.say(reply.answer ? this.answerInWords() : "");
    }
    this.asked = null;
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
    this.moment.setAttribute("aria-valuenow", now.toFixed(2));
    this.moment.setAttribute("aria-valuetext", inSeconds(now));
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
    this.drawTrack(weights, densities, top, x);
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

  drawTrack(weights, densities, top, x) {
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
    const most = weights ? Math.max(...this.timed.map((position) => weights[position])) : 0;
    if (weights) context.fillText(`attention, up to ${percent(most)} on one token`, 4, 10);
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
    const marks = this.edits.flatMap((edit) => spans(edit).map((span) => mark(span, edit.how, HOW[edit.how].title)));
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
    for (const { pill, first, last } of this.gaps) {
      const places = this.timed.filter((position) => first <= position && position <= last);
      pill.textContent = `♪ ${places.length} audio tokens${weights ? ` · ${percent(shareOf(weights, places))}` : ""}`;
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
    this.grid.style.height = `${layers * tall + FOOT}px`;
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
    this.drawGridLabels(context, { height, tall, wide });
    const line = ({ layer, head }, colour) => {
      if (layer === null && head === null) return;
      context.strokeStyle = this.colour(colour);
      context.lineWidth = 2;
      const [left, across] = head === null ? [GUTTER, width - GUTTER] : [GUTTER + head * wide, wide];
      const [upper, down] = layer === null ? [0, layers * tall] : [(layers - 1 - layer) * tall, tall];
      context.strokeRect(left + 1, upper + 1, across - 2, down - 2);
    };
    line(this.state, "focus");
    if (this.hovered.cell) line(this.hovered.cell, "ink");
    this.grid.setAttribute("aria-label", `Layers by heads; ${this.summary()}. Choose with the boxes Layer and Head.`);
    const note = "Each cell is a head, with the clip from left to right. A click shows it above; on L0, L1 …, the mean of a layer.";
    this.gridNote.textContent = this.hovered.cell ? this.summary() : note;
  }

  drawGridLabels(context, { height, tall, wide }) {
    const { layers, heads } = this.data;
    context.fillStyle = this.colour("soft");
    const every = Math.ceil(13 / tall);
    for (let layer = 0; layer < layers; layer += every) context.fillText(`L${layer}`, 4, (layers - layer - 0.5) * tall + 4);
    const step = Math.ceil(26 / wide);
    context.fillText("head", 4, height - 4);
    for (let head = 0; head < heads; head += step) {
      const half = context.measureText(`${head}`).width / 2;
      context.fillText(`${head}`, GUTTER + (head + 0.5) * wide - half, height - 4);
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
    this.bars ??= this.buildBars(clean);
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

  buildBars({ choices, names, right }) {
    const bars = choices.map((choice, index) => {
      const tick = make("span", { class: "mx-right", title: "the right answer", role: "img", "aria-label": "the right answer" }, "✓");
      const text = make("span", { class: "mx-text" }, choice, ...(right[index] ? [tick] : []));
      const name = make("span", { class: "mx-name" }, names[index] === choice ? "" : names[index]);
      const value = make("span", { class: "mx-value" });
      return Object.assign(make("div", { class: "mx-choice", role: "listitem" }, name, text, value), { value });
    });
    this.answer.setAttribute("role", "list");
    this.answer.replaceChildren(...bars);
    return bars;
  }

  drawEditor(weights) {
    const { selection, layer, head } = this.state;
    this.selected.textContent = selection ? this.selectionReading(weights) : "Drag over the sound or the words.";
    if (!this.ask) return;
    const { how, where } = this.draft;
    const { by, written } = HOW[how];
    this.strengthRow.hidden = !by;
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
    this.whereBox.value = value;
    this.keepButton.disabled = !selection;
    this.keptList.replaceChildren(
      ...this.kept.map((edit, index) => {
        const strength = HOW[edit.how].by ? ` ${HOW[edit.how].written(edit.by)}` : "";
        const head = edit.layers ? `, ${this.cellName({ layer: edit.layers[0], head: edit.heads?.[0] ?? null })}` : "";
        const name = `${HOW[edit.how].title}${strength}: ${this.selectionName(edit)}${head}`;
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
