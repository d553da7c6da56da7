// The grid of masks and modes, coloured by a metric. A cell opens its runs.
'use strict';

/**
 * One grid: a problem, and the settings that its runs share; `like` is one of them.
 * @typedef {object} Grid
 * @property {string} problem
 * @property {string} settings
 * @property {number} like
 * @property {string[]} modes
 * @property {string[]} masks
 * @property {Map<string, number[]>} cells
 */

/**
 * The grids, problem by problem. Vanilla runs stand in all whose settings they share.
 * @returns {Grid[]}
 */
function grids() {
  /** @type {Map<string, Grid>} */
  const found = new Map();
  const groups = groupsOf(report().runs.keys());
  const others = groups.filter(({ variant }) => !isVanilla(variant.mask));
  const placed = groups.flatMap((group) => {
    const beside = others.filter((other) => standsBeside(group.runs[0], other.runs[0]));
    const places = new Map((beside.length ? beside : [group]).map(({ settings, runs }) => [settings, runs[0]]));
    return [...places].map(([settings, like]) => ({ ...group, settings, like }));
  });
  for (const group of placed) {
    const { problem, mask, mode } = group.variant;
    const { settings, like } = group;
    const id = `${problem}\n${settings}`;
    let grid = found.get(id);
    if (!grid) found.set(id, (grid = { problem, settings, like, modes: [], masks: [], cells: new Map() }));
    if (!grid.masks.includes(mask)) grid.masks.push(mask);
    if (!isVanilla(mask) && !grid.modes.includes(mode)) grid.modes.push(mode);
    const cell = `${mask}\n${isVanilla(mask) ? '' : mode}`;
    grid.cells.set(cell, [...(grid.cells.get(cell) ?? []), ...group.runs]);
  }
  const order = problems();
  return [...found.values()].sort(
    (one, other) => order.indexOf(one.problem) - order.indexOf(other.problem) || compareSettings(one.like, other.like),
  );
}

/**
 * The ends of the colours: the cells' own, but that a cell far away from all others (a run that failed) does not flatten them.
 * @param {number[]} values
 * @returns {[number, number]}
 */
function endsOf(values) {
  const sorted = values.filter(Number.isFinite).sort((one, other) => one - other);
  if (sorted.length === 0) return [0, 1];
  /** @param {number} share */
  const quantile = (share) => sorted[Math.round(share * (sorted.length - 1))];
  const reach = 3 * (quantile(0.75) - quantile(0.25));
  if (reach === 0) return [sorted[0], sorted[sorted.length - 1]];
  const inner = sorted.filter((value) => value >= quantile(0.25) - reach && value <= quantile(0.75) + reach);
  return [inner[0], inner[inner.length - 1]];
}

/**
 * @param {number} value
 * @param {[number, number]} ends
 * @param {Metric} metric
 */
function cellColour(value, [low, high], metric) {
  const share = high > low ? Math.min(Math.max((value - low) / (high - low), 0), 1) : 0.5;
  return scaleOf('one')[Math.round(255 * (metric.better === 'low' ? 1 - share : share))];
}

/**
 * What a cell says below its mean.
 * @param {Summary} summary
 * @param {string} unit
 */
function cellNotes(summary, unit) {
  const parts = [];
  if (Number.isFinite(summary.deviation)) parts.push(`± ${likeText(summary.deviation, valueText(summary.mean, unit))}`);
  if (summary.n) parts.push(`n ${summary.n}`);
  if (summary.unfinished) parts.push(`${summary.unfinished} unfinished`);
  if (summary.diverged) parts.push(`${summary.diverged} diverged`);
  if (summary.broken) parts.push(`${summary.broken} unusable`);
  return parts.join(' · ');
}

/** @param {Grid} grid */
function gridName(grid) {
  return grid.settings ? `${grid.problem}, ${grid.settings}` : grid.problem;
}

/**
 * Shows a cell's runs, and only these.
 * @param {Grid} grid
 * @param {string} mask
 * @param {string} mode
 */
