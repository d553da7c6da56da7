// Curves of metrics over epochs: seed means with bands, or single runs. One panel for each metric, or for each mask.
'use strict';

/**
 * @typedef {object} Line
 * @property {string} id what the legend hides it by
 * @property {string} name
 * @property {Variant} variant
 * @property {number[]} runs that the mean is of
 * @property {number} unfinished runs that are left out, as others finished
 * @property {number} diverged
 * @property {(number | null)[]} mean
 * @property {(number | null)[]} low
 * @property {(number | null)[]} high
 * @property {{ run: number, values: (number | null)[] }[]} singles
 */

/**
 * A chart. Its family are the panels that share its axes.
 * @typedef {{ title: string, metric: number, epochs: number[], lines: Line[], logarithmic: boolean, family: Panel[] }} Panel
 */

const MOST_SINGLES = 200;
const PANEL_HEIGHT = 232;

/**
 * A run's metric by epoch, epoch 0 left out: it stands before training.
 * @param {number} place
 * @param {number} metric
 * @param {Float32Array} all
 * @returns {Map<number, number>}
 */
function curveOf(place, metric, all) {
  const { curves, epochsOf } = report().runs[place];
  const found = new Map();
  if (!curves) return found;
  const start = curves.offset + metric * curves.rows;
  for (let row = 0; row < curves.rows; row++) {
    const epoch = epochsOf ? epochsOf[row] : row;
    const value = all[start + row];
    if (epoch > 0 && Number.isFinite(value)) found.set(epoch, value);
  }
  return found;
}

/**
 * @param {Group} group
 * @param {number[]} epochs
 * @param {Map<number, Map<number, number>>} curves by run
 * @param {string} name
 * @returns {Line}
 */
function lineOf(group, epochs, curves, name) {
  const { runs } = report();
  const finished = group.runs.filter((place) => runs[place].status === 'finished');
  const used = finished.length ? finished : group.runs.filter((place) => curves.get(place)?.size);
  const own = used.map((place) => curves.get(place) ?? new Map());
  /** @type {Line} */
  const line = {
    id: name,
    name,
    variant: group.variant,
    runs: used,
    mean: [],
    low: [],
    high: [],
    singles: [],
    unfinished: group.runs.filter((place) => !hasEnded(runs[place].status)).length,
    diverged: group.runs.filter((place) => runs[place].status === 'diverged').length,
  };
  for (const epoch of epochs) {
    const values = own
      .map((curve) => curve.get(epoch))
      .filter((value) => value !== undefined)
      .map(Number);
    const whole = values.length > 0 && values.length === own.length;
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    let [low, high] = [Math.min(...values), Math.max(...values)];
    if (state.spread === 'deviation') {
      const deviation =
        values.length > 1 ? Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1)) : 0;
      [low, high] = [mean - deviation, mean + deviation];
    }
    line.mean.push(whole ? mean : null);
    line.low.push(whole ? low : null);
    line.high.push(whole ? high : null);
  }
  if (state.spread === 'runs') {
    line.singles = group.runs.map((run) => ({ run, values: epochs.map((epoch) => curves.get(run)?.get(epoch) ?? null) }));
  }
  return line;
}

/** The metrics that are drawn where each has a panel: losses and accuracies, and the one that is chosen. */
function panelMetrics() {
  const { metrics } = report();
  const usual = metrics.map((_, place) => place).filter((place) => /^(train|valid|test)_(loss|acc)$/.test(metrics[place].name));
  usual.sort((one, other) => Number(metrics[one].better === 'high') - Number(metrics[other].better === 'high') || one - other);
  return usual.includes(state.metric) ? usual : [state.metric, ...usual];
}

/**
 * What panels stand for, as the reader chose, or as the runs suggest: lines of several masks in a panel would share colours.
 * @param {Group[]} groups
 */
function panelKind(groups) {
  if (state.panels) return state.panels;
  const places = new Set(
    groups.filter(({ variant }) => !isVanilla(variant.mask)).map(({ variant, settings }) => `${variant.mask} ${settings}`),
  );
  return places.size > 1 ? 'masks' : 'metrics';
}

/**
 * @param {Group[]} groups
 * @param {Float32Array} all
 * @returns {Panel[]}
 */
