// Effects with their intervals: a forest plot.
'use strict';

const FOREST_ROW = 26;

/**
 * @param {Effects} effects
 * @param {number} width
 * @returns {Picture}
 */
function forestPicture(effects, width) {
  const narrow = width < 640;
  const families = [...new Set(effects.rows.map((row) => row.family))];
  const rowHeight = narrow ? 58 : FOREST_ROW;
  const nameWidth = narrow
    ? 0
    : Math.min(
        Math.max(
          140,
          ...effects.rows.map((row) => textWidth(row.name, 13) + 16),
          ...families.map((family) => textWidth(family, 13, 600)),
        ),
        0.34 * width,
      );
  const numbersWidth = narrow ? 0 : 250;
  const [left, right] = [nameWidth + 8, width - numbersWidth - 8];
  const height = 12 + families.length * 34 + effects.rows.length * rowHeight + 52;
  const [first, last] = forestEnds(effects.rows);
  const room = (last - first || 1) * 0.04;
  /** @param {number} value */
  const x = (value) => left + ((value - first + room) / (last - first + 2 * room || 1)) * (right - left);
  return {
    width,
    height,
    paint: (ink) => {
      const { ink: color, muted, line, accent } = palette();
      let y = 12;
      const bottom = height - 44;
      const marks = linearMarks(first - room, last + room, narrow ? 4 : 7);
      const texts = markTexts(marks);
      /**
       * The axis' lines: over all rows, or where texts stand above the intervals beside each interval.
       * @param {number} from
       * @param {number} to
       */
      const rules = (from, to) => {
        for (const mark of marks) ink.line([x(mark), from, x(mark), to], line);
        ink.line([x(0), from, x(0), to], muted, 1.25);
      };
      if (!narrow) rules(8, bottom);
      marks.forEach((mark, place) =>
        ink.text(x(mark), bottom + 16, texts[place], { color: muted, size: 11, anchor: 'middle' }),
      );
      ink.text(
        (left + right) / 2,
        bottom + 36,
        fitted(axisWords(effects), 12, Math.min(left + right, 2 * width - left - right)),
        { color: muted, size: 12, anchor: 'middle' },
      );
      for (const family of families) {
        ink.text(0, y + 22, fitted(family, 13, width, 600), { color, size: 13, weight: 600 });
        y += 34;
        for (const row of effects.rows.filter((one) => one.family === family)) {
          const middle = narrow ? y + 44 : y + rowHeight / 2;
          const words = effectWords(row, effects.unit);
          if (narrow) {
            rules(middle - 9, middle + 9);
            ink.text(0, y + 14, fitted(row.name, 12, width), { color, size: 12 });
            ink.text(0, y + 30, fitted(words, 12, width), { color: muted, size: 12 });
          } else {
            ink.text(12, middle + 4, fitted(row.name, 13, nameWidth - 16), { color, size: 13 });
            ink.text(width, middle + 4, fitted(words, 12, row.estimate === null ? width - left : numbersWidth), {
              color: muted,
              size: 12,
              anchor: 'end',
            });
          }
          const sure = row.low !== null && row.high !== null && (row.low > 0 || row.high < 0);
          const mark = sure ? accent : muted;
          if (row.low !== null && row.high !== null) {
            const [start, end] = [Math.max(x(row.low), left), Math.min(x(row.high), right)];
            ink.line([start, middle, end, middle], mark, 2);
            if (x(row.low) < left) ink.line([left + 5, middle - 4, left, middle, left + 5, middle + 4], mark, 2);
            if (x(row.high) > right) ink.line([right - 5, middle - 4, right, middle, right - 5, middle + 4], mark, 2);
          }
          if (row.estimate !== null) ink.dot(x(row.estimate), middle, 4.5, mark);
          y += rowHeight;
        }
      }
    },
  };
}

/**
 * The axis' ends: all estimates and intervals, but of an interval that is far wider than others only a part.
 * @param {Effect[]} rows
 * @returns {[number, number]}
 */
function forestEnds(rows) {
  const widths = rows
    .map(({ low, high }) => (low === null || high === null ? NaN : high - low))
    .filter(Number.isFinite)
    .sort((one, other) => one - other);
  const cap = 3 * (widths[Math.floor(widths.length / 2)] || Infinity);
  let [first, last] = [0, 0];
  for (const { low, high, estimate } of rows) {
    if (estimate === null) continue;
    first = Math.min(first, estimate, Math.max(low ?? estimate, estimate - cap));
    last = Math.max(last, estimate, Math.min(high ?? estimate, estimate + cap));
  }
  return [first, last];
}

/** @param {Effects} effects */
function axisWords(effects) {
  return effects.unit ? `effect on ${effects.metric} (${effects.unit})` : `effect on ${effects.metric}`;
}