function openCell(grid, mask, mode) {
  change('runs', () => {
    state.filters.clear();
    state.chosen.clear();
    state.words = '';
    state.page = 0;
    const wanted = new Map([
      ['problem', grid.problem],
      ['mask', mask],
      ...(isVanilla(mask) ? [] : [/** @type {[string, string]} */ (['mode', mode])]),
    ]);
    const first = grid.cells.get(`${mask}\n${isVanilla(mask) ? '' : mode}`)?.[0];
    for (const facet of facets()) {
      const value = wanted.get(facet.id);
      if (value !== undefined) state.filters.set(facet.id, new Set([value]));
      else if (first !== undefined && keysOf(grid.problem).some((key) => report().keys[key].name === facet.id)) {
        state.filters.set(facet.id, new Set([facet.of(report().runs[first])]));
      }
    }
  });
  goTo('runs');
}

/**
 * @param {Grid} grid
 * @param {[number, number]} ends
 */
function gridTable(grid, ends) {
  const metric = report().metrics[state.metric];
  /**
   * @param {string} mask
   * @param {string} mode
   * @param {number} span
   */
  const cell = (mask, mode, span) => {
    const runs = grid.cells.get(`${mask}\n${mode}`);
    const place = make('td', { colspan: span > 1 ? span : null });
    if (!runs) {
      place.append(make('span', { class: 'unseen' }, 'no runs'));
      return place;
    }
    const summary = summarise(runs, state.metric);
    const notes = cellNotes(summary, metric.unit);
    const button = make(
      'button',
      { type: 'button', class: 'cell', click: () => openCell(grid, mask, mode) },
      make('span', { class: 'mean' }, summary.n ? valueText(summary.mean, metric.unit) : '–'),
      make('span', { class: 'notes' }, notes),
      make('span', { class: 'unseen' }, `, open ${counted(runs.length, 'run')}`),
    );
    if (summary.n) {
      const colour = cellColour(summary.mean, ends, metric);
      button.style.backgroundColor = hexOf(colour);
      button.style.color = textOn(colour);
    }
    place.append(button);
    return place;
  };
  const body = make('tbody');
  for (const mask of grid.masks) {
    const row = make('tr', {}, make('th', { scope: 'row' }, mask));
    if (isVanilla(mask)) row.append(cell(mask, '', Math.max(grid.modes.length, 1)));
    else for (const mode of grid.modes) row.append(cell(mask, mode, 1));
    body.append(row);
  }
  const heads = grid.modes.length ? grid.modes : ['vanilla'];
  return make(
    'table',
    { class: 'grid' },
    make('caption', { class: 'unseen' }, `${metricTitle(metric)}, mean over seeds: ${gridName(grid)}`),
    make(
      'thead',
      {},
      make('tr', {}, make('th', { scope: 'col' }, 'mask'), ...heads.map((mode) => make('th', { scope: 'col' }, mode))),
    ),
    body,
  );
}

/**
 * The colours' key.
 * @param {[number, number]} ends
 */
function colourKey([low, high]) {
  const metric = report().metrics[state.metric];
  const canvas = make('canvas', { width: 128, height: 1, class: 'ramp', 'aria-hidden': 'true' });
  const context = canvas.getContext('2d');
  const reversed = metric.better === 'low';
  if (context) {
    for (let x = 0; x < 128; x++) {
      context.fillStyle = hexOf(scaleOf('one')[2 * (reversed ? 127 - x : x)]);
      context.fillRect(x, 0, 1, 1);
    }
  }
  const words = { high: ' higher is better', low: ' lower is better', '': '' }[metric.better];
  return make(
    'p',
    { class: 'key muted' },
    make('span', {}, valueText(low, metric.unit)),
    canvas,
    make('span', {}, valueText(high, metric.unit)),
    make('span', {}, words),
  );
}

/**
 * @param {string} problem
 * @param {Grid[]} all
 * @param {[number, number]} ends
 * @returns {Picture}
 */
