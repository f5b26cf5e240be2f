// A single-page application as an application would be written with the library: it shows who is signed in.
//
// It never asks again by itself, neither by a timer nor by a reload: what it shows is what the library told it.

import { createCoatroom, openEventSource, openWebSocket } from '/coatroom/index.js';
import settings from '/settings.js';

const client = createCoatroom(settings.client);
const status = document.getElementById('status');
// For whoever drives this page.
Object.assign(window, { client, openEventSource, openWebSocket, states: [], orders: `${settings.api}/orders` });

client.subscribe(show);
document.getElementById('sign-in').addEventListener('click', () => client.signIn().catch(tell));
document.getElementById('sign-out').addEventListener('click', () => client.signOut().catch(tell));
await client.handleCallback().catch(tell);
show(await client.session());

function show(state) {
  window.states.push(state.status);
  status.dataset.state = state.status;
  status.textContent = state.status === 'signed-in' ? `signed in as ${state.user.sub}` : state.status;
}

/** The code of what went wrong. */
function tell({ code }) {
  status.dataset.error = code;
}
