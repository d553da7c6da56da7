// The table of runs: sorted, filtered, chosen from. A row opens what its record says.
'use strict';

const PAGE_ROWS = 50;

/**
 * @typedef {object} Column
 * @property {string} id
 * @property {string} label
 * @property {boolean} [number]
 * @property {(run: Run) => Child} show
 * @property {(run: Run) => string | number | null} of what it is sorted by, and what CSV holds
 */

/** The metrics that have a column: those of the test set, the training loss, and the one that is chosen. */
function columnMetrics() {
  const { metrics } = report();
  const shown = ['test_acc', 'test_loss', 'train_loss'].map((name) => metrics.findIndex((metric) => metric.name === name));
  return [...new Set([state.metric, ...shown])].filter((place) => place >= 0 && place < metrics.length);
}

/** @returns {Column[]} */
function columns() {
  const { variants, metrics, keys } = report();
  const order = new Map(variants.map((variant, place) => [variant, place]));
  /** @param {Run} run */
  const place = (run) => order.get(variantOf(run)) ?? 0;
  /** @type {Column[]} */
  const all = [
    {
      id: 'variant',
      label: 'Variant',
      of: place,
      show: (run) =>
        make(
          'span',
          { class: 'variant' },
          swatch(variantOf(run)),
          make('span', { class: 'mask' }, variantOf(run).mask),
          make('span', {}, variantOf(run).mode),
        ),
    },
  ];
  if (problems().length > 1)
    all.push({ id: 'problem', label: 'Problem', of: (run) => variantOf(run).problem, show: (run) => variantOf(run).problem });
  for (const key of otherKeys()) {
    const { name } = keys[key];
    all.push({ id: name, label: name, of: (run) => setting(run, key), show: (run) => setting(run, key) || '–' });
  }
  all.push({ id: 'seed', label: 'Seed', number: true, of: (run) => run.seed, show: (run) => String(run.seed) });
  all.push({ id: 'status', label: 'Status', of: (run) => run.status, show: statusOf });
  for (const metric of columnMetrics()) {
    const { name, unit } = metrics[metric];
    all.push({
      id: name,
      label: metricTitle(metrics[metric]),
      number: true,
      of: (run) => run.final[metric],
      show: (run) => valueText(run.final[metric], unit),
    });
  }
  return all;
}

/**
 * A variant's line, as charts have it.
 * @param {Variant} variant
 */
function swatch(variant) {
  const mark = make('span', { class: 'swatch', 'aria-hidden': 'true' });
  const colour = colourOf(variant);
  let end = 0;
  const stops = variant.dash.map((length, place) => `${place % 2 ? 'transparent' : colour} ${end}px ${(end += length)}px`);
  mark.style.background = stops.length ? `repeating-linear-gradient(90deg, ${stops.join(', ')})` : colour;
  return mark;
}

/** @param {Run} run */
function statusOf(run) {
  const cell = make(
    'span',
    { class: 'status' },
    make('span', { class: `mark ${/^[a-z]+$/.test(run.status) ? run.status : ''}`, 'aria-hidden': 'true' }),
    make('span', {}, run.status),
  );
  if (run.status !== 'finished') {
    const bar = make('progress', { max: Math.max(run.of, 1), value: run.epochs, 'aria-label': `epochs of ${run.path}` });
    if (!hasEnded(run.status) && run.of > 0) cell.append(bar);
    cell.append(make('span', { class: 'muted' }, `${run.epochs} of ${run.of}`));
  }
  if (run.warnings.length) cell.append(make('span', { class: 'warned' }, counted(run.warnings.length, 'warning')));
  return cell;
}

/** The runs that the filter shows, in the table's order. */
function sortedRuns() {
  const { runs } = report();
  const column = columns().find(({ id }) => id === state.sort) ?? columns()[0];
  const sign = state.descending ? -1 : 1;
  const values = runs.map((run) => column.of(run));
  /** @param {string | number | null} value */
  const absent = (value) => value === null || value === '';
  return shownRuns().sort((one, other) => {
    const [a, b] = [values[one], values[other]];
    if (absent(a) || absent(b)) return Number(absent(a)) - Number(absent(b)) || one - other;
    return sign * (typeof a === 'number' && typeof b === 'number' ? a - b : compareTexts(String(a), String(b))) || one - other;
  });
}