function panelsOf(groups, all) {
  const { metrics } = report();
  const kind = panelKind(groups);
  const settings = new Set(groups.map((group) => group.settings));
  /** @type {{ title: string, metric: number, groups: Group[] }[]} */
  const plans = [];
  if (kind === 'metrics') {
    for (const metric of panelMetrics()) plans.push({ title: metricTitle(metrics[metric]), metric, groups });
  } else {
    /** @type {Map<string, Group[]>} */
    const places = new Map();
    for (const group of groups) {
      const key = `${group.variant.mask}${settings.size > 1 && group.settings ? ` · ${group.settings}` : ''}`;
      places.set(key, [...(places.get(key) ?? []), group]);
    }
    for (const [title, own] of places) {
      const vanilla = isVanilla(own[0].variant.mask);
      const others = groups.some((group) => !isVanilla(group.variant.mask) && standsBeside(own[0].runs[0], group.runs[0]));
      if (vanilla && others) continue; // it stands in their panels
      const beside = vanilla ? [] : groups.filter((group) => standsBeside(group.runs[0], own[0].runs[0]));
      plans.push({ title, metric: state.metric, groups: [...beside, ...own] });
    }
  }
  const names = modeNames(groups);
  /** @type {Map<string, Map<number, Map<number, number>>>} */
  const read = new Map();
  const panels = plans.map(({ title, metric, groups: own }) => {
    const curves = new Map(
      own
        .flatMap((group) => group.runs)
        .map((place) => {
          const known = read.get(String(metric))?.get(place) ?? curveOf(place, metric, all);
          if (!read.has(String(metric))) read.set(String(metric), new Map());
          read.get(String(metric))?.set(place, known);
          return [place, known];
        }),
    );
    const epochs = [...new Set([...curves.values()].flatMap((curve) => [...curve.keys()]))].sort((one, other) => one - other);
    const lines = own.map((group) =>
      lineOf(group, epochs, curves, kind === 'masks' ? (names.get(group) ?? '') : lineName(group, settings.size > 1)),
    );
    const logarithmic = state.axis ? state.axis === 'log' : metrics[metric].log;
    return /** @type {Panel} */ ({ title, metric, epochs, lines, logarithmic, family: [] });
  });
  for (const panel of panels) panel.family = kind === 'masks' ? panels : [panel];
  return panels;
}

/**
 * The names of lines in panels of masks: their modes. A line that looks otherwise than most of its mode has its mask beside it.
 * @param {Group[]} groups
 * @returns {Map<Group, string>}
 */
function modeNames(groups) {
  /** @param {Group} group */
  const lookOf = ({ variant }) => `${variant.mode} ${variant.color} ${variant.dash}`;
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const group of groups) counts.set(lookOf(group), (counts.get(lookOf(group)) ?? 0) + 1);
  return new Map(
    groups.map((group) => {
      const own = counts.get(lookOf(group)) ?? 0;
      const isUsual = groups.every(
        (other) => other.variant.mode !== group.variant.mode || (counts.get(lookOf(other)) ?? 0) <= own,
      );
      return [group, isUsual ? group.variant.mode : `${group.variant.mask} ${group.variant.mode}`];
    }),
  );
}

/**
 * @param {Group} group
 * @param {boolean} settings
 */
function lineName(group, settings) {
  const name = isVanilla(group.variant.mask) ? group.variant.mode : `${group.variant.mask} ${group.variant.mode}`;
  return settings && group.settings ? `${name} · ${group.settings}` : name;
}

/**
 * What a panel draws: names, values and looks, bands left aside.
 * @param {Panel} panel
 * @returns {{ name: string, values: (number | null)[], line: Line, single: boolean }[]}
 */
function strokes(panel) {
  const seen = panel.lines.filter((line) => !state.hidden.has(line.id));
  if (state.spread !== 'runs') return seen.map((line) => ({ name: line.name, values: line.mean, line, single: false }));
  const singles = seen.flatMap((line) =>
    line.singles.map(({ run, values }) => ({
      name: `${line.name}, seed ${report().runs[run].seed}`,
      values,
      line,
      single: true,
    })),
  );
  return singles.slice(0, MOST_SINGLES);
}

/**
 * A panel's values between two epochs, line by line: what is drawn, with the edges of bands.
 * @param {Panel} panel
 * @param {number} first
 * @param {number} last
 * @returns {{ values: number[], diverged: boolean }[]}
 */
function valuesOf(panel, first, last) {
  const seen = panel.lines.filter((line) => !state.hidden.has(line.id));
  const drawn = strokes(panel).map(({ values, line }) => ({ line, values }));
  if (state.spread !== 'runs') for (const line of seen) drawn.push({ line, values: line.low }, { line, values: line.high });
  return drawn.map(({ line, values }) => ({
    values: panel.epochs.flatMap((epoch, place) => {
      const value = values[place];
      const is = value !== null && epoch >= first && epoch <= last && (!panel.logarithmic || value > 0);
      return is ? [value] : [];
    }),
    diverged: line.diverged > 0,
  }));
}

/** How much more room the other values must get for some to lie outside an axis. */
const GAIN = 1.5;

/**
 * How many values of a line may lie outside, first epochs or spikes: a sixth, of long runs a tenth.
 * @param {number} epochs
 */