function gridPicture(problem, all, ends) {
  const metric = report().metrics[state.metric];
  const [cellWidth, cellHeight, headHeight] = [132, 44, 58];
  const left = 24 + Math.max(60, ...all.flatMap((grid) => grid.masks.map((mask) => textWidth(mask, 13))));
  const width = Math.max(...all.map((grid) => left + 24 + Math.max(grid.modes.length, 1) * cellWidth), 420);
  const height = 44 + all.reduce((sum, grid) => sum + headHeight + grid.masks.length * cellHeight + 12, 0);
  return {
    width,
    height,
    paint: (ink) => {
      const { ink: color, muted } = palette();
      ink.text(16, 28, fitted(`${problem}: ${metricTitle(metric)}, mean ± deviation`, 15, width - 32, 600), {
        color,
        size: 15,
        weight: 600,
      });
      let y = 44;
      for (const grid of all) {
        ink.text(16, y + 18, fitted(grid.settings, 12, width - 32), { color: muted });
        const heads = grid.modes.length ? grid.modes : ['vanilla'];
        heads.forEach((mode, place) =>
          ink.text(left + (place + 0.5) * cellWidth, y + 42, fitted(mode, 12, cellWidth - 8), { color, anchor: 'middle' }),
        );
        y += headHeight;
        for (const mask of grid.masks) {
          ink.text(left - 12, y + 27, mask, { color, size: 13, anchor: 'end' });
          const modes = isVanilla(mask) ? [''] : grid.modes;
          const wide = isVanilla(mask) ? cellWidth * heads.length : cellWidth;
          modes.forEach((mode, place) => {
            const runs = grid.cells.get(`${mask}\n${mode}`);
            if (!runs) return;
            const summary = summarise(runs, state.metric);
            const colour = cellColour(summary.mean, ends, metric);
            const on = summary.n ? textOn(colour) : color;
            if (summary.n) ink.box(left + place * wide + 1, y + 1, wide - 2, cellHeight - 2, hexOf(colour));
            const middle = left + (place + 0.5) * wide;
            ink.text(middle, y + 20, summary.n ? valueText(summary.mean, metric.unit) : '–', {
              color: on,
              size: 14,
              anchor: 'middle',
              weight: 600,
            });
            ink.text(middle, y + 35, fitted(cellNotes(summary, metric.unit), 10.5, wide - 8), {
              color: on,
              size: 10.5,
              anchor: 'middle',
            });
          });
          y += cellHeight;
        }
        y += 12;
      }
    },
  };
}

/** @param {Grid[]} all */
function gridRows(all) {
  /** @type {(string | number)[][]} */
  const rows = [['problem', 'settings', 'mask', 'mode', 'metric', 'mean', 'deviation', 'n', 'unfinished', 'diverged']];
  for (const grid of all) {
    for (const [cell, runs] of grid.cells) {
      const { mean, deviation, n, unfinished, diverged } = summarise(runs, state.metric);
      const [mask, mode] = cell.split('\n');
      rows.push([
        grid.problem,
        grid.settings,
        mask,
        mode || 'vanilla',
        report().metrics[state.metric].name,
        mean,
        deviation,
        n,
        unfinished,
        diverged,
      ]);
    }
  }
  return rows;
}

function drawOverview() {
  const place = byId('overview-section');
  const all = grids();
  const body = make('div', { class: 'problems' });
  fill(
    place,
    heading('overview', 'Overview'),
    make('div', { class: 'tools' }, metricChoice()),
    make(
      'p',
      { class: 'muted note' },
      'Mean of the last epoch over the seeds that finished, ± standard deviation. A cell opens its runs. A mask has a digit for ' +
        'each slot, 1 where BatchNorm stands; the mode says what of it is trained.',
    ),
    body,
  );
  if (all.length === 0) body.append(make('p', { class: 'empty' }, 'There are no runs yet.'));
  for (const problem of problems()) {
    const own = all.filter((grid) => grid.problem === problem);
    if (own.length === 0) continue;
    const ends = endsOf(own.flatMap((grid) => [...grid.cells.values()].map((runs) => summarise(runs, state.metric).mean)));
    const name = `${problem} overview ${report().metrics[state.metric].label}`;
    body.append(
      make(
        'div',
        { class: 'problem' },
        make(
          'div',
          { class: 'title' },
          make('h3', {}, problem),
          colourKey(ends),
          saveMenu(name, { picture: () => gridPicture(problem, own, ends), rows: () => gridRows(own) }),
        ),
        make(
          'div',
          { class: 'grids' },
          ...own.map((grid) =>
            make(
              'div',
              { class: 'one' },
              grid.settings ? make('h4', {}, grid.settings) : null,
              scroller(`Grid of ${gridName(grid)}`, gridTable(grid, ends)),
            ),
          ),
        ),
      ),
    );
  }
}

/** The list of metrics, which the overview, the runs and the curves share. */
function metricChoice() {
  const options = report().metrics.map((metric, place) => ({ value: String(place), text: metricTitle(metric) }));
  return choice('Metric', options, String(state.metric), (value) =>
    change('metric', () => {
      state.metric = Number(value);
    }),
  );
}