/**
 * @param {Effect} row
 * @param {string} unit
 */
function effectWords(row, unit) {
  if (row.estimate === null) return row.note || '–';
  const interval = row.low === null || row.high === null ? '' : ` [${valueText(row.low, unit)}, ${valueText(row.high, unit)}]`;
  return `${valueText(row.estimate, unit)}${interval}${row.p === null ? '' : `  p ${pText(row.p)}`}`;
}

/** @param {Effects} effects */
function effectsTable(effects) {
  return plainTable(
    `${effects.heading}: ${axisWords(effects)}`,
    ['effect', 'of', 'estimate', 'low', 'high', 'p (Holm)', 'seeds', 'pairs', 'diverged', 'note'],
    effects.rows.map((row) => [
      row.name,
      row.family,
      valueText(row.estimate, effects.unit),
      valueText(row.low, effects.unit),
      valueText(row.high, effects.unit),
      pText(row.p),
      String(row.seeds),
      String(row.pairs),
      String(row.diverged),
      row.note,
    ]),
  );
}

/** @param {Effects} effects */
function effectsRows(effects) {
  return [
    [
      'problem',
      'family',
      'effect',
      'metric',
      'unit',
      'estimate',
      'low',
      'high',
      'p_holm',
      'seeds',
      'pairs',
      'diverged',
      'note',
    ],
    ...effects.rows.map((row) => [
      effects.heading,
      row.family,
      row.name,
      effects.metric,
      effects.unit,
      row.estimate,
      row.low,
      row.high,
      row.p,
      row.seeds,
      row.pairs,
      row.diverged,
      row.note,
    ]),
  ];
}

/** @type {Lazy | null} */
let forest = null;

function drawEffects() {
  const place = byId('effects-section');
  const all = report().effects;
  forest?.end();
  fill(place, heading('effects', 'Effects'));
  if (all.length === 0) {
    place.append(
      make(
        'p',
        { class: 'empty' },
        'No effects: they need runs that finished with the same seeds, with and without a slot or a parameter.',
      ),
    );
    return;
  }
  const effects = all[Math.min(state.effects, all.length - 1)];
  const texts = all.map((one) => `${one.heading} · ${one.metric}`);
  addComparisons(place, 'effects', texts);
  const chart = make('div', {
    class: 'forest',
    role: 'img',
    'aria-label': `Forest plot: ${axisWords(effects)}, ${effects.heading}`,
    'aria-describedby': 'effects-note',
  });
  const name = `effects ${effects.heading}`;
  place.append(
    make(
      'div',
      { class: 'card' },
      make(
        'div',
        { class: 'title' },
        make('h3', {}, effects.heading),
        saveMenu(name, {
          picture: () => margined(forestPicture(effects, 920), effects.heading),
          rows: () => effectsRows(effects),
        }),
      ),
      chart,
      make('p', { class: 'muted note', id: 'effects-note' }, `${effects.note} Blue: the interval does not hold 0.`),
      dataTable(name, () => effectsTable(effects)),
    ),
  );
  forest = new Lazy(chart, () => {
    const svg = svgOf(forestPicture(effects, Math.max(chart.clientWidth, 280)));
    svg.setAttribute('aria-hidden', 'true');
    fill(chart, svg);
  });
}

/**
 * A picture with a title and a margin around it.
 * @param {Picture} picture
 * @param {string} title
 * @returns {Picture}
 */
function margined({ width, height, paint }, title) {
  return {
    width: width + 32,
    height: height + 52,
    paint: (ink) => {
      ink.text(16, 28, fitted(title, 15, width, 600), { color: palette().ink, size: 15, weight: 600 });
      paint(moved(ink, 16, 40));
    },
  };
}

/**
 * An ink whose origin lies elsewhere.
 * @param {Ink} ink
 * @param {number} right
 * @param {number} down
 * @returns {Ink}
 */
function moved(ink, right, down) {
  /** @param {number[]} points */
  const shift = (points) => points.map((value, place) => value + (place % 2 ? down : right));
  return {
    line: (points, color, width, dash) => ink.line(shift(points), color, width, dash),
    area: (points, color, alpha) => ink.area(shift(points), color, alpha),
    box: (x, y, width, height, color) => ink.box(x + right, y + down, width, height, color),
    dot: (x, y, radius, color) => ink.dot(x + right, y + down, radius, color),
    text: (x, y, text, look) => ink.text(x + right, y + down, text, look),
    image: (image, x, y, width, height) => ink.image(image, x + right, y + down, width, height),
    within: (x, y, width, height, inside) => ink.within(x + right, y + down, width, height, inside),
  };
}
