// A Vite project as anybody would write it: nothing in here knows of Coatroom.
//
// One plugin makes a virtual module, whose path in the browser is one of the odd ones (`/@id/__x00__…`). The other
// one tells a test, at `/seen`, the headers of every request that arrived here.

const BUILT = 'virtual:built';

const virtualModule = {
  name: 'virtual-module',
  resolveId: (id) => (id === BUILT ? `\0${BUILT}` : undefined),
  load: (id) => (id === `\0${BUILT}` ? "export const built = 'virtual'" : undefined),
};

const seenRequests = {
  name: 'seen-requests',
  configureServer({ httpServer, middlewares }) {
    const seen = [];
    const note = ({ method, url, headers }) => seen.push({ method, url, headers });
    httpServer.on('upgrade', note);
    middlewares.use((request, response, next) => {
      if (request.url === '/seen') response.end(JSON.stringify(seen));
      else note(request);
      if (request.url !== '/seen') next();
    });
  },
};

export default { plugins: [virtualModule, seenRequests] };
