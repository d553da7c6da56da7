// Charts as files: PNG, SVG, CSV.
'use strict';

/**
 * @param {string} name
 * @param {Blob} content
 */
function download(name, content) {
  const address = URL.createObjectURL(content);
  const link = make('a', { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/**
 * A name that every file system takes.
 * @param {string} text
 */
function fileName(text) {
  return (
    text
      .replace(/[^\p{L}\p{N}.,=_-]+/gu, '_')
      .replace(/^[_.]+|_+$/g, '')
      .slice(0, 120) || 'report'
  );
}

/** @typedef {(string | number | null | undefined)[][]} Rows */

/**
 * A table as CSV. A text that a spreadsheet would take for a formula gets an apostrophe.
 * @param {Rows} rows
 */
function csvOf(rows) {
  return (
    rows
      .map((row) =>
        row
          .map((cell) => {
            if (cell === null || cell === undefined || (typeof cell === 'number' && Number.isNaN(cell))) return '';
            if (typeof cell === 'number') return String(cell);
            const text = /^[=+@\t\r-]/.test(cell) ? `'${cell}` : cell;
            return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
          })
          .join(','),
      )
      .join('\r\n') + '\r\n'
  );
}

/**
 * The button "Save" of a chart or table.
 * @param {string} name
 * @param {{ picture?: () => Picture, rows: () => Rows | Promise<Rows> }} what
 */
function saveMenu(name, { picture, rows }) {
  const box = dropDown('save', 'Save');
  const list = /** @type {HTMLElement} */ (box.lastElementChild);
  box.querySelector('summary')?.append(make('span', { class: 'unseen' }, ` ${name}`));
  /**
   * @param {string} label
   * @param {() => void | Promise<void>} act
   */
  const entry = (label, act) => {
    list.append(
      make(
        'button',
        {
          type: 'button',
          click: async () => {
            await act();
            box.open = false;
            box.querySelector('summary')?.focus();
            speak(`Saved ${name} as ${label}.`);
          },
        },
        label,
      ),
    );
  };
  if (picture) {
    entry('PNG', () => {
      const address = canvasOf(onPaper(picture()), 2).toDataURL('image/png'); // toBlob waits until a browser is idle
      download(`${fileName(name)}.png`, new Blob([bytesOf(address.slice(address.indexOf(',') + 1))], { type: 'image/png' }));
    });
    entry('SVG', () => {
      const text = new XMLSerializer().serializeToString(svgOf(onPaper(picture())));
      download(`${fileName(name)}.svg`, new Blob([text], { type: 'image/svg+xml' }));
    });
  }
  entry('CSV', async () => download(`${fileName(name)}.csv`, new Blob([csvOf(await rows())], { type: 'text/csv' })));
  return box;
}

/**
 * @param {Picture} picture
 * @returns {Picture}
 */
function onPaper({ width, height, paint }) {
  return {
    width,
    height,
    paint: (ink) => {
      ink.box(0, 0, width, height, palette().paper);
      paint(ink);
    },
  };
}
