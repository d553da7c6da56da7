// Paired differences between modes: a table with intervals and p-values.
'use strict';

/** The headings that pairs stand under, in their order. */
function pairHeadings() {
  return [...new Set(report().pairs.map((pair) => `${pair.heading}\n${pair.metric}`))];
}

/**
 * A small interval on a scale that the whole table shares.
 * @param {Pair} pair
 * @param {number} reach
 */
function intervalMark({ difference, low, high }, reach) {
  if (difference === null) return null;
  const { muted, line, accent } = palette();
  const [width, height] = [140, 16];
  /** @param {number} value */
  const x = (value) => width / 2 + (value / (reach || 1)) * (width / 2 - 6);
  const sure = low !== null && high !== null && (low > 0 || high < 0);
  const svg = svgOf({
    width,
    height,
    paint: (ink) => {
      ink.line([x(0), 0, x(0), height], line, 1.5);
      if (low !== null && high !== null) ink.line([x(low), 8, x(high), 8], sure ? accent : muted, 2);
      ink.dot(x(difference), 8, 3.5, sure ? accent : muted);
    },
  });
  svg.setAttribute('aria-hidden', 'true');
  return svg;
}

function drawPairs() {
  const place = byId('pairs-section');
  const headings = pairHeadings();
  fill(place, heading('pairs', 'Paired differences'));
  if (headings.length === 0) {
    place.append(make('p', { class: 'empty' }, 'No pairs: they need two modes that finished with the same seeds.'));
    return;
  }
  const here = headings[Math.min(state.pairs, headings.length - 1)];
  const rows = report().pairs.filter((pair) => `${pair.heading}\n${pair.metric}` === here);
  const { heading: title, metric, unit } = rows[0];
  const texts = headings.map((text) => text.replace('\n', ' · '));
  addComparisons(place, 'pairs', texts);
  const reach = Math.max(
    ...rows.flatMap(({ low, high, difference }) => [low, high, difference]).map((value) => Math.abs(value ?? 0)),
  );
  const { variants } = report();
  const body = make(
    'tbody',
    {},
    ...rows.map((pair) => {
      const [variant, reference] = [variants[pair.variant], variants[pair.reference]];
      const interval =
        pair.low === null || pair.high === null ? '–' : `${valueText(pair.low, unit)} to ${valueText(pair.high, unit)}`;
      return make(
        'tr',
        {},
        make(
          'th',
          { scope: 'row' },
          make('span', { class: 'variant' }, swatch(variant), make('span', { class: 'mask' }, variant.mask), variant.mode),
        ),
        make('td', {}, reference.mask === variant.mask ? reference.mode : reference.name),
        make('td', { class: 'number' }, valueText(pair.difference, unit)),
        make('td', { class: 'number' }, interval),
        make('td', {}, intervalMark(pair, reach)),
        make('td', { class: 'number' }, pText(pair.p)),
        make('td', { class: `number ${pair.pHolm !== null && pair.pHolm < 0.05 ? 'sure' : ''}` }, pText(pair.pHolm)),
        make('td', { class: 'number' }, String(pair.seeds)),
        make('td', { class: 'muted' }, pair.note),
      );
    }),
  );
  const heads = [
    'variant',
    'against',
    `difference${unit ? ` (${unit})` : ''}`,
    '95 % interval',
    '',
    'p',
    'p (Holm)',
    'seeds',
    'note',
  ];
  const numbers = new Set([2, 3, 5, 6, 7]);
  const table = make(
    'table',
    { class: 'runs pairs' },
    make('caption', { class: 'unseen' }, `Paired differences in ${metric}: ${title}`),
    make(
      'thead',
      {},
      make(
        'tr',
        {},
        ...heads.map((head, number) =>
          head ? make('th', { scope: 'col', class: numbers.has(number) ? 'number' : null }, head) : make('td', {}),
        ),
      ),
    ),
    body,
  );
  place.append(
    make(
      'div',
      { class: 'card' },
      make(
        'div',
        { class: 'title' },
        make('h3', {}, title, make('span', { class: 'muted' }, ` ${metric}`)),
        saveMenu(`paired differences ${title}`, { rows: () => pairRows(rows) }),
      ),
      scroller('Paired differences', table),
      make(
        'p',
        { class: 'muted note' },
        'Differences of runs with the same seed, with t-intervals, blue where they do not hold 0; p-values are corrected by Holm over ' +
          'the rows of this table.',
      ),
    ),
  );
}

/** @param {Pair[]} rows */
function pairRows(rows) {
  const { variants } = report();
  return [
    ['problem', 'metric', 'unit', 'variant', 'reference', 'difference', 'low', 'high', 'p', 'p_holm', 'seeds', 'note'],
    ...rows.map((pair) => [
      pair.heading,
      pair.metric,
      pair.unit,
      variants[pair.variant].name,
      variants[pair.reference].name,
      pair.difference,
      pair.low,
      pair.high,
      pair.p,
      pair.pHolm,
      pair.seeds,
      pair.note,
    ]),
  ];
}
