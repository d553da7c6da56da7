// Gamma, beta, bias and what has a number for each channel, of one run and slot: a heat map, and quantiles over channels.
'use strict';

const NO_VALUE = 255;

/**
 * A map as it is drawn: its bytes, and the order of its rows.
 * @typedef {{ parameter: Parameter, bytes: Uint8Array, order: number[] }} Heat
 */

/**
 * @param {Parameter} parameter
 * @returns {Promise<Heat>}
 */
async function heatOf(parameter) {
  const bytes = new Uint8Array(await blob(parameter.map ?? ''));
  const { rows, columns } = parameter;
  const order = Array.from({ length: rows }, (_, row) => row);
  if (state.sorted) {
    const last = order.map((row) => {
      for (let column = columns - 1; column >= 0; column--)
        if (bytes[row * columns + column] !== NO_VALUE) return bytes[row * columns + column];
      return -1;
    });
    order.sort((one, other) => last[other] - last[one] || one - other);
  }
  return { parameter, bytes, order };
}

/**
 * The colours and the values at their ends: around the neutral value where there is one that values lie about.
 * @param {Parameter} parameter
 * @returns {{ scale: Triple[], low: number, high: number }}
 */
function heatScale({ low, high, neutral }) {
  const margin = 0.05 * (high - low);
  if (neutral === null || neutral < low + margin || neutral > high - margin)
    return { scale: scaleOf('one'), low, high: high > low ? high : low + 1 };
  const reach = Math.max(Math.abs(low - neutral), Math.abs(high - neutral)) || 1;
  return { scale: scaleOf('two'), low: neutral - reach, high: neutral + reach };
}

/**
 * @param {Parameter} parameter
 * @param {number} byte
 */
function valueOf({ low, high }, byte) {
  return byte === NO_VALUE ? NaN : low + (byte / 254) * (high - low);
}

/**
 * The map, a pixel for each value.
 * @param {Heat} heat
 */
