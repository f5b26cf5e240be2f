// A tab as the scenarios use it, over whatever drives the engine, and the cookies as the engine stored them.
//
// Every wait has a limit, and none is a fixed time. What an engine's driver waits for itself is never relied on.

import { until } from '../rig/wait.js';

/**
 * What an engine's module has to bring, `open(rig)` of a browser with an empty profile:
 *
 *     {version, open(): Promise<Driven>, cookies(url): Promise<Cookie[]>, close()}
 *
 * and of each tab: `goto`, `url`, `click`, `fill`, `evaluate(script, argument)`, `back`, `sleep`, `wake`, `close`.
 */
export class Tab {
  #driven;

  constructor(driven) {
    this.#driven = driven;
  }

  /** Opens an address, as typed. Answers when the page has been read, not when its scripts are done. */
  async goto(url) {
    await this.#driven.goto(url);
  }

  async reload() {
    const before = await this.evaluate(() => performance.timeOrigin);
    await this.evaluate(() => { setTimeout(() => location.reload()); });
    await this.until('the page is another one', async () => (
      (await this.evaluate(() => document.readyState === 'complete' && performance.timeOrigin)) > before
    ));
  }

  /** One entry back in the history, until the address is another one. */
  async back() {
    const before = await this.url();
    await this.#driven.back();
    await this.until('another page is there', async () => (await this.url()) !== before);
  }

  /** Where it stands, fragment included. */
  url() {
    return this.#driven.url();
  }

  /** Calls `script` in the page with `argument`; both are plain data but for the function itself, which may be async. */
  evaluate(script, argument) {
    return this.#driven.evaluate(script, argument);
  }

  async click(selector) {
    await this.waitFor(selector);
    await this.#driven.click(selector);
  }

  async fill(selector, text) {
    await this.waitFor(selector);
    await this.#driven.fill(selector, text);
  }

  /** Until `selector` matches something. */
  waitFor(selector) {
    return this.until(`${selector} is there`, () => this.evaluate((wanted) => document.querySelector(wanted) !== null, selector));
  }

  /** Until the page is one of `origin`, and read. */
  waitForOrigin(origin) {
    return this.until(`the page is one of ${origin}`, async () => (
      new URL(await this.url()).origin === origin && this.evaluate((wanted) => location.origin === wanted && document.readyState !== 'loading', origin)
    ));
  }

  async until(what, condition) {
    try {
      return await until(what, condition, { every: 25 });
    } catch (error) {
      error.message += ` at ${(await this.url().catch(() => 'nowhere')).split('?')[0]}`;
      throw error;
    }
  }

  /** In the background, as long as it was not woken: what its timers and tasks do then is the engine's business. */
  sleep() {
    return this.#driven.sleep();
  }

  wake() {
    return this.#driven.wake();
  }

  close() {
    return this.#driven.close();
  }
}

/** `{name, version, tab(), cookies(url), close()}`. */
export async function openEngine(engine, rig) {
  const browser = await engine.open(rig);
  return {
    name: engine.name,
    version: browser.version,
    tab: async () => new Tab(await browser.open()),
    cookies: (url) => browser.cookies(url),
    close: () => browser.close(),
  };
}