function mayLieOutside(epochs) {
  return Math.floor(Math.max(Math.min(epochs / 6, 10), epochs / 10));
}

/**
 * The ends of a line's values without some that lie furthest from its last one, or where it diverged from its median, if that
 * gives the others more room.
 * @param {number[]} values
 * @param {boolean} diverged
 * @param {number} some
 * @returns {[number, number]}
 */
function endsOfLine(values, diverged, some) {
  const sorted = [...values].sort((one, other) => one - other);
  const middle = diverged ? sorted[sorted.length >> 1] : values[values.length - 1];
  let [start, end] = [0, sorted.length - 1];
  for (let left = some; left > 0 && start < end; left--) {
    if (middle - sorted[start] > sorted[end] - middle) start++;
    else end--;
  }
  const [low, high] = [sorted[start], sorted[end]];
  const [lowest, highest] = [sorted[0], sorted[sorted.length - 1]];
  return GAIN * (high - low) < highest - lowest ? [low, high] : [lowest, highest];
}

/**
 * Ends of axes that were found, by the panels that share them and by their epochs.
 * @type {WeakMap<Panel[], Map<string, [number, number]>>}
 */
const knownEnds = new WeakMap();

/**
 * The ends of the axis of all panels that share it, between two epochs.
 * @param {Panel} panel
 * @param {number} first
 * @param {number} last
 * @returns {[number, number]}
 */
function endsOfPanel(panel, first, last) {
  const known = knownEnds.get(panel.family) ?? new Map();
  knownEnds.set(panel.family, known);
  const key = `${first} ${last}`;
  const ends = known.get(key) ?? findEnds(panel, first, last);
  known.set(key, ends);
  return ends;
}

/**
 * @param {Panel} panel
 * @param {number} first
 * @param {number} last
 * @returns {[number, number]}
 */
function findEnds(panel, first, last) {
  let [low, high] = [Infinity, -Infinity];
  let [lowest, highest] = [Infinity, -Infinity];
  const lines = panel.family.flatMap((other) => valuesOf(other, first, last));
  const some = mayLieOutside(Math.max(0, ...lines.map(({ values }) => values.length)));
  for (const { values, diverged } of lines) {
    if (values.length === 0) continue;
    const own = endsOfLine(values, diverged, some);
    [low, high] = [Math.min(low, own[0]), Math.max(high, own[1])];
    [lowest, highest] = [Math.min(lowest, ...values), Math.max(highest, ...values)];
  }
  if (panel.logarithmic || state.axis === 'all' || GAIN * (high - low) > highest - lowest) [low, high] = [lowest, highest];
  if (low > high) return panel.logarithmic ? [0.1, 1] : [0, 1];
  if (panel.logarithmic) return low === high ? [low / 2, high * 2] : [low / (high / low) ** 0.04, high * (high / low) ** 0.04];
  const room = high > low ? 0.05 * (high - low) : Math.abs(high) * 0.05 || 0.5;
  return [low - room, high + room];
}

/**
 * What a panel has above its axis, and below it, in words; empty where there is nothing.
 * @param {Panel} panel
 * @param {number} first
 * @param {number} last
 */
function outsideWords(panel, first, last) {
  const [low, high] = endsOfPanel(panel, first, last);
  const { unit } = report().metrics[panel.metric];
  const values = valuesOf(panel, first, last).flatMap((line) => line.values);
  const [lowest, highest] = values.reduce(([one, other], value) => [Math.min(one, value), Math.max(other, value)], [low, high]);
  return {
    above: highest > high ? `↑ up to ${withUnit(highest, unit)}` : '',
    below: lowest < low ? `↓ down to ${withUnit(lowest, unit)}` : '',
  };
}

/**
 * The first and last epoch of all panels that share an axis.
 * @param {Panel} panel
 * @returns {[number, number]}
 */
function epochEnds(panel) {
  const ends = panel.family.flatMap(({ epochs }) => (epochs.length ? [epochs[0], epochs[epochs.length - 1]] : []));
  return [Math.min(...ends), Math.max(...ends)];
}

/** Charts that are drawn now, to zoom together. @type {Set<{ plot: uPlot, panel: Panel }>} */
const charts = new Set();
let zooming = false;

/**
 * Shows the same epochs in all charts; without ends all of them.
 * @param {[number, number] | null} ends
 */
function zoomTo(ends) {
  if (zooming) return;
  zooming = true;
  zoomed = ends;
  for (const { plot, panel } of charts) {
    const [first, last] = ends ?? epochEnds(panel);
    if (last > first) plot.setScale('x', { min: first, max: last });
  }
  zooming = false;
  document.querySelector('#curves-section .unzoom')?.toggleAttribute('disabled', !ends);
  writeAddress();
}
/** The epochs that are shown; null: all. @type {[number, number] | null} */
let zoomed = null;

