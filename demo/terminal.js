// What the demo says on the terminal: plain lines, with colour where a person looks at them.
//
// It never writes a header, a body or a query: only methods, paths and statuses. Colour follows https://no-color.org.

const COLOURED = Boolean(process.stdout.isTTY) && !process.env.NO_COLOR && process.env.TERM !== 'dumb';
const paint = (code) => (text) => (COLOURED ? `\x1b[${code}m${text}\x1b[0m` : String(text));

export const bold = paint('1');
export const dim = paint('2');
const green = paint('32');
const red = paint('31');
const yellow = paint('33');
const link = paint('4;36');

export function title(text) {
  console.log(`\n  ${bold(text)}\n`);
}

/** One part that is up: its name, its address and how long it took. */
export function started(name, url, milliseconds) {
  console.log(`  ${green('✓')} ${name.padEnd(17)} ${url.padEnd(28)} ${dim(`${Math.round(milliseconds)} ms`)}`);
}

export function passed(text) {
  console.log(`  ${green('✓')} ${text}`);
}

export function failed(text) {
  console.error(`\n  ${red('✗')} ${text.replaceAll('\n', '\n  ')}\n`);
}

export function greeting({ url, config, log, https }) {
  console.log(`
  Open        ${link(url)}
  Sign in as  any name with any password, for example ${bold('alice')}
${https ? `
  The certificate is this machine's own: trust demo/.state/dev-ca.pem, or let the browser warn you once.
` : `
  ${dim('Safari keeps no Secure cookie on http://localhost: use --https there.')}
`}
  Configuration  ${config}
  Coatroom's log ${log}

  ${dim('What the provider and the API see, as it happens. Ctrl-C stops everything.')}
`);
}

/** One request that the provider or the API has answered. Paths lose their long ids: nobody reads them. */
export function request(who, { method, path, status }, note = '') {
  const colour = status >= 500 ? red : status >= 400 ? yellow : green;
  const shortPath = path.replace(/[\w-]{20,}/g, '…');
  console.log(`  ${dim(clock())}  ${who.padEnd(8)}  ${method.padEnd(5)}${shortPath.padEnd(24)} ${colour(status)}  ${dim(note)}`);
}

export function event(text) {
  console.log(`  ${dim(clock())}  ${yellow('demo')}      ${text}`);
}

function clock() {
  return new Date().toTimeString().slice(0, 8);
}
