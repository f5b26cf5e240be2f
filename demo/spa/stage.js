// The page's side of the demo's stage hands (`demo/control.js`): stops and starts the API and the provider.
//
// Part of the demo alone. It shows what the stage hands tell, never what it only asked for.

import { $, busy } from './dom.js';

const URL_OF_STAGE = '/demo/stage';
const LOOK_MILLISECONDS = 5_000;

let stage = null;
let looking;

/** Asks for a change (or for nothing) and answers how things are now. */
export async function setStage(wish = null) {
  const response = await fetch(URL_OF_STAGE, {
    method: wish ? 'POST' : 'GET',
    headers: { 'demo-stage': '1', ...(wish && { 'content-type': 'application/json' }) },
    body: wish && JSON.stringify(wish),
    signal: AbortSignal.timeout(10_000),
  });
  if (!response.ok) throw new Error(`the stage hands answered ${response.status}`);
  stage = await response.json();
  show();
  return stage;
}

export function startStage(explain, onChange) {
  for (const part of ['api', 'provider']) {
    $(`${part}-switch`).onclick = busy(async () => {
      await setStage({ [part]: stage?.[part] === 'running' ? 'stopped' : 'running' });
      onChange();
    }, explain);
  }
  setStage().catch(explain);
}

function show() {
  for (const [part, name] of [['api', 'The API'], ['provider', 'The provider']]) {
    const runs = stage[part] === 'running';
    $(`${part}-dot`).className = `dot ${runs ? 'open' : 'shut'}`;
    $(`${part}-state`).textContent = `${name} ${{ running: 'runs', stopped: 'is stopped', confused: 'answers nonsense' }[stage[part]]}`;
    $(`${part}-switch`).textContent = runs ? 'Stop' : 'Start';
    $(`${part}-switch`).setAttribute('aria-label', `${runs ? 'Stop' : 'Start'} ${name.toLowerCase().replace('api', 'API')}`);
  }
  const seconds = stage.whole_again_in;
  $('stage-note').textContent = seconds === null
    ? 'These two switches belong to the demo. What you stop starts again by itself after a minute.'
    : `Everything runs again by itself in ${seconds} seconds.`;
  clearTimeout(looking);
  if (seconds !== null) looking = setTimeout(() => { setStage().catch(() => {}); }, Math.min(LOOK_MILLISECONDS, (seconds + 1) * 1000));
}
