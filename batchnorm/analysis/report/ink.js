// Pictures that are drawn twice: to an SVG element, and to a canvas for PNG. A picture is a function that draws with an Ink.
'use strict';

/**
 * @typedef {object} TextLook
 * @property {string} [color]
 * @property {number} [size]
 * @property {'start' | 'middle' | 'end'} [anchor]
 * @property {number} [weight]
 * @property {boolean} [upright] from bottom to top
 */

/**
 * @typedef {object} Ink
 * @property {(points: number[], color: string, width?: number, dash?: number[]) => void} line x, y, x, ...; NaN interrupts it
 * @property {(points: number[], color: string, alpha: number) => void} area
 * @property {(x: number, y: number, width: number, height: number, color: string) => void} box
 * @property {(x: number, y: number, radius: number, color: string) => void} dot
 * @property {(x: number, y: number, text: string, look?: TextLook) => void} text
 * @property {(image: HTMLCanvasElement, x: number, y: number, width: number, height: number) => void} image
 * @property {(x: number, y: number, width: number, height: number, paint: () => void) => void} within draws in a box alone
 */

/**
 * @typedef {object} Picture
 * @property {number} width
 * @property {number} height
 * @property {(ink: Ink) => void} paint
 */

const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';
const SVG = 'http://www.w3.org/2000/svg';

/** @implements {Ink} */
class SvgInk {
  /**
   * @param {number} width
   * @param {number} height
   */
  constructor(width, height) {
    this.root = document.createElementNS(SVG, 'svg');
    for (const [name, value] of Object.entries({ width, height, viewBox: `0 0 ${width} ${height}`, 'font-family': FONT })) {
      this.root.setAttribute(name, String(value));
    }
    /** @type {SVGElement} */
    this.open = this.root;
    this.boxes = 0;
  }

  /**
   * @param {string} tag
   * @param {Record<string, string | number>} attributes
   * @param {string} [text]
   */
  put(tag, attributes, text) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes))
      element.setAttribute(name, typeof value === 'number' ? String(round(value)) : value);
    if (text !== undefined) element.textContent = text;
    this.open.append(element);
    return element;
  }

  /** @type {Ink['within']} */
  within(x, y, width, height, paint) {
    const before = this.open;
    const id = `box-${this.boxes++}`;
    this.open = this.put('clipPath', { id });
    this.box(x, y, width, height, '#000000');
    this.open = before;
    this.open = this.put('g', { 'clip-path': `url(#${id})` });
    paint();
    this.open = before;
  }

  /** @type {Ink['line']} */
  line(points, color, width = 1, dash = []) {
    this.put('path', {
      d: pathOf(points),
      fill: 'none',
      stroke: color,
      'stroke-width': width,
      'stroke-linejoin': 'round',
      'stroke-dasharray': dash.join(' ') || 'none',
    });
  }

  /** @type {Ink['area']} */
  area(points, color, alpha) {
    this.put('path', { d: `${pathOf(points)}Z`, fill: color, 'fill-opacity': alpha });
  }

  /** @type {Ink['box']} */
  box(x, y, width, height, color) {
    this.put('rect', { x, y, width, height, fill: color });
  }

  /** @type {Ink['dot']} */
  dot(x, y, radius, color) {
    this.put('circle', { cx: x, cy: y, r: radius, fill: color });
  }

  /** @type {Ink['text']} */
  text(x, y, text, { color = '#000000', size = 12, anchor = 'start', weight = 400, upright = false } = {}) {
    const transform = `rotate(${upright ? -90 : 0} ${round(x)} ${round(y)})`;
    this.put('text', { x, y, fill: color, 'font-size': size, 'text-anchor': anchor, 'font-weight': weight, transform }, text);
  }

  /** @type {Ink['image']} */
  image(image, x, y, width, height) {
    this.put('image', {
      x,
      y,
      width,
      height,
      href: image.toDataURL('image/png'),
      preserveAspectRatio: 'none',
      'image-rendering': 'pixelated',
    });
  }
}

