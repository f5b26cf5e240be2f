// The entry of the project: the foreign application, and a greeting that is replaced while the page stays.
//
// It never reloads the page: what was written into `window.mark` is still there after a hot update.

import './app.js';
import './style.css';
import { built } from 'virtual:built';
import colors from 'picocolors';

import { greeting } from './greeting.ts';

const place = document.createElement('p');
place.id = 'greeting';
place.textContent = greeting;
document.body.append(place);
Object.assign(window, { built, isPrebundled: typeof colors.isColorSupported === 'boolean' });

import.meta.hot?.accept('./greeting.ts', (changed?: { greeting: string }) => {
  if (changed) place.textContent = changed.greeting;
});
