// Colours: of the page, and of scales. Scales are mixed in OKLab, so that equal steps look equal.
'use strict';

/** Whether the page is dark now. */
function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
}

/** @param {Variant} variant */
function colourOf(variant) {
  return isDark() ? variant.colorDark : variant.color;
}

/**
 * The page's colours, for what scripts draw; page.css has the same.
 * @typedef {{ paper: string, ink: string, muted: string, line: string, accent: string }} Palette
 */

/** @returns {Palette} */
function palette() {
  return isDark()
    ? { paper: '#16181c', ink: '#e8e9eb', muted: '#a4a9b1', line: '#33373e', accent: '#7db4ee' }
    : { paper: '#ffffff', ink: '#1b1d21', muted: '#5c6370', line: '#dfe2e7', accent: '#1f5fa8' };
}

/** @typedef {[number, number, number]} Triple */

/**
 * @param {string} text
 * @returns {Triple}
 */
function rgbOf(text) {
  const number = parseInt(text.slice(1), 16) || 0;
  return [number >> 16, (number >> 8) & 255, number & 255];
}

/** @param {Triple} rgb */
function hexOf([red, green, blue]) {
  return `#${((1 << 24) | (red << 16) | (green << 8) | blue).toString(16).slice(1)}`;
}

/** @param {number} part of 255 */
function linearLight(part) {
  const share = part / 255;
  return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
}

/**
 * @param {Triple} rgb
 * @returns {Triple}
 */
function oklabOf(rgb) {
  const [r, g, b] = rgb.map(linearLight);
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ];
}

/**
 * @param {Triple} lab
 * @returns {Triple}
 */
function rgbOfOklab([lightness, a, b]) {
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const linear = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
  const [red, green, blue] = linear.map((part) => {
    const share = part <= 0.0031308 ? 12.92 * part : 1.055 * part ** (1 / 2.4) - 0.055;
    return Math.round(255 * Math.min(Math.max(share, 0), 1));
  });
  return [red, green, blue];
}

/**
 * A scale of 256 colours through some.
 * @param {string[]} through
 * @returns {Triple[]}
 */
function colourScale(through) {
  const labs = through.map((text) => oklabOf(rgbOf(text)));
  return Array.from({ length: 256 }, (_, place) => {
    const position = (place / 255) * (labs.length - 1);
    const index = Math.min(Math.floor(position), labs.length - 2);
    const share = position - index;
    const [one, other] = [labs[index], labs[index + 1]];
    return rgbOfOklab(
      [0, 1, 2]
        .map((part) => one[part] + share * (other[part] - one[part]))
        .reduce(
          (/** @type {Triple} */ lab, value, part) => {
            lab[part] = value;
            return lab;
          },
          [0, 0, 0],
        ),
    );
  });
}

/** @type {Map<string, Triple[]>} */
const scales = new Map();

/**
 * `one`: from little to much. `two`: away from a middle, blue below and orange above it. Safe for colour-blind readers.
 * @param {'one' | 'two'} kind
 */
function scaleOf(kind) {
  const key = `${kind} ${isDark()}`;
  let scale = scales.get(key);
  if (!scale) {
    if (kind === 'one')
      scale = colourScale(
        isDark() ? ['#1d2229', '#24507d', '#3f8fc4', '#a9d8f0'] : ['#f3f6f9', '#b9d4e8', '#5b9bc9', '#124a80'],
      );
    else if (isDark()) scale = colourScale(['#a8d4ff', '#3f86c8', '#24282f', '#c06f2c', '#ffc891']);
    else scale = colourScale(['#0a3a6b', '#5a9bd0', '#f5f5f3', '#dd8d4c', '#762c02']);
    scales.set(key, scale);
  }
  return scale;
}

/**
 * The text colour that is read best on a colour.
 * @param {Triple} rgb
 */
function textOn(rgb) {
  const [r, g, b] = rgb.map(linearLight);
  const luminance = 0.2126 * r + 0.7152 * g + 0.0722 * b;
  return (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) ? '#000000' : '#ffffff';
}