function heatImage({ parameter, bytes, order }) {
  const { rows, columns } = parameter;
  const canvas = make('canvas', { width: columns, height: rows });
  const context = canvas.getContext('2d');
  if (!context) return canvas;
  const { scale, low, high } = heatScale(parameter);
  const colours = new Uint8ClampedArray(4 * 256);
  for (let byte = 0; byte < NO_VALUE; byte++) {
    const share = (valueOf(parameter, byte) - low) / (high - low);
    colours.set([...scale[Math.round(255 * Math.min(Math.max(share, 0), 1))], 255], 4 * byte);
  }
  const image = context.createImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  const table = new Uint32Array(colours.buffer);
  for (let row = 0; row < rows; row++) {
    const from = order[row] * columns;
    for (let column = 0; column < columns; column++) pixels[row * columns + column] = table[bytes[from + column]];
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

const HEAT_LEFT = 52;
const HEAT_RIGHT = 74;
const HEAT_BOTTOM = 34;
const HEAT_TOP = 8;

/**
 * @param {Heat} heat
 * @param {number} width
 * @param {number} height
 * @returns {Picture}
 */
function heatPicture(heat, width, height) {
  const image = heatImage(heat);
  const { parameter } = heat;
  return {
    width,
    height,
    paint: (ink) => {
      const { muted } = palette();
      const [right, bottom] = [width - HEAT_RIGHT, height - HEAT_BOTTOM];
      ink.image(image, HEAT_LEFT, HEAT_TOP, right - HEAT_LEFT, bottom - HEAT_TOP);
      const look = { color: muted, size: 12 };
      if (!state.sorted) {
        for (const mark of linearMarks(0, parameter.channels - 1, 4).filter(Number.isInteger)) {
          ink.text(HEAT_LEFT - 6, HEAT_TOP + ((mark + 0.5) / parameter.channels) * (bottom - HEAT_TOP) + 4, String(mark), {
            ...look,
            anchor: 'end',
          });
        }
      }
      ink.text(12, (HEAT_TOP + bottom) / 2, state.sorted ? 'channels, sorted' : 'channel', {
        ...look,
        anchor: 'middle',
        upright: true,
      });
      const [first, last] = parameter.steps;
      const marks = linearMarks(first, last, Math.max(2, (right - HEAT_LEFT) / 110)).filter(Number.isInteger);
      for (const mark of marks) {
        const x = HEAT_LEFT + ((mark - first) / (last - first || 1)) * (right - HEAT_LEFT);
        ink.line([x, bottom, x, bottom + 4], muted);
        ink.text(x, bottom + 16, numberText(mark, 6), { ...look, anchor: 'middle' });
      }
      ink.text((HEAT_LEFT + right) / 2, bottom + 31, 'step', { ...look, anchor: 'middle' });
      const { scale, low, high } = heatScale(parameter);
      const [barTop, barHeight] = [HEAT_TOP, bottom - HEAT_TOP];
      const [least, most] = [parameter.low, parameter.high > parameter.low ? parameter.high : parameter.low + 1];
      for (let place = 0; place < 64; place++) {
        const share = (least + (place / 63) * (most - least) - low) / (high - low);
        ink.box(
          right + 12,
          barTop + ((63 - place) / 64) * barHeight,
          10,
          barHeight / 64 + 0.5,
          hexOf(scale[Math.round(255 * Math.min(Math.max(share, 0), 1))]),
        );
      }
      const values = linearMarks(least, most, 6);
      const texts = markTexts(values);
      values.forEach((mark, place) =>
        ink.text(right + 28, barTop + (1 - (mark - least) / (most - least)) * barHeight + 4, texts[place], look),
      );
    },
  };
}

/**
 * The step at which a column of a map begins; between two columns one that lies between.
 * @param {Parameter} parameter
 * @param {number} column
 */
function stepAt({ columns, steps: [first, last] }, column) {
  return first + (column / columns) * (last - first);
}

/**
 * What a place of the map says.
 * @param {Heat} heat
 * @param {number} row of the picture
 * @param {number} column
 */
function heatWords({ parameter, bytes, order }, row, column) {
  const { rows, columns, channels } = parameter;
  const own = order[row];
  const [low, high] = [Math.floor((own * channels) / rows), Math.ceil(((own + 1) * channels) / rows) - 1];
  const start = Math.round(stepAt(parameter, column));
  const channel = high > low ? `channels ${low}–${high}` : `channel ${low}`;
  return `${channel}, step ${start.toLocaleString('en')}: ${numberText(valueOf(parameter, bytes[own * columns + column]))}`;
}

/** @param {Parameter} parameter */
function parameterTitle({ label, slot }) {
  return `${label} of ${slot}`;
}

/** The runs whose parameters the page holds. */
function runsWithParameters() {
  return report()
    .runs.map((_, place) => place)
    .filter((place) => report().runs[place].parameters.length > 0);
}

/** The run that is shown: the one that was asked for, or the first of those that are chosen. */
function parameterRun() {
  const there = runsWithParameters();
  if (there.includes(state.run)) return state.run;
  const active = new Set(activeRuns());
  const chosen = there.filter((place) => active.has(place));
  /** @param {(parameter: Parameter) => boolean} has */
  const first = (has) => chosen.find((place) => report().runs[place].parameters.some(has));
  return (
    first(({ quantity, map }) => quantity === 'gamma' && map !== null) ??
    first(({ map }) => map !== null) ??
    chosen[0] ??
    there[0] ??
    -1
  );
}

/** @type {Lazy[]} */
let parameterDrawers = [];
/** @type {Set<uPlot>} */
const quantilePlots = new Set();
let parameterKey = '';

function drawParameters() {
  const place = byId('parameters-section');
  const number = parameterRun();
  const focused =
    document.activeElement instanceof HTMLElement && place.contains(document.activeElement)
      ? document.activeElement.dataset.focus
      : null;
  for (const drawer of parameterDrawers) drawer.end();
  for (const plot of quantilePlots) plot.destroy();
  parameterDrawers = [];
  quantilePlots.clear();
  parameterKey = `${number}`;
  fill(place, heading('parameters', 'Parameters'));
  if (number < 0) {
    place.append(make('p', { class: 'empty' }, 'The page was written without the parameters of runs, or none is recorded.'));
    return;
  }
  const run = report().runs[number];
  const slots = [...new Set(run.parameters.map(({ slot }) => slot))];
  const slot = slots.includes(state.slot) ? state.slot : (run.parameters.find(({ map }) => map)?.slot ?? slots[0]);
  const options = runsWithParameters().map((one) => {
    const other = report().runs[one];
    const settings = settingsOf(other);
    const problem = problems().length > 1 ? `${variantOf(other).problem} ` : '';
    return {
      value: String(one),
      text: `${problem}${variantOf(other).name}, ${settings ? `${settings}, ` : ''}seed ${other.seed}`,
    };
  });
  /**
   * @param {string} name
   * @param {HTMLElement} label
   */
  const named = (name, label) => {
    const input = /** @type {HTMLElement | null} */ (label.querySelector('select, input'));
    if (input) input.dataset.focus = name;
    return label;
  };
  const own = run.parameters.filter((parameter) => parameter.slot === slot);
  const fixed = own.filter(({ map }) => !map);
  const of = `${variantOf(run).name} seed ${run.seed}`;
  place.append(
    make(
      'div',
      { class: 'tools' },
      named(
        'run',
        choice('Run', options, String(number), (value) =>
          change('parameters', () => {
            state.run = Number(value);
          }),
        ),
      ),
      named(
        'slot',
        choice(
          'Slot',
          slots.map((text) => ({ value: text, text })),
          slot,
          (value) =>
            change('parameters', () => {
              state.slot = value;
            }),
        ),
      ),
      named(
        'order',
        tick('Channels sorted by their final value', state.sorted, (checked) =>
          change('parameters', () => {
            state.sorted = checked;
          }),
        ),
      ),
    ),
    fixed.length ? make('p', { class: 'muted note' }, fixed.map(fixedWords).join(' ')) : '',
    ...own.filter(({ map, channels }) => map && channels > 1).map((parameter) => parameterCard(parameter, of)),
    own.some(isSingle)
      ? make('div', { class: 'panels card' }, ...own.filter(isSingle).map((parameter) => singleFigure(parameter, of)))
      : '',
    measurementsOf(run) ?? '',
  );
  if (focused)
    /** @type {HTMLElement | null} */ (place.querySelector(`[data-focus="${CSS.escape(focused)}"]`))?.focus({
      preventScroll: true,
    });
}

/**
 * Whether it is one number for the slot, so that there is no map to see.
 * @param {Parameter} parameter
 */
function isSingle({ channels, map, quantiles }) {
  return channels === 1 && map !== null && quantiles !== null;
}

/** @param {Parameter} parameter */
function fixedWords(parameter) {
  const isFixed = ['gamma', 'beta', 'bias'].includes(parameter.quantity) && !parameter.trained;
  const value = numberText(parameter.constant);
  if (parameter.constant !== null)
    return `${parameterTitle(parameter)} is ${isFixed ? `fixed at ${value}` : `${value} throughout`}.`;
  return `${parameterTitle(parameter)}: nothing is recorded.`;
}

/** @param {Run} run */
function measurementsOf(run) {
  const { metrics } = report();
  const rows = metrics
    .map((metric, place) => ({ metric, value: run.final[place] }))
    .filter(({ value }) => value !== null)
    .map(({ metric, value }) => [metric.label, withUnit(value, metric.unit)]);
  if (rows.length === 0) return null;
  const table = plainTable('Last values', ['metric', 'value'], rows);
  return make(
    'details',
    { class: 'numbers' },
    make('summary', {}, 'All metrics and measurements of this run'),
    scroller('Last values', table),
  );
}

/**
 * A measurement with one number for the slot, as a line.
 * @param {Parameter} parameter
 * @param {string} of
 */
function singleFigure(parameter, of) {
  const title = parameterTitle(parameter);
  const name = `${title}, ${of}`;
  const plot = make('div', {
    class: 'plot',
    role: 'img',
    'aria-label': `${title} over steps ${parameter.steps[0]} to ${parameter.steps[1]}`,
  });
  parameterDrawers.push(new Lazy(plot, () => drawQuantiles(plot, parameter)));
  return make(
    'figure',
    { class: 'panel' },
    make(
      'div',
      { class: 'title' },
      make('figcaption', {}, title),
      saveMenu(name, {
        picture: () => margined(quantilePicture(parameter, quantileCache.get(parameter)), name),
        rows: () => quantileRows(parameter),
      }),
    ),
    plot,
    quantileTable(parameter, title),
  );
}

/**
 * @param {Parameter} parameter
 * @param {string} of
 */
function parameterCard(parameter, of) {
  const title = parameterTitle(parameter);
  const name = `${title}, ${of}`;
  const words = `${title}: ${counted(parameter.channels, 'channel')} over steps ${parameter.steps[0]} to ${parameter.steps[1]}`;
  const id = `heat-${parameterDrawers.length}`;
  const canvas = make('canvas', {
    class: 'heat',
    role: 'img',
    tabindex: 0,
    'aria-label': `Heat map of ${title}`,
    'aria-describedby': id,
  });
  const said = make('p', { class: 'said muted', 'aria-hidden': 'true' });
  const quantiles = make('div', {
    class: 'plot',
    role: 'img',
    'aria-label': `Quantiles of ${title} over channels`,
    'aria-describedby': id,
  });
  /** @type {Heat | null} */
  let heat = null;
  let [row, column] = [0, 0];
  parameterDrawers.push(
    new Lazy(canvas, async () => {
      heat = await heatOf(parameter);
      const width = Math.max(canvas.parentElement?.clientWidth ?? 300, 240);
      const scale = Math.min(devicePixelRatio || 1, 3);
      const picture = heatPicture(heat, width, PANEL_HEIGHT + 20);
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(picture.height * scale);
      canvas.style.width = `${width}px`;
      canvas.style.height = `${picture.height}px`;
      const context = canvas.getContext('2d');
      if (!context) return;
      context.scale(scale, scale);
      picture.paint(new CanvasInk(context));
    }),
  );
  if (parameter.quantiles) parameterDrawers.push(new Lazy(quantiles, () => drawQuantiles(quantiles, parameter)));
  canvas.addEventListener('pointermove', (event) => {
    const box = canvas.getBoundingClientRect();
    const x = (event.clientX - box.left - HEAT_LEFT) / (box.width - HEAT_LEFT - HEAT_RIGHT);
    const y = (event.clientY - box.top - HEAT_TOP) / (box.height - HEAT_TOP - HEAT_BOTTOM);
    if (!heat || x < 0 || x >= 1 || y < 0 || y >= 1) {
      said.textContent = '';
      return;
    }
    [row, column] = [Math.floor(y * parameter.rows), Math.floor(x * parameter.columns)];
    said.textContent = heatWords(heat, row, column);
  });
  canvas.addEventListener('pointerleave', () => {
    said.textContent = '';
  });
  canvas.addEventListener('keydown', (event) => {
    const far = event.shiftKey ? 10 : 1;
    const move = {
      ArrowLeft: [0, -far],
      ArrowRight: [0, far],
      ArrowUp: [-far, 0],
      ArrowDown: [far, 0],
      Home: [0, -Infinity],
      End: [0, Infinity],
    }[event.key];
    if (!move || !heat) return;
    event.preventDefault();
    row = Math.min(Math.max(row + move[0], 0), parameter.rows - 1);
    column = Math.min(Math.max(column + move[1], 0), parameter.columns - 1);
    said.textContent = heatWords(heat, row, column);
    speak(said.textContent);
  });
  canvas.addEventListener('blur', () => {
    said.textContent = '';
  });
  return make(
    'div',
    { class: 'card parameter' },
    make(
      'div',
      { class: 'title' },
      make('h3', {}, title, make('span', { class: 'muted' }, ` ${counted(parameter.channels, 'channel')}`)),
    ),
    make('p', { class: 'unseen', id }, `${words}. Arrow keys read values of the heat map.`),
    make(
      'div',
      { class: 'pair' },
      make(
        'figure',
        {},
        make(
          'div',
          { class: 'title' },
          make('figcaption', {}, 'Each channel'),
          said,
          saveMenu(`${name} map`, {
            picture: () => {
              if (!heat) throw new Error('the map is not drawn yet');
              return margined(heatPicture(heat, 720, 400), name);
            },
            rows: () => heatRows(parameter),
          }),
        ),
        canvas,
      ),
      parameter.quantiles
        ? make(
            'figure',
            {},
            make(
              'div',
              { class: 'title' },
              make('figcaption', {}, 'Over channels: median, middle half, lowest to highest'),
              saveMenu(`${name} quantiles`, {
                picture: () => margined(quantilePicture(parameter, quantileCache.get(parameter)), name),
                rows: () => quantileRows(parameter),
              }),
            ),
            quantiles,
            quantileTable(parameter, title),
          )
        : null,
    ),
  );
}

/** @param {Parameter} parameter */
async function heatRows(parameter) {
  const bytes = new Uint8Array(await blob(parameter.map ?? ''));
  const { rows, columns, channels } = parameter;
  const steps = Array.from({ length: columns }, (_, column) => Math.round(stepAt(parameter, column)));
  return [
    [rows === channels ? 'channel' : 'first channel', ...steps.map((step) => `step ${step}`)],
    ...Array.from({ length: rows }, (_, row) => [
      Math.floor((row * channels) / rows),
      ...steps.map((_, column) => Number(valueOf(parameter, bytes[row * columns + column]).toPrecision(5))),
    ]),
  ];
}

/** @type {WeakMap<Parameter, { steps: number[], values: (number | null)[][] }>} */
const quantileCache = new WeakMap();
const QUANTILES = ['lowest', 'quarter', 'median', 'three quarters', 'highest'];

/** @param {Parameter} parameter */
async function quantilesOf(parameter) {
  let found = quantileCache.get(parameter);
  if (!found) {
    const all = await floats(parameter.quantiles ?? '');
    const { columns } = parameter;
    const steps = Array.from({ length: columns }, (_, column) => stepAt(parameter, column + 0.5));
    const values = QUANTILES.map((_, part) =>
      [...all.subarray(part * columns, (part + 1) * columns)].map((value) => (Number.isFinite(value) ? value : null)),
    );
    found = { steps, values };
    quantileCache.set(parameter, found);
  }
  return found;
}

/**
 * @param {HTMLElement} place
 * @param {Parameter} parameter
 */
async function drawQuantiles(place, parameter) {
  const { steps, values } = await quantilesOf(parameter);
  const parts = parameter.channels === 1 ? [2] : [4, 3, 2, 1, 0];
  for (const plot of quantilePlots) {
    if (place.contains(plot.root)) {
      quantilePlots.delete(plot);
      plot.destroy();
    }
  }
  const { muted, line: rule, accent } = palette();
  const tip = make('div', { class: 'tip', 'aria-hidden': 'true' });
  tip.hidden = true;
  const font = `12px ${FONT}`;
  const edge = { stroke: 'transparent', width: 0, points: { show: false }, spanGaps: true };
  const points = { show: steps.length <= 15, size: 5, fill: accent };
  const plot = new uPlot(
    {
      width: Math.max(place.clientWidth, 200),
      height: PANEL_HEIGHT + 20,
      legend: { show: false },
      padding: [10, 12, 0, 0],
      series: [{}, { ...edge }, { ...edge }, { ...edge }, { ...edge }, { stroke: accent, width: 2, points, spanGaps: true }],
      bands: [
        { series: [1, 2], fill: `${accent}1f` },
        { series: [3, 4], fill: `${accent}38` },
      ],
      scales: { x: { time: false, range: () => [parameter.steps[0], Math.max(parameter.steps[1], parameter.steps[0] + 1)] } },
      axes: [
        {
          stroke: muted,
          font,
          grid: { show: false },
          ticks: { stroke: rule, width: 1, size: 4 },
          border: { show: true, stroke: rule, width: 1 },
          size: 28,
          gap: 4,
          label: 'step',
          labelSize: 16,
          labelGap: 0,
          labelFont: font,
          splits: (self, _, low, high) => linearMarks(low, high, Math.max(2, Math.floor(self.width / 110))),
          values: (_, splits) => markTexts(splits),
        },
        {
          stroke: muted,
          font,
          grid: { stroke: rule, width: 1 },
          ticks: { show: false },
          size: 56,
          gap: 6,
          splits: (_, __, low, high) => linearMarks(low, high, 5),
          values: (_, splits) => markTexts(splits),
        },
      ],
      cursor: { drag: { x: false, y: false }, points: hoverPoints(4), y: false },
      hooks: {
        ready: [
          (self) => {
            self.over.append(tip);
          },
        ],
        setCursor: [
          (self) => {
            const { idx, left = -1 } = self.cursor;
            tip.hidden = idx === null || idx === undefined || left < 0;
            if (tip.hidden || idx === null || idx === undefined) return;
            fill(
              tip,
              make('strong', {}, `step ${Math.round(steps[idx]).toLocaleString('en')}`),
              ...parts.map((part) =>
                make(
                  'div',
                  {},
                  make('span', { class: 'what' }, parts.length > 1 ? QUANTILES[part] : 'value'),
                  make('span', { class: 'value' }, numberText(values[part][idx])),
                ),
              ),
            );
            const right = left > self.over.clientWidth / 2;
            tip.style.left = right ? '' : `${left + 14}px`;
            tip.style.right = right ? `${self.over.clientWidth - left + 14}px` : '';
            tip.style.top = '4px';
          },
        ],
      },
    },
    /** @type {uPlot.AlignedData} */ ([steps, values[4], values[0], values[3], values[1], values[2]]),
    place,
  );
  plot.root.setAttribute('aria-hidden', 'true');
  quantilePlots.add(plot);
}

/**
 * @param {Parameter} parameter
 * @param {{ steps: number[], values: (number | null)[][] } | undefined} found
 * @returns {Picture}
 */
function quantilePicture(parameter, found) {
  if (!found) throw new Error('the quantiles are not drawn yet');
  const [width, height, left] = [720, 360, 60];
  const { steps, values } = found;
  const all = values
    .flat()
    .filter((value) => value !== null)
    .map(Number);
  const [least, most] = [
    all.reduce((one, other) => Math.min(one, other), Infinity),
    all.reduce((one, other) => Math.max(one, other), -Infinity),
  ];
  const room = 0.05 * (most - least) || 0.5;
  const [low, high] = [least - room, most + room];
  const [first, last] = parameter.steps;
  /** @param {number} step */
  const x = (step) => left + ((step - first) / (last - first || 1)) * (width - left - 16);
  /** @param {number} value */
  const y = (value) => height - 40 - ((value - low) / (high - low)) * (height - 50);
  return {
    width,
    height,
    paint: (ink) => {
      const { muted, line, accent } = palette();
      const marks = linearMarks(low, high, 6);
      const texts = markTexts(marks);
      marks.forEach((mark, place) => {
        ink.line([left, y(mark), width - 16, y(mark)], line);
        ink.text(left - 8, y(mark) + 4, texts[place], { color: muted, anchor: 'end' });
      });
      for (const mark of linearMarks(first, last, 7))
        ink.text(x(mark), height - 22, numberText(mark, 6), { color: muted, anchor: 'middle' });
      ink.text((left + width) / 2, height - 4, 'step', { color: muted, anchor: 'middle' });
      /** @param {number} part */
      const points = (part) =>
        steps
          .map((step, place) => [step, values[part][place]])
          .filter(([, value]) => value !== null)
          .map(([step, value]) => [x(Number(step)), y(Number(value))]);
      for (const [top, bottom, alpha] of [
        [4, 0, 0.12],
        [3, 1, 0.22],
      ])
        ink.area([...points(top), ...points(bottom).reverse()].flat(), accent, alpha);
      ink.line(points(2).flat(), accent, 2);
    },
  };
}

/** @param {Parameter} parameter */
async function quantileRows(parameter) {
  const { steps, values } = await quantilesOf(parameter);
  if (parameter.channels === 1)
    return [['step', parameter.quantity], ...steps.map((step, place) => [Math.round(step), values[2][place]])];
  return [['step', ...QUANTILES], ...steps.map((step, place) => [Math.round(step), ...values.map((part) => part[place])])];
}

/**
 * @param {Parameter} parameter
 * @param {string} title
 */
function quantileTable(parameter, title) {
  const box = make(
    'details',
    { class: 'numbers' },
    make('summary', {}, 'Table', make('span', { class: 'unseen' }, ` of ${title}`)),
  );
  box.addEventListener('toggle', async () => {
    if (!box.open || box.childElementCount > 1) return;
    const { steps, values } = await quantilesOf(parameter);
    const every = Math.max(1, Math.ceil(steps.length / 12));
    const places = steps.map((_, place) => place).filter((place) => place % every === 0 || place === steps.length - 1);
    const [heads, parts] = parameter.channels === 1 ? [[title], [values[2]]] : [QUANTILES, values];
    box.append(
      scroller(
        `Table of ${title}`,
        plainTable(
          title,
          ['step', ...heads],
          places.map((place) => [String(Math.round(steps[place])), ...parts.map((part) => numberText(part[place]))]),
        ),
      ),
    );
  });
  return box;
}