/**
 * What of the section stays when the table is drawn again.
 * @type {{ filters: HTMLElement, table: HTMLElement, count: HTMLElement } | null}
 */
let runsParts = null;
/** @type {Set<number>} */
const opened = new Set();

function drawRuns() {
  const place = byId('runs-section');
  const search = make('input', {
    type: 'search',
    placeholder: 'path, variant, status',
    input: () =>
      change('runs', () => {
        state.words = search.value.trim();
        state.page = 0;
      }),
  });
  search.value = state.words;
  runsParts = {
    filters: make('div', { class: 'facets' }),
    table: make('div', { class: 'table' }),
    count: make('p', { class: 'muted note', id: 'runs-count' }),
  };
  fill(
    place,
    heading('runs', 'Runs'),
    make(
      'div',
      { class: 'tools' },
      make('label', { class: 'choice' }, make('span', {}, 'Find'), search),
      runsParts.filters,
      saveMenu('runs', { rows: runRows }),
    ),
    runsParts.count,
    runsParts.table,
  );
  drawFacets();
  drawRunTable();
}

/**
 * What a facet lets through, in a word.
 * @param {Facet} facet
 */
function facetWords(facet) {
  const allowed = state.filters.get(facet.id);
  if (!allowed) return 'all';
  return allowed.size === 1 ? [...allowed][0] || 'none' : `${allowed.size} of ${facet.values.length}`;
}

/** The lists of values to filter by. */
function drawFacets() {
  if (!runsParts) return;
  fill(
    runsParts.filters,
    ...facets().map(facetBox),
    make(
      'button',
      {
        type: 'button',
        class: 'small clear',
        click: () => {
          change('runs', () => {
            state.filters.clear();
            state.chosen.clear();
            state.words = '';
            state.page = 0;
          });
          const search = byId('runs-section').querySelector('input');
          if (search) search.value = '';
          speak('All runs are shown.');
        },
      },
      'Show all runs',
    ),
  );
  followFacets();
}

/** @param {Facet} facet */
function facetBox(facet) {
  /** @type {Map<string, number>} */
  const counts = new Map();
  for (const run of report().runs) counts.set(facet.of(run), (counts.get(facet.of(run)) ?? 0) + 1);
  const boxes = facet.values.map((value) =>
    make(
      'label',
      { class: 'tick' },
      make('input', { type: 'checkbox', value }),
      make('span', { class: 'value' }, value || 'none'),
      make('span', { class: 'muted' }, String(counts.get(value) ?? 0)),
    ),
  );
  const group = make('fieldset', {}, make('legend', { class: 'unseen' }, facet.label), ...boxes);
  /** @param {string[]} values */
  const letThrough = (values) =>
    change('runs', () => {
      if (values.length === facet.values.length) state.filters.delete(facet.id);
      else state.filters.set(facet.id, new Set(values));
      state.page = 0;
    });
  group.addEventListener('change', () =>
    letThrough([...group.querySelectorAll('input')].filter((input) => input.checked).map((input) => input.value)),
  );
  const box = dropDown(
    'facet',
    `${facet.label}: `,
    make(
      'div',
      { class: 'both' },
      make('button', { type: 'button', class: 'small', click: () => letThrough(facet.values) }, 'All'),
      make('button', { type: 'button', class: 'small', click: () => letThrough([]) }, 'None'),
    ),
    group,
  );
  box.dataset.facet = facet.id;
  box.querySelector('summary')?.append(make('span', { class: 'chosen' }));
  return box;
}

/** Makes the lists say what the filter is now. */
function followFacets() {
  for (const facet of facets()) {
    const box = runsParts?.filters.querySelector(`[data-facet="${CSS.escape(facet.id)}"]`);
    const words = box?.querySelector('.chosen');
    if (!box || !words) continue;
    words.textContent = facetWords(facet);
    const allowed = state.filters.get(facet.id);
    box.classList.toggle('filtering', allowed !== undefined);
    for (const input of box.querySelectorAll('input')) input.checked = !allowed || allowed.has(input.value);
  }
}

