// Numbers as texts, and the marks of axes.
'use strict';

/**
 * About four digits, with a real minus sign; a dash where there is no number.
 * @param {number | null | undefined} value
 * @param {number} digits
 */
function numberText(value, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return '–';
  if (!Number.isFinite(value)) return value > 0 ? '∞' : '−∞';
  const size = Math.abs(value);
  let text;
  if (size !== 0 && (size >= 1e6 || size < 1e-4)) text = value.toExponential(Math.max(digits - 2, 1)).replace('e+', 'e');
  else if (size >= 10 ** (digits - 1)) text = value.toFixed(0);
  else
    text = value
      .toPrecision(digits)
      .replace(/(\.\d*?)0+$/, '$1')
      .replace(/\.$/, '');
  return text.replaceAll('-', '−');
}

/**
 * A metric's value: per cents with two digits after the point, others with four digits, so that columns align.
 * @param {number | null | undefined} value
 * @param {string} unit
 */
function valueText(value, unit) {
  if (value === null || value === undefined || !Number.isFinite(value)) return numberText(value);
  if (unit === '%' || unit === 'points')
    return value
      .toFixed(2)
      .replace(/^-(?=0\.00$)/, '')
      .replace('-', '−');
  const size = Math.abs(value);
  return size >= 1e-4 && size < 1000 ? value.toPrecision(4).replace('-', '−') : numberText(value);
}

/**
 * A deviation with as many digits after the point as its mean has.
 * @param {number} deviation
 * @param {string} mean
 */
function likeText(deviation, mean) {
  return /^−?\d+(\.\d+)?$/.test(mean) ? deviation.toFixed((mean.split('.')[1] ?? '').length) : numberText(deviation);
}

/**
 * A value with its unit.
 * @param {number | null | undefined} value
 * @param {string} unit
 */
function withUnit(value, unit) {
  return unit ? `${valueText(value, unit)} ${unit}` : valueText(value, unit);
}

/** @param {number | null} p */
function pText(p) {
  if (p === null) return '–';
  return p < 0.001 ? '< 0.001' : p.toFixed(3);
}

/**
 * @param {number} count
 * @param {string} noun
 */
function counted(count, noun) {
  return `${count.toLocaleString('en')} ${noun}${count === 1 ? '' : 's'}`;
}

/** @param {Metric} metric */
function metricTitle(metric) {
  const label = metric.unit ? `${metric.label} (${metric.unit})` : metric.label;
  return label.charAt(0).toUpperCase() + label.slice(1);
}

/**
 * Round numbers between two others, about as many as asked for.
 * @param {number} low
 * @param {number} high
 * @param {number} count
 */
function linearMarks(low, high, count) {
  if (!(high > low)) return [low];
  const rough = (high - low) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= 0.75 * rough) ?? 10);
  const marks = [];
  for (let mark = Math.ceil(low / step - 1e-9); mark * step <= high + 1e-9 * step; mark++)
    marks.push(Number((mark * step).toPrecision(12)));
  return marks;
}

/**
 * Marks of a logarithmic axis: 1, 2 and 5 where it spans few decades, else powers of ten.
 * @param {number} low
 * @param {number} high
 */
function logMarks(low, high) {
  const decades = Math.log10(high / low);
  if (decades < 0.5) return linearMarks(low, high, 4);
  const factors = decades <= 2.5 ? [1, 2, 5] : [1];
  const every = Math.max(1, Math.ceil(decades / 8));
  const marks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += every) {
    for (const factor of factors) {
      const mark = Number((factor * 10 ** power).toPrecision(12));
      if (mark >= low * (1 - 1e-9) && mark <= high * (1 + 1e-9)) marks.push(mark);
    }
  }
  return marks;
}

/**
 * Marks as texts, with as many digits as tell them apart.
 * @param {number[]} marks
 */
function markTexts(marks) {
  for (let digits = 3; digits < 9; digits++) {
    const texts = marks.map((mark) => numberText(mark, digits));
    if (new Set(texts).size === texts.length) return texts;
  }
  return marks.map((mark) => numberText(mark, 9));
}
