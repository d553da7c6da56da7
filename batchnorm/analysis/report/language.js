// Runs before uPlot, which stops where the browser's language is no language: WebKit says "C" where the system has no locale.
'use strict';

try {
  Intl.getCanonicalLocales(navigator.language);
} catch {
  Object.defineProperty(navigator, 'language', { value: 'en' });
}