function drawRunTable() {
  if (!runsParts) return;
  const { runs } = report();
  const order = sortedRuns();
  const pages = Math.max(1, Math.ceil(order.length / PAGE_ROWS));
  state.page = Math.min(state.page, pages - 1);
  const rows = order.slice(state.page * PAGE_ROWS, (state.page + 1) * PAGE_ROWS);
  const shown = columns();
  const chosen = state.chosen.size
    ? `${state.chosen.size} chosen for the charts below`
    : 'the charts below are of all these; choose some to see only them';
  const of = order.length === runs.length ? '' : `${order.length} of `;
  runsParts.count.textContent = `${of}${counted(runs.length, 'run')}; ${chosen}.`;
  const everything = make('input', {
    type: 'checkbox',
    'aria-label': 'Choose all runs that are shown',
    change: () =>
      change('runs', () => {
        for (const place of order)
          if (everything.checked) state.chosen.add(place);
          else state.chosen.delete(place);
      }),
  });
  const there = order.filter((place) => state.chosen.has(place)).length;
  everything.checked = there > 0 && there === order.length;
  everything.indeterminate = there > 0 && there < order.length;
  const body = make('tbody');
  rows.forEach((place, number) => {
    const run = runs[place];
    const name = `${variantOf(run).name}, seed ${run.seed}`;
    const box = make('input', {
      type: 'checkbox',
      'aria-label': `Choose ${name}`,
      change: () =>
        change('runs', () => {
          if (box.checked) state.chosen.add(place);
          else state.chosen.delete(place);
        }),
    });
    box.checked = state.chosen.has(place);
    const opener = make('button', {
      type: 'button',
      class: 'opener',
      'aria-expanded': 'false',
      'aria-label': `Details of ${name}`,
    });
    const row = make(
      'tr',
      { 'data-run': place },
      make('td', { class: 'pick' }, box),
      ...shown.map((column) => make('td', { class: column.number ? 'number' : null }, column.show(run))),
      make('td', { class: 'pick' }, opener),
    );
    const open = () => {
      opener.setAttribute('aria-expanded', 'true');
      row.after(
        make(
          'tr',
          { class: 'details' },
          make('td', { colspan: shown.length + 2 }, runDetails(run, runs[rows[number - 1]], runs[rows[number + 1]], place)),
        ),
      );
    };
    opener.addEventListener('click', () => {
      if (opened.delete(place)) {
        opener.setAttribute('aria-expanded', 'false');
        row.nextElementSibling?.remove();
      } else {
        opened.add(place);
        open();
      }
    });
    body.append(row);
    if (opened.has(place)) open();
  });
  const heads = shown.map((column) => {
    const here = column.id === state.sort;
    return make(
      'th',
      {
        scope: 'col',
        class: column.number ? 'number' : null,
        'aria-sort': here ? (state.descending ? 'descending' : 'ascending') : null,
      },
      make(
        'button',
        {
          type: 'button',
          class: 'sort',
          'data-column': column.id,
          click: () => {
            change('runs', () => {
              state.descending = here && !state.descending;
              state.sort = column.id;
              state.page = 0;
            });
            const again = /** @type {HTMLElement[]} */ ([...byId('runs-section').querySelectorAll('button.sort')]);
            again.find((button) => button.dataset.column === column.id)?.focus();
          },
        },
        column.label,
      ),
    );
  });
  const table = make(
    'table',
    { class: 'runs' },
    make('caption', { class: 'unseen' }, 'Runs'),
    make(
      'thead',
      {},
      make(
        'tr',
        {},
        make('th', { scope: 'col', class: 'pick' }, everything),
        ...heads,
        make('th', { scope: 'col', class: 'pick' }, make('span', { class: 'unseen' }, 'Details')),
      ),
    ),
    body,
  );
  const focused = focusKey();
  fill(
    runsParts.table,
    order.length
      ? scroller('Runs', table)
      : make('p', { class: 'empty' }, runs.length ? 'No run is like this.' : 'There are no runs yet.'),
    pages > 1 ? pager(pages) : null,
  );
  if (focused) /** @type {HTMLElement | null} */ (runsParts.table.querySelector(focused))?.focus({ preventScroll: true });
}

/** Which box has the focus, as a selector that finds it in the next table. */
function focusKey() {
  const focused = document.activeElement;
  if (!(focused instanceof HTMLInputElement) || focused.type !== 'checkbox' || !runsParts?.table.contains(focused)) return null;
  const place = focused.closest('tr')?.getAttribute('data-run');
  return place ? `tr[data-run="${place}"] input` : 'thead input';
}