/**
 * @param {HTMLElement} place
 * @param {Panel} panel
 */
function drawPanel(place, panel) {
  const { muted, line: rule } = palette();
  const tip = make('div', { class: 'tip', 'aria-hidden': 'true' });
  tip.hidden = true;
  const [above, below] = ['above', 'below'].map((where) => make('span', { class: `outside ${where}` }));
  const drawn = strokes(panel);
  /** @type {(number | null)[][]} */
  const data = [];
  /** @type {uPlot.Series[]} */
  const series = [{}];
  /** @type {uPlot.Band[]} */
  const bands = [];
  /** @param {(number | null)[]} values */
  const positive = (values) =>
    panel.logarithmic ? values.map((value) => (value !== null && value > 0 ? value : null)) : values;
  if (state.spread !== 'runs') {
    for (const line of panel.lines) {
      if (state.hidden.has(line.id) || line.runs.length < 2) continue;
      data.push(positive(line.high), positive(line.low));
      const edge = { spanGaps: true, stroke: 'transparent', width: 0, points: { show: false } };
      series.push(edge, { ...edge });
      bands.push({ series: [series.length - 2, series.length - 1], fill: `${colourOf(line.variant)}26` });
    }
  }
  for (const { values, line, single } of drawn) {
    data.push(positive(values));
    const stroke = colourOf(line.variant);
    series.push({
      spanGaps: true,
      stroke,
      width: single ? 1 : 2,
      dash: line.variant.dash,
      alpha: single ? 0.75 : 1,
      points: { show: panel.epochs.length <= 15, size: 5, fill: stroke, stroke },
    });
  }
  const font = `12px ${FONT}`;
  const grid = { stroke: rule, width: 1 };
  const own = new uPlot(
    {
      width: Math.max(place.clientWidth, 200),
      height: PANEL_HEIGHT,
      legend: { show: false },
      series,
      bands,
      padding: [10, 12, 0, 0],
      scales: {
        x: {
          time: false,
          range: (_, low, high) => {
            const [first, last] = zoomed ?? epochEnds(panel);
            return zooming ? [low, high] : last > first ? [first, last] : [first - 0.5, last + 0.5];
          },
        },
        y: { distr: panel.logarithmic ? 3 : 1, range: () => endsOfPanel(panel, ...(zoomed ?? epochEnds(panel))) },
      },
      axes: [
        {
          stroke: muted,
          font,
          grid: { show: false },
          ticks: { ...grid, size: 4 },
          border: { show: true, stroke: rule, width: 1 },
          size: 28,
          gap: 4,
          label: 'epoch',
          labelSize: 16,
          labelGap: 0,
          labelFont: font,
          splits: (self, _, low, high) =>
            linearMarks(low, high, Math.max(2, Math.floor(self.width / 90))).filter(Number.isInteger),
          values: (_, splits) => markTexts(splits),
        },
        {
          stroke: muted,
          font,
          grid,
          ticks: { show: false },
          size: 56,
          gap: 6,
          splits: (_, __, low, high) => (panel.logarithmic ? logMarks(low, high) : linearMarks(low, high, 5)),
          values: (_, splits) => markTexts(splits),
          filter: (_, splits) => splits,
        },
      ],
      cursor: { sync: { key: 'curves' }, drag: { x: true, y: false }, points: hoverPoints(2 * bands.length), y: false },
      hooks: {
        ready: [
          (self) => {
            self.over.append(above, below, tip);
          },
        ],
        setSelect: [
          (self) => {
            if (self.select.width < 4) return;
            zoomTo([
              Math.round(self.posToVal(self.select.left, 'x')),
              Math.round(self.posToVal(self.select.left + self.select.width, 'x')),
            ]);
          },
        ],
        setCursor: [(self) => showTip(self, tip, panel, drawn, active === self)],
        draw: [
          () => {
            const words = outsideWords(panel, ...(zoomed ?? epochEnds(panel)));
            [above.textContent, below.textContent] = [words.above, words.below];
          },
        ],
      },
    },
    /** @type {uPlot.AlignedData} */ ([panel.epochs, ...data]),
    place,
  );
  own.over.addEventListener('pointerenter', () => {
    active = own;
  });
  own.over.addEventListener('dblclick', () => zoomTo(null));
  own.root.setAttribute('aria-hidden', 'true');
  const entry = { plot: own, panel };
  charts.add(entry);
  return entry;
}

/**
 * The dots under the cursor: on lines, and not on the edges of bands, which come first.
 * @param {number} edges
 * @returns {uPlot.Cursor.Points}
 */
function hoverPoints(edges) {
  const { paper } = palette();
  return { size: 7, width: 2, fill: (_, series) => (series > edges ? paper : 'transparent') };
}