/** @implements {Ink} */
class CanvasInk {
  /** @param {CanvasRenderingContext2D} context */
  constructor(context) {
    this.context = context;
  }

  /** @type {Ink['line']} */
  line(points, color, width = 1, dash = []) {
    this.context.strokeStyle = color;
    this.context.lineWidth = width;
    this.context.lineJoin = 'round';
    this.context.setLineDash(dash);
    this.context.stroke(new Path2D(pathOf(points)));
  }

  /** @type {Ink['area']} */
  area(points, color, alpha) {
    this.context.globalAlpha = alpha;
    this.context.fillStyle = color;
    this.context.fill(new Path2D(`${pathOf(points)}Z`));
    this.context.globalAlpha = 1;
  }

  /** @type {Ink['box']} */
  box(x, y, width, height, color) {
    this.context.fillStyle = color;
    this.context.fillRect(x, y, width, height);
  }

  /** @type {Ink['dot']} */
  dot(x, y, radius, color) {
    this.context.fillStyle = color;
    this.context.beginPath();
    this.context.arc(x, y, radius, 0, 2 * Math.PI);
    this.context.fill();
  }

  /** @type {Ink['text']} */
  text(x, y, text, { color = '#000000', size = 12, anchor = 'start', weight = 400, upright = false } = {}) {
    const { context } = this;
    context.save();
    context.translate(x, y);
    if (upright) context.rotate(-Math.PI / 2);
    context.fillStyle = color;
    context.font = `${weight} ${size}px ${FONT}`;
    context.textAlign = anchor === 'middle' ? 'center' : anchor;
    context.fillText(text, 0, 0);
    context.restore();
  }

  /** @type {Ink['within']} */
  within(x, y, width, height, paint) {
    this.context.save();
    this.context.beginPath();
    this.context.rect(x, y, width, height);
    this.context.clip();
    paint();
    this.context.restore();
  }

  /** @type {Ink['image']} */
  image(image, x, y, width, height) {
    this.context.imageSmoothingEnabled = false;
    this.context.drawImage(image, x, y, width, height);
  }
}

/** @param {number} value */
function round(value) {
  return Math.round(value * 100) / 100;
}

/** @param {number[]} points */
function pathOf(points) {
  const parts = [];
  let drawing = false;
  for (let place = 0; place < points.length; place += 2) {
    const [x, y] = [points[place], points[place + 1]];
    const there = Number.isFinite(x) && Number.isFinite(y);
    if (there) parts.push(`${drawing ? 'L' : 'M'}${round(x)} ${round(y)}`);
    drawing = there;
  }
  return parts.join('');
}

const ruler = document.createElement('canvas').getContext('2d');

/**
 * @param {string} text
 * @param {number} size
 * @param {number} weight
 */
function textWidth(text, size, weight = 400) {
  if (!ruler) return 0.6 * size * text.length;
  ruler.font = `${weight} ${size}px ${FONT}`;
  return ruler.measureText(text).width;
}

/**
 * A text that fits, with an ellipsis where it had to be cut.
 * @param {string} text
 * @param {number} size
 * @param {number} room
 * @param {number} weight
 */
function fitted(text, size, room, weight = 400) {
  if (textWidth(text, size, weight) <= room) return text;
  let end = text.length;
  while (end > 1 && textWidth(`${text.slice(0, end)}…`, size, weight) > room) end--;
  return `${text.slice(0, end).trimEnd()}…`;
}

/** @param {Picture} picture */
function svgOf({ width, height, paint }) {
  const ink = new SvgInk(width, height);
  paint(ink);
  return ink.root;
}

/**
 * @param {Picture} picture
 * @param {number} scale
 */
function canvasOf({ width, height, paint }, scale) {
  const canvas = make('canvas', { width: Math.round(width * scale), height: Math.round(height * scale) });
  const context = canvas.getContext('2d', { willReadFrequently: true }); // it is read once, at once
  if (context) {
    context.scale(scale, scale);
    paint(new CanvasInk(context));
  }
  return canvas;
}