/** @param {number} pages */
function pager(pages) {
  /**
   * @param {string} label
   * @param {number} page
   */
  const button = (label, page) =>
    make(
      'button',
      {
        type: 'button',
        class: 'small',
        disabled: page < 0 || page >= pages,
        click: () => {
          state.page = page;
          drawRunTable();
          byId('runs-title').scrollIntoView({ block: 'start' });
          speak(`Page ${page + 1} of ${pages}.`);
        },
      },
      label,
    );
  return make(
    'div',
    { class: 'pager' },
    button('Previous', state.page - 1),
    make('span', { class: 'muted' }, `page ${state.page + 1} of ${pages}`),
    button('Next', state.page + 1),
  );
}

/**
 * What a run's record says: its keys, those first that its neighbours in the table have otherwise.
 * @param {Run} run
 * @param {Run | undefined} before
 * @param {Run | undefined} after
 * @param {number} place
 */
function runDetails(run, before, after, place) {
  const [own, one, other] = [run, before, after].map((some) => new Map(some?.config ?? []));
  const names = [...new Set([...own.keys(), ...one.keys(), ...other.keys()])];
  const differing = names.filter(
    (name) => (before && one.get(name) !== own.get(name)) || (after && other.get(name) !== own.get(name)),
  );
  const same = names.filter((name) => !differing.includes(name) && own.has(name));
  /**
   * @param {string | undefined} value
   * @param {Run | undefined} neighbour
   * @param {string} name
   */
  const beside = (value, neighbour, name) => {
    const differs = neighbour && value !== own.get(name);
    return make('td', {}, neighbour ? make(differs ? 'mark' : 'span', {}, value ?? 'none') : '');
  };
  const table =
    differing.length &&
    make(
      'table',
      { class: 'plain differences' },
      make('caption', {}, 'Differences to its neighbours in the table'),
      make(
        'thead',
        {},
        make(
          'tr',
          {},
          ...['key', 'this run', before ? 'run before' : '', after ? 'run after' : '']
            .filter(Boolean)
            .map((head) => make('th', { scope: 'col' }, head)),
        ),
      ),
      make(
        'tbody',
        {},
        ...differing.map((name) =>
          make(
            'tr',
            {},
            make('th', { scope: 'row' }, name),
            make('td', {}, own.get(name) ?? 'none'),
            before ? beside(one.get(name), before, name) : null,
            after ? beside(other.get(name), after, name) : null,
          ),
        ),
      ),
    );
  return make(
    'div',
    { class: 'inside' },
    make('p', { class: 'path' }, run.path),
    ...run.warnings.map((warning) => make('p', { class: 'notice' }, warning)),
    run.parameters.length
      ? make(
          'p',
          {},
          make(
            'button',
            {
              type: 'button',
              class: 'small',
              click: () => {
                change('parameters', () => {
                  state.run = place;
                });
                goTo('parameters');
              },
            },
            'See its parameters',
          ),
        )
      : null,
    make(
      'div',
      { class: 'facts' },
      table || null,
      pairsTable(
        before || after ? 'The same as its neighbours' : 'Configuration',
        same.map((name) => [name, own.get(name) ?? '']),
      ),
      pairsTable('Versions and machine', run.versions),
    ),
  );
}

/**
 * @param {string} caption
 * @param {[string, string][]} rows
 */
function pairsTable(caption, rows) {
  if (rows.length === 0) return null;
  const table = plainTable(caption, [], rows);
  table.querySelector('thead')?.remove();
  return table;
}

/** The runs that the filter shows, for CSV. */
function runRows() {
  const { runs, metrics, keys } = report();
  const order = sortedRuns();
  return [
    [
      'path',
      'problem',
      'mask',
      'mode',
      'seed',
      'status',
      'epochs',
      'of',
      ...keys.map(({ name }) => name),
      ...metrics.map(({ name }) => name),
      'warnings',
    ],
    ...order.map((place) => {
      const run = runs[place];
      const { problem, mask, mode } = variantOf(run);
      return [
        run.path,
        problem,
        mask,
        mode,
        run.seed,
        run.status,
        run.epochs,
        run.of,
        ...keys.map((_, key) => setting(run, key)),
        ...metrics.map((_, metric) => run.final[metric]),
        run.warnings.join('; '),
      ];
    }),
  ];
}
