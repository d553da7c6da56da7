// Elements. What comes from the data goes in as text, never as markup: nothing here or elsewhere sets innerHTML.
'use strict';

/** @typedef {Node | string | null | false | undefined} Child */

/**
 * Makes an element. Attributes that are null or false are left out; functions listen to the event of their name.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, string | number | boolean | null | undefined | ((event: any) => void)>} attributes
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[K]}
 */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, String(value));
  }
  add(element, children);
  return element;
}

/**
 * @param {Element} element
 * @param {Child[]} children
 */
function add(element, children) {
  for (const child of children) if (child) element.append(child);
}

/**
 * Puts children in the place of what an element holds.
 * @param {Element} element
 * @param {...Child} children
 */
function fill(element, ...children) {
  element.replaceChildren();
  add(element, children);
}

/**
 * @param {string} id
 * @returns {HTMLElement}
 */
function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`no element ${id}`);
  return element;
}

/**
 * Tells those who listen to a screen reader what has changed.
 * @param {string} text
 */
function speak(text) {
  byId('spoken').textContent = text;
}

/**
 * A labelled list to choose one of.
 * @param {string} label
 * @param {{ value: string, text: string }[]} options
 * @param {string} value
 * @param {(value: string) => void} chosen
 */
function choice(label, options, value, chosen) {
  const select = make('select', { change: () => chosen(select.value) });
  for (const option of options) {
    const entry = make('option', { value: option.value }, option.text);
    entry.selected = option.value === value;
    select.append(entry);
  }
  return make('label', { class: 'choice' }, make('span', {}, label), select);
}

/**
 * A labelled box to tick.
 * @param {string} label
 * @param {boolean} checked
 * @param {(checked: boolean) => void} ticked
 */
function tick(label, checked, ticked) {
  const box = make('input', { type: 'checkbox', change: () => ticked(box.checked) });
  box.checked = checked;
  return make('label', { class: 'tick' }, box, make('span', {}, label));
}

/**
 * A small button that opens a list of boxes; it closes on Escape and when the focus leaves it.
 * @param {string} name
 * @param {string} summary
 * @param {...Child} content
 */
function dropDown(name, summary, ...content) {
  const box = make(
    'details',
    { class: `drop ${name}` },
    make('summary', {}, summary),
    make('div', { class: 'dropped' }, ...content),
  );
  box.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || !box.open) return;
    box.open = false;
    box.querySelector('summary')?.focus();
  });
  box.addEventListener('focusout', (event) => {
    const to = event.relatedTarget;
    if (to instanceof Node && !box.contains(to)) box.open = false;
  });
  box.addEventListener('toggle', () => {
    const list = /** @type {HTMLElement} */ (box.lastElementChild);
    list.style.transform = '';
    const beyond = list.getBoundingClientRect().right - document.documentElement.clientWidth + 8;
    if (box.open && beyond > 0) list.style.transform = `translateX(${-beyond}px)`;
  });
  return box;
}

/** Closes lists that are open when somebody points elsewhere. */
function closeDropDowns() {
  document.addEventListener('pointerdown', (event) => {
    for (const box of document.querySelectorAll('details.drop[open]')) {
      if (event.target instanceof Node && !box.contains(event.target)) box.removeAttribute('open');
    }
  });
}

/**
 * A part of a table that scrolls sideways, by keys too.
 * @param {string} label
 * @param {...Child} children
 */
function scroller(label, ...children) {
  return make('div', { class: 'scroller', tabindex: 0, role: 'region', 'aria-label': label }, ...children);
}

/**
 * A table of texts. Its first column names the row.
 * @param {string} caption
 * @param {string[]} heads
 * @param {string[][]} rows
 */
function plainTable(caption, heads, rows) {
  const body = make('tbody');
  for (const [first, ...rest] of rows) {
    body.append(make('tr', {}, make('th', { scope: 'row' }, first), ...rest.map((text) => make('td', {}, text))));
  }
  return make(
    'table',
    { class: 'plain' },
    make('caption', {}, caption),
    make('thead', {}, make('tr', {}, ...heads.map((head) => make('th', { scope: 'col' }, head)))),
    body,
  );
}

/**
 * A chart's numbers as a table, made when it is opened.
 * @param {string} name
 * @param {() => HTMLTableElement} table
 */
function dataTable(name, table) {
  const box = make(
    'details',
    { class: 'numbers' },
    make('summary', {}, 'Table', make('span', { class: 'unseen' }, ` of ${name}`)),
  );
  box.addEventListener('toggle', () => {
    if (box.open && box.childElementCount === 1) box.append(scroller(`Table of ${name}`, table()));
  });
  return box;
}

/**
 * A section's heading, which the links of the bar give the focus to.
 * @param {string} section
 * @param {string} text
 */
function heading(section, text) {
  return make('h2', { id: `${section}-title`, tabindex: -1 }, text);
}

/**
 * Does what can wait when the next frame has been painted, so that an answer is seen at once.
 * @param {() => void} what
 */
function afterPaint(what) {
  requestAnimationFrame(() => setTimeout(what));
}

/** What draws itself when it comes into view, and again when it was in view as something changed. */
class Lazy {
  /**
   * @param {Element} place
   * @param {() => void | Promise<void>} draw
   */
  constructor(place, draw) {
    this.draw = draw;
    this.stale = true;
    this.seen = false;
    this.waiting = false;
    this.observer = new IntersectionObserver(
      (entries) => {
        this.seen = entries[entries.length - 1].isIntersecting;
        if (this.seen) this.now();
      },
      { rootMargin: '300px' },
    );
    this.observer.observe(place);
    Lazy.all.add(this);
  }

  /** Says that what is drawn is no longer so. */
  invalidate() {
    this.stale = true;
    if (!this.seen || this.waiting) return;
    this.waiting = true;
    afterPaint(() => {
      this.waiting = false;
      this.now();
    });
  }

  /** Draws what is stale. */
  async now() {
    if (!this.stale) return;
    this.stale = false;
    await this.draw();
  }

  /** Forgets it. */
  end() {
    this.observer.disconnect();
    Lazy.all.delete(this);
  }
}
/** @type {Set<Lazy>} */
Lazy.all = new Set();