/** The chart that the pointer or the focus is at. @type {uPlot | null} */
let active = null;

/**
 * The values at an epoch, the best first; of many those nearest to the pointer.
 * @param {Panel} panel
 * @param {ReturnType<typeof strokes>} drawn
 * @param {number} place
 * @param {number | null} near
 */
function valuesAt(panel, drawn, place, near) {
  const there = drawn
    .map((stroke) => ({ stroke, value: stroke.values[place] }))
    .filter(({ value }) => value !== null)
    .map(({ stroke, value }) => ({ stroke, value: Number(value) }));
  if (there.length > 10 && near !== null) {
    there.sort((one, other) => Math.abs(one.value - near) - Math.abs(other.value - near));
    there.length = 10;
  }
  const sign = report().metrics[panel.metric].better === 'low' ? 1 : -1;
  return there.sort((one, other) => sign * (one.value - other.value));
}

/**
 * @param {uPlot} plot
 * @param {HTMLElement} tip
 * @param {Panel} panel
 * @param {ReturnType<typeof strokes>} drawn
 * @param {boolean} here
 */
function showTip(plot, tip, panel, drawn, here) {
  const { idx, left = -1, top = -1 } = plot.cursor;
  tip.hidden = !here || idx === null || idx === undefined || left < 0;
  if (tip.hidden || idx === null || idx === undefined) return;
  const metric = report().metrics[panel.metric];
  fill(
    tip,
    make('strong', {}, `epoch ${panel.epochs[idx]}`),
    ...valuesAt(panel, drawn, idx, plot.posToVal(top, 'y')).map(({ stroke, value }) =>
      make(
        'div',
        {},
        swatch(stroke.line.variant),
        make('span', { class: 'what' }, stroke.name),
        make('span', { class: 'value' }, valueText(value, metric.unit)),
      ),
    ),
  );
  const width = plot.over.clientWidth;
  const right = left > width / 2;
  tip.style.left = right ? '' : `${left + 14}px`;
  tip.style.right = right ? `${width - left + 14}px` : '';
  tip.style.top = '4px';
}

/**
 * Keys on a chart: the arrows move the cursor, + and - zoom, 0 or Escape shows all.
 * @param {KeyboardEvent} event
 * @param {uPlot} plot
 * @param {Panel} panel
 */
function chartKey(event, plot, panel) {
  const last = panel.epochs.length - 1;
  const steps = new Map([
    ['ArrowLeft', -1],
    ['ArrowRight', 1],
    ['PageUp', -10],
    ['PageDown', 10],
    ['Home', -Infinity],
    ['End', Infinity],
  ]);
  const now = plot.cursor.idx ?? (event.key === 'ArrowLeft' ? last + 1 : -1);
  active = plot;
  if (steps.has(event.key)) {
    const [low, high] = [plot.valToIdx(plot.scales.x.min ?? 0), plot.valToIdx(plot.scales.x.max ?? 0)];
    const place = Math.min(Math.max(now + (steps.get(event.key) ?? 0), low), high);
    plot.setCursor({ left: plot.valToPos(panel.epochs[place], 'x'), top: plot.over.clientHeight / 2 });
    const metric = report().metrics[panel.metric];
    speak(
      `Epoch ${panel.epochs[place]}: ${valuesAt(panel, strokes(panel), place, null)
        .slice(0, 6)
        .map(({ stroke, value }) => `${stroke.name} ${withUnit(value, metric.unit)}`)
        .join(', ')}`,
    );
  } else if (event.key === '+' || event.key === '=' || event.key === '-') {
    const [low, high] = [plot.scales.x.min ?? 0, plot.scales.x.max ?? 0];
    const middle = now >= 0 && now <= last ? panel.epochs[now] : (low + high) / 2;
    const [first, end] = epochEnds(panel);
    const reach = ((high - low) / 2) * (event.key === '-' ? 2 : 0.5);
    const ends = [Math.max(first, Math.round(middle - reach)), Math.min(end, Math.round(middle + reach))];
    if (ends[1] > ends[0]) zoomTo(ends[0] <= first && ends[1] >= end ? null : [ends[0], ends[1]]);
  } else if (event.key === '0' || event.key === 'Escape') {
    zoomTo(null);
  } else return;
  event.preventDefault();
}

