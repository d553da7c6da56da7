// What the page holds: its manifest, its blobs, and what follows from them. No element is made here.
'use strict';

/** @type {Manifest | null} */
let readManifest = null;

/** The manifest, parsed once. */
function report() {
  if (!readManifest)
    readManifest = /** @type {Manifest} */ (JSON.parse(document.getElementById('manifest')?.textContent ?? 'null'));
  return readManifest;
}

/**
 * @param {string} base64
 * @returns {Uint8Array<ArrayBuffer>}
 */
function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let place = 0; place < text.length; place++) bytes[place] = text.charCodeAt(place);
  return bytes;
}

/** @type {Map<string, Promise<ArrayBuffer>>} */
const inflated = new Map();

/**
 * A blob's bytes: base64 of raw deflate, inflated once and when it is needed.
 * @param {string} name
 */
function blob(name) {
  let bytes = inflated.get(name);
  if (!bytes) {
    const packed = bytesOf((document.getElementById(name)?.textContent ?? '').trim());
    bytes = new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate-raw'))).arrayBuffer();
    inflated.set(name, bytes);
  }
  return bytes;
}

/**
 * Blobs of numbers.
 * @param {string} name
 */
async function floats(name) {
  return new Float32Array(await blob(name));
}

/** Keys that stand in columns of their own, as variant and seed. */
const OWN_COLUMNS = new Set(['PROBLEM', 'POSITION', 'ABLATION', 'RANDOM_SEED']);

/** @type {Map<string, number[]>} */
const keysOfProblems = new Map();

/**
 * The keys, by their place in a run's settings, that tell runs of one variant and seed apart.
 * @param {string} problem
 */
function keysOf(problem) {
  let found = keysOfProblems.get(problem);
  if (!found) {
    const { keys, runs } = report();
    const own = runs.filter((run) => variantOf(run).problem === problem);
    /** @param {number} place */
    const values = (place) => own.filter((run) => !lacks(run, place)).map((run) => run.settings[place]);
    found = keys
      .map((_, place) => place)
      .filter((place) => !OWN_COLUMNS.has(keys[place].name) && new Set(values(place)).size > 1);
    keysOfProblems.set(problem, found);
  }
  return found;
}

/**
 * Whether a vanilla run has no such key, as it has no slots for it to act in.
 * @param {Run} run
 * @param {number} key
 */
function lacks(run, key) {
  return run.settings[key] < 0 && isVanilla(variantOf(run).mask);
}

/**
 * Whether a vanilla run is one to compare others with: it has the same settings, those aside that it lacks.
 * @param {number} vanilla
 * @param {number} other
 */
function standsBeside(vanilla, other) {
  const [one, run] = [report().runs[vanilla], report().runs[other]];
  const { problem } = variantOf(one);
  return (
    isVanilla(variantOf(one).mask) &&
    problem === variantOf(run).problem &&
    keysOf(problem).every((key) => lacks(one, key) || one.settings[key] === run.settings[key])
  );
}

/** Those of all problems, in their order. */
function otherKeys() {
  return [...new Set(problems().flatMap(keysOf))].sort((one, other) => one - other);
}

/**
 * @param {Run} run
 * @param {number} key
 */
function setting(run, key) {
  const value = run.settings[key];
  return value === undefined || value < 0 ? '' : report().keys[key].values[value];
}

/**
 * What tells a run apart from others of its variant and seed: `LR=0.1, OPTIMIZER=Adam`; empty where no key does.
 * @param {Run} run
 */
function settingsOf(run) {
  return keysOf(variantOf(run).problem)
    .map((key) => [report().keys[key].name, setting(run, key)])
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `${name}=${value}`)
    .join(', ');
}

/** @param {Run} run */
function variantOf(run) {
  return report().variants[run.variant];
}

/** @param {string} status */
function hasEnded(status) {
  return status === 'finished' || status === 'diverged';
}

/** @param {string} mask */
function isVanilla(mask) {
  return /^[0,]+$/.test(mask);
}

/** The problems, as the variants list them. */
function problems() {
  return [...new Set(report().variants.map((variant) => variant.problem))];
}

/**
 * Runs that differ in nothing but their seed.
 * @typedef {{ id: string, variant: Variant, settings: string, runs: number[] }} Group
 */

/**
 * @param {Iterable<number>} runs
 * @returns {Group[]}
 */
function groupsOf(runs) {
  /** @type {Map<string, Group>} */
  const groups = new Map();
  for (const place of runs) {
    const run = report().runs[place];
    const settings = settingsOf(run);
    const id = `${run.variant} ${settings}`;
    const group = groups.get(id);
    if (group) group.runs.push(place);
    else groups.set(id, { id, variant: variantOf(run), settings, runs: [place] });
  }
  const order = new Map(report().variants.map((variant, place) => [variant, place]));
  return [...groups.values()].sort(
    (one, other) =>
      (order.get(one.variant) ?? 0) - (order.get(other.variant) ?? 0) || compareSettings(one.runs[0], other.runs[0]),
  );
}

/**
 * Which of two runs of a problem stands first by its settings, key by key in the order of the values.
 * @param {number} one
 * @param {number} other
 */
function compareSettings(one, other) {
  const [first, second] = [report().runs[one], report().runs[other]];
  for (const key of keysOf(variantOf(first).problem)) {
    if (first.settings[key] !== second.settings[key]) return first.settings[key] - second.settings[key];
  }
  return 0;
}

const collator = new Intl.Collator('en', { numeric: true });

/**
 * @param {string} one
 * @param {string} other
 */
function compareTexts(one, other) {
  return collator.compare(one, other);
}

/**
 * A metric over the runs of a cell: those that finished.
 * @typedef {{ n: number, mean: number, deviation: number, unfinished: number, diverged: number, broken: number }} Summary
 */

/**
 * @param {number[]} runs
 * @param {number} metric
 * @returns {Summary}
 */
function summarise(runs, metric) {
  const all = runs.map((place) => report().runs[place]);
  const values = all
    .filter((run) => run.status === 'finished')
    .map((run) => run.final[metric])
    .filter((value) => typeof value === 'number' && Number.isFinite(value))
    .map(Number);
  const n = values.length;
  const mean = n ? values.reduce((sum, value) => sum + value, 0) / n : NaN;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const diverged = all.filter((run) => run.status === 'diverged').length;
  const broken = all.filter((run) => run.status === 'unusable').length;
  const unfinished = all.filter((run) => !hasEnded(run.status)).length - broken;
  return { n, mean, deviation: n > 1 ? Math.sqrt(squares / (n - 1)) : NaN, unfinished, diverged, broken };
}

/**
 * A short name of a run for addresses, which stays when the page is written again.
 * @param {string} path
 */
function shortName(path) {
  let hash = 0x811c9dc5;
  for (let place = 0; place < path.length; place++) hash = Math.imul(hash ^ path.charCodeAt(place), 0x01000193) >>> 0;
  return hash.toString(36);
}
