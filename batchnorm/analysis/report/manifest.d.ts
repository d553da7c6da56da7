// What a page holds: written by data.py, read by the page's scripts, which are checked against these types.
//
// The manifest is JSON in <script type="application/json" id="manifest">. Numbers in bulk stand beside it as blobs,
// <script type="text/plain" id="NAME">: base64 of raw deflate (RFC 1951) of little-endian numbers. NaN in a blob: no value.
// In the manifest itself null stands for a number that is absent. All texts are plain: the page never takes them as HTML.

interface Manifest {
  version: 1;
  title: string;
  root: string; // the path as it was given
  written: string; // ISO 8601, UTC
  software: string; // name and version
  keys: Key[]; // deciding keys that differ between runs; a run's `settings` has one value for each, in this order
  metrics: Metric[]; // recorded once an epoch: losses and accuracies first, then measurements with one number
  variants: Variant[];
  runs: Run[];
  effects: Effects[]; // one for each problem and setting with something to compare
  pairs: Pair[];
  unreadable: { path: string; reason: string }[];
  notes: string[]; // what the reader should know: pages without parameters, settings not compared
}

interface Key { name: string; values: string[]; } // values as text, in the order in which they should be listed

interface Metric {
  name: string; // test_acc
  label: string; // "test accuracy"
  unit: string; // "%", "nats", ""; numbers stand in this unit everywhere: accuracies between 0 and 100, differences of them too
  better: "high" | "low" | ""; // which direction is better
  log: boolean; // whether a log axis is offered first
}

interface Variant { // a mask and a mode
  name: string; // "0,0,1 fixed_bn"; "vanilla"
  problem: string;
  mask: string; // "0,0,1"
  mode: string; // "vanilla" for the all-zero mask
  color: string; // #rrggbb on white, as in the figures
  colorDark: string; // on the dark page
  dash: number[]; // lengths of dash and gap in pixels; [] solid
}

interface Run {
  path: string; // below root
  variant: number; // into variants
  seed: number;
  status: string; // a word of batchnorm.store.status
  epochs: number; // reached
  of: number; // epochs it shall have
  settings: number[]; // for each of keys: into its values; -1: the run has no such key
  config: [string, string][]; // all keys and values, as text
  versions: [string, string][]; // versions, device, commit, time: what the record says beside its configuration
  warnings: string[];
  final: (number | null)[]; // for each of metrics: its value at the last recorded epoch, never epoch 0
  // Where its curves lie in the blob "curves" (float32): metrics x (rows of epochs), metric after metric. null: nothing recorded.
  curves: { offset: number; rows: number } | null; // offset in numbers, not bytes
  epochsOf: number[] | null; // the epoch of each row; null: 0, 1, 2, ... rows - 1
  parameters: Parameter[]; // [] where the page was written without this run's
}

interface Parameter { // gamma, beta or bias of a slot, or a measurement with one number for each channel, or one for the slot
  quantity: string; // "gamma"
  label: string; // "γ" or words
  slot: string; // "conv1"
  trained: boolean; // a fixed one is a constant: it has a value and no blob
  constant: number | null; // what all values are, of a measurement too
  channels: number; // 1: one number for the slot, and the five quantiles are equal. Rows of the map stand for this many channels: as they lie, extremes of neighbours kept
  rows: number;
  columns: number;
  steps: [number, number]; // first and last recorded step; between them the columns are equally wide
  low: number; // value of byte 0
  high: number; // value of byte 254; byte 255: no value
  neutral: number | null; // where the quantity does nothing, the middle of the colours
  map: string | null; // blob of rows x columns bytes
  // Quantiles over channels at each column: float32, 5 x columns: minimum, quarter, median, three quarters, maximum.
  quantiles: string | null; // blob
}

interface Effects {
  heading: string; // which problem and setting
  metric: string; // what was compared, in words
  unit: string;
  rows: Effect[];
  note: string; // test, degrees of freedom, what n counts, correction
}

interface Effect {
  family: string; // in words, as a heading
  name: string;
  estimate: number | null;
  low: number | null;
  high: number | null;
  p: number | null; // Holm-corrected within the family
  seeds: number;
  pairs: number;
  diverged: number;
  note: string;
}

interface Pair { // a mode against a reference, over the seeds that both have
  heading: string; // which problem and setting
  variant: number; // into variants
  reference: number;
  metric: string;
  unit: string;
  difference: number | null;
  low: number | null;
  high: number | null;
  p: number | null;
  pHolm: number | null; // corrected over the pairs under one heading
  seeds: number;
  note: string; // why there is no number, else empty
}
