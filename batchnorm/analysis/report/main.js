// The page begins here: what stands on top, and which section is drawn again after which change.
'use strict';

/** @type {[string, string][]} */
const SECTIONS = [
  ['overview', 'Overview'],
  ['effects', 'Effects'],
  ['runs', 'Runs'],
  ['curves', 'Curves'],
  ['parameters', 'Parameters'],
  ['pairs', 'Paired differences'],
];

function drawMasthead() {
  const { title, root, written, software, runs, unreadable, notes } = report();
  document.title = title;
  byId('title').textContent = title;
  byId('source').textContent =
    `${root} · written ${written.replace('T', ' ').replace(/(:\d\d):\d\d(\.\d+)?(Z|\+00:00)$/, '$1 UTC')} · ${software}`;
  /** @type {Map<string, number>} */
  const statuses = new Map();
  for (const run of runs) statuses.set(run.status, (statuses.get(run.status) ?? 0) + 1);
  fill(
    byId('counts'),
    make('span', {}, counted(runs.length, 'run')),
    ...[...statuses]
      .sort((one, other) => other[1] - one[1])
      .map(([status, count]) =>
        make(
          'span',
          { class: 'status' },
          make('span', { class: `mark ${/^[a-z]+$/.test(status) ? status : ''}`, 'aria-hidden': 'true' }),
          `${count} ${status}`,
        ),
      ),
  );
  fill(
    byId('notices'),
    notes.length
      ? make(
          'details',
          { class: 'numbers' },
          make('summary', {}, counted(notes.length, 'note')),
          make('ul', {}, ...notes.map((note) => make('li', {}, note))),
        )
      : null,
    unreadable.length
      ? make(
          'details',
          { class: 'notice' },
          make('summary', {}, `${counted(unreadable.length, 'record')} could not be read`),
          make(
            'ul',
            {},
            ...unreadable.map(({ path, reason }) => make('li', {}, make('span', { class: 'path' }, path), ` ${reason}`)),
          ),
        )
      : null,
  );
  fill(
    byId('sections'),
    ...SECTIONS.map(([section, name]) =>
      make(
        'a',
        {
          href: `#at=${section}`,
          click: (event) => {
            event.preventDefault();
            goTo(section);
          },
        },
        name,
      ),
    ),
  );
}

/** Draws all, as the state says. */
function drawAll() {
  drawOverview();
  drawEffects();
  drawRuns();
  drawCurves();
  drawParameters();
  drawPairs();
}

/**
 * Draws a section again; the list that was just used there has the focus afterwards too.
 * @param {string} section
 * @param {() => void} draw
 */
function keepFocus(section, draw) {
  const place = byId(`${section}-section`);
  const had = place.contains(document.activeElement);
  draw();
  if (had) place.querySelector('select')?.focus({ preventScroll: true });
}

/** @param {Change} what */
function redraw(what) {
  if (what === 'metric') keepFocus('overview', drawOverview);
  if (what === 'effects') keepFocus('effects', drawEffects);
  if (what === 'pairs') keepFocus('pairs', drawPairs);
  if (what === 'runs') followFacets();
  if (what === 'runs' || what === 'metric') drawRunTable();
  if (what === 'runs' || what === 'metric' || what === 'curves') curvesDrawer?.invalidate();
  if (what === 'parameters' || (what === 'runs' && `${parameterRun()}` !== parameterKey)) drawParameters();
}

/** Draws again what has the page's width or colours in it. */
function refresh() {
  for (const drawer of Lazy.all) drawer.invalidate();
}

/** @param {string} theme */
function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  drawAll();
}

/** Follows the address when a reader changes it or goes back. */
function followAddress() {
  if (location.hash.slice(1) === ownAddress) return;
  readAddress();
  drawAll();
  if (at) goTo(at);
}

/** Draws what was not in view yet, for print: at once, as what it needs was inflated before. */
async function drawUnseen() {
  for (let round = 0; round < 2; round++) await Promise.all([...Lazy.all].map((drawer) => drawer.now())); // curves make panels
}

/** Inflates what the sections that are not in view yet will need. */
function prepare() {
  const run = report().runs[parameterRun()];
  const slot = byId('parameters-section').querySelector('select[data-focus="slot"]');
  const own = run?.parameters.filter((parameter) => slot instanceof HTMLSelectElement && parameter.slot === slot.value) ?? [];
  for (const name of ['curves', ...own.flatMap(({ map, quantiles }) => [map, quantiles])]) if (name) void blob(name);
}

function start() {
  const theme = /** @type {HTMLSelectElement} */ (byId('theme'));
  drawMasthead();
  readAddress();
  drawAll();
  listeners.push(redraw);
  closeDropDowns();
  theme.addEventListener('change', () => setTheme(theme.value));
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => drawAll());
  window.addEventListener('hashchange', followAddress);
  let width = document.documentElement.clientWidth;
  new ResizeObserver(() => {
    if (document.documentElement.clientWidth === width) return;
    width = document.documentElement.clientWidth;
    refresh();
  }).observe(document.body);
  window.addEventListener('beforeprint', () => {
    setTheme('light');
    void drawUnseen();
  });
  window.addEventListener('afterprint', () => setTheme(theme.value));
  if (at) goTo(at);
  setTimeout(prepare, 200);
  document.documentElement.dataset.ready = 'true';
}

start();