/** @param {Panel} panel */
function panelWords(panel) {
  const { metrics } = report();
  const metric = metrics[panel.metric];
  const lines = panel.lines.filter((line) => !state.hidden.has(line.id));
  const ended = lines
    .map((line) => ({ name: line.name, value: line.mean.filter((value) => value !== null).at(-1) }))
    .filter(({ value }) => value !== undefined);
  const last = panel.epochs.length ? `epochs ${panel.epochs[0]} to ${panel.epochs[panel.epochs.length - 1]}` : 'no epoch';
  const values = ended
    .slice(0, 12)
    .map(({ name, value }) => `${name} ${withUnit(value, metric.unit)}`)
    .join(', ');
  const drawn = `${metricTitle(metric)} over ${last}, ${counted(lines.length, 'line')}.`;
  return `${drawn} Last values: ${values || 'none'}. Arrow keys read values, plus and minus zoom, 0 shows all.`;
}

/**
 * Some of a panel's numbers, about a dozen rows, for those who listen.
 * @param {Panel} panel
 */
function panelTable(panel) {
  const metric = report().metrics[panel.metric];
  const lines = panel.lines.filter((line) => !state.hidden.has(line.id));
  const every = Math.max(1, Math.ceil(panel.epochs.length / 12));
  const last = panel.epochs.length - 1;
  const places = panel.epochs.map((_, place) => place).filter((place) => place % every === 0 || place === last);
  return plainTable(
    `${panel.title}: ${metricTitle(metric)}, mean over seeds`,
    ['epoch', ...lines.map((line) => `${line.name} (n ${line.runs.length})`)],
    places.map((place) => [String(panel.epochs[place]), ...lines.map((line) => valueText(line.mean[place], metric.unit))]),
  );
}

/**
 * A panel's curves run by run, epoch 0 too where the record has it.
 * @param {Panel} panel
 */
async function panelRows(panel) {
  const all = await floats('curves');
  const { runs, metrics } = report();
  /** @type {(string | number)[][]} */
  const rows = [['path', 'mask', 'mode', 'settings', 'seed', 'status', 'epoch', metrics[panel.metric].name]];
  for (const line of panel.lines) {
    for (const place of line.singles.length ? line.singles.map(({ run }) => run) : line.runs) {
      const run = runs[place];
      if (!run.curves) continue;
      const start = run.curves.offset + panel.metric * run.curves.rows;
      for (let row = 0; row < run.curves.rows; row++) {
        rows.push([
          run.path,
          line.variant.mask,
          line.variant.mode,
          settingsOf(run),
          run.seed,
          run.status,
          run.epochsOf ? run.epochsOf[row] : row,
          Number(all[start + row].toPrecision(7)),
        ]);
      }
    }
  }
  return rows;
}

/**
 * @param {Panel} panel
 * @returns {Picture}
 */
function panelPicture(panel) {
  const { metrics } = report();
  const [width, plotHeight, left, top] = [720, 330, 66, 44];
  const right = width - 20;
  const seen = panel.lines.filter((line) => !state.hidden.has(line.id));
  const widest = Math.min(Math.max(90, ...seen.map((line) => textWidth(line.name, 12) + 52)), width - 40);
  const across = Math.max(1, Math.floor((width - 40) / widest));
  const height = top + plotHeight + 56 + 20 * Math.ceil(seen.length / across);
  return {
    width,
    height,
    paint: (ink) => {
      const { ink: color, muted, line: rule } = palette();
      const bottom = top + plotHeight;
      const [first, last] = zoomed ?? epochEnds(panel);
      const [low, high] = endsOfPanel(panel, first, last);
      /** @param {number} epoch */
      const x = (epoch) => left + ((epoch - first) / (last - first || 1)) * (right - left);
      /** @param {number | null} value */
      const y = (value) => {
        if (value === null || (panel.logarithmic && value <= 0)) return NaN;
        return (
          bottom -
          (panel.logarithmic ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low)) * plotHeight
        );
      };
      const label = metricTitle(metrics[panel.metric]);
      ink.text(16, 26, fitted(panel.title, 15, width - 32, 600), { color, size: 15, weight: 600 });
      const marks = panel.logarithmic ? logMarks(low, high) : linearMarks(low, high, 6);
      const texts = markTexts(marks);
      marks.forEach((mark, place) => {
        ink.line([left, y(mark), right, y(mark)], rule);
        ink.text(left - 8, y(mark) + 4, texts[place], { color: muted, size: 12, anchor: 'end' });
      });
      for (const mark of linearMarks(first, last, 8).filter(Number.isInteger))
        ink.text(x(mark), bottom + 18, String(mark), { color: muted, size: 12, anchor: 'middle' });
      ink.line([left, bottom, right, bottom], muted);
      ink.text((left + right) / 2, bottom + 36, 'epoch', { color: muted, size: 12, anchor: 'middle' });
      ink.text(16, top + plotHeight / 2, label, { color: muted, size: 12, anchor: 'middle', upright: true });
      const inside = panel.epochs
        .map((_, place) => place)
        .filter((place) => panel.epochs[place] >= first && panel.epochs[place] <= last);
      /** @param {(number | null)[]} values */
      const points = (values) =>
        inside.filter((place) => values[place] !== null).flatMap((place) => [x(panel.epochs[place]), y(values[place])]);
      ink.within(left, top, right - left, plotHeight, () => {
        for (const line of state.spread === 'runs' ? [] : seen.filter(({ runs }) => runs.length > 1)) {
          const [up, down] = [points(line.high), points(line.low)];
          const back = [];
          for (let place = down.length - 2; place >= 0; place -= 2) back.push(down[place], down[place + 1]);
          if (up.length > 2) ink.area([...up, ...back], colourOf(line.variant), 0.15);
        }
        for (const { values, line, single } of strokes(panel))
          ink.line(points(values), colourOf(line.variant), single ? 1 : 2, line.variant.dash);
      });
      const outside = outsideWords(panel, first, last);
      ink.text(right, top + 12, outside.above, { color: muted, size: 11, anchor: 'end' });
      ink.text(right, bottom - 6, outside.below, { color: muted, size: 11, anchor: 'end' });
      seen.forEach((line, place) => {
        const [entryX, entryY] = [20 + (place % across) * widest, bottom + 58 + 20 * Math.floor(place / across)];
        ink.line([entryX, entryY - 4, entryX + 28, entryY - 4], colourOf(line.variant), 2, line.variant.dash);
        ink.text(entryX + 36, entryY, fitted(line.name, 12, widest - 44), { color, size: 12 });
      });
    },
  };
}

