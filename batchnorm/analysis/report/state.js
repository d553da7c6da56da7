// What the reader has chosen, and how it stands in the address behind #, so that a link shows the same.
'use strict';

/**
 * A column of runs by which they are filtered.
 * @typedef {{ id: string, label: string, values: string[], of: (run: Run) => string }} Facet
 */

const state = {
  metric: 0,
  /** @type {Map<string, Set<string>>} for each facet the values that are let through; absent: all */
  filters: new Map(),
  words: '',
  sort: 'variant',
  descending: false,
  /** @type {Set<number>} runs that are ticked; none: all that the filter shows */
  chosen: new Set(),
  page: 0,
  /** @type {'metrics' | 'masks' | ''} what panels of curves stand for; '': as the runs suggest */
  panels: /** @type {'metrics' | 'masks' | ''} */ (''),
  /** @type {'range' | 'deviation' | 'runs'} what is drawn beside the mean */
  spread: /** @type {'range' | 'deviation' | 'runs'} */ ('range'),
  /** @type {'' | 'linear' | 'all' | 'log'} '': as the metric suggests; all: no value lies outside */
  axis: /** @type {'' | 'linear' | 'all' | 'log'} */ (''),
  /** @type {Set<string>} lines that the legend hides */
  hidden: new Set(),
  problem: '',
  run: -1,
  slot: '',
  sorted: false,
  effects: 0,
  pairs: 0,
};

/** @type {Facet[]} */
let facetList = [];

/** The facets with more than one value. */
function facets() {
  if (facetList.length === 0) {
    const { variants, runs, keys } = report();
    /**
     * @param {string} id
     * @param {string} label
     * @param {(run: Run) => string} of
     * @param {string[]} values
     */
    const facet = (id, label, of, values) => ({ id, label, of, values: [...new Set(values)] });
    facetList = [
      facet(
        'problem',
        'Problem',
        (run) => variantOf(run).problem,
        variants.map((variant) => variant.problem),
      ),
      facet(
        'mask',
        'Mask',
        (run) => variantOf(run).mask,
        variants.map((variant) => variant.mask),
      ),
      facet(
        'mode',
        'Mode',
        (run) => variantOf(run).mode,
        variants.map((variant) => variant.mode),
      ),
      ...otherKeys().map((key) => {
        const values = new Set(runs.map((run) => setting(run, key)));
        const listed = [...keys[key].values.filter((value) => values.has(value)), ...(values.has('') ? [''] : [])];
        return facet(keys[key].name, keys[key].name, (run) => setting(run, key), listed);
      }),
      facet('seed', 'Seed', (run) => String(run.seed), runs.map((run) => String(run.seed)).sort(compareTexts)),
      facet('status', 'Status', (run) => run.status, runs.map((run) => run.status).sort()),
    ].filter(({ values }) => values.length > 1);
  }
  return facetList;
}

/** @param {Run} run */
function isShown(run) {
  for (const { id, of } of facets()) {
    const allowed = state.filters.get(id);
    if (allowed && !allowed.has(of(run))) return false;
  }
  if (!state.words) return true;
  let text = searchTexts.get(run);
  if (text === undefined) searchTexts.set(run, (text = `${run.path} ${variantOf(run).name} ${run.status}`.toLowerCase()));
  for (const word of state.words.toLowerCase().split(/\s+/)) if (!text.includes(word)) return false;
  return true;
}

/** @type {Map<Run, string>} */
const searchTexts = new Map();

/** The runs that the filter shows, by their places. */
function shownRuns() {
  return report()
    .runs.map((_, place) => place)
    .filter((place) => isShown(report().runs[place]));
}

/** The runs that charts are of: those that are ticked, or else all that the filter shows. */
function activeRuns() {
  return state.chosen.size ? [...state.chosen].sort((one, other) => one - other) : shownRuns();
}

/** @param {Iterable<number>} active */
function problemsOf(active) {
  const there = new Set([...active].map((place) => variantOf(report().runs[place]).problem));
  return problems().filter((problem) => there.has(problem));
}

/** @typedef {'runs' | 'metric' | 'curves' | 'parameters' | 'effects' | 'pairs' | 'theme'} Change */

/** @type {((change: Change) => void)[]} */
const listeners = [];

/**
 * Changes the state, tells all sections, and writes the address.
 * @param {Change} what
 * @param {() => void} how
 */
function change(what, how) {
  how();
  for (const listener of listeners) listener(what);
  afterPaint(writeAddress); // the browser finds all places anew as it takes an address
}

/**
 * Puts in a list to choose one of a section's comparisons; nothing where there is one alone.
 * @param {HTMLElement} place
 * @param {'effects' | 'pairs'} section
 * @param {string[]} texts
 */
function addComparisons(place, section, texts) {
  if (texts.length < 2) return;
  const options = texts.map((text, number) => ({ value: String(number), text }));
  const shown = String(Math.min(state[section], texts.length - 1));
  const list = choice('Comparison', options, shown, (value) =>
    change(section, () => {
      state[section] = Number(value);
    }),
  );
  place.append(make('div', { class: 'tools' }, list));
}

