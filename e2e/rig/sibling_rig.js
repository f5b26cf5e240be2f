// A rig with two origins of one site over TLS: the application at `www.app.localhost`, Coatroom at
// `api.app.localhost`, and `evil.app.localhost`, which serves the same pages and is listed nowhere.
//
// No name is resolved by the system: the browser takes `*.localhost` to loopback itself.

import { FOREIGN, Rig } from './rig.js';
import { makeCertificates } from './certificates.js';
import { startApplication } from './pages.js';
import { freePorts } from './ports.js';

export class SiblingRig extends Rig {
  /** @param {{callback?: string, provider?: object}} [options] as in `Rig.start` */
  async start({ callback = 'agent', provider = {} } = {}) {
    await this.prepare();
    const [port, adminPort, providerPort, appPort] = await freePorts(4);
    this.url = `https://api.app.localhost:${port}`;
    this.appUrl = `https://www.app.localhost:${appPort}`;
    this.evilUrl = `https://evil.app.localhost:${appPort}`;
    this.certificates = await makeCertificates(this.directory, ['app.localhost', '*.app.localhost']);

    const { key, cert, certificateFile, keyFile } = this.certificates;
    const settings = { agent: `${this.url}/auth`, api: `${this.url}/api` };
    const application = await startApplication({ folder: FOREIGN, port: appPort, tls: { key, cert }, settings });
    this.onStop(() => application.close());
    this.prepareProvider({
      port: providerPort,
      redirectUri: callback === 'agent' ? `${this.url}/auth/callback` : `${this.appUrl}${callback}`,
      options: provider,
    });
    await this.startProvider();
    await this.startApi();
    await this.startCoatroom({
      wait: 'ready',
      configuration: {
        listen: `127.0.0.1:${port}`,
        admin: `127.0.0.1:${adminPort}`,
        tls: { certificate: { file: certificateFile }, key: { file: keyFile } },
        apps: {
          shop: {
            url: this.url,
            app_url: this.appUrl,
            origins: [this.appUrl],
            login: { callback },
            provider: this.providerConfiguration(),
            session: { store: 'cookie', idle: '30m', absolute: '12h' },
            routes: { '/api/': { upstream: this.api.url, strip_prefix: true } },
          },
        },
      },
    });
  }

  openBrowser() {
    return super.openBrowser({ home: this.certificates.home });
  }
}