/** What draws the panels that are there. @type {Lazy[]} */
let panelDrawers = [];
/** @type {Lazy | null} */
let curvesDrawer = null;

/** Makes the section; its panels are drawn when they are seen. */
function drawCurves() {
  const place = byId('curves-section');
  fill(place, heading('curves', 'Curves'), make('div', { class: 'inner' }));
  curvesDrawer?.end();
  curvesDrawer = new Lazy(place, fillCurves);
}

function forgetPanels() {
  for (const drawer of panelDrawers) drawer.end();
  panelDrawers = [];
  for (const { plot } of charts) plot.destroy();
  charts.clear();
  active = null;
}

async function fillCurves() {
  const inner = byId('curves-section').querySelector('.inner');
  const all = await floats('curves');
  if (!inner) return;
  const focused =
    document.activeElement instanceof HTMLElement && inner.contains(document.activeElement)
      ? document.activeElement.dataset.focus
      : null;
  forgetPanels();
  const activePlaces = activeRuns();
  const there = problemsOf(activePlaces);
  const problem = there.includes(state.problem) ? state.problem : there[0];
  const runs = activePlaces.filter((run) => variantOf(report().runs[run]).problem === problem);
  const groups = groupsOf(runs);
  if (groups.length === 0) {
    fill(inner, make('p', { class: 'empty' }, 'No run is chosen, or shown above.'));
    return;
  }
  const kind = panelKind(groups);
  const panels = panelsOf(groups, all);
  /**
   * @param {string} name
   * @param {HTMLElement} label
   */
  const named = (name, label) => {
    const select = label.querySelector('select');
    if (select) select.dataset.focus = name;
    return label;
  };
  /** @param {() => void} how */
  const set = (how) => change('curves', how);
  const unzoom = make(
    'button',
    { type: 'button', class: 'small unzoom', disabled: !zoomed, click: () => zoomTo(null) },
    'Show all epochs',
  );
  const tools = make(
    'div',
    { class: 'tools' },
    there.length > 1
      ? named(
          'problem',
          choice(
            'Problem',
            there.map((text) => ({ value: text, text })),
            problem,
            (value) =>
              set(() => {
                state.problem = value;
              }),
          ),
        )
      : null,
    named(
      'panels',
      choice(
        'A panel for each',
        [
          { value: 'masks', text: 'mask' },
          { value: 'metrics', text: 'metric' },
        ],
        kind,
        (value) =>
          set(() => {
            state.panels = value === 'masks' ? 'masks' : 'metrics';
            state.hidden.clear();
          }),
      ),
    ),
    kind === 'masks' ? named('metric', metricChoice()) : null,
    named(
      'spread',
      choice(
        'Lines',
        [
          { value: 'range', text: 'mean, lowest to highest seed' },
          { value: 'deviation', text: 'mean ± standard deviation' },
          { value: 'runs', text: 'single runs' },
        ],
        state.spread,
        (value) =>
          set(() => {
            state.spread = value === 'runs' ? 'runs' : value === 'deviation' ? 'deviation' : 'range';
          }),
      ),
    ),
    named(
      'axis',
      choice(
        'Axis',
        [
          { value: 'linear', text: 'linear' },
          { value: 'all', text: 'linear, all values' },
          { value: 'log', text: 'logarithmic' },
        ],
        panels[0]?.logarithmic ? 'log' : state.axis || 'linear',
        (value) =>
          set(() => {
            state.axis = value === 'log' ? 'log' : value === 'all' ? 'all' : 'linear';
          }),
      ),
    ),
    unzoom,
  );
  fill(
    inner,
    tools,
    make('p', { class: 'muted note' }, curvesNote(panels, runs)),
    legendOf(panels),
    make('div', { class: 'panels' }, ...panels.map(panelFigure)),
  );
  if (focused)
    /** @type {HTMLElement | null} */ (inner.querySelector(`[data-focus="${CSS.escape(focused)}"]`))?.focus({
      preventScroll: true,
    });
}