/** @param {Set<string>} values */
function packed(values) {
  return [...values].map((value) => value.replaceAll('~', '~~').replaceAll('|', '~!')).join('|');
}

/** @param {string} text */
function unpacked(text) {
  return new Set(text.split('|').map((value) => value.replace(/~([~!])/g, (_, mark) => (mark === '!' ? '|' : '~'))));
}

/** The part of the address that says what is chosen. */
function addressOfState() {
  const parts = new URLSearchParams();
  const { metrics, runs } = report();
  if (state.metric !== firstMetric()) parts.set('metric', metrics[state.metric].name);
  for (const [id, values] of state.filters) parts.set(`is.${id}`, packed(values));
  if (state.words) parts.set('words', state.words);
  if (state.sort !== 'variant' || state.descending) parts.set('sort', `${state.descending ? '-' : ''}${state.sort}`);
  if (state.chosen.size) parts.set('runs', [...state.chosen].map((place) => shortName(runs[place].path)).join('.'));
  if (state.panels) parts.set('panels', state.panels);
  if (state.spread !== 'range') parts.set('spread', state.spread);
  if (state.axis) parts.set('axis', state.axis);
  if (state.hidden.size) parts.set('hidden', packed(state.hidden));
  if (zoomed) parts.set('zoom', zoomed.join('-'));
  if (state.problem) parts.set('problem', state.problem);
  if (state.run >= 0) parts.set('run', shortName(runs[state.run].path));
  if (state.slot) parts.set('slot', state.slot);
  if (state.sorted) parts.set('channels', 'sorted');
  if (state.effects) parts.set('effects', String(state.effects));
  if (state.pairs) parts.set('pairs', String(state.pairs));
  if (at) parts.set('at', at);
  return parts.toString();
}

/** The section that the reader went to last. */
let at = '';
let ownAddress = '';

function writeAddress() {
  ownAddress = addressOfState();
  history.replaceState(null, '', ownAddress ? `#${ownAddress}` : location.pathname + location.search);
}

/** The metric that the page begins with: the final test accuracy where there is one. */
function firstMetric() {
  const { metrics } = report();
  return Math.max(
    0,
    metrics.findIndex(({ name }) => name === 'test_acc'),
  );
}

/** Takes the state from the address. What it does not know (any more) it leaves out. */
function readAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const { metrics, runs } = report();
  const places = new Map(runs.map((run, place) => [shortName(run.path), place]));
  /**
   * @template {string} T
   * @param {string} name
   * @param {T[]} words
   * @param {T} otherwise
   */
  const oneOf = (name, words, otherwise) => words.find((word) => word === parts.get(name)) ?? otherwise;
  const metric = metrics.findIndex(({ name }) => name === parts.get('metric'));
  state.metric = metric < 0 ? firstMetric() : metric;
  state.filters.clear();
  for (const { id, values } of facets()) {
    const asked = parts.get(`is.${id}`);
    if (asked === null) continue;
    const known = [...unpacked(asked)].filter((value) => values.includes(value));
    if (known.length) state.filters.set(id, new Set(known));
  }
  state.words = parts.get('words') ?? '';
  const sort = parts.get('sort') ?? 'variant';
  state.descending = sort.startsWith('-');
  state.sort = sort.replace(/^-/, '');
  state.page = 0;
  state.chosen.clear();
  for (const name of (parts.get('runs') ?? '').split('.')) {
    const place = places.get(name);
    if (place !== undefined) state.chosen.add(place);
  }
  state.panels = oneOf('panels', ['metrics', 'masks', ''], '');
  state.spread = oneOf('spread', ['range', 'deviation', 'runs'], 'range');
  state.axis = oneOf('axis', ['', 'linear', 'all', 'log'], '');
  state.hidden = parts.has('hidden') ? unpacked(parts.get('hidden') ?? '') : new Set();
  const [first, last] = (parts.get('zoom') ?? '').split('-').map(Number);
  zoomed = last > first ? [first, last] : null;
  state.problem = parts.get('problem') ?? '';
  state.run = places.get(parts.get('run') ?? '') ?? -1;
  state.slot = parts.get('slot') ?? '';
  state.sorted = parts.get('channels') === 'sorted';
  state.effects = Number(parts.get('effects')) || 0;
  state.pairs = Number(parts.get('pairs')) || 0;
  at = parts.get('at') ?? '';
  ownAddress = location.hash.slice(1);
}

/**
 * Goes to a section: it is scrolled to, and its heading has the focus.
 * @param {string} section
 */
function goTo(section) {
  const title = document.getElementById(`${section}-title`);
  if (!title || title.closest('[hidden]')) return;
  at = section;
  title.focus({ preventScroll: true });
  title.scrollIntoView({ block: 'start' });
  writeAddress();
}