/**
 * @param {Panel[]} panels
 * @param {number[]} runs
 */
function curvesNote(panels, runs) {
  const of = state.chosen.size
    ? `Of the ${counted(runs.length, 'run')} that ${runs.length === 1 ? 'is' : 'are'} chosen.`
    : `Of the ${counted(runs.length, 'run')} that the table shows.`;
  const parts = [of, 'Epoch 0, before training, is left out.'];
  const lines = [
    ...new Map(
      panels.flatMap((panel) => panel.lines).map((line) => [`${line.variant.name} ${line.name} ${line.runs.join()}`, line]),
    ).values(),
  ];
  const finished = lines.filter((line) => line.runs.some((run) => report().runs[run].status === 'finished'));
  const unfinished = finished.reduce((sum, line) => sum + line.unfinished, 0);
  const diverged = finished.reduce((sum, line) => sum + line.diverged, 0);
  if (state.spread !== 'runs' && unfinished)
    parts.push(`Means are of finished runs: ${counted(unfinished, 'unfinished run')} not in them.`);
  if (state.spread !== 'runs' && diverged) parts.push(`${counted(diverged, 'diverged run')} not in them.`);
  if (
    state.spread === 'runs' &&
    panels.some((panel) => panel.lines.reduce((sum, line) => sum + line.singles.length, 0) > MOST_SINGLES)
  ) {
    parts.push(`No more than ${MOST_SINGLES} runs are drawn in a panel.`);
  }
  if (panels.some((panel) => Object.values(outsideWords(panel, ...(zoomed ?? epochEnds(panel)))).some(Boolean)))
    parts.push('Where ↑ or ↓ says so, first epochs or spikes lie outside; “linear, all values” shows them.');
  parts.push('Drag to zoom, double-click to see all.');
  return parts.join(' ');
}

/** @param {Panel[]} panels */
function legendOf(panels) {
  const lines = new Map(panels.flatMap((panel) => panel.lines).map((line) => [line.id, line]));
  return make(
    'ul',
    { class: 'legend', 'aria-label': 'Legend; a click hides or shows a line' },
    ...[...lines.values()].map((line) =>
      make(
        'li',
        {},
        make(
          'button',
          {
            type: 'button',
            'aria-pressed': String(!state.hidden.has(line.id)),
            'data-focus': `line ${line.id}`,
            click: () =>
              change('curves', () => {
                if (!state.hidden.delete(line.id)) state.hidden.add(line.id);
              }),
          },
          swatch(line.variant),
          make('span', {}, line.name),
        ),
      ),
    ),
  );
}

/** @param {Panel} panel */
function panelFigure(panel) {
  const number = panelDrawers.length;
  const plot = make('div', {
    class: 'plot',
    role: 'img',
    tabindex: 0,
    'aria-label': `${panel.title}: ${metricTitle(report().metrics[panel.metric])}`,
    'aria-describedby': `curve-${number}`,
  });
  const name = `${panel.title} ${report().metrics[panel.metric].name}`;
  const figure = make(
    'figure',
    { class: 'panel' },
    make(
      'div',
      { class: 'title' },
      make('figcaption', {}, panel.title),
      saveMenu(name, { picture: () => panelPicture(panel), rows: () => panelRows(panel) }),
    ),
    plot,
    make('p', { class: 'unseen', id: `curve-${number}` }, panelWords(panel)),
    dataTable(name, () => panelTable(panel)),
  );
  /** @type {ReturnType<typeof drawPanel> | null} */
  let entry = null;
  plot.addEventListener('keydown', (event) => {
    if (entry) chartKey(event, entry.plot, panel);
  });
  plot.addEventListener('focusout', () => {
    entry?.plot.setCursor({ left: -10, top: -10 });
  });
  panelDrawers.push(
    new Lazy(plot, () => {
      if (entry) {
        charts.delete(entry);
        entry.plot.destroy();
      }
      entry = panel.epochs.length ? drawPanel(plot, panel) : null;
      if (!entry) fill(plot, make('span', { class: 'empty' }, 'Nothing is recorded yet.'));
    }),
  );
  return figure;
}
